"""Net.for_inference: the numbers of the plain net, whatever is folded; what it refuses; what it does not see."""

import threading
import warnings

import pytest
import torch
from torch import Tensor

from caffe_compat import Net
from caffe_compat.errors import NetError
from caffe_compat.layers.shared.example import Dice
from caffe_compat.net.inference import MOST_PROGRAMS
from caffe_compat.net.inference_program import has_kernels
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import parse_net
from caffe_compat.random import set_seed
from tests.net.test_chains import GOLDEN_NETS, golden_net

TOLERANCE = 1e-5  # of the largest value, in float32
EXACT = 1e-12  # of the largest value, in float64: the folding alone

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 19 dim: 9 dim: 11 } } }\n'


def layer(name: str, type: str, bottoms: str, fields: str = "", top: str | None = None) -> str:
    blobs = "".join(f' bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{type}"{blobs} top: "{top or name}" {fields} }}\n'


def conv(name: str, bottom: str, fields: str = "kernel_size: 3 pad: 1", outputs: int = 21) -> str:
    filler = 'weight_filler { type: "xavier" } bias_filler { type: "gaussian" std: 1 }'
    return layer(name, "Convolution", bottom, f"convolution_param {{ num_output: {outputs} {fields} {filler} }}")


def fc(name: str, bottom: str, fields: str = "") -> str:
    filler = 'weight_filler { type: "xavier" } bias_filler { type: "gaussian" std: 1 }'
    return layer(name, "InnerProduct", bottom, f"inner_product_param {{ num_output: 35 {filler} {fields} }}")


def norm(name: str, bottom: str, *, in_place: bool = True) -> str:
    """BatchNorm and Scale."""
    top = bottom if in_place else name
    fields = "scale_param { bias_term: true }"
    return layer(f"{name}_bn", "BatchNorm", bottom, top=top) + layer(f"{name}_scale", "Scale", top, fields, top=top)


def relu(bottom: str, fields: str = "") -> str:
    return layer(f"relu_{bottom}", "ReLU", bottom, fields, top=bottom)


def make(text: str, **arguments: object) -> Net:
    """A TEST net with random parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Net(parse_net(text), phase="TEST", **arguments)  # type: ignore[arg-type]
    randomise(net)
    return net


def randomise(net: Net) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for step in net.steps:
            if step.layer.type == "BatchNorm":
                step.layer.blob(0).normal_()
                step.layer.blob(1).uniform_(0.5, 2)
                step.layer.blob(2).fill_(1.5)
                for blob in step.layer.blobs[3:]:
                    blob.normal_()
            elif step.layer.type in ("Scale", "Bias", "PReLU"):
                for blob in step.layer.blobs:
                    blob.normal_()


def random_inputs(net: Net) -> dict[str, Tensor]:
    torch.manual_seed(2)
    return {name: torch.randn(net.blob_shapes[name], dtype=net.dtype) for name in net.inputs}


def assert_same(net: Net, inputs: dict[str, Tensor], tolerance: float, *, times: int = 2) -> None:
    """Outputs of the net and of its form for inference, which runs more than once on its one memory."""
    with torch.no_grad():
        plain = net(inputs)
    folded = net.for_inference()
    for _ in range(times):
        found = folded({name: value.clone() for name, value in inputs.items()})
        assert list(found) == list(plain)
        for name, value in plain.items():
            assert found[name].shape == value.shape, name
            assert found[name].is_contiguous()
            assert not found[name].requires_grad
            assert torch.equal(found[name].isnan(), value.isnan()), name
            same, value = found[name].nan_to_num(), value.nan_to_num()
            largest = value.abs().max().clamp(min=1e-30)
            assert float((same - value).abs().max() / largest) < tolerance, name


PATTERNS = {
    "convolution, norm, ReLU": conv("c", "x") + norm("n", "c") + relu("c"),
    "with tops of their own": conv("c", "x") + norm("n", "c", in_place=False) + layer("r", "ReLU", "n"),
    "without bias": conv("c", "x", "kernel_size: 3 bias_term: false") + norm("n", "c"),
    "Bias, leaky ReLU": conv("c", "x")
    + layer("b", "Bias", "c", top="c")
    + relu("c", "relu_param { negative_slope: 0.2 }"),
    "PReLU": conv("c", "x") + layer("p", "PReLU", "c", top="c"),
    "PReLU with one slope": conv("c", "x") + layer("p", "PReLU", "c", "prelu_param { channel_shared: true }"),
    "norm behind ReLU": conv("c", "x") + relu("c") + norm("n", "c"),
    "norm before a convolution without pad": norm("n", "x", in_place=False) + conv("c", "n", "kernel_size: 3"),
    "norm before a convolution with pad": norm("n", "x", in_place=False) + conv("c", "n"),
    "norm before groups": conv("a", "x", outputs=20)
    + relu("a")
    + norm("n", "a")
    + conv("c", "a", "kernel_size: 3 group: 4", 24),
    "norm between convolutions": conv("a", "x") + norm("n", "a") + conv("c", "a") + relu("c"),
    "sum in the second convolution": conv("a", "x", outputs=19) + layer("s", "Eltwise", "x a") + relu("s"),
    "sum of two convolutions": conv("a", "x") + conv("b", "x") + norm("n", "b") + layer("s", "Eltwise", "a b"),
    "sum of one with itself": conv("a", "x") + layer("s", "Eltwise", "a a"),
    "sum read twice": conv("a", "x", outputs=19)
    + layer("s", "Eltwise", "x a")
    + conv("b", "s", "kernel_size: 1", 19)
    + layer("t", "Eltwise", "s b")
    + relu("t"),
    "sum behind ReLU": conv("a", "x", outputs=19) + relu("a") + layer("s", "Eltwise", "a x") + norm("n", "s"),
    "sum with factors": conv("a", "x", outputs=19)
    + layer("s", "Eltwise", "x a", "eltwise_param { coeff: 0.5 coeff: -2 }"),
    "sum of three, product, maximum": layer("s", "Eltwise", "x x x")
    + layer("p", "Eltwise", "s x", "eltwise_param { operation: PROD }")
    + layer("m", "Eltwise", "p x", "eltwise_param { operation: MAX }"),
    "convolution read by others before its norm": conv("a", "x")
    + norm("n", "a", in_place=False)
    + layer("s", "Eltwise", "a n"),
    "1x1, stride, dilation, odd windows": conv("a", "x", "kernel_size: 1 stride: 2", 33)
    + conv("b", "x", "kernel_size: 3 dilation: 2 pad: 2", 7)
    + conv("c", "x", "kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2", 16)
    + conv("d", "x", "kernel_size: 5 pad: 2 stride: 3", 48),
    "Winograd's kernels": conv("a", "x", outputs=40) + conv("b", "a", "kernel_size: 5 pad: 2", 40) + conv("c", "b"),
    "a kernel larger than its bottom": conv("a", "x", "kernel_size: 10 pad: 0 stride: 2"),
    "depthwise": conv("a", "x", "kernel_size: 3 pad: 1 group: 19", 19)
    + norm("n", "a")
    + relu("a")
    + conv("b", "a", "kernel_size: 3 stride: 2 pad: 1 group: 19", 19)
    + conv("c", "b", "kernel_size: 5 pad: 2 group: 19", 19)
    + conv("d", "c", "kernel_size: 3 dilation: 2 pad: 2 group: 19", 19),
    "Softmax of vectors, a small image, a large one and another axis": fc("f", "x")
    + layer("a", "Softmax", "f")
    + layer("p", "Pooling", "x", "pooling_param { kernel_size: 3 stride: 3 }")
    + layer("b", "Softmax", "p")
    + layer("c", "Softmax", "x")
    + layer("d", "Softmax", "x", "softmax_param { axis: 2 }"),
    "depthwise with two outputs each": conv("a", "x", "kernel_size: 3 group: 19", 38),
    "Concat in place": conv("a", "x", outputs=5)
    + conv("b", "x", "kernel_size: 1", 18)
    + relu("b")
    + layer("j", "Concat", "a b")
    + conv("c", "j")
    + layer("k", "Concat", "c j x")
    + conv("d", "k", "kernel_size: 1"),
    "Concat of one twice, read elsewhere": conv("a", "x", outputs=19)
    + layer("j", "Concat", "a a x")
    + layer("s", "Eltwise", "a x")
    + conv("c", "j", "kernel_size: 1")
    + conv("d", "s", "kernel_size: 1"),
    "Concat of pooling and LRN": layer("p", "Pooling", "x", "pooling_param { kernel_size: 3 pad: 1 stride: 1 }")
    + layer("l", "LRN", "x")
    + layer("j", "Concat", "p l")
    + layer("q", "LRN", "j"),
    "Concat of other axes": conv("a", "x", outputs=19)
    + layer("j", "Concat", "a x", "concat_param { axis: 2 }")
    + conv("c", "j"),
    "pooling": layer("a", "Pooling", "x", "pooling_param { kernel_size: 3 stride: 2 }")
    + layer("b", "Pooling", "x", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }")
    + layer("c", "Pooling", "x", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }")
    + layer("d", "Pooling", "x", "pooling_param { pool: AVE kernel_size: 2 stride: 3 }")
    + layer("e", "Pooling", "x", "pooling_param { pool: AVE global_pooling: true }")
    + layer("f", "Pooling", "x", "pooling_param { pool: MAX global_pooling: true }"),
    "pooling of forks": layer("a", "Pooling", "x", "pooling_param { kernel_size: 3 stride: 2 ceil_mode: false }")
    + layer("b", "Pooling", "x", "pooling_param { kernel_size: 3 stride: 2 pad_t: 1 pad_l: 2 }")
    + layer("c", "Pooling", "x", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad_b: 1 pad_r: 1 }"),
    "Dropout of Fast R-CNN": conv("a", "x")
    + layer("d", "Dropout", "a", "dropout_param { scale_train: false }", top="a"),
    "BatchNorm of NVCaffe, ReLU6": conv("c", "x")
    + layer("n", "BatchNorm", "c", "batch_norm_param { scale_bias: true }", top="c")
    + layer("r", "ReLU6", "c", top="c"),
    "ConvolutionDepthwise": layer("d", "ConvolutionDepthwise", "x", "convolution_param { kernel_size: 3 }") + relu("d"),
    "pooling with a mask": 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "mask" '
    "pooling_param { kernel_size: 2 stride: 2 } }\n" + conv("c", "p"),
    "inner products": fc("f", "x") + relu("f") + fc("g", "f") + layer("n", "BatchNorm", "g", top="g") + fc("h", "g"),
    "inner product, transposed, without bias": fc("f", "x", "transpose: true bias_term: false")
    + layer("s", "Scale", "f"),
    "inner product behind Concat and LRN": conv("a", "x", outputs=19)
    + layer("j", "Concat", "a x")
    + layer("l", "LRN", "j")
    + fc("f", "l")
    + fc("g", "j")
    + layer("k", "Concat", "f g")
    + fc("h", "k"),
    "layers that run as they are": conv("a", "x")
    + layer("t", "TanH", "a", top="a")
    + conv("b", "a")
    + layer("p", "Power", "b", "power_param { power: 2 }")
    + layer("r", "Reshape", "p", "reshape_param { shape { dim: 0 dim: 7 dim: -1 dim: 11 } }")
    + conv("c", "r", "kernel_size: 1", 12)
    + layer("d", "Deconvolution", "c", "convolution_param { num_output: 6 kernel_size: 2 stride: 2 }")
    + layer("f", "Flatten", "d")
    + fc("g", "f")
    + layer("o", "Softmax", "g"),
    "Dropout and Split": conv("a", "x")
    + layer("d", "Dropout", "a", top="a")
    + conv("b", "a", "kernel_size: 1")
    + conv("c", "a", "kernel_size: 1")
    + layer("e", "Dropout", "c"),
    "several tops, an input that is an output": layer("d", "Dropout", "x", top="y")
    + 'layer { name: "s" type: "Slice" bottom: "y" top: "u" top: "v" slice_param { slice_point: 7 } }\n'
    + conv("c", "u")
    + conv("e", "v"),
    "shared parameters": conv("a", "x", "kernel_size: 3 pad: 1", 19).replace(
        "convolution_param", 'param { name: "w" } param { name: "b" } convolution_param'
    )
    + norm("n", "a")
    + conv("c", "a", "kernel_size: 3 pad: 1", 19).replace(
        "convolution_param", 'param { name: "w" } param { name: "b" } convolution_param'
    )
    + relu("c"),
    "a convolution of several bottoms": conv("a", "x", outputs=19)
    + 'layer { name: "two" type: "Convolution" bottom: "a" bottom: "x" top: "u" top: "v" '
    'convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }\n',
    "a Scale of other axes": conv("a", "x")
    + layer("s", "Scale", "a", "scale_param { axis: 0 num_axes: 2 bias_term: true }")
    + relu("s"),
    "a Scale by a blob": conv("a", "x")
    + layer("g", "Pooling", "a", "pooling_param { pool: AVE global_pooling: true }")
    + layer("f", "Flatten", "g")
    + layer("s", "Scale", "a f", "scale_param { axis: 0 }")
    + relu("s"),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern: str) -> None:
    text = INPUT + PATTERNS[pattern]
    net = make(text)
    assert_same(net, random_inputs(net), TOLERANCE)
    double = make(text, dtype=torch.float64)
    assert_same(double, random_inputs(double), EXACT, times=1)


@pytest.mark.parametrize("case", GOLDEN_NETS, ids=lambda path: path.name)
def test_nets_that_caffe_ran(case: object) -> None:
    net, blobs = golden_net(case, torch.float32)  # type: ignore[arg-type]
    net.eval()
    assert_same(net, blobs, TOLERANCE)


TYPES = sorted(
    name for name, cls in layer_types().items() if not cls.is_source and name not in ("HDF5Output", "Python")
)


def test_every_layer_type_runs() -> None:
    for name in TYPES:
        for number in range(3):
            example = layer_types()[name].example(Dice(name, number))
            shapes = [" ".join(f"dim: {size}" for size in bottom.shape) for bottom in example.bottoms]
            inputs = [
                f'layer {{ name: "in{i}" type: "Input" top: "b{i}" input_param {{ shape {{ {shape} }} }} }}\n'
                for i, shape in enumerate(shapes)
            ]
            tops = " ".join(f'top: "t{i}"' for i in range(example.tops))
            bottoms = " ".join(f'bottom: "b{i}"' for i in range(len(shapes)))
            weights = "loss_weight: 1 " * example.tops if layer_types()[name].is_loss and example.tops > 1 else ""
            fields = f"{weights}{example.fields}"
            net = make("".join(inputs) + f'layer {{ name: "it" type: "{name}" {bottoms} {tops} {fields} }}')
            if "phase: TRAIN" in example.fields:
                continue
            blobs = {f"b{i}": torch.as_tensor(bottom) for i, bottom in enumerate(example.bottoms)}
            with torch.no_grad():
                plain = net(blobs)
            torch.manual_seed(0)
            found = net.for_inference()(blobs)
            for top, value in plain.items():
                torch.testing.assert_close(
                    found[top], value, rtol=1e-4, atol=1e-4, equal_nan=True, msg=f"{name} {number}"
                )


def pool(fields: str) -> str:
    return conv("c", "x") + relu("c") + layer("p", "Pooling", "c", f"pooling_param {{ kernel_size: 3 {fields} }}")


#: fields that forks added to Caffe's own layers, between layers that are folded
FORK_FIELDS = {
    "rounds down": pool("stride: 2 pool: MAX ceil_mode: false") + conv("d", "p"),
    "rounds up": pool("stride: 2 pool: AVE ceil_mode: true"),
    "a border of its own for each side": pool("stride: 2 pool: MAX pad_t: 1 pad_b: 0 pad_l: 2 pad_r: 1"),
    "averages with such borders": pool("stride: 2 pool: AVE pad_t: 0 pad_b: 2 pad_l: 1 pad_r: 0 ceil_mode: false"),
    "learned scale and bias in BatchNorm": conv("c", "x")
    + layer("n", "BatchNorm", "c", "batch_norm_param { scale_bias: true }", top="c")
    + relu("c"),
    "its fillers": layer(
        "n",
        "BatchNorm",
        "x",
        "batch_norm_param { scale_bias: true scale_filler { value: 2 } bias_filler { value: 3 } }",
    )
    + conv("c", "n"),
    "dropout scaled in TEST": conv("c", "x")
    + layer("d", "Dropout", "c", "dropout_param { scale_train: false dropout_ratio: 0.25 }", top="c")
    + relu("c")
    + fc("f", "c")
    + layer("e", "Dropout", "f", "dropout_param { scale_train: false }", top="f"),
    "dropout that drops in TEST": conv("c", "x")
    + layer("d", "Dropout", "c", "dropout_param { sample_weights_test: true }", top="c")
    + relu("c"),
    "a weight made of unit vectors": conv("c", "x")
    + fc("f", "c", "normalize: true")
    + layer("s", "Scale", "f", "scale_param { bias_term: true }"),
    "Normalize by Softmax's field": conv("c", "x")
    + layer("s", "Normalize", "c", 'softmax_param { normalize_type: "L2" }'),
    "a filler of Parameter": conv("c", "x") + 'layer { name: "w" type: "Parameter" top: "w" '
    'parameter_param { shape { dim: 21 } filler { type: "gaussian" std: 1 } } }' + layer("s", "Scale", "c w"),
    "the other name of that filler": conv("c", "x") + 'layer { name: "w" type: "Parameter" top: "w" '
    "parameter_param { shape { dim: 21 } blob_filler { value: 2 } } }" + layer("s", "Bias", "c w"),
}


@pytest.mark.parametrize("case", FORK_FIELDS)
def test_fields_of_forks(case: str) -> None:
    net = make(INPUT + FORK_FIELDS[case])
    blobs = random_inputs(net)
    set_seed(7)
    with torch.no_grad():
        plain = net(blobs)
    fast = net.for_inference()
    for _ in range(2):
        set_seed(7)
        for name, value in fast(blobs).items():
            assert float((value - plain[name]).abs().max() / plain[name].abs().max()) < TOLERANCE, name


def test_every_field_of_a_fork_in_a_layer_of_caffes_is_tried() -> None:
    fields = {
        field.split(":")[0]
        for cls in layer_types().values()
        if cls.__module__.startswith("caffe_compat.") and not (cls.is_loss or cls.is_source)
        for field in cls.fork_fields
    }
    tried = " ".join(FORK_FIELDS.values())
    assert [field for field in sorted(fields) if f"{field.partition('.')[2]}" not in tried] == []


SMALL = (
    INPUT
    + conv("a", "x", outputs=24)
    + norm("n", "a")
    + relu("a")
    + conv("b", "a")
    + layer("p", "Pooling", "b", "pooling_param { pool: AVE global_pooling: true }")
    + fc("f", "p")
)


def test_other_input_sizes() -> None:
    net = make(SMALL)
    folded = net.for_inference()
    for shape in [(2, 19, 9, 11), (1, 19, 30, 5), (9, 19, 4, 4), (2, 19, 9, 11), (1, 19, 1, 1), (3, 19, 2, 2)]:
        x = torch.randn(shape)
        with torch.no_grad():
            plain = net(x)["f"]
        assert float((folded(x)["f"] - plain).abs().max() / plain.abs().max()) < TOLERANCE
    assert len(folded.programs) <= MOST_PROGRAMS
    with pytest.raises(NetError, match=r"bottom .* has 18 channels; the weights take 19"):
        folded(torch.randn(1, 18, 9, 11))
    with pytest.raises(NetError, match="'y' is not an input of this net"):
        folded(y=torch.randn(2, 19, 9, 11))


def test_inputs_of_any_layout_and_type() -> None:
    net = make(SMALL)
    folded = net.for_inference()
    x = torch.randn(2, 19, 9, 11)
    expected = folded(x)["f"]
    for other in (
        x.contiguous(memory_format=torch.channels_last),
        x.double(),
        x.numpy(),
        x.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        torch.testing.assert_close(folded(x=other)["f"], expected)


def test_own_copy_of_the_parameters() -> None:
    text = SMALL + layer("d", "Deconvolution", "b", "convolution_param { num_output: 2 kernel_size: 1 }")
    net = make(text)
    folded = net.for_inference()
    x = random_inputs(net)
    before = folded(x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    after = folded(x)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert_same(net, x, TOLERANCE)


def test_outputs_are_the_callers() -> None:
    net = make(INPUT + conv("a", "x") + layer("d", "Dropout", "x", top="y"))
    folded, x = net.for_inference(), torch.randn(2, 19, 9, 11)
    first = folded(x)
    kept = {name: value.clone() for name, value in first.items()}
    folded(torch.randn(2, 19, 9, 11))
    assert all(torch.equal(first[name], kept[name]) for name in kept)
    first["y"].fill_(7)
    assert not (x == 7).any()


def test_layers_with_hooks_are_not_folded() -> None:
    net = make(INPUT + conv("a", "x") + norm("n", "a") + relu("a") + conv("b", "a"))
    seen = []
    net.layers["relu_a"].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].clone()))
    x = random_inputs(net)
    with torch.no_grad():
        plain = net(x)["b"]
    folded = net.for_inference()(x)["b"]
    assert float((folded - plain).abs().max() / plain.abs().max()) < TOLERANCE
    assert len(seen) == 2
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-4)


def test_not_finite_numbers_come_through() -> None:
    net = make(
        INPUT
        + conv("a", "x", "kernel_size: 1")
        + relu("a")
        + layer("p", "Pooling", "x", "pooling_param { kernel_size: 2 stride: 1 }")
    )
    x = torch.randn(2, 19, 9, 11)
    x[0, 3, 4, 5], x[1, 2, 0, 0] = torch.nan, torch.inf
    with torch.no_grad():
        plain = net(x)
    folded = net.for_inference()(x)
    for name, value in plain.items():
        assert torch.equal(folded[name].isnan(), value.isnan()), name
        assert torch.equal(folded[name].isposinf(), value.isposinf()), name


def test_rows_that_depend_on_the_numbers() -> None:
    text = (
        'layer { name: "in" type: "Input" top: "x" top: "keep" '
        "input_param { shape { dim: 4 dim: 6 } shape { dim: 4 } } }\n"
        + layer("s", "Filter", "x keep")
        + fc("f", "s")
        + relu("f")
    )
    net = make(text)
    folded = net.for_inference()
    for keep in ([1, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 0]):
        blobs = {"x": torch.randn(4, 6), "keep": torch.tensor(keep).float()}
        with torch.no_grad():
            plain = net(blobs)["f"]
        torch.testing.assert_close(folded(blobs)["f"], plain)


def test_what_is_refused() -> None:
    net = make(SMALL)
    net.train()
    with pytest.raises(NetError, match=r"for_inference\(\) needs a net that does not train"):
        net.for_inference()
    folded = net.eval().for_inference()
    with pytest.raises(NetError, match="cannot train"):
        folded.train()
    assert not folded.eval().training
    with pytest.raises(NetError, match="stays where it was made"):
        folded.double()
    net.double()
    with pytest.raises(NetError, match=r"in torch\.float64 now"):
        folded(torch.randn(2, 19, 9, 11))


def test_blobs_that_do_not_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make(SMALL)
    folded = net.for_inference()
    monkeypatch.setattr("caffe_compat.layers.base.shortage", lambda size_bytes: 1000)
    with pytest.raises(NetError, match="1000 are free; make batches or layers smaller"):
        folded(torch.randn(2, 19, 9, 11))


def test_threads_wait_for_each_other() -> None:
    net = make(SMALL)
    folded = net.for_inference()
    inputs = [torch.randn(2, 19, 9, 11) for _ in range(8)]
    expected = [folded(x)["f"] for x in inputs]
    found: dict[int, Tensor] = {}

    def run(i: int) -> None:
        found[i] = folded(inputs[i])["f"]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], expected[i]) for i in range(8))


def test_profile_names_what_runs() -> None:
    net = make(SMALL)
    rows = net.for_inference().profile(torch.randn(2, 19, 9, 11), rounds=1)
    names = [name.split()[0] for name, _ in rows]
    expected = ["load", "convolution", "convolution", "pooling", "inner"]
    assert names == (expected if has_kernels() else [])
    assert all(ms >= 0 for _, ms in rows)


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe_compat.net.inference.has_kernels", lambda: False)


def test_without_kernels_pytorch_runs_the_nodes(without_kernels: None) -> None:
    net = make(INPUT + PATTERNS["Concat in place"])
    folded = net.for_inference()
    with torch.no_grad():
        plain = net(random_inputs(net))
    found = folded(random_inputs(net))
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)
    assert not folded.programs
