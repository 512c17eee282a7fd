"""All layers that read or write files of data; importing this registers them."""

from caffe_compat.data import data_layer

__all__ = ["data_layer"]
