"""The names of Caffe's compiled module."""

import caffe_compat.pycaffe as caffe
from caffe_compat.pycaffe import _caffe


def test_every_name_is_there() -> None:
    missing = [name for name in _caffe.__all__ if not hasattr(_caffe, name)]
    assert missing == []
    assert _caffe.__version__ == caffe.__version__ == "1.0.0"


def test_layer_types() -> None:
    types = caffe.layer_type_list()
    assert types == sorted(types)
    assert {"Convolution", "Data", "Python", "Split"} <= set(types)
