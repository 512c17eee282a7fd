"""Parameters in and out of a net, by Caffe's rules."""

from pathlib import Path

import pytest
import torch

from caffe_compat import Net, NetError
from caffe_compat.proto import parse_net
from tests.net.prototxt import SMALL, net


def test_weights_round_trip(tmp_path: Path) -> None:
    n, other = net(SMALL), Net(parse_net(SMALL))
    for name in ("w.caffemodel", "w.caffemodel.h5"):
        n.save(tmp_path / name)
        for p in other.parameters():
            p.data.zero_()
        report = other.copy_from(tmp_path / name)
        assert report.copied == ["c1", "fc"]
        assert report.missing == []
        assert all(torch.equal(a, b) for a, b in zip(n.parameters(), other.parameters(), strict=True))


def test_copy_ignores_unknown_layers_and_refuses_other_shapes(tmp_path: Path) -> None:
    n = net(SMALL)
    n.save(tmp_path / "w.caffemodel")
    renamed = net(SMALL.replace('"fc"', '"fc-new"'))
    report = renamed.copy_from(tmp_path / "w.caffemodel")
    assert "fc" in report.ignored
    assert report.missing == ["fc-new"]
    wider = net(SMALL.replace("num_output: 5", "num_output: 6"))
    before = wider.layers["c1"].weight.clone()
    with pytest.raises(NetError, match=r"param 0 has shape \(5, 144\) in the file and \(6, 144\) in the net"):
        wider.copy_from(tmp_path / "w.caffemodel")
    assert torch.equal(before, wider.layers["c1"].weight), "nothing is copied when one layer does not fit"
