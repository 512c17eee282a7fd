"""Other programs that run an ONNX file: each in a fresh process that has neither PyTorch nor this package."""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.net import Net
from caffe_compat.tools._exported import Blobs
from caffe_compat.tools._noise import noise_inputs
from caffe_compat.tools.compare import compare

_BEFORE = """
import sys
sys.modules["caffe_compat"] = sys.modules["torch"] = None
import numpy as np
path, given, found = sys.argv[1:]
data = np.load(given, allow_pickle=False)
names, outputs = data["names"].tolist(), data["outputs"].tolist()
batches = [{name: data[f"{i}.{j}"] for j, name in enumerate(names)} for i in range(int(data["batches"]))]
"""
_AFTER = """
np.savez(found, version=version, **{f"{i}.{j}": v for i, values in enumerate(results) for j, v in enumerate(values)})
"""
_ONNXRUNTIME = """
import onnxruntime
version = onnxruntime.__version__
onnxruntime.set_default_logger_severity(3)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
results = [session.run(outputs, batch) for batch in batches]
"""
_OPENCV = """
import cv2
version = cv2.__version__
net = cv2.dnn.readNetFromONNX(path)
results = []
for batch in batches:
    for name, value in batch.items():
        net.setInput(value, name)
    results.append([np.array(value) for value in net.forward(outputs)])
"""


@dataclass(frozen=True)
class Checker:
    """``package``: what has to be installed; ``program``: from ``batches`` to ``results`` and ``version``."""

    title: str
    package: str
    program: str

    @property
    def installed(self) -> bool:
        """Whether it can be asked."""
        return importlib.util.find_spec(self.package) is not None

    def run(self, path: Path, batches: Sequence[Blobs], outputs: Sequence[str]) -> tuple[str, list[list[np.ndarray]]]:
        """Its version, and for each batch of inputs by name the outputs in order; CaffeCompatError where it fails."""
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
            names = list(batches[0])
            arrays = {f"{i}.{j}": batch[name] for i, batch in enumerate(batches) for j, name in enumerate(names)}
            np.savez(given, names=np.array(names, str), outputs=np.array(outputs, str), batches=len(batches), **arrays)  # type: ignore[arg-type]
            # -P: a file called numpy.py in the working directory is not NumPy
            program = _BEFORE + self.program + _AFTER
            command = [sys.executable, "-P", "-c", program, *map(str, (path.absolute(), given, found))]
            run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if run.returncode:
                lines = [line for line in run.stderr.splitlines() if line.strip()] or [f"status {run.returncode}"]
                errors = [line for line in lines if re.match(r"[\w.]+: |.*error: ", line)]
                raise CaffeCompatError(f"cannot run it: {(errors or lines)[-1].strip()}")
            with np.load(found, allow_pickle=False) as data:
                results = [[data[f"{i}.{j}"] for j in range(len(outputs))] for i in range(len(batches))]
                return str(data["version"]), results


class Verdict(NamedTuple):
    """What to tell the user of a file that was written; ``doubted``: a program that is installed cannot run it, or
    computes otherwise, while another one agrees."""

    said: str
    doubted: bool = False


CHECKERS = (Checker("onnxruntime", "onnxruntime", _ONNXRUNTIME), Checker("OpenCV", "cv2", _OPENCV))


@dataclass(frozen=True)
class Trial:
    """What a file is compared with.

    ``shapes``: of the inputs, for each run.  ``tolerance``: of a blob's largest value.  ``choices``: whether blobs that
    a layer chooses by comparing (ArgMax: the largest) have to be equal, too; where values are rounded, one near
    another may win.
    """

    net: Net
    shapes: Sequence[Mapping[str, Shape]]
    tolerance: float
    choices: bool = True


