"""Nets outside the Caffe world, and weights in PyTorch's files: run, read and write by the file's ending."""

import io
import json
import keyword
import logging
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from caffe_compat import extension
from caffe_compat.errors import CaffeCompatError, reading, reason, seen_from
from caffe_compat.layers.batch_norm import STATISTICS, BatchNorm
from caffe_compat.net import Net
from caffe_compat.tools._archives import check_members

Blobs = dict[str, np.ndarray]
State = dict[str, Tensor]

#: a .pt2's own file with {argument: blob}
ARGUMENTS = "caffe_compat_inputs.json"
#: before an ONNX output's name, a key of the model's metadata; the value is the blob's name
OUTPUT_KEY = "caffe_compat.output."

#: runs a .pt2 as a program does that has PyTorch, but not this package: path, inputs, outputs
_ALONE = """
import sys
sys.modules["caffe_compat"] = None
import torch
path, inputs, outputs = sys.argv[1:]
with torch.no_grad():
    torch.save(torch.export.load(path).module()(**torch.load(inputs, weights_only=True)), outputs)
"""


# -- weights ----------------------------------------------------------------------------


def load_weights(net: Net, path: Path, *, strict: bool = False, reshape: Collection[str] = ()) -> None:
    """Weights from a caffemodel or HDF5 file, or a state_dict in ``.pt`` or ``.safetensors``.

    ``strict`` and ``reshape``: see ``Net.copy_from``; a state_dict has to fit wholly as it is.
    Raises CaffeCompatError for a state_dict whose names or shapes are not the net's.
    """
    if path.suffix not in (".pt", ".safetensors"):
        net.copy_from(path, strict=strict, reshape=reshape)
        return
    state = read_state(path)
    for name, _ in _batch_norms(net):
        mean, variance = (f"{name}.running_{what}" for what in ("mean", "var"))
        if mean in state and variance in state:
            values = (state.pop(mean), state.pop(variance), torch.ones(1))
            state.update(zip((f"{name}.{blob}" for blob in STATISTICS), values, strict=True))
    try:
        net.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CaffeCompatError(f"{path}: {reason(error)}") from error


def read_state(path: Path) -> State:
    """The tensors by name of a ``.pt`` or ``.safetensors`` file."""
    with reading(path, f"a state dict ({path.suffix})", CaffeCompatError):
        try:
            state: State = load_file(path) if path.suffix == ".safetensors" else _load_pt(path)
        except UnpicklingError as error:  # its text advises to run what is in the file
            raise CaffeCompatError(
                f"{path}: is no state dict of arrays; save one by torch.save(net.state_dict(), file)"
            ) from error
        if not isinstance(state, dict):
            raise CaffeCompatError(f"{path}: is a {type(state).__name__}; expected a state dict")
    return state


def _load_pt(path: Path) -> Any:
    """PyTorch takes memory for sizes that a damaged file says, so that they are looked at before."""
    if not zipfile.is_zipfile(path):  # the old form; of bytes in memory no more can be asked for than there are
        return torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    with zipfile.ZipFile(path) as archive:
        check_members(path, archive)
    return torch.load(path, weights_only=True)


def state_of(net: Net, running: bool = False) -> State:
    """The net's state_dict; with ``running`` BatchNorm's averages under PyTorch's names, running_mean and running_var,
    in place of Caffe's sums and their factor."""
    state = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    for name, layer in _batch_norms(net) if running else ():
        for blob in STATISTICS:
            del state[f"{name}.{blob}"]
        state[f"{name}.running_mean"], state[f"{name}.running_var"] = (s.detach() for s in layer.running_statistics())
    return state


def _batch_norms(net: Net) -> Iterable[tuple[str, BatchNorm]]:
    return ((name, layer) for name, layer in net.named_children() if isinstance(layer, BatchNorm))


# -- programs ---------------------------------------------------------------------------


class Program(nn.Module):
    """A net as ``torch.export`` takes it: arguments and submodules with names that are Python's.

    ``arguments``: {argument: input blob}.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.arguments = {argument: blob for blob, argument in python_names(net.inputs, ["self"]).items()}
        self._net = [net]  # not a submodule: the layers below are
        layers = dict(net.named_children())
        for layer, name in python_names(layers, dir(self)).items():
            self.add_module(name, layers[layer])

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The net's outputs by their own names."""
        return self._net[0].forward({self.arguments[name]: value for name, value in inputs.items()})


