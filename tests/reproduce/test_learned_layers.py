"""Where a net can be cut is read from the net: what learns, what only scales and shifts, what classifies."""

from pathlib import Path

import pytest

from caffe_compat.errors import CaffeCompatError, ProtoError
from reproduce.learned_layers import LearnedLayers, check_test_net, learned_layers
from reproduce.run_folder import PROTOTXT

DATA = """
layer { name: "data" type: "Data" top: "pixels" top: "label" include { phase: TRAIN }
        data_param { source: "x" batch_size: 2 } transform_param { crop_size: 12 } }
layer { name: "data" type: "Data" top: "pixels" top: "label" include { phase: TEST }
        data_param { source: "x" batch_size: 5 } }
"""
#: two towers of odd names: BatchNorm, Scale and PReLU between, a classifier aside, one at the end with a Scale behind
TOWERS = (
    DATA
    + """
layer { name: "first" type: "Convolution" bottom: "pixels" top: "a" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "norm" type: "BatchNorm" bottom: "a" top: "a" }
layer { name: "stretch" type: "Scale" bottom: "a" top: "a" scale_param { bias_term: true } }
layer { name: "left" type: "Convolution" bottom: "a" top: "b"
        convolution_param { num_output: 4 kernel_size: 1 bias_term: false } }
layer { name: "bend" type: "PReLU" bottom: "b" top: "b" }
layer { name: "aside" type: "InnerProduct" bottom: "b" top: "early" inner_product_param { num_output: 9 } }
layer { name: "early_loss" type: "SoftmaxWithLoss" bottom: "early" bottom: "label" top: "early_loss"
        include { phase: TRAIN } }
layer { name: "right" type: "Convolution" bottom: "a" top: "c" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "both" type: "Eltwise" bottom: "b" bottom: "c" top: "d" }
layer { name: "last" type: "Convolution" bottom: "d" top: "e" convolution_param { num_output: 9 kernel_size: 1 } }
layer { name: "gain" type: "Scale" bottom: "e" top: "f" }
layer { name: "mean" type: "Pooling" bottom: "f" top: "g" pooling_param { pool: AVE global_pooling: true } }
layer { name: "end" type: "SoftmaxWithLoss" bottom: "g" bottom: "label" top: "loss" }
layer { name: "right_ones" type: "Accuracy" bottom: "g" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
)


def written(folder: Path, text: str) -> Path:
    file = folder / "net.prototxt"
    file.write_text(text)
    return file


def test_caffenets_are_cut_at_seven_layers() -> None:
    for name, channels, size_px in (("paper", 3, 256), ("miniature/glyphs", 3, 32), ("miniature/fashion-mnist", 1, 28)):
        found = learned_layers(PROTOTXT / name / "base" / "train.prototxt", channels, size_px)
        assert found == LearnedLayers(
            cuts=(("conv1",), ("conv2",), ("conv3",), ("conv4",), ("conv5",), ("fc6",), ("fc7",)),
            classifiers=("fc8",),
            blobs=dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"), 2),
        )


def test_a_net_of_other_names_and_branches(tmp_path: Path) -> None:
    found = learned_layers(written(tmp_path, TOWERS), 3, 16)
    assert found.cuts == (("first", "norm", "stretch"), ("left", "bend"), ("right",))
    assert found.classifiers == ("aside", "last", "gain")
    assert found.kept(2) == {"first", "norm", "stretch", "left", "bend"}
    assert found.new(2) == {"right", "aside", "last", "gain"}
    counts = {"first": 2, "norm": 3, "stretch": 2, "left": 1, "bend": 1, "aside": 2, "right": 2, "last": 2, "gain": 1}
    assert found.blobs == counts


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'bottom: "label" top: "loss"',
            'bottom: "label" top: "cost"',
            "no output loss of one number; outputs: accuracy,",
        ),
        (
            'top: "accuracy"',
            'top: "top1"',
            "no output accuracy of one number; outputs: .*top1; expected tops named acc",
        ),
        (
            'bottom: "label" top: "accuracy"',
            'bottom: "label" top: "accuracy" top: "each"',
            "",
        ),
    ],
)
def test_what_a_test_puts_out(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = written(tmp_path, TOWERS)
    check_test_net(file, 3, 16)
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", TOWERS.replace(old, new))
    if not message:
        check_test_net(other, 3, 16)
        return
    with pytest.raises(ProtoError, match=rf"net\.prototxt: {message}"):
        check_test_net(other, 3, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "x"', "the first layer is no Data layer with tops for images and labels"),
        (DATA, "no layer takes the labels; expected layers that learn, then a classifier and a loss"),
        (
            DATA
            + 'layer { name: "f" type: "InnerProduct" bottom: "pixels" top: "f" inner_product_param { num_output: 3 } }'
            'layer { name: "e" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" }',
            "no layer with weights before the cut",
        ),
        (DATA + 'layer { name: "f" type: "Dense" bottom: "pixels" top: "f" }', "Dense"),
    ],
)
def test_nets_that_cannot_be_cut(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        learned_layers(written(tmp_path, text), 3, 16)
