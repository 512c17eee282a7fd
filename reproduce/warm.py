"""Imported once by the fork server, so that each network's process starts with everything loaded."""

from caffe_compat.net.layer_types import layer_types
from reproduce import train_one

layer_types()  # the layers' own modules, too

__all__ = ["train_one"]
