"""All layers that read or write files of data; importing this registers them."""

from caffe_compat.data import data_layer, hdf5_data, hdf5_output, image_data, memory_data, window_data

__all__ = ["data_layer", "hdf5_data", "hdf5_output", "image_data", "memory_data", "window_data"]
