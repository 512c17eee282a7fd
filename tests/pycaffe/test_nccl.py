"""Processes that train together; ``test_solver`` runs two of them."""

import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.errors import SolverError
from caffe_compat.net import Net
from caffe_compat.proto import parse_net
from caffe_compat.pycaffe.nccl import Independent


def test_names_of_groups() -> None:
    first, second = caffe.NCCL.new_uid(), caffe.NCCL.new_uid()
    assert isinstance(first, bytes)
    assert first.startswith(b"tcp://127.0.0.1:")
    assert first != second
    with pytest.raises(SolverError, match=r"the uid is b'x'; expected what NCCL.new_uid\(\) gave"):
        caffe.NCCL(None, b"x")  # type: ignore[arg-type]


def test_independent_processes_share_the_data_and_nothing_else() -> None:
    place = Independent(1, 2)
    assert not place.is_root
    net = Net(parse_net('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }'))
    assert place.wrap(net) == net.forward_with_loss
    assert place.agree("snapshot") == "snapshot"
    assert place.gather(3) == [3]
