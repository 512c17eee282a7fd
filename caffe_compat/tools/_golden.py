"""Golden cases: folders of inputs and of what Caffe 1.0 made of them, run through pycaffe.

A case is a folder with ``case.json`` and ``expected.npz``; tests/golden/*/README.md describe them.
"""

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat import pycaffe
from caffe_compat.errors import CaffeCompatError
from caffe_compat.proto import caffe_pb2

Arrays = dict[str, np.ndarray]

#: Relative to an array's largest value.  Float32 sums in another order differ by about 1e-6;
#: gradients add up such differences over a whole net.
DATA_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
#: gradients, and what training made of them; inputs' ``param:`` keys are not compared
LOOSER = ("grad:", "param:", "history:")
#: Caffe starts maxima at -FLT_MAX: numbers this large are compared by sign only, like infinities.
HUGE = 3.0e38
#: keeps an all-zero expectation from dividing by 0
SMALLEST_SCALE = 1e-6


@dataclass
class Difference:
    """How far one array is from Caffe's; ``error`` is infinite for other shapes, names or non-finite places."""

    key: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def find_cases(folder: Path, kinds: tuple[str, ...]) -> list[Path]:
    """Folders below ``folder`` whose case is of one of ``kinds``, sorted."""
    return [file.parent for file in sorted(folder.glob("*/*/case.json")) if case_kind(file.parent) in kinds]


def case_kind(case: Path) -> str:
    """``net`` for a single net's pass; else the ``kind`` in case.json (solver, filler, data, io, ...)."""
    return str(_meta(case).get("kind", "net"))


def needs_cpu(case: Path) -> bool:
    """Whether the numbers come from Caffe's CPU random stream; on a GPU Caffe draws from cuRAND."""
    return "seed" in _meta(case)


def layer_type(case: Path) -> str:
    """The layer type a case is about, or its kind (``net``, ``filler``, ...)."""
    meta = _meta(case)
    return str(meta.get("layer", meta.get("kind")))


def check_case(case: Path) -> list[Difference]:
    """Run a case on pycaffe's present device and compare every array and list of names.

    A net that Caffe refuses must raise CaffeCompatError; it is the single key ``refused``.
    """
    meta = _meta(case)
    if meta.get("error"):
        try:
            run_case(case)
        except CaffeCompatError:
            return [Difference("refused", 0.0, 0.0)]
        return [Difference("refused", np.inf, 0.0)]
    got, expected = run_case(case), _arrays(case / "expected.npz")
    differences = []
    for key, theirs in expected.items():
        tolerance = meta.get("rtol", GRADIENT_TOLERANCE if key.startswith(LOOSER) else DATA_TOLERANCE)
        error = relative_error(got[key], theirs) if key in got else np.inf
        differences.append(Difference(key, error, tolerance))
    for kind, names in meta.get("names", {}).items():
        differences.append(Difference(f"names:{kind}", 0.0 if got[f"names:{kind}"].tolist() == names else np.inf, 0.0))
    return differences


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max |ours - theirs| / max |theirs|, over the places where Caffe's value is ordinary."""
    if ours.shape != theirs.shape:
        return np.inf
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    ordinary = _kind(theirs) == 0
    if not np.array_equal(_kind(ours), _kind(theirs)):
        return np.inf
    if not ordinary.any():
        return 0.0
    ours, theirs = ours[ordinary], theirs[ordinary]
    return float(np.max(np.abs(ours - theirs)) / max(SMALLEST_SCALE, np.max(np.abs(theirs))))


def _kind(values: np.ndarray) -> np.ndarray:
    """0 ordinary, 1 or -1 huge or infinite, 2 nan."""
    kind = np.where(np.abs(values) >= HUGE, np.sign(values), 0)
    return np.where(np.isnan(values), 2, kind)


def run_case(case: Path) -> Arrays:
    """What we make of a case, under the keys of its expected.npz."""
    kind = case_kind(case)
    if kind == "net":
        return _run_net(case)
    # The solver's log would drown what the caller prints.
    with _in_copy(case), contextlib.redirect_stderr(io.StringIO()):
        return {"filler": _run_stream, "data": _run_stream, "io": _run_io, "solver": _run_solver}[kind](_meta(Path()))


@contextlib.contextmanager
def _in_copy(case: Path) -> Iterator[None]:
    # Paths in a case's files are relative, and some runs write beside them.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / case.name
        shutil.copytree(case, copy)
        with contextlib.chdir(copy):
            yield


