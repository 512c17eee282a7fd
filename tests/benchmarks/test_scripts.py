"""The benchmark scripts where no GPU is: they run, write what the report reads, and the GPU script refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
GPU_SCRIPT = ROOT / "benchmarks" / "run_on_gpu.sh"
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")

NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 1 dim: 3 dim: 19 dim: 19 } shape { dim: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 5 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
layer { name: "fc" type: "InnerProduct" bottom: "norm" top: "fc"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_bench_inference_compares_the_outputs(tmp_path: Path) -> None:
    out = tmp_path / "bench_inference.json"
    options = ("--nets", "SqueezeNet", "--batch", 1, "--rounds", 1, "--threads", 1, "--json", out)
    done = run("bench_inference.py", *options, "--without", "onnxruntime", "fast")
    assert done.returncode == 0, done.stderr
    assert "no --opencv: OpenCV left out" in done.stdout
    row = json.loads(out.read_text())["batches"]["1"]["SqueezeNet"]
    assert set(row) == {"plain", "for_inference"}
    assert row["plain"]["difference"] == 0
    assert 0 < row["for_inference"]["difference"] < 1e-5


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="bfloat16 on the CPU needs oneDNN")
def test_bench_train_measures_all_contestants(tmp_path: Path) -> None:
    model = tmp_path / "net.prototxt"
    model.write_text(NET)
    out = tmp_path / "bench_train.json"
    options = ("--batch", 2, "--rounds", 1, "--no-compile", "--layers", "--precision", "fp32", "--precision", "bf16")
    done = run("bench_train.py", "--model", model, "--device", "cpu", "--json", out, *options)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    names = {"ours", "ours fast", "torch", "torch channels_last"}
    for precision in ("fp32", "bf16"):
        found = results["precisions"][precision]
        assert set(found["ms"]["forward + backward"]) == set(found["ms"]["with update"]) == names
        # conv without its input's gradient, at 8x8 outputs of 75 products; fc with all three, from 8 channels of 4x4
        flop = 2 * (2 * 2 * 8 * 8 * 8 * 75) + 3 * (2 * 2 * 10 * 128)
        assert found["gflop"] == pytest.approx(flop / 1e9)
        assert found["floor_ms"] == pytest.approx(found["gflop"] / found["tflops"])
    assert set(results["layers"]) == {"conv", "relu", "pool", "norm", "fc"}
    pytest.importorskip("matplotlib")
    done = run("make_report.py", tmp_path, "--out", tmp_path / "page.md")
    assert done.returncode == 0, done.stderr
    assert "| ours fast |" in (tmp_path / "page.md").read_text()


CONV_NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 16 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 2 weight_filler { type: "xavier" } } }
"""


def test_bench_conv_measures_all_contestants(tmp_path: Path) -> None:
    model, out = tmp_path / "net.prototxt", tmp_path / "bench_conv.json"
    model.write_text(CONV_NET)
    options = ("--batch", 2, "--rounds", 1, "--no-compile", "--json", out)
    done = run("bench_conv.py", "--model", model, "--device", "cpu", *options)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert set(results["ms"]["fp32"]) == {"conv output", "conv input_grad", "conv weight_grad"}
    torchs = {"torch NCHW", "torch NHWC", "split NHWC"}
    for row in results["ms"]["fp32"].values():
        assert set(row) == {"ours", "parts NHWC", "floor"} | torchs
    assert results["gigaflop"]["conv"] == pytest.approx(2e-9 * 2 * 6 * 5 * 8 * 8 * 9)
    for row in results["relative_error"]["fp32"].values():
        assert set(row) == {"ours"} | torchs
        assert max(row.values()) < 1e-5


def run_gpu_script(out: Path, *parts: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "OUT": str(out), "PYTHON": sys.executable, **environment}
    return subprocess.run(["bash", str(GPU_SCRIPT), *parts], capture_output=True, text=True, env=known)


