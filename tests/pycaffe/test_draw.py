"""Pictures of nets."""

import shutil
from pathlib import Path

import pytest

from caffe_compat.errors import CaffeCompatError
from caffe_compat.proto import caffe_pb2, parse_net
from caffe_compat.pycaffe import draw

NET = parse_net(
    'name: "tiny" layer { name: "d" type: "Data" top: "x" data_param { batch_size: 8 } include { phase: TRAIN } }'
    'layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 3 } '
    "convolution_param { num_output: 4 kernel_size: 5 pad: 2 } }"
    'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }'
    'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }'
)


def test_the_graph_of_a_net() -> None:
    graph = draw.get_pydot_graph(NET, "TB", display_lrm=True)
    assert list(graph.nodes) == ["d_Data", "x_blob", "c_Convolution", "c_blob", "r_ReLU", "p_Pooling", "p_blob"]
    label = "c (Convolution) kernel size: 5 stride: 1 pad: 2 lr mult: 3.0, 1.0"
    assert graph.nodes["c_Convolution"] == {
        "shape": "record",
        "style": "filled",
        "label": label,
        "fillcolor": "#FF5050",
    }
    assert graph.nodes["r_ReLU"]["fillcolor"] == "#90EE90"
    assert graph.edges[:3] == [
        ("d_Data", "x_blob", "Batch 8"),
        ("x_blob", "c_Convolution", ""),
        ("c_Convolution", "c_blob", "4"),
    ]
    assert '"x_blob" [shape="octagon"' in graph.to_string()


def test_labels() -> None:
    pool = NET.layer[3]
    assert draw.get_layer_label(pool, "LR") == r'"p\n(Pooling AVE)\nkernel size: 2\nstride: 2\npad: 0"'
    assert draw.get_edge_label(pool) == '""'
    assert draw.get_layer_lr_mult(NET.layer[1]) == (3, 1)
    with pytest.raises(ValueError, match='layer "p": Pooling layers have no lr_mult'):
        draw.get_layer_lr_mult(pool)


def test_one_phase_only() -> None:
    assert "d_Data" not in draw.get_pydot_graph(NET, "LR", phase=caffe_pb2.TEST).nodes
    assert "d_Data" in draw.get_pydot_graph(NET, "LR", phase=caffe_pb2.TRAIN).nodes
    both = parse_net('layer { name: "d" type: "Data" include { phase: TRAIN } exclude { phase: TEST } }')
    with pytest.raises(ValueError, match='"d" has both include and exclude'):
        draw.get_pydot_graph(both, "LR", phase=caffe_pb2.TEST)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw.draw_net_to_file(NET, tmp_path / "net.raw")
    assert (tmp_path / "net.raw").read_text().startswith('digraph "tiny" {\nrankdir=LR;')
    if shutil.which("dot"):
        draw.draw_net_to_file(NET, str(tmp_path / "net.svg"), rankdir="TB")
        assert "kernel size: 5" in (tmp_path / "net.svg").read_text()
        with pytest.raises(CaffeCompatError, match="dot ended with"):
            draw.draw_net(NET, "LR", "nope")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CaffeCompatError, match="dot is not installed"):
        draw.draw_net(NET, "LR")
