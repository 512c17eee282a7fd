"""Nets outside the Caffe world, and weights in PyTorch's files: run and load by the file's ending."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from caffe_compat.errors import CaffeCompatError
from caffe_compat.net import Net

Blobs = dict[str, np.ndarray]


def load_weights(net: Net, path: Path, *, strict: bool = False, reshape: Collection[str] = ()) -> None:
    """Weights from a caffemodel or HDF5 file, or a state_dict in ``.pt`` or ``.safetensors``.

    ``strict`` and ``reshape``: see ``Net.copy_from``; a state_dict has to fit wholly as it is.
    Raises CaffeCompatError for a state_dict whose names or shapes are not the net's.
    """
    if path.suffix not in (".pt", ".safetensors"):
        net.copy_from(path, strict=strict, reshape=reshape)
        return
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        net.load_state_dict(state)
    except (RuntimeError, SafetensorError, EOFError) as error:
        raise CaffeCompatError(f"{path}: {' '.join(str(error).split())}") from error


def run_exported(path: Path, inputs: Mapping[str, np.ndarray]) -> Blobs:
    """Output blobs by name of a ``.pt2`` (torch.export) or ``.onnx`` file."""
    return _run_pt2(path, inputs) if path.suffix == ".pt2" else _run_onnx(path, inputs)


def _run_pt2(path: Path, inputs: Mapping[str, np.ndarray]) -> Blobs:
    module = torch.export.load(path).module()
    with torch.no_grad():
        tops = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return {name: top.numpy() for name, top in tops.items()}


def _run_onnx(path: Path, inputs: Mapping[str, np.ndarray]) -> Blobs:
    try:
        import onnxruntime
    except ImportError as error:
        raise CaffeCompatError(f"{path}: running it needs onnxruntime; pip install 'caffe-compat[onnx]'") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = {value.name for value in session.get_inputs()}
    found = session.run(names, {name: value for name, value in inputs.items() if name in wanted})
    return dict(zip(names, found, strict=True))
