"""Pictures of what the base networks look for first: the filters of their first layer."""

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.errors import CaffeCompatError
from caffe_compat.proto import caffe_pb2, read_caffemodel, read_message
from caffe_compat.tools.visualize import filter_tiles, tile
from reproduce.network import Network
from reproduce.run_folder import final_snapshot


@dataclass(frozen=True)
class Picture:
    """A small picture that stands in the page itself."""

    data_url: str
    width_px: int
    height_px: int
    text: str  # for who cannot see it


def first_filters(network: Network, out: Path) -> Picture | None:
    """Those of a finished network's first layer with filters; None where the weights are gone or in HDF5, or have none.

    Filters with 3 channels in colour (the nets see BGR), others in gray; the least weight is black, the greatest white.
    """
    folder = out / network.name
    try:
        solver = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter())
        layers = read_caffemodel(folder / final_snapshot(solver))
    except (CaffeCompatError, OSError):  # the numbers stand without it
        return None
    for layer in layers:
        weights = layer.blobs[0] if layer.blobs else None
        if weights is not None and weights.ndim == 4:
            return picture_of(np.asarray(weights, np.float32), f"{layer.name} of {network.name}")
    return None


def picture_of(weights: np.ndarray, name: str) -> Picture:
    """Weights (filters, channels, height, width) as a PNG, a pixel a weight."""
    grid = tile(filter_tiles(weights, rgb=False))
    done, encoded = cv2.imencode(".png", np.round(grid[..., ::-1] * 255).astype(np.uint8))
    assert done, "OpenCV always writes PNG"
    count, _, height, width = weights.shape
    ends = f"weights from {weights.min():.2f} to {weights.max():.2f}"
    text = f"the {count} filters of {name}, {height} x {width} each; {ends}"
    url = f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"
    return Picture(url, grid.shape[1], grid.shape[0], text)
