"""The report on made-up numbers: tables, ratios, targets, plots, and what it says where no GPU was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "make_report.py"

MACHINE = {"device": "cpu", "name": "Some CPU", "threads": 2, "torch": "2.0", "cudnn": 0, "date": "2026-01-02"}
GPU = {**MACHINE, "device": "cuda", "name": "Some GPU", "cudnn": 91900}
TRAIN = {
    "machine": MACHINE,
    "model": "net.prototxt",
    "batch": 32,
    "precisions": {
        "fp32": {
            "ms": {
                "forward + backward": {"ours": 80.0, "ours fast": 40.0, "torch": 100.0, "torch channels_last": 60.0},
                "with update": {"ours": 90.0, "ours fast": 50.0, "torch": 110.0, "torch channels_last": 75.0},
            },
            "left_out": {"torch.compile": "RuntimeError: no compiler"},
            "tflops": 0.1,
            "copy_gb_s": 10.0,
            "gflop": 2.0,
            "floor_ms": 20.0,
        }
    },
    "layers": {"conv1": {"ours": 5.0, "torch": 10.0}},
}
LRN = {
    "machine": MACHINE,
    "ms": {
        "norm1 (32, 96, 27, 27) forward": {"ours": 1.0, "torch": 12.0, "copy": 0.5},
        "norm2 (32, 256, 13, 13) forward": {"ours": 1.0, "torch": 9.0, "copy": 0.9},
    },
}
POOL = {"machine": GPU, "ms": {"norm1 (2, 3, 4, 5) forward": {"ours": 1.0, "one by one": 2.5, "copy": 0.9}}}
CONV = {
    "machine": GPU,
    "ms": {
        "tf32": {"conv2 output": {"ours": 1.0, "torch": 3.0, "torch NHWC": 2.0}, "conv2 input gradient": {"ours": 1.0,
                 "torch": 4.0}},
    },
    "relative_error": {"tf32": {"conv2 output": {"ours": 1e-4, "torch": 2e-4}}},
}  # fmt: skip
DATA = {
    "machine": "x86_64",
    "cores": 2,
    "date": "2026-01-02",
    "settings": {"device": "cpu"},
    "copy_gb_per_s": 9.5,
    "rows": [{"name": "raw/ours", "images_per_s": 4321.0, "to_baseline": 2.5, "of_bound": 0.4}],
}

INFERENCE = {
    "machine": MACHINE,
    "rounds": 8,
    "beside": "Other work ran beside it.",
    "batches": {
        "1": {
            "CaffeNet": {
                "onnxruntime": {"least": 6.0, "median": 9.0, "difference": 2e-6},
                "for_inference": {"least": 4.0, "median": 5.0, "difference": 3e-6},
            }
        }
    },
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, content in (
        ("train", TRAIN),
        ("lrn", LRN),
        ("pool", POOL),
        ("conv_h100", CONV),
        ("data", DATA),
        ("inference", INFERENCE),
    ):
        (tmp_path / f"bench_{name}.json").write_text(json.dumps(content))
    return tmp_path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_tables_ratios_and_targets(results: Path) -> None:
    done = run(results, "--out", results / "page.md")
    assert done.returncode == 0, done.stderr
    page = (results / "page.md").read_text()
    assert "| ours fast | 40.0 | 800 | 1.50 |" in page
    assert "| arithmetic floor | 20.0 | 1,600 | 3.00 |" in page
    assert "torch.compile could not run: RuntimeError: no compiler." in page
    assert "| norm1 (32, 96, 27, 27) forward | 1 | 12 (12.00) | 0.5 (0.50) |" in page
    assert "| conv2 output | 1.0e-04 | 2.0e-04 |" in page
    assert "Other work ran beside it." in page
    assert "| batch 1 | onnxruntime | largest difference from plain |" in page
    assert "| CaffeNet | 1.50 / 1.80 | 3e-06 |" in page
    assert "| raw/ours | 4,321 | 2.50 | 40.0% |" in page
    # the worst of the layers counts; the better torch layout; both products together
    assert "| LRN forward, times faster than torch | cpu | at least 10 | 9.00 | missed: 0.90 of the goal |" in page
    assert "better torch layout | cpu | at least 1.45 | 1.50 | met |" in page
    assert "| grouped convolution tf32, times faster than PyTorch's | cuda | at least 2 | 3.00 | met |" in page
    assert "ReLU, pooling and LRN in one, times the best one by one | cuda | at most 0.5 | 0.40 | met |" in page
    assert "| CaffeNet training bf16, images/s | cuda | at least 40,000 | not measured | - |" in page


def test_only_what_no_gpu_measured_is_marked(results: Path) -> None:
    run(results, "--out", results / "page.md")
    sections = (results / "page.md").read_text().split("\n## ")
    marked = {part.partition("\n")[0] for part in sections if "No report of a GPU lies here" in part}
    assert marked == {"Training", "Local response normalisation", "Data path"}
    assert "On a GPU: Some GPU" in next(part for part in sections if part.startswith("Grouped convolution"))


def test_same_numbers_same_bytes(results: Path) -> None:
    files = []
    for number in (1, 2):
        folder = results / f"run{number}"
        folder.mkdir()
        assert run(results, "--out", folder / "page.md").returncode == 0
        files.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert files[0] == files[1]
    plots = [name for name in files[0] if name.suffix == ".svg"]
    assert len(plots) == 5
    page = (results / "run1" / "page.md").read_text()
    for plot in plots:
        assert f"](images/{plot.name})" in page
        assert len(files[0][plot]) < 100_000


def test_refuses_other_files(tmp_path: Path) -> None:
    (tmp_path / "bench_bread.json").write_text("{}")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "bench_bread.json: expected a name like bench_train.json" in done.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no bench_*.json in" in run(empty).stderr


def test_every_benchmark_has_its_section() -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from make_report import TITLES
    finally:
        sys.path.remove(str(SCRIPT.parent))
    assert {path.stem.removeprefix("bench_") for path in SCRIPT.parent.glob("bench_*.py")} == set(TITLES)