def check_onnx(path: Path, trial: Trial, outputs: Mapping[str, str]) -> Verdict:
    """Run a file with each program that is installed; what to tell the user.

    ``outputs``: {blob: its name in the file}.  CaffeCompatError where the first program cannot run the file or gives
    other numbers; what a further one cannot run, or computes otherwise, is told.
    """
    batches, expected = zip(*(_run_at(trial.net, sizes, outputs) for sizes in trial.shapes), strict=True)
    told: list[str] = []
    agree: list[str] = []
    doubt: list[str] = []
    for checker in CHECKERS:
        if not checker.installed:
            told.append(f"{checker.title} is not installed: not run with it")
            continue
        try:
            version, results = checker.run(path, batches, list(outputs.values()))
            told.append(f"{checker.title} {version}: {_compared(trial, list(outputs), results, expected)}")
            agree.append(checker.title)
        except CaffeCompatError as error:
            if not agree:
                raise CaffeCompatError(f"{checker.title}: {error}") from error
            told.append(f"{checker.title}: {error}")
            doubt.append(checker.title)
    sizes = f" at {len(trial.shapes)} sizes of inputs" if len(trial.shapes) > 1 else ""
    equal = "equal the source net's" if trial.choices else f"are the source net's within {trial.tolerance:g}"
    equal = f"{len(outputs)} output(s) {equal}{sizes}" if agree else "valid ONNX, but not run"
    if doubt:
        told.append(f"run it with {' or '.join(agree)}, not with {' or '.join(doubt)} of this version")
    return Verdict(f"written; {equal}; {'; '.join(told)}", bool(doubt))


def chosen_from(net: Net) -> list[str]:
    """The blobs that layers choose from, by comparing values; each once, and none that is chosen itself."""
    chosen = _chosen(net)
    whole: dict[str, str] = {}  # what a Split's tops are
    found: dict[str, None] = {}
    for step in net.steps:
        bottoms = [whole.get(net.blob_names[i], net.blob_names[i]) for i in step.bottoms]
        if step.layer.is_split:
            whole.update(dict.fromkeys((net.blob_names[i] for i in step.tops), bottoms[0]))
        elif _chooses(step.layer):
            found.update(dict.fromkeys(bottoms))
    return [name for name in found if name not in chosen and name not in (*net.inputs, *net.outputs)]


def _run_at(net: Net, shapes: Mapping[str, Shape], blobs: Iterable[str]) -> tuple[Blobs, Blobs]:
    """Noise of these shapes, and the net's blobs for it; a state that it carries on stays as it was."""
    net.reshape(**shapes)
    inputs = noise_inputs(net)
    held = [
        (module, name, value.clone()) for module in net.modules() for name, value in module.named_buffers(recurse=False)
    ]
    with torch.no_grad():
        found = net.extract(blobs, {name: torch.from_numpy(value) for name, value in inputs.items()})
    for module, name, value in held:
        setattr(module, name, value)
    return inputs, {name: np.asarray(value) for name, value in found.items()}


def _chooses(layer: Layer) -> bool:
    """Whether a layer compares values: it has no gradient (ArgMax), or as many rows as it finds."""
    return not layer.is_source and (not layer.has_backward or bool(layer.data_sized()))


def _chosen(net: Net) -> set[str]:
    """Blobs behind a layer that compares values."""
    chosen: set[int] = set()
    for step in net.steps:
        if _chooses(step.layer) or chosen.intersection(step.bottoms):
            chosen.update(step.tops)
    return {net.blob_names[i] for i in chosen}


def _compared(
    trial: Trial, names: Sequence[str], results: Sequence[Sequence[np.ndarray]], expected: Sequence[Blobs]
) -> str:
    """The largest error in words; CaffeCompatError names the first difference."""
    worst, tipped = ("", 0.0), ""
    chosen = set() if trial.choices else _chosen(trial.net)
    for values, wanted in zip(results, expected, strict=True):
        found = dict(zip(names, values, strict=True))
        for name, value in found.items():
            if value.size == wanted[name].size:  # some drop axes of size 1
                found[name] = value.reshape(wanted[name].shape)
        for name in names:
            mismatch, (blob, error) = compare(found, wanted, [name], trial.tolerance, 0.0)
            if mismatch is not None and name not in chosen:
                raise CaffeCompatError(f"differs from the source net at {mismatch.blob}{mismatch.text}")
            if mismatch is not None:
                tipped = f"; {mismatch.blob} chooses between values that are near{mismatch.text}"
            elif not worst[0] or error > worst[1]:
                worst = (blob, error)
    return (f"largest error {worst[1]:.1e} (blob {worst[0]})" if worst[0] else "run") + tipped
