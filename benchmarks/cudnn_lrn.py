"""cuDNN's LRN through ctypes; PyTorch does not expose it."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

FLOAT, NCHW, CROSS_CHANNEL = 0, 0, 0  # CUDNN_DATA_FLOAT, CUDNN_TENSOR_NCHW, CUDNN_LRN_CROSS_CHANNEL_DIM1


class CudnnLrn:
    """Across channels, float32, NCHW; forward and backward of one shape."""

    def __init__(self, x: Tensor, local_size: int, alpha: float, beta: float, k: float) -> None:
        self.cudnn = _load()
        self.handle, self.norm, self.shape = (ctypes.c_void_p() for _ in range(3))
        self._call("cudnnCreate", ctypes.byref(self.handle))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self._call("cudnnSetStream", self.handle, stream)
        self._call("cudnnCreateLRNDescriptor", ctypes.byref(self.norm))
        numbers = (ctypes.c_double(value) for value in (alpha, beta, k))
        self._call("cudnnSetLRNDescriptor", self.norm, ctypes.c_uint(local_size), *numbers)
        self._call("cudnnCreateTensorDescriptor", ctypes.byref(self.shape))
        self._call("cudnnSetTensor4dDescriptor", self.shape, NCHW, FLOAT, *x.shape)
        self.x, self.y, self.dx = x, torch.empty_like(x), torch.empty_like(x)
        self.one, self.zero = ctypes.c_float(1), ctypes.c_float(0)

    def forward(self) -> Tensor:
        one, zero = ctypes.byref(self.one), ctypes.byref(self.zero)
        x, y = _data(self.x), _data(self.y)
        self._call(
            "cudnnLRNCrossChannelForward",
            *(self.handle, self.norm, CROSS_CHANNEL, one, self.shape, x, zero, self.shape, y),
        )
        return self.y

    def backward(self, dy: Tensor) -> Tensor:
        one, zero = ctypes.byref(self.one), ctypes.byref(self.zero)
        tensors = [part for tensor in (self.y, dy, self.x) for part in (self.shape, _data(tensor))]
        self._call(
            "cudnnLRNCrossChannelBackward",
            *(self.handle, self.norm, CROSS_CHANNEL, one, *tensors, zero, self.shape, _data(self.dx)),
        )
        return self.dx

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self.cudnn, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} returned {status}")


def _data(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _load() -> ctypes.CDLL:
    """The cuDNN that PyTorch itself uses."""
    import nvidia

    for folder in nvidia.__path__:
        for library in Path(folder).glob("cudnn/lib/libcudnn.so.*"):
            return ctypes.CDLL(str(library))
    return ctypes.CDLL("libcudnn.so.9")
