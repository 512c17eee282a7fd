"""Other programs that run an ONNX file: each in a fresh process that has neither PyTorch nor this package."""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers.base import Shape
from caffe_compat.net import Net
from caffe_compat.tools._exported import Blobs
from caffe_compat.tools._noise import noise_inputs
from caffe_compat.tools.compare import compare

_BEFORE = """
import sys
sys.modules["caffe_compat"] = sys.modules["torch"] = None
import numpy as np
path, given, found = sys.argv[1:]
data = np.load(given)
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
            with np.load(found) as data:
                results = [[data[f"{i}.{j}"] for j in range(len(outputs))] for i in range(len(batches))]
                return str(data["version"]), results


CHECKERS = (Checker("onnxruntime", "onnxruntime", _ONNXRUNTIME), Checker("OpenCV", "cv2", _OPENCV))


def check_onnx(
    net: Net,
    path: Path,
    outputs: Sequence[str],
    shapes: Sequence[Mapping[str, Shape]],
    tolerance: float,
    *,
    choices: bool = True,
) -> str:
    """Run a file on inputs of each of ``shapes`` with each program that is installed; what to tell the user.

    ``outputs``: the net's, by their names in the file.  ``tolerance``: of a blob's largest value.  ``choices``: whether
    blobs that a layer chooses by comparing (ArgMax: the largest) have to be equal, too; rounding tips the scales.
    CaffeCompatError where the first program cannot run the file or gives other numbers; what a further one cannot run,
    or computes otherwise, is told.
    """
    batches, expected = zip(*(_run_at(net, sizes) for sizes in shapes), strict=True)
    chosen = set() if choices else _chosen(net)
    told, known = [], False
    for checker in CHECKERS:
        if not checker.installed:
            told.append(f"{checker.title} is not installed: not run with it")
            continue
        try:
            version, results = checker.run(path, batches, outputs)
            told.append(f"{checker.title} {version}: {_compared(net, results, expected, tolerance, chosen)}")
            known = True
        except CaffeCompatError as error:
            if not known:
                raise CaffeCompatError(f"{checker.title}: {error}") from error
            told.append(f"{checker.title}: {error}")
    sizes = f" at {len(shapes)} sizes of inputs" if len(shapes) > 1 else ""
    equal = f"{len(outputs)} output(s) equal the source net's{sizes}" if known else "valid ONNX, but not run"
    return f"written; {equal}; {'; '.join(told)}"


def _run_at(net: Net, shapes: Mapping[str, Shape]) -> tuple[Blobs, Blobs]:
    """Noise of these shapes, and the net's outputs for it; a state that it carries on stays as it was."""
    net.reshape(**shapes)
    inputs = noise_inputs(net)
    held = [
        (module, name, value.clone()) for module in net.modules() for name, value in module.named_buffers(recurse=False)
    ]
    with torch.no_grad():
        tops = net({name: torch.from_numpy(value) for name, value in inputs.items()})
    for module, name, value in held:
        setattr(module, name, value)
    return inputs, {name: np.asarray(top) for name, top in tops.items()}


def _chosen(net: Net) -> set[str]:
    """Blobs behind a layer that compares values, and so has no gradient."""
    chosen: set[int] = set()
    for step in net.steps:
        if not step.layer.is_source and (not step.layer.has_backward or chosen.intersection(step.bottoms)):
            chosen.update(step.tops)
    return {net.blob_names[i] for i in chosen}


def _compared(
    net: Net, results: Sequence[Sequence[np.ndarray]], expected: Sequence[Blobs], tolerance: float, chosen: set[str]
) -> str:
    """The largest error in words; CaffeCompatError names the first difference."""
    worst, tipped = ("", 0.0), ""
    for values, wanted in zip(results, expected, strict=True):
        found = dict(zip(net.outputs, values, strict=True))
        for name, value in found.items():
            if value.size == wanted[name].size:  # some drop axes of size 1
                found[name] = value.reshape(wanted[name].shape)
        for name in net.outputs:
            mismatch, (blob, error) = compare(found, wanted, [name], tolerance, 0.0)
            if mismatch is not None and name not in chosen:
                raise CaffeCompatError(f"differs from the source net at {mismatch.blob}{mismatch.text}")
            if mismatch is not None:
                tipped = f"; {mismatch.blob} chooses between values that are near{mismatch.text}"
            elif not worst[0] or error > worst[1]:
                worst = (blob, error)
    return (f"largest error {worst[1]:.1e} (blob {worst[0]})" if worst[0] else "run") + tipped
