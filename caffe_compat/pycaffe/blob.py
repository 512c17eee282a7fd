"""A blob as pycaffe shows it: NumPy arrays over the net's memory."""

from collections.abc import Iterable
from typing import Any, NoReturn, SupportsIndex

from caffe_compat.errors import NetError
from caffe_compat.layers.python import BlobList, PythonBlob
from caffe_compat.net.blobs import ParamBlob, TensorBlob
from caffe_compat.net.layer_runs import LayerRun

__all__ = ["Blob", "BlobVec"]


class Blob(PythonBlob):
    """``data`` and ``diff`` are writable arrays: on the CPU the memory itself, on a GPU a copy on the host, which is
    made when it is asked for and brought back before the next pass of the net, as in Caffe."""

    def __init__(self, blob: TensorBlob | ParamBlob) -> None:
        super().__init__()
        self.net_blob = blob
        self.attach(blob)

    @property
    def _gpu_data_ptr(self) -> int:
        """The address of ``data`` on the device."""
        return self.net_blob.data.data_ptr()

    @property
    def _gpu_diff_ptr(self) -> int:
        """The address of ``diff`` on the device."""
        return self.net_blob.diff.data_ptr()


class BlobVec(BlobList):
    """Blobs in a row: a net's, or a layer's parameters.

    Of a layer, ``blobs[0] = other_net.params["conv1"][0]`` lets the layer use that parameter, value and gradient, from
    then on; NetError where it has another shape.
    """

    def __init__(self, blobs: Iterable[Blob], run: LayerRun | None = None) -> None:
        super().__init__(blobs)
        self._run = run

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        if self._run is None:
            super().__setitem__(index, value)
            return
        numbers = range(len(self))[index]
        places, blobs = ([numbers], [value]) if isinstance(numbers, int) else (numbers, list(value))
        if len(places) != len(blobs):
            self._refuse()
        for place, blob in zip(places, blobs, strict=True):
            param = getattr(blob, "net_blob", None)
            if not isinstance(param, ParamBlob):
                self._run.layer.fail(f"blobs[{place}] = {blob!r}: expected a parameter of a layer; write into .data")
            self._run.use_param(place, param)
            super().__setitem__(place, blob)

    def _refuse(self, *_: Any) -> NoReturn:
        problem = f"has {len(self)} blob(s); that number cannot be changed"
        if self._run is not None:
            self._run.layer.fail(problem)
        raise NetError(f"the net {problem}")

    add_blob = append = insert = pop = remove = clear = __delitem__ = _refuse

    def extend(self, values: Iterable[Any]) -> NoReturn:
        self._refuse()
