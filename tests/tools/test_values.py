"""Values of flags: each is read, or refused in one line by every tool."""

import argparse
import shlex
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.cli import main
from caffe_compat.data import encode_datum, write_lmdb
from caffe_compat.tools._values import int32, phase_or_none, tolerance, whole


def test_what_is_taken() -> None:
    assert [whole(1)("1"), whole(0, 2**32 - 1)("4294967295"), int32("-2147483648")] == [1, 4294967295, -(2**31)]
    assert [tolerance("0"), tolerance("1e-3")] == [0.0, 0.001]
    assert [phase_or_none("TEST"), phase_or_none("")] == ["TEST", ""]


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "2147483648", "9" * 5000, "\uff11"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number from 1 to 2147483647"):
        whole(1)(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "x", ""])
def test_what_is_no_tolerance(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number of at least 0"):
        tolerance(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net, a database, and the working directory there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }\n'
    )
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1\n')
    (tmp_path / "list.txt").write_text("a.png 0\n")
    write_lmdb("db", [("a", encode_datum(np.zeros((1, 2, 2), np.uint8), 0))])
    return tmp_path


INT = "expected a whole number from"
USAGE = {
    "train --solver=solver.prototxt --phase=train": 'argument --phase: "train"; expected TRAIN or TEST',
    "train --solver=solver.prototxt --level=99999999999": f'argument --level: "99999999999"; {INT} -2147483648 to',
    "train --solver=solver.prototxt --iterations=99999999999": f'argument --iterations: "99999999999"; {INT} -',
    "train --solver=solver.prototxt --iterations=x": f'argument --iterations: "x"; {INT} -2147483648',
    "train --solver=solver.prototxt --skip-bad-records=-1": f'argument --skip-bad-records: "-1"; {INT} 0 to',
    "train --sover=solver.prototxt": "unrecognized arguments: --sover=solver.prototxt: did you mean --solver?",
    "train --solver=": "argument --solver: is empty",
    "test --model=a --weights=b --phase=TRAIN": "unrecognized arguments: --phase=TRAIN: no flag of this command",
    "test --model=a --weights=b --level=x": f'argument --level: "x"; {INT}',
    "time --model=net.prototxt --phase=x": "argument --phase: invalid choice: 'x' (choose from 'TRAIN', 'TEST')",
    "summary net.prototxt --phase=x": "argument --phase: invalid choice: 'x' (choose from 'TRAIN', 'TEST')",
    "summary net.prototxt --level=4294967296": f'argument --level: "4294967296"; {INT}',
    "compare net.prototxt net.prototxt --seed=-1": f'argument --seed: "-1"; {INT} 0 to 4294967295',
    "compare net.prototxt net.prototxt --rtol=nan": 'argument --rtol: "nan"; expected a number of at least 0',
    "compare net.prototxt net.prototxt --atol=-1": 'argument --atol: "-1"; expected a number of at least 0',
    "compute_image_mean db mean.npy --threads=0": f'argument --threads: "0"; {INT} 1 to',
    "convert_imageset a/ list.txt out --threads=-1": f'argument --threads: "-1"; {INT} 1 to',
    "convert_imageset a/ list.txt out --seed=x": f'argument --seed: "x"; {INT} 0 to 4294967295',
    "extract_features w net.prototxt ip out 0 lmdb": f'argument batches: "0"; {INT} 1 to',
    "inspect_db db --records=-1": f'argument --records: "-1"; {INT} 0 to',
    "inspect_db db --images=0 --sheet=a.png": f'argument --images: "0"; {INT} 1 to',
    "prepare_imagenet --root=a --out=b --size=0": f'argument --size: "0"; {INT} 1 to 65535',
    "prepare_imagenet --root=a --out=b --threads=0": f'argument --threads: "0"; {INT} 1 to',
}
FAULTS = {
    "train --solver=solver.prototxt --iterations=-1": "--iterations is -1; expected at least 0",
    "test --model=a --weights=b --iterations=0": "--iterations is 0; expected at least 1",
    "time --model=net.prototxt --iterations=-1": "--iterations is -1; expected at least 1",
    "train --solver=solver.prototxt --strict": "--strict: there are no weights that could fit; give --weights",
    "train --solver=solver.prototxt --reshape=ip": "--reshape: there are no weights that could fit; give --weights",
    "train --solver=solver.prototxt --weights=a,": 'weights "a,": a name between the commas is empty',
    "train --solver=solver.prototxt --log_json=none/a": "none/a: cannot be written: No such file or directory: the "
    "folder none is missing (working directory",
    "train --solver=solver.prototxt --gpu=cpu": '--gpu is "cpu"; expected "all" or device numbers with commas, such as '
    "0,1; for the CPU give no --gpu",
    "extract_features w net.prototxt ip out 1 lmdb GPU x": 'DEVICE_ID is "x"; expected',
    "extract_features w net.prototxt ip,data out 1 lmdb": "2 blobs (ip,data) but 1 databases (out); expected one",
    "compare net.prototxt net.prototxt --inputs=list.txt": "list.txt: is no NumPy file; expected an .npz file",
    "compute_image_mean db none/mean.npy": "none/mean.npy: No such file or directory: the folder none is missing",
    "compute_image_mean db db": "db: Is a directory",
    "convert net.prototxt w none/a.pt": "none/a.pt: No such file or directory: the folder none is missing",
    "draw net.prototxt none/a.dot": "none/a.dot: No such file or directory: the folder none is missing",
    "fidelity --cases=. --out=none/a.md": "none/a.md: No such file or directory: the folder none is missing",
    "inspect_db db --sheet=none/a.png": "none/a.png: No such file or directory: the folder none is missing",
    "inspect_db db --sheet=db": "db: Is a directory",
    "upgrade_net_proto_text db/data.mdb out": "db/data.mdb: is a binary file; expected a NetParameter as text",
    "upgrade_net_proto_binary net.prototxt out": "net.prototxt: is not a NetParameter: it is text, and no",
    "convert_imageset . list.txt out": "none of 1 images can be read below .; the root folder is put before each name "
    'as it is, so that it has to end in a slash: "./"',
    "convert_imageset none/ list.txt out": "none of 1 images can be read below none/; there is no folder none/ (w",
    "convert_imageset ./ list.txt out": "none of 1 images can be read below ./; the first: ./a.png: cannot be read",
    "convert_imageset ./ list.txt out --encode_type=xyz": "encode_type is 'xyz', which OpenCV cannot write; expected",
    "convert_imageset ./ list.txt net.prototxt/out": "net.prototxt/out: cannot be created: net.prototxt is a file, not",
    "prepare_imagenet --root=none --out=b": "none: no such folder; expected one with ILSVRC 2012 (working directory",
}


@pytest.mark.parametrize("words", [*USAGE, *FAULTS])
def test_a_wrong_value_is_one_line_that_names_it(folder: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.iterdir())
    assert main(shlex.split(words)) == (2 if words in USAGE else 1)
    command = words.split()[0]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"caffe-compat {command}: ")
    assert (USAGE | FAULTS)[words] in last
    if words in USAGE:
        assert last.endswith(f"; see caffe-compat {command} --help")
    assert sorted(folder.iterdir()) == before
