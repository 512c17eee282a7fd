"""What the authors' 170 folders say, as digests: of each net and solver all fields but paths, and which images it has.

    python -m tests.reproduce.authors_folders CHECKOUT      writes tests/golden/authors_folders.txt anew

CHECKOUT: github.com/yosinski/convnet_transfer.  Left out are what prototxt/paper/README.md lists (the loss layer of
val.prototxt, ``weights``), names of files, and paths.  Of links to databases the data set counts, of mean files whose
base network has the same one, bit for bit; half0A has none, and that of transfer0A0A_1_1 stands for it.
"""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe_compat.proto import caffe_pb2

GOLDEN = Path(__file__).parent.parent / "golden" / "authors_folders.txt"
PATHS = ("train_net", "test_net", "snapshot_prefix", "weights")
HEAD = """# Digests of the authors' files (yosinski/convnet_transfer at 9838c27), by tests/reproduce/authors_folders.py:
# network, base network, half with the same mean file, images of training, of tests, train net, val net, solver.
"""
NONE = "-"
WITHOUT_MEAN = "half0A"


def digests(train: Any, val: Any, solver: Any) -> list[str]:
    """Of a network's three messages (nets of 2013)."""
    return [_digest(_without_files(train)), _digest(_without_files(val)), _digest(_without_paths(solver))]


def images_of(source: str) -> str:
    """``half0A_train`` or ``reduced-0001``: the data set and part that a database's path names."""
    found = re.findall(r"(?:half\w+?|whole)_(?:train|valid)|reduced-\d+", source)
    assert found, source
    return str(found[-1])


def _without_files(net: Any) -> Any:
    copy = caffe_pb2.NetParameter()
    copy.CopyFrom(net)
    for connection in list(copy.layers):
        connection.layer.ClearField("source")
        connection.layer.ClearField("meanfile")
        if connection.layer.type == "softmax_loss" and "label" in connection.bottom and connection.layer.name == "loss":
            copy.layers.remove(connection)
    return copy


def _without_paths(solver: Any) -> Any:
    copy = caffe_pb2.SolverParameter()
    copy.CopyFrom(solver)
    for name in PATHS:
        copy.ClearField(name)
    return copy


def _digest(message: Any) -> str:
    return hashlib.sha256(json.dumps(_fields(message)).encode()).hexdigest()[:16]


def _fields(value: Any) -> Any:
    """A message as lists of [field, value], in the order of the fields' numbers."""
    if hasattr(value, "ListFields"):
        return [[field.name, _fields(content)] for field, content in value.ListFields()]
    return list(map(_fields, value)) if hasattr(value, "append") else value


def _mean(folder: Path) -> bytes:
    """The mean file's bytes; of the one network that has none, nothing."""
    file = folder / "imagenet_mean.binaryproto"
    return file.read_bytes() if file.exists() else b""


def main() -> None:
    """Write the digests of a checkout."""
    lines = []
    results = Path(sys.argv[1]) / "results"
    halves = {_mean(folder): folder.name for folder in results.glob("half*") if folder.name != WITHOUT_MEAN}
    halves[_mean(results / "transfer0A0A_1_1")] = WITHOUT_MEAN
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        base = (folder / "basenet").readlink().name if (folder / "basenet").is_symlink() else NONE
        texts = [(folder / f"imagenet_{part}.prototxt").read_text() for part in ("train", "val", "solver")]
        kinds = (caffe_pb2.NetParameter, caffe_pb2.NetParameter, caffe_pb2.SolverParameter)
        messages = [text_format.Parse(text, kind()) for text, kind in zip(texts, kinds, strict=True)]
        links = [images_of(str((folder / f"imagenet_{part}_leveldb").readlink())) for part in ("train", "val")]
        lines.append(" ".join([folder.name, base, halves.get(_mean(folder), NONE), *links, *digests(*messages)]))
    GOLDEN.write_text(HEAD + "".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