def _meta(case: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((case / "case.json").read_text(encoding="utf-8"))
    return meta


def _arrays(path: Path) -> Arrays:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


# -- the kinds of cases -----------------------------------------------------------------


def _run_net(case: Path) -> Arrays:
    """Forward, and backward where asked: ``blob:``, ``state:`` (parameters), ``grad:``, ``names:``."""
    meta, inputs = _meta(case), _arrays(case / "inputs.npz")
    net = pycaffe.Net(
        case / "net.prototxt",
        getattr(pycaffe, meta["phase"]),
        level=int(meta.get("level", 0)),
        stages=[str(stage) for stage in meta.get("stages", [])],
    )
    if meta.get("reshape"):
        for name, shape in meta["reshape"].items():
            net.blobs[name].reshape(*shape)
        net.reshape()
    _write(inputs, "param:", {f"{layer}:{i}": b.data for layer, i, b in _params(net)})
    got: Arrays = {}
    for _ in range(int(meta.get("passes", 1))):
        _write(inputs, "blob:", {name: blob.data for name, blob in net.blobs.items()})
        net.forward()
        got.update({f"blob:{name}": blob.data.copy() for name, blob in net.blobs.items()})
        got.update({f"state:{layer}:{i}": b.data.copy() for layer, i, b in _params(net)})
        if meta.get("backward"):
            _write(inputs, "diff:", {name: blob.diff for name, blob in net.blobs.items()})
            net.backward()
    got.update({f"grad:{name}": blob.diff.copy() for name, blob in net.blobs.items()})
    got.update({f"grad:{layer}:{i}": b.diff.copy() for layer, i, b in _params(net)})
    lists: dict[str, Iterable[str]] = {
        "blobs": net.blobs,
        "params": net.params,
        "inputs": net.inputs,
        "outputs": net.outputs,
    }
    lists["layers"] = net._layer_names
    got.update({f"names:{kind}": np.array(list(names), np.str_) for kind, names in lists.items()})
    return got


def _params(net: pycaffe.Net) -> Iterator[tuple[str, int, Any]]:
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            yield layer, i, blob


def _write(inputs: Arrays, prefix: str, targets: Arrays) -> None:
    for key, value in inputs.items():
        if key.startswith(prefix):
            target = targets[key.removeprefix(prefix)]
            if target.shape != value.shape:
                raise CaffeCompatError(f"{key} has shape {target.shape}; the case gives {value.shape}")
            target[...] = value


def _run_stream(meta: dict[str, Any]) -> Arrays:
    """Seeded fillers, dropout and data: ``param:`` at the start, ``pass<n>:<blob>`` of each forward."""
    if "seed" in meta:
        pycaffe.set_random_seed(int(meta["seed"]))
    net = pycaffe.Net("net.prototxt", getattr(pycaffe, meta["phase"]))
    got = {f"param:{layer}:{i}": b.data.copy() for layer, i, b in _params(net)}
    for number in range(int(meta.get("passes", 0))):
        net.forward()
        got.update({f"pass{number}:{name}": blob.data.copy() for name, blob in net.blobs.items()})
    return got


def _run_io(meta: dict[str, Any]) -> Arrays:
    """Weights in, out in both formats, and in again: ``param:``, ``again_binary:``, ``again_hdf5:``, ``file:``."""
    net = pycaffe.Net("net.prototxt", pycaffe.TEST)
    for _, _, blob in _params(net):
        blob.data[...] = 0.125  # what a file does not hold must stay
    for path in meta["weights"]:
        net.copy_from(path)
    got = {f"param:{layer}:{i}": b.data.copy() for layer, i, b in _params(net)}
    net.save("again.caffemodel")
    net.save_hdf5("again.caffemodel.h5")
    for kind, file in (("binary", "again.caffemodel"), ("hdf5", "again.caffemodel.h5")):
        other = pycaffe.Net("net.prototxt", pycaffe.TEST)
        (other.copy_from if kind == "binary" else other.load_hdf5)(file)
        got.update({f"again_{kind}:{layer}:{i}": b.data.copy() for layer, i, b in _params(other)})
    message = caffe_pb2.NetParameter.FromString(Path("again.caffemodel").read_bytes())
    for layer in message.layer:
        got.update({f"file:{layer.name}:{i}": _blob_array(blob) for i, blob in enumerate(layer.blobs)})
    return got


def _run_solver(meta: dict[str, Any]) -> Arrays:
    """Training steps on given batches: ``loss``, ``param:``, ``iter``, and the snapshot's ``history:``."""
    if "seed" in meta:
        pycaffe.set_random_seed(int(meta["seed"]))
    solver = pycaffe.get_solver("solver.prototxt")
    for path in meta.get("weights", []):
        solver.net.copy_from(path)
    if meta.get("restore"):
        solver.restore(meta["restore"])
    batches = _arrays(Path(meta.get("batches", "batches.npz")))
    losses = []
    for number in range(int(meta["iterations"])):
        for name, values in batches.items():
            solver.net.blobs[name].data[...] = values[(int(meta.get("start", 0)) + number) % len(values)]
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    got = {"loss": np.array(losses), "iter": np.array(solver.iter)}
    got.update({f"param:{layer}:{i}": b.data.copy() for layer, i, b in _params(solver.net)})
    if meta.get("history", True):
        solver.snapshot()
        state = caffe_pb2.SolverState.FromString(Path(f"snap_iter_{solver.iter}.solverstate").read_bytes())
        got["state:iter"], got["state:current_step"] = np.array(state.iter), np.array(state.current_step)
        got.update({f"history:{i}": _blob_array(blob) for i, blob in enumerate(state.history)})
    return got


def _blob_array(blob: Any) -> np.ndarray:
    shape = list(blob.shape.dim) if blob.HasField("shape") else [blob.num, blob.channels, blob.height, blob.width]
    return np.array(blob.double_data or blob.data, np.float64).reshape(shape)