@needs_bash
def test_gpu_script_is_sound_bash() -> None:
    subprocess.run(["bash", "-n", str(GPU_SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(GPU_SCRIPT)], check=True)


@needs_bash
def test_gpu_script_refuses_unknown_parts(tmp_path: Path) -> None:
    done = run_gpu_script(tmp_path, "bread")
    assert done.returncode == 2
    assert "there is no part 'bread'; expected build, test, sanitize, bench or report" in done.stdout


@needs_bash
def test_gpu_script_refuses_a_machine_without_gpu(tmp_path: Path) -> None:
    done = run_gpu_script(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "no PyTorch that sees a CUDA device" in done.stdout
    assert "no PyTorch that sees a CUDA device" in (tmp_path / "log.txt").read_text()


STAND_IN = """#!/bin/bash
case "$*" in
  *get_device_capability*) echo 9.0 ;;
  *get_device_name*) echo "A stand-in for a GPU" ;;
  -) cat >/dev/null; echo "$MISSING" ;;
  *pip*) exit 1 ;;
  *bench_conv*) exit 3 ;;
  *bench_train*) sleep "$TRAIN_S" ;;
  *) echo "ran $*" ;;
esac
"""


@pytest.fixture
def gpu_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the scripts, with stand-ins for Python and for CUDA's tools on the PATH."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "repo" / "benchmarks")
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("python", STAND_IN),
        ("nvcc", "#!/bin/bash\n"),
        ("compute-sanitizer", '#!/bin/bash\necho "$*"\n'),
    ):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name, value in (("PYTHON", "python"), ("OUT", str(tmp_path / "out")), ("MISSING", ""), ("TRAIN_S", "0")):
        monkeypatch.setenv(name, value)
    return tmp_path


def run_copy(machine: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    script = machine / "repo" / "benchmarks" / "run_on_gpu.sh"
    return subprocess.run(["bash", str(script), *parts], capture_output=True, text=True)


@needs_bash
def test_gpu_script_goes_on_after_a_failure_and_tells(gpu_machine: Path) -> None:
    done = run_copy(gpu_machine)
    assert done.returncode == 1
    assert "bench_conv: FAILED with status 3" in done.stdout
    tests, benches = ("errors", "tests", "memcheck", "racecheck"), ("bench_train", "tune", "bench_lrn")
    for name in ("build", *tests, *benches, "precision_curves", "report"):
        assert f"=== {name}: done" in done.stdout, done.stdout
    assert (gpu_machine / "out" / "results.tar.gz").exists()
    assert "something failed" in (gpu_machine / "out" / "log.txt").read_text()
    assert run_copy(gpu_machine, "build", "report").returncode == 0


def test_gpu_script_has_time_for_every_step() -> None:
    """Each has its whole limit behind a build of 120 s; the sanitizers run beside the tests, and no longer."""
    text = GPU_SCRIPT.read_text()
    limits = {name: int(seconds) for name, seconds in re.findall(r"\b(?:step|run_bench) (\w+) (\d+) ", text + " ")}
    limits |= {name: int(seconds) for name, seconds in re.findall(r"\brun_bench (\w+) (\d+)$", text, re.MULTILINE)}
    assert limits.keys() >= {"build", "errors", "tests", "train", "tune", "lrn", "pool", "conv", "data", "report"}
    assert "precision_curves" in limits
    build, memcheck, racecheck = (limits.pop(name) for name in ("build", "memcheck", "racecheck"))
    assert build >= 120
    assert max(memcheck, racecheck) <= limits["errors"] + limits["tests"]
    assert 120 + sum(limits.values()) <= 570
    assert "limit=${LIMIT:-570}" in text


@needs_bash
def test_gpu_script_ends_in_time(gpu_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMIT", "8")
    monkeypatch.setenv("TRAIN_S", "60")
    done = run_copy(gpu_machine, "bench", "report")
    assert done.returncode == 1
    assert "bench_train: FAILED with status 124" in done.stdout
    assert "report: left out, 8 s are over" in done.stdout
    assert (gpu_machine / "out" / "results.tar.gz").exists()


@needs_bash
def test_gpu_script_keeps_time_for_the_report(gpu_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMIT", "24")
    monkeypatch.setenv("TRAIN_S", "60")
    done = run_copy(gpu_machine, "bench", "report")
    assert "bench_train: FAILED with status 124 after 18 s" in done.stdout
    assert "bench_conv: left out" in done.stdout
    assert "=== report: done" in done.stdout


@needs_bash
def test_gpu_script_gives_what_it_has_when_it_is_stopped(gpu_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAIN_S", "60")
    results = gpu_machine / "repo" / "build" / "gpu" / "results"
    results.mkdir(parents=True)
    (results / "bench_lrn_cuda.json").write_text("{}")
    script = gpu_machine / "repo" / "benchmarks" / "run_on_gpu.sh"
    stopped = ["timeout", "3", "bash", str(script), "bench"]
    done = subprocess.run(stopped, capture_output=True, text=True)
    assert "=== stopped after" in done.stdout + (gpu_machine / "out" / "log.txt").read_text()
    with tarfile.open(gpu_machine / "out" / "results.tar.gz") as archive:
        assert {"results/bench_lrn_cuda.json", "results/log.txt"} <= set(archive.getnames())


@needs_bash
def test_gpu_script_names_missing_packages(gpu_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISSING", "lmdb h5py")
    done = run_copy(gpu_machine)
    assert done.returncode == 2
    assert "fetch wheels with 'make wheels WHEEL_NAMES=\"lmdb h5py\"' first" in done.stdout


def test_sanitizers_run_every_operator_with_a_cuda_kernel() -> None:
    """Each has a function of its name, or of its family's, in tests/run_cuda_operators.py."""
    text = (ROOT / "tests" / "run_cuda_operators.py").read_text()
    defined = {
        name
        for source in (ROOT / "csrc").rglob("*.cu")
        for name in re.findall(r'm\.impl\("(\w+?)(?:_kernel)?"', source.read_text())
    }
    assert len(defined) > 10
    for name in defined:
        forward = re.sub(r"_(backward|(input|weight)_grad)$", "", name).removesuffix("_")
        assert f"{forward}(" in text or forward == "solver_update", f"{name} is not run"