def python_names(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """{name: the same as a Python name that is no keyword, not in ``taken``, and unlike all others}."""
    found: dict[str, str] = {}
    for name in names:
        safe = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not safe or safe[0].isdigit():
            safe = f"_{safe}"
        while safe in taken or keyword.iskeyword(safe) or safe in found.values():
            safe += "_"
        found[name] = safe
    return found


def export(net: Net, inputs: Mapping[str, np.ndarray], path: Path, keep_operators: bool) -> None:
    """Write ``net`` as a .pt2 with inputs of these shapes.

    ``keep_operators``: leave this package's operators in it, which only a program that imports the package can run;
    else their plain twins take their place.  CaffeCompatError for what torch.export cannot trace.
    """
    program = Program(net).eval()
    examples = {argument: torch.from_numpy(inputs[blob]) for argument, blob in program.arguments.items()}
    try:
        with torch.no_grad():
            exported = torch.export.export(program, (), examples)
            if not keep_operators:
                exported = exported.run_decompositions(extension.plain_twins())
    except CaffeCompatError:
        raise
    except (RuntimeError, ValueError) as error:
        raise CaffeCompatError(
            f"{net.source}: torch.export cannot trace this net: {' '.join(str(error).split())}"
        ) from error
    buffer = io.BytesIO()  # on a full disk PyTorch's own writing to a file ends the process
    torch.export.save(exported, buffer, extra_files={ARGUMENTS: json.dumps(program.arguments)})
    with open(path, "wb") as file:
        file.write(buffer.getbuffer())


def run_exported(path: Path, inputs: Mapping[str, np.ndarray], *, trust: bool = False) -> Blobs:
    """Output blobs by name of a ``.pt2`` (torch.export) or ``.onnx`` file.

    A .pt2 is opened with ``trust`` only: torch.export.load runs what it holds (docs/trust.md).  CaffeCompatError for a
    file that is damaged, or that does not take these inputs.
    """
    if path.suffix != ".pt2":
        return _run_onnx(path, inputs)
    if not path.is_file():
        raise CaffeCompatError(f"{path}: no such file{seen_from(path)}")
    if not trust:
        raise CaffeCompatError(
            f"{path}: is a program: PyTorch runs what it holds as it opens it; where you trust who made it, say --trust"
        )
    return _run_pt2(path, inputs)


def _run_pt2(path: Path, inputs: Mapping[str, np.ndarray]) -> Blobs:
    extra: dict[str, Any] = {ARGUMENTS: ""}
    with reading(path, "an exported program (.pt2)", CaffeCompatError), _quiet("torch.export"):
        module = torch.export.load(path, extra_files=extra).module()
        arguments = dict(json.loads(extra[ARGUMENTS] or "{}")) or {name: name for name in inputs}
    _check_given(path, arguments.values(), inputs)
    with running(path), torch.no_grad():
        tops = module(**{argument: torch.from_numpy(inputs[blob]) for argument, blob in arguments.items()})
        return {name: top.numpy() for name, top in tops.items()}


def run_alone(path: Path, arguments: Mapping[str, np.ndarray]) -> Blobs:
    """Outputs of a .pt2 of our own in a fresh interpreter that cannot import this package; CaffeCompatError where that
    fails."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "inputs.pt", Path(folder) / "outputs.pt"
        torch.save({name: torch.from_numpy(value) for name, value in arguments.items()}, given)
        # -P: a file called torch.py in the working directory is not PyTorch
        command = [sys.executable, "-P", "-c", _ALONE, *map(str, (path.absolute(), given, found))]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if run.returncode:
            lines = run.stderr.splitlines() or [f"status {run.returncode}"]
            error = [line for line in lines if re.match(r"[\w.]+: ", line)] or lines
            raise CaffeCompatError(f"PyTorch alone cannot run it: {error[-1]}")
        return {name: top.numpy() for name, top in torch.load(found, weights_only=True).items()}


def _run_onnx(path: Path, inputs: Mapping[str, np.ndarray]) -> Blobs:
    try:
        import onnxruntime
    except ImportError as error:
        raise CaffeCompatError(f"{path}: running it needs onnxruntime; pip install 'caffe-compat[onnx]'") from error
    with reading(path, "an ONNX model", CaffeCompatError):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        renamed = session.get_modelmeta().custom_metadata_map
    names = [output.name for output in session.get_outputs()]
    wanted = {value.name for value in session.get_inputs()}
    _check_given(path, wanted, inputs)
    with running(path):
        found = session.run(names, {name: value for name, value in inputs.items() if name in wanted})
    return {renamed.get(OUTPUT_KEY + name, name): value for name, value in zip(names, found, strict=True)}


def _check_given(path: Path, wanted: Iterable[str], inputs: Mapping[str, np.ndarray]) -> None:
    missing = [name for name in wanted if name not in inputs]
    if missing:
        there = ", ".join(inputs) or "none"
        raise CaffeCompatError(
            f"{path}: takes an input {', '.join(map(repr, missing))}; there are {there}; give --inputs"
        )


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Without a library's own report, traceback and all, of what it then raises."""
    log = logging.getLogger(logger)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Around another runtime at work: whatever it raises becomes one CaffeCompatError."""
    try:
        yield
    except Exception as error:
        raise CaffeCompatError(f"{path}: does not run on these inputs: {reason(error)}") from error
