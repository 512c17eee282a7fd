"""docs/benchmarks.md and its plots from the JSON files that the benchmarks write.

    python benchmarks/make_report.py RESULTS... [--out docs/benchmarks.md] [--images docs/images]

RESULTS: files named bench_<what>....json, or folders of them.  The same files make the same report, byte for byte.
What no file measures on a GPU is marked as not measured.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report_plots import bars
from report_targets import target_rows

ROOT = Path(__file__).parent.parent
TITLES = {
    "train": "Training",
    "lrn": "Local response normalisation",
    "pool": "Max pooling and its chains",
    "conv": "Grouped convolution",
    "fastconv": "Convolution for training on the CPU",
    "linear": "InnerProduct with few images",
    "data": "Data path",
    "inference": "Running forward",
}
CPU_ONLY = ("fastconv", "linear", "inference")  # PyTorch's elsewhere
NOT_ON_GPU = (
    "**No report of a GPU lies here.** What one H200 took, twice, and what is predicted since, is in "
    "[gpu.md](gpu.md); `make test-gpu` measures it on yours."
)
NOTES = ROOT / "benchmarks" / "notes.md"  # what bounds the numbers and what was tried, by hand
Rows = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Run:
    """One JSON file."""

    kind: str
    device: str  # "cpu" or "cuda"
    results: dict[str, Any]

    @property
    def machine(self) -> dict[str, Any]:
        """What it ran on; bench_data.py tells it in other words than the rest."""
        told = self.results["machine"]
        if isinstance(told, dict):
            return told
        return {"name": told, "threads": self.results.get("cores", "-"), "date": self.results.get("date", "-")}


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """The runs of all files, in the order of TITLES, CPU before CUDA; exits for a file of another kind."""
    files = [file for path in paths for file in (sorted(path.glob("bench_*.json")) if path.is_dir() else [path])]
    runs = []
    for file in files:
        kind = file.stem.removeprefix("bench_").split("_")[0]
        if kind not in TITLES:
            sys.exit(f"make_report.py: {file.name}: expected a name like bench_train.json, of {', '.join(TITLES)}")
        results = json.loads(file.read_text())
        told = results["machine"]
        device = told["device"] if isinstance(told, dict) else results["settings"]["device"]
        runs.append(Run(kind, "cpu" if device == "cpu" else "cuda", results))
    kinds = list(TITLES)
    return sorted(runs, key=lambda run: (kinds.index(run.kind), run.device != "cpu"))


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; numbers to the right."""
    header = list(header)
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def ms_table(rows: Rows) -> str:
    """Milliseconds of each contestant; in brackets how many times ours it takes."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = []
    for label, row in rows.items():
        ours = row.get("ours")
        cells = [label]
        for name in names:
            ratio = f" ({row[name] / ours:.2f})" if name in row and ours and name != "ours" else ""
            cells.append(f"{row[name]:.3g}{ratio}" if name in row else "-")
        lines.append(cells)
    return table(["ms", *names], lines)


def train_section(run: Run, images: Path) -> Iterator[str]:
    """One table for each precision and part, and a plot of images per second."""
    batch = run.results["batch"]
    kept = ", freed memory kept by the process for all contestants" if run.results.get("keep_freed_memory") else ""
    yield f"{run.results['model']}, batch {batch}{kept}."
    for precision, found in run.results["precisions"].items():
        for part, row in found["ms"].items():
            best = min(ms for name, ms in row.items() if name.startswith("torch"))
            entries = [*row.items(), ("arithmetic floor", found["floor_ms"])]
            lines = [(n, f"{ms:.1f}", f"{1e3 * batch / ms:,.0f}", f"{best / ms:.2f}") for n, ms in entries]
            yield table([f"{precision}, {part}", "ms", "images/s", "times the best torch"], lines)
        yield (
            f"Floor: {found['gflop']:.0f} GFLOP at {found['tflops']:.3g} TFLOP/s, the best of a large product in the "
            f"same run; copies ran at {found['copy_gb_s']:.1f} GB/s."
        )
        for name, why in found["left_out"].items():
            yield f"{name} could not run: {why}."
    speeds = {
        precision: {name: 1e3 * batch / ms for name, ms in found["ms"]["with update"].items()}
        for precision, found in run.results["precisions"].items()
    }
    yield plot(speeds, f"Training {run.results['model']}, batch {batch}", "images/s", images, f"train_{run.device}")
    if run.results["layers"]:
        yield "Each layer alone, forward and backward, fp32:"
        yield ms_table(run.results["layers"])


def rows_section(run: Run, images: Path) -> Iterator[str]:
    """Tables and a plot for the benchmarks whose numbers are rows of contestants, maybe by precision."""
    found = run.results["ms"]
    nested = all(isinstance(value, dict) for row in found.values() for value in row.values())
    for precision, rows in found.items() if nested else [("", found)]:
        if nested:
            yield f"{precision}:"
        yield ms_table(rows)
        name = "_".join(word for word in (run.kind, run.device, precision) if word)
        yield plot(rows, f"{TITLES[run.kind]} {precision}".strip(), "ms", images, name)
    errors = run.results.get("relative_error", {})
    if errors:
        yield "Largest error against float64, relative to the largest value:"
    nested = all(isinstance(value, dict) for row in errors.values() for value in row.values())
    for precision, rows in errors.items() if nested else [("", errors)] if errors else []:
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        lines = [[label, *(f"{row[n]:.1e}" if n in row else "-" for n in names)] for label, row in rows.items()]
        yield table([precision, *names], lines)


def inference_section(run: Run, images: Path) -> Iterator[str]:
    """Ratios to for_inference() in the same run, by the least time of all rounds and by the median."""
    yield (
        "How many times as long as `Net.for_inference()` each contestant takes: by the least time of "
        f"{run.results['rounds']} rounds, and by the median. onnxruntime runs this package's own export."
    )
    if run.results.get("beside"):
        yield run.results["beside"]
    for batch, rows in run.results["batches"].items():
        names = [n for n in dict.fromkeys(name for row in rows.values() for name in row) if n != "for_inference"]
        lines = []
        for net, row in rows.items():
            ours = row["for_inference"]
            cells = [
                " / ".join(f"{row[name][by] / ours[by]:.2f}" for by in ("least", "median")) if name in row else "-"
                for name in names
            ]
            lines.append([net, *cells, f"{ours['difference']:.0e}"])
        yield table([f"batch {batch}", *names, "largest difference from plain"], lines)


def data_section(run: Run, images: Path) -> Iterator[str]:
    """Images per second; ratios to the common DataLoader and to the bound of the memory."""
    rows = run.results["rows"]
    yield table(
        ["reader", "images/s", "times py-lmdb DataLoader", "of the copy's bound"],
        [(r["name"], f"{r['images_per_s']:,.0f}", _ratio(r["to_baseline"]), f"{r['of_bound']:.1%}") for r in rows],
    )
    yield f"A copy in all threads runs at {run.results['copy_gb_per_s']:.1f} GB/s."
    yield plot(
        {"": {r["name"]: r["images_per_s"] for r in rows}}, "Data path", "images/s", images, f"data_{run.device}"
    )


def _ratio(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # NaN where the baseline did not run


def plot(rows: Rows, title: str, unit: str, images: Path, name: str) -> str:
    """Draw, and refer to the picture from the page beside the folder of images."""
    bars(rows, title, unit, images / f"bench_{name}.svg")
    return f"![{title}](images/bench_{name}.svg)"


def report(runs: list[Run], images: Path, notes: str = "") -> str:
    """The whole page."""
    parts = [
        "# Benchmarks",
        "Written by `benchmarks/make_report.py` from what the scripts beside it measured; nothing here is computed or "
        "estimated. All contestants of a table ran in one process, in turns; times are medians. In brackets: how many "
        "times ours. `ours` is the net layer by layer, `ours fast` is fast mode. What was seen of a GPU, and by what "
        "means: [gpu.md](gpu.md).",
        "## Targets",
        table(["target", "device", "goal", "measured", ""], target_rows((r.kind, r.device, r.results) for r in runs)),
        "## Machines",
        table(
            ["benchmark", "device", "threads", "torch", "cuDNN", "date"],
            [
                [run.kind, *(str(run.machine.get(k) or "-") for k in ("name", "threads", "torch", "cudnn", "date"))]
                for run in runs
            ],
        ),
    ]
    sections = {"train": train_section, "data": data_section, "inference": inference_section}
    for kind, title in TITLES.items():
        own = [run for run in runs if run.kind == kind]
        parts.append(f"## {title}")
        for run in own:
            parts.append(f"### On {'the CPU' if run.device == 'cpu' else 'a GPU'}: {run.machine['name']}")
            parts += sections.get(kind, rows_section)(run, images)
        if kind not in CPU_ONLY and not any(run.device == "cuda" for run in own):
            parts += ["### On a GPU", NOT_ON_GPU]
    if notes:
        parts += ["## Notes", notes.strip()]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="JSON files of the benchmarks, or folders of them")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--images", type=Path, help="folder for the plots (default: images beside the page)")
    args = parser.parse_args()
    runs = read_runs(args.results)
    if not runs:
        sys.exit("make_report.py: no bench_*.json in " + ", ".join(map(str, args.results)))
    notes = NOTES.read_text() if NOTES.exists() else ""
    args.out.write_text(report(runs, args.images or args.out.parent / "images", notes))


if __name__ == "__main__":
    main()
