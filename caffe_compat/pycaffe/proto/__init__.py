"""Where pycaffe users look for the message classes."""

from caffe_compat.pycaffe.proto import caffe_pb2

__all__ = ["caffe_pb2"]
