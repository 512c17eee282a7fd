"""ONNX forms that hold at every size of the inputs, which --dynamic promises."""

import numpy as np
import onnxruntime
import pytest

from caffe_compat.errors import CaffeCompatError
from caffe_compat.tools._onnx import to_onnx
from caffe_compat.tools._onnx_sizes import find_sizes
from tests.onnx_harness import check_same, net_of, run_net

BATCH, MAP, ALL = ["batch"], ["height", "width"], ["batch", "height", "width"]


def layer(layer_type: str, fields: str = "", bottoms: str = "x", tops: str = "y") -> str:
    names = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    names += "".join(f' top: "{name}"' for name in tops.split())
    return f'layer {{ name: "{layer_type}" type: "{layer_type}" {names} {fields} }}'


CONV = layer("Convolution", "convolution_param { num_output: 3 kernel_size: 3 stride: 2 pad: 1 dilation: 2 }")


@pytest.mark.parametrize(
    ("text", "dynamic"),
    [
        (CONV, ALL),
        (layer("Deconvolution", "convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }"), ALL),
        (layer("Im2col", "convolution_param { kernel_size: 3 stride: 2 pad: 1 }"), ALL),
        (layer("InnerProduct", "inner_product_param { num_output: 4 }"), BATCH),
        (layer("InnerProduct", "inner_product_param { num_output: 4 axis: -1 }"), ["batch", "height"]),
        (layer("Flatten"), BATCH),
        (layer("Flatten", "flatten_param { axis: 2 }"), ALL),
        (layer("Flatten", "flatten_param { axis: 0 end_axis: 1 }"), ALL),
        (layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }"), ALL),
        (layer("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: 2 dim: 0 dim: -1 } }"), BATCH),
        (layer("Reshape", "reshape_param { axis: 1 num_axes: 1 shape { dim: 2 dim: 2 } }"), ALL),
        (layer("Slice", "slice_param { axis: 2 slice_point: 1 slice_point: 3 }", tops="a b c"), MAP),
        (layer("Slice", "slice_param { axis: -3 }", tops="a b"), ALL),
        (layer("Scale", "scale_param { axis: 0 }", bottoms="x z"), ALL),
        (layer("ArgMax"), ALL),
        (layer("ArgMax", "argmax_param { top_k: 3 out_max_val: true }"), ALL),
        (layer("ArgMax", "argmax_param { axis: 3 top_k: 2 }"), ALL),
        (layer("MVN", "mvn_param { across_channels: true }"), ALL),
        (layer("Tile", "tile_param { axis: 2 tiles: 2 }"), ALL),
        (layer("Reduction", "reduction_param { axis: 2 operation: MEAN }"), ALL),
        (layer("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }"), ALL),
        (CONV + layer("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", bottoms="x y", tops="z"), ALL),
        (layer("Flip", "flip_param { flip_height: true }"), ALL),
        (layer("Reorg", "reorg_param { stride: 2 reverse: true }"), ALL),
        (layer("ShuffleChannel", "shuffle_channel_param { group: 2 }"), ALL),
        (layer("Interp", "interp_param { shrink_factor: 2 zoom_factor: 3 pad_beg: -1 }"), ALL),
        (layer("Interp", "interp_param { height: 5 width: 4 }"), ALL),
        (layer("Upsample", "upsample_param { scale: 2 }"), ALL),
        (
            layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops="y mask")
            + layer("Upsample", "upsample_param { scale: 2 }", bottoms="y mask", tops="z"),
            ["batch"],
        ),
        (CONV + layer("Accum", "accum_param { have_reference: true }", bottoms="y x", tops="z"), ALL),
        (layer("Permute", "permute_param { order: 0 order: 2 }"), ALL),
        (layer("Normalize", "norm_param { across_spatial: true }"), ALL),
        (
            layer(
                "PriorBox",
                "prior_box_param { min_size: 32 min_size: 64 min_size: 8 dense_faces: true }",
                bottoms="x x",
            ),
            MAP,
        ),
        (layer("SPP", "spp_param { pyramid_height: 3 pool: MAX }"), ALL),
        (layer("SPP", "spp_param { pyramid_height: 3 pool: AVE }"), ALL),
        (layer("SPP", "spp_param { pyramid_height: 3 pool: MAX }"), BATCH),
        (layer("Pooling", "pooling_param { pool: MAX global_pooling: true }"), ALL),
        (layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }", tops="y mask"), ALL),
    ],
)
def test_other_sizes(text: str, dynamic: list[str]) -> None:
    inputs = {"x": (2, 4, 9, 11), "z": (2, 4)} if '"z"' in text and "Scale" in text else {"x": (2, 4, 9, 11)}
    # At larger sizes the place between two values, which is computed in float32, moves by more.
    check_same(net_of(text, **inputs), dynamic=dynamic, tolerance=1e-4 if "Interp" in text else 1e-5)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("rounding", ["CEIL", "FLOOR"])
def test_pooling_has_caffes_windows_at_each_size(pool: str, rounding: str) -> None:
    """Sizes from 6 to 18, for each kernel and stride up to 4 and each pad."""
    text, tried = "", 0
    for kernel in range(1, 5):
        for stride in range(1, 5 if pool == "MAX" else kernel + 1):
            for pad in range(kernel):
                tried += 1
                window = f"pool: {pool} kernel_size: {kernel} stride: {stride} pad: {pad} round_mode: {rounding}"
                text += layer("Pooling", f"pooling_param {{ {window} }}", tops=f"y{tried}").replace(
                    '"Pooling" type', f'"pool{tried}" type'
                )
    net = net_of(text, x=(1, 1, 6, 7))
    session = onnxruntime.InferenceSession(to_onnx(net, MAP).SerializeToString())
    assert len(net.outputs) == tried
    for height in range(6, 19):
        inputs = {"x": np.random.default_rng(height).standard_normal((1, 1, height, 24 - height)).astype(np.float32)}
        expected = run_net(net, inputs)
        for name, value in zip(net.outputs, session.run(net.outputs, inputs), strict=True):
            assert value.shape == expected[name].shape
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)


def test_symbols_say_which_sizes_are_one() -> None:
    text = CONV + layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", tops="z")
    model = check_same(net_of(text, x=(2, 4, 9, 11)), dynamic=ALL)
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 4, "height", "width"], ["batch", 3, "y_2", "y_3"], ["batch", 4, 1, 1]]


def test_what_only_the_data_tell() -> None:
    text = layer("Filter", bottoms="x s") + layer("InnerProduct", "inner_product_param { num_output: 2 }", "y", "z")
    net = net_of(text, x=(4, 3), s=(4, 1))
    varying = dict(zip(net.blob_names, find_sizes(net, []).varying, strict=True))
    assert varying == {"x": set(), "s": set(), "y": {0}, "z": {0}}
    check_same(net)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["depth"], "--dynamic depth: expected some of batch, height, width"),
        (["height"], '--dynamic height: .*layer "InnerProduct" .*the weights take 396: it needs a fixed size'),
    ],
)
def test_refused(words: list[str], message: str) -> None:
    net = net_of(layer("InnerProduct", "inner_product_param { num_output: 4 }"), x=(2, 4, 9, 11))
    with pytest.raises(CaffeCompatError, match=message):
        find_sizes(net, words)


def test_no_such_axis() -> None:
    with pytest.raises(CaffeCompatError, match="--dynamic width: no input has such an axis"):
        find_sizes(net_of(layer("ReLU"), x=(2, 4)), ["width"])
