"""Compare with what Caffe 1.0 computed: every golden case, and the worst error of each layer type.

caffe-compat fidelity --out docs/fidelity.md
caffe-compat fidelity --cases tests/golden --json
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_compat import __version__
from caffe_compat.atomic_file import check_target, write_text
from caffe_compat.errors import CaffeCompatError

if TYPE_CHECKING:
    from caffe_compat.tools._golden import Difference

KINDS = ("net", "filler", "io", "data", "solver")

PREAMBLE = """# Fidelity

What Caffe 1.0 (CPU, OpenBLAS) computed on stored inputs, against caffe_compat {version} on PyTorch {torch}. Written by
`make fidelity`; the cases are in tests/golden, whose READMEs say how they were made.

An error is max |ours - Caffe's| / max |Caffe's| over one array. A case passes when each array of data is within
1e-4 and each gradient (or trained parameter) within 1e-3, or within the case's own, tighter limit, and all names are
equal. The table gives the worst of all cases of a layer type; `net` are whole nets, `solver`, `data`, `io` and
`filler` runs of several passes (those that need Caffe's CPU random stream run on the CPU only). What the command line
tools write, upgraded prototxts and log lines have no error to give: the tests compare them exactly.
"""


@dataclass
class Outcome:
    """One case on one device."""

    case: Path
    layer: str
    device: str
    differences: "list[Difference]"
    reason: str = ""  # why it could not be compared

    @property
    def passed(self) -> bool:
        return not self.reason and all(d.passed for d in self.differences)

    def worst(self, gradients: bool) -> float:
        """The largest error among gradients and trained parameters, or among the other arrays."""
        if self.reason:
            return math.inf
        from caffe_compat.tools._golden import LOOSER

        return max((d.error for d in self.differences if d.key.startswith(LOOSER) == gradients), default=0.0)

    def failure(self) -> str:
        """Why the case does not pass, in one line."""
        if self.reason:
            return self.reason
        worst = max((d for d in self.differences if not d.passed), key=lambda d: d.error)
        return f"{worst.key}: error {worst.error:.1e}, limit {worst.tolerance:.0e}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cases", type=Path, default=Path("tests/golden"), help="folder of folders of cases (default tests/golden)"
    )
    parser.add_argument("--out", type=Path, help="also write the report to this Markdown file")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the CPU, and CUDA where there is one")


def run(args: argparse.Namespace) -> int:
    import torch

    from caffe_compat.tools._golden import find_cases

    if args.out:
        check_target(args.out)
    cases = find_cases(args.cases, KINDS)
    if not cases:
        raise CaffeCompatError(f"{args.cases}: no golden cases; run this in a source checkout or give --cases")
    devices = [args.device] if args.device else ["cpu", *["cuda"] * torch.cuda.is_available()]
    outcomes = [outcome for device in devices for outcome in run_cases(cases, device)]
    print(as_json(outcomes) if args.json else summary(outcomes))
    if args.out:
        versions = {"version": __version__, "torch": torch.__version__.partition("+")[0]}
        write_text(args.out, PREAMBLE.format(**versions) + "\n" + summary(outcomes))
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def run_cases(cases: Iterable[Path], device: str) -> list[Outcome]:
    """Run every case on "cpu" or "cuda"; a case that raises one of our errors is an outcome too.

    On CUDA those that need Caffe's CPU random stream are left out.
    """
    from caffe_compat import pycaffe
    from caffe_compat.tools._golden import needs_cpu

    if device == "cuda":
        pycaffe.set_mode_gpu()
    try:
        return [_run_case(case, device) for case in cases if device == "cpu" or not needs_cpu(case)]
    finally:
        pycaffe.set_mode_cpu()


def _run_case(case: Path, device: str) -> Outcome:
    from caffe_compat.tools._golden import check_case, layer_type

    try:
        return Outcome(case, layer_type(case), device, check_case(case))
    except CaffeCompatError as error:
        return Outcome(case, layer_type(case), device, [], str(error))


def summary(outcomes: Iterable[Outcome]) -> str:
    """A Markdown table by device and layer type, then the cases that do not pass."""
    outcomes = list(outcomes)
    lines = []
    for device in dict.fromkeys(o.device for o in outcomes):
        here = [o for o in outcomes if o.device == device]
        lines += [
            f"## {device.upper()}: {sum(o.passed for o in here)} of {len(here)} cases pass",
            "",
            *_table(here),
            "",
        ]
    failures = [f"- {o.case.parent.name}/{o.case.name} ({o.device}): {o.failure()}" for o in outcomes if not o.passed]
    lines += ["## Cases that do not pass", "", *(failures or ["None."]), ""]
    return "\n".join(lines)


def as_json(outcomes: Iterable[Outcome]) -> str:
    """A row for each device and layer type, as in the table, and the cases that do not pass; null: not compared."""
    outcomes = list(outcomes)
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.device, outcome.layer].append(outcome)
    rows = [
        {
            "device": device,
            "layer": layer,
            "cases": len(group),
            "passed": sum(outcome.passed for outcome in group),
            "data": _finite(max(outcome.worst(False) for outcome in group)),
            "gradients": _finite(max(outcome.worst(True) for outcome in group)),
        }
        for (device, layer), group in sorted(groups.items())
    ]
    failures = [
        {"case": f"{o.case.parent.name}/{o.case.name}", "device": o.device, "reason": o.failure()}
        for o in outcomes
        if not o.passed
    ]
    return json.dumps({"layers": rows, "failures": failures}, indent=2)


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _table(outcomes: Iterable[Outcome]) -> list[str]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.layer].append(outcome)
    lines = ["| layer type | cases | passed | worst error, data | worst error, gradients |", "|---|---|---|---|---|"]
    for layer, group in sorted(groups.items()):
        data, gradients = (max(outcome.worst(kind) for outcome in group) for kind in (False, True))
        lines.append(f"| {layer} | {len(group)} | {sum(o.passed for o in group)} | {data:.1e} | {gradients:.1e} |")
    return lines
