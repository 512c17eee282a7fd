"""Lines in glog's form."""

import re

import pytest

import caffe_compat.pycaffe as caffe


def test_a_line_unless_it_is_too_unimportant(capfd: pytest.CaptureFixture[str]) -> None:
    caffe.init_log()
    caffe.log("hello")
    assert re.fullmatch(r"I\d{4} [\d:.]+ +\d+ pycaffe\.py:1\] hello\n", capfd.readouterr().err)
    caffe.init_log(1, True)
    caffe.log("hello")
    assert capfd.readouterr().err == ""
    caffe.init_log(0)
