from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from caffe_compat import Net, random
from caffe_compat.cli import main
from caffe_compat.tools.compare import compare

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    random.set_seed(3)
    net = Net(path, phase="TEST")
    net.save(tmp_path / "a.caffemodel")
    net.params["ip"][0].data[1, 2] += 1
    net.save(tmp_path / "b.caffemodel")
    return path


def run(*words: object) -> int:
    return main(["compare", *map(str, words)])


def test_two_precisions(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, model, "--dtype2", "float64") == 0
    assert "5 blobs agree; the largest error is" in capsys.readouterr().out
    assert run(model, model, "--dtype2", "float64", "--rtol", "1e-12") == 1


def test_names_the_layer_and_index(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, model, "--weights", tmp_path / "a.caffemodel", "--weights2", tmp_path / "b.caffemodel") == 1
    text = capsys.readouterr().out
    assert text.startswith('first difference at layer "ip" (InnerProduct), blob ip, index (0, 1): ')
    assert "3 blobs before it agree" in text


def test_saved_blobs_bring_their_inputs(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "a.caffemodel"
    net = Net(model, weights, phase="TEST")
    data = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    blobs: dict[str, Any] = {
        name: top.detach().numpy()
        for name, top in net.extract(["data", "label", "conv", "ip"], data=torch.from_numpy(data)).items()
    }
    saved = tmp_path / "blobs.npz"
    np.savez(saved, **blobs)
    assert run(saved, model, "--weights2", weights) == 0
    assert "4 blobs agree" in capsys.readouterr().out

    blobs["conv"] = blobs["conv"].copy()
    blobs["conv"][1, 3, 0, 2] += 0.5
    np.savez(saved, **blobs)
    assert run(saved, model, "--weights2", weights) == 1
    assert 'layer "relu" (ReLU), blob conv, index (1, 3, 0, 2)' in capsys.readouterr().out
    assert run(saved, model, "--weights2", weights, "--atol", "0.6") == 0
    assert run(saved, saved) == 0


def test_missing_input(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "blobs.npz", ip=np.zeros((2, 3), np.float32))
    assert run(tmp_path / "blobs.npz", model) == 1
    assert "lacks the net's input data, label; give --inputs" in capsys.readouterr().err


def test_nothing_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(1))
    np.savez(tmp_path / "b.npz", y=np.zeros(1))
    assert run(tmp_path / "a.npz", tmp_path / "b.npz") == 1
    assert "no blob of one name; the first has x, the second y" in capsys.readouterr().err


def test_exported_net(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "a.caffemodel"
    assert main(["convert", str(model), str(weights), str(tmp_path / "net.pt2")]) == 0
    capsys.readouterr()
    assert run(model, tmp_path / "net.pt2", "--weights", weights) == 1
    assert capsys.readouterr().err.endswith("as it opens it; where you trust who made it, say --trust\n")
    assert run(model, tmp_path / "net.pt2", "--weights", weights, "--trust") == 0
    assert "1 blobs agree" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["net.pt2", "net.onnx"])
@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04", b"\x08\x08\x12" + b"\xff" * 20])
def test_programs_of_other_bytes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    for words in ((path, model), (model, path), (path, path)):
        assert run(*words, "--trust") == 1
        shown = capsys.readouterr().err
        assert shown.startswith(f"caffe-compat compare: {path}: ")
        assert shown.count("\n") == 1
    path.unlink()
    assert run(model, path, "--trust") == 1
    assert capsys.readouterr().err.startswith(f"caffe-compat compare: {path}: ")


def test_not_an_npz(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    assert run(model, tmp_path / "bad.npz") == 1
    assert "bad.npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("a", "b", "index"),
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], None),
        ([1.0, np.nan], [1.0, 2.0], "(1,)"),
        ([np.inf, 1.0], [-np.inf, 1.0], "(0,)"),
        ([1.0, 2.0002], [1.0, 2.0], None),
        ([1.0, 2.0003], [1.0, 2.0], "(1,)"),
        ([], [], None),
    ],
)
def test_values(a: list[float], b: list[float], index: str | None) -> None:
    mismatch, _ = compare({"x": np.array(a)}, {"x": np.array(b)}, ["x"], rtol=1.2e-4, atol=0.0)
    assert (mismatch is None) == (index is None)
    if mismatch is not None:
        assert f"index {index}" in mismatch.text


def test_shapes() -> None:
    mismatch, _ = compare({"x": np.zeros((2, 3))}, {"x": np.zeros((3, 2))}, ["x"], rtol=1.0, atol=0.0)
    assert mismatch is not None
    assert mismatch.text == ": shapes (2, 3) and (3, 2)"


@pytest.mark.parametrize("name", ["cut.npz", "text.npz", "objects.npz", "words.npz", "one.npz", "flipped.npz"])
def test_npz_files_of_other_bytes(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    np.savez_compressed(tmp_path / "good.npz", data=np.arange(90, dtype=np.float32))
    good = (tmp_path / "good.npz").read_bytes()
    path = tmp_path / name
    if name == "objects.npz":
        np.savez(path, data=np.array([{}], object))
    elif name == "words.npz":
        np.savez(path, data=np.array(["a"]))
    elif name == "one.npz":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        flipped = good[:60] + bytes(b ^ 255 for b in good[60:90]) + good[90:]
        damaged = {"cut": good[:90], "text": b"text", "flipped": flipped}
        path.write_bytes(damaged[path.stem])
    assert main(["compare", str(path), str(model)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"caffe-compat compare: {path}: ")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_other_bytes(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    state = dict(Net(model, phase="TEST").state_dict())
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    good = path.read_bytes()
    for data in (b"", b"text", good[:100], good[:-40], b"\x80\x02U\xff", b"\x80\x05]\x94."):
        path.write_bytes(data)
        assert main(["compare", str(model), str(model), "--weights", str(path)]) == 1
        shown = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
        assert len(shown) == 1
        assert shown[0].startswith(f"caffe-compat compare: {path}: ")


def test_weights_that_do_not_fit_are_said(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_text(NET.replace('"ip"', '"ip_new"'))
    weights = tmp_path / "a.caffemodel"
    assert run(model, model, "--weights", weights) == 0
    assert (
        f"warning: {weights}: does not fit {model} wholly: ignored, as the net has no such layer: "
        '"ip"; left as they were, as no blobs came for them: "ip_new"\n'
    ) in capsys.readouterr().err
    assert run(model, model, "--weights", weights, "--strict") == 1
    assert "wholly, and nothing is copied: ignored" in capsys.readouterr().err
    model.write_text(NET.replace('"ip"', '"x"').replace('"conv"', '"y"'))
    assert run(model, model, "--weights", weights) == 1
    assert "a.caffemodel: nothing fits" in capsys.readouterr().err
