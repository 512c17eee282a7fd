"""A blob as pycaffe shows it: NumPy arrays over the engine's memory."""

import numpy as np
import torch

from caffe_compat.net.blob_engine import ParamBlob, TensorBlob


class Blob:
    """``data`` and ``diff`` are writable views on the CPU.  On a GPU they are copies that are
    written back before the next pass of the net."""

    def __init__(self, blob: TensorBlob | ParamBlob) -> None:
        self._blob = blob
        self._copies: dict[str, np.ndarray] = {}

    @property
    def data(self) -> np.ndarray:
        return self._view("data")

    @property
    def diff(self) -> np.ndarray:
        return self._view("diff")

    def _view(self, which: str) -> np.ndarray:
        tensor = getattr(self._blob, which)
        if tensor.device.type == "cpu":
            result: np.ndarray = tensor.detach().numpy()
            return result
        if which not in self._copies:
            self._copies[which] = tensor.detach().cpu().numpy()
        return self._copies[which]

    def write_back(self) -> None:
        """Copy what the caller may have written (GPU only) to the device."""
        for which, array in self._copies.items():
            tensor = getattr(self._blob, which)
            if tuple(tensor.shape) == array.shape:
                tensor.copy_(torch.from_numpy(array))
        self._copies.clear()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._blob.shape

    @property
    def count(self) -> int:
        return self._blob.count

    def reshape(self, *shape: int) -> None:
        """Give the blob a new shape; ``Net.reshape`` carries it through the net."""
        self._copies.clear()
        self._blob.reshape(shape)

    def _legacy(self, axis: int) -> int:
        return self.shape[axis] if axis < len(self.shape) else 1

    @property
    def num(self) -> int:
        return self._legacy(0)

    @property
    def channels(self) -> int:
        return self._legacy(1)

    @property
    def height(self) -> int:
        return self._legacy(2)

    @property
    def width(self) -> int:
        return self._legacy(3)
