"""A blob as pycaffe shows it: NumPy arrays over the net's memory."""

from caffe_compat.layers.python import BlobList as BlobVec
from caffe_compat.layers.python import PythonBlob
from caffe_compat.net.blobs import ParamBlob, TensorBlob

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
