"""Training runs against Caffe 1.0, on the fast path (one autograd graph an iteration)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.layers.input import Input
from caffe_compat.proto import read_hdf5_solverstate, read_solverstate
from caffe_compat.solver import Log, Solver

GOLDEN = Path(__file__).parents[1] / "golden" / "solver"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/case.json"))
LONG = "long_500"

LOSS = 1e-4  # relative to the largest; float32 sums in another order differ by about 1e-7 a pass
WEIGHTS = 1e-3  # such differences after tens of updates
DRIFT = 1e-2  # after 500 updates
#: our float32 run may be this much further from the float64 run than Caffe's own float32 run is
ROUNDING_RATIO = 10.0

Arrays = dict[str, np.ndarray]


def train(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Arrays:
    """Losses, parameters and histories after the case's iterations."""
    shutil.copytree(GOLDEN / case, folder / case)
    monkeypatch.chdir(folder / case)
    meta = json.loads(Path("case.json").read_text())
    solver = Solver("solver.prototxt", dtype=dtype, device=device, log=Log(enabled=False))
    for path in meta.get("weights", []):
        solver.net.copy_from(path)
    if meta.get("restore"):
        solver.restore(meta["restore"])
    batches, losses = dict(np.load("batches.npz")), []
    inputs = next(iter(solver.net.sources()))
    assert isinstance(inputs, Input)
    solver.add_callback(on_update=lambda s: losses.append(float(s.train_outputs()["loss"])))
    for i in range(meta["iterations"]):
        for j, name in enumerate(inputs.param.top):
            values = batches[name]
            inputs.held[j] = torch.from_numpy(values[(meta.get("start", 0) + i) % len(values)]).to(dtype)
        solver.step(1)
    got = {"loss": np.array(losses), "iter": np.array(solver.iter)}
    got |= {f"param:{n}:{i}": p.detach().cpu().numpy() for n, ps in solver.net.params.items() for i, p in enumerate(ps)}
    path = solver.snapshot()
    assert path is not None
    state = read_hdf5_solverstate(path) if path.suffix == ".h5" else read_solverstate(path)
    assert state.learned_net is not None
    assert Path(state.learned_net).is_file()
    got |= {"state:iter": np.array(state.iter), "state:current_step": np.array(state.current_step)}
    got |= {f"history:{i}": np.array(h) for i, h in enumerate(state.history)}
    solver.close()
    return got


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.max(np.abs(ours - theirs)) / max(1e-6, np.max(np.abs(theirs))))


def test_all_cases_are_here() -> None:
    assert len(CASES) == 41


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("case", [case for case in CASES if case != LONG])
def test_equals_caffe(case: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cuda" and (not torch.cuda.is_available() or "seeded" in case):
        pytest.skip("no CUDA device, or Caffe's CPU random stream")
    got, expected = train(case, tmp_path, monkeypatch, device=device), dict(np.load(GOLDEN / case / "expected.npz"))
    for key, theirs in expected.items():
        limit = WEIGHTS if key.startswith(("param:", "history:")) else LOSS
        assert relative_error(got[key], theirs) <= limit, key


def test_drift_over_500_iterations_is_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The float64 twin is as close to Caffe's float32 run as to our own: neither has a systematic error."""
    caffe = dict(np.load(GOLDEN / LONG / "expected.npz"))
    ours = train(LONG, tmp_path / "float32", monkeypatch)
    exact = train(LONG, tmp_path / "float64", monkeypatch, dtype=torch.float64)
    assert exact["param:ip1:0"].dtype == np.float64
    for key, theirs in caffe.items():
        assert relative_error(ours[key], theirs) <= DRIFT, key
        assert relative_error(exact[key], theirs) <= DRIFT, key
    keys = [key for key in caffe if key.startswith("param:")]
    caffe_drift = max(relative_error(caffe[key].astype(np.float64), exact[key]) for key in keys)
    our_drift = max(relative_error(ours[key].astype(np.float64), exact[key]) for key in keys)
    assert our_drift <= ROUNDING_RATIO * caffe_drift
