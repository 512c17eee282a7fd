"""Random valid parameters and bottoms for every layer type that computes something."""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


class Dice:
    """Random choices for one draw."""

    def __init__(self, layer_type: str, number: int) -> None:
        self.rng = np.random.default_rng([zlib.crc32(layer_type.encode()), number])

    def pick(self, *choices: object) -> object:
        return choices[self.rng.integers(len(choices))]

    def integer(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def number(self, least: float, most: float) -> float:
        return round(float(self.rng.uniform(least, most)), 3)

    def switch(self) -> str:
        return str(self.pick("true", "false"))

    def shape(self, least: int = 1, most: int = 4) -> tuple[int, ...]:
        return tuple(self.integer(1, 5) for _ in range(self.integer(least, most)))

    def image(self, channels: int | None = None) -> tuple[int, ...]:
        """N C H W"""
        return self.integer(1, 3), channels or self.integer(1, 6), self.integer(5, 9), self.integer(5, 9)

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def positive(self, *shape: int) -> np.ndarray:
        return np.abs(self.normal(*shape)) + np.float32(0.1)

    def probabilities(self, *shape: int) -> np.ndarray:
        """Sum to 1 along axis 1."""
        values = self.positive(*shape)
        return values / values.sum(1, keepdims=True)

    def labels(self, classes: int, *shape: int) -> np.ndarray:
        return self.rng.integers(0, classes, shape).astype(np.float32)

    def axis(self, rank: int) -> int:
        return self.integer(-rank, rank - 1)


@dataclass
class Draw:
    """A layer's fields and its bottoms; ``labels`` are the bottoms without a gradient."""

    fields: str
    bottoms: Sequence[np.ndarray]
    tops: int = 1
    labels: Sequence[int] = field(default=())
    engine_of: str = ""  # the message whose ``engine`` chooses between implementations
    positive_blobs: bool = False


def elementwise(
    fields: Callable[[Dice], str] = lambda dice: "", engine_of: str = "", positive: bool = False
) -> Callable[[Dice], Draw]:
    """A drawing function for layers of one bottom of any shape."""

    def draw(dice: Dice) -> Draw:
        make = dice.positive if positive else dice.normal
        return Draw(fields(dice), [make(*dice.shape())], engine_of=engine_of)

    return draw


def accuracy(dice: Dice) -> Draw:
    n, c, h = dice.integer(1, 4), dice.integer(2, 6), dice.integer(1, 3)
    ignore = f"ignore_label: {dice.integer(0, c - 1)}" if dice.integer(0, 1) else ""
    fields = f"accuracy_param {{ top_k: {dice.integer(1, c)} {ignore} }}"
    return Draw(fields, [dice.normal(n, c, h), dice.labels(c, n, h)], tops=dice.integer(1, 2), labels=[0, 1])


def argmax(dice: Dice) -> Draw:
    shape = (dice.integer(1, 3), *dice.shape(1, 3))
    axis = dice.integer(0, len(shape) - 1)
    if dice.integer(0, 1):
        fields = f"axis: {axis - len(shape) * dice.integer(0, 1)} top_k: {dice.integer(1, shape[axis])}"
    else:
        fields = f"top_k: {dice.integer(1, math.prod(shape[1:]))}"
    return Draw(f"argmax_param {{ {fields} out_max_val: {dice.switch()} }}", [dice.normal(*shape)], labels=[0])


def batch_norm(dice: Dice) -> Draw:
    shape = (dice.integer(2, 4), *dice.shape(1, 3))
    stats = dice.switch() if math.prod(shape) > 4 * shape[1] else "true"
    fields = f"batch_norm_param {{ use_global_stats: {stats} eps: {dice.pick(0.001, 0.1)} }}"
    return Draw(fields, [dice.normal(*shape)], positive_blobs=True)


def batch_reindex(dice: Dice) -> Draw:
    shape = dice.shape()
    return Draw("", [dice.normal(*shape), dice.labels(shape[0], dice.integer(1, 6))], labels=[1])


def scale_or_bias(message: str, extra: Callable[[Dice], str]) -> Callable[[Dice], Draw]:
    def draw(dice: Dice) -> Draw:
        shape = dice.shape(2, 4)
        axis = dice.integer(0, len(shape) - 1)
        axes = dice.integer(0, len(shape) - axis)
        if dice.integer(0, 1):
            return Draw(
                f"{message} {{ axis: {axis} num_axes: {dice.pick(-1, axes)} {extra(dice)} }}", [dice.normal(*shape)]
            )
        second = dice.normal(*shape[axis : axis + axes])
        return Draw(f"{message} {{ axis: {0 if axes == 0 else axis} {extra(dice)} }}", [dice.normal(*shape), second])

    return draw


def concat(dice: Dice) -> Draw:
    shape = list(dice.shape())
    axis = dice.integer(0, len(shape) - 1)
    bottoms = []
    for _ in range(dice.integer(1, 4)):
        shape[axis] = dice.integer(1, 4)
        bottoms.append(dice.normal(*shape))
    field = f"concat_dim: {axis}" if dice.integer(0, 1) else f"axis: {axis - len(shape) * dice.integer(0, 1)}"
    return Draw(f"concat_param {{ {field} }}", bottoms)


def contrastive_loss(dice: Dice) -> Draw:
    n, c = dice.integer(1, 5), dice.integer(1, 5)
    fields = f"contrastive_loss_param {{ margin: {dice.number(0.5, 4)} legacy_version: {dice.switch()} }}"
    return Draw(fields, [dice.normal(n, c), dice.normal(n, c), dice.labels(2, n)], labels=[2])


def convolution(dice: Dice) -> Draw:
    group = dice.integer(1, 3)
    shape = dice.image(group * dice.integer(1, 3))
    kernel, dilation = dice.integer(1, 3), dice.integer(1, 2)
    window = f"kernel_size: {kernel} stride: {dice.integer(1, 3)} pad: {dice.integer(0, 2)} dilation: {dilation}"
    if dice.integer(0, 1):
        window = f"kernel_h: {kernel} kernel_w: {dice.integer(1, 4)} stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0"
    fields = f"num_output: {group * dice.integer(1, 3)} group: {group} bias_term: {dice.switch()} {window}"
    # Caffe's CUDNN engine does not dilate.
    engine = "" if "dilation: 2" in window else "convolution_param"
    return Draw(f"convolution_param {{ {fields} }}", [dice.normal(*shape)], engine_of=engine)


def crop(dice: Dice) -> Draw:
    shape = dice.image()
    axis = dice.integer(0, 3)
    sizes = [dice.integer(1, size) for size in shape]
    offsets = [dice.integer(0, size - kept) for size, kept in zip(shape, sizes, strict=True)][axis:]
    if dice.integer(0, 1):
        offsets = [min(offsets)]
    text = " ".join(f"offset: {offset}" for offset in offsets)
    field = f"crop_param {{ axis: {axis - 4 * dice.integer(0, 1)} {text} }}"
    return Draw(field, [dice.normal(*shape), dice.normal(*sizes)], labels=[1])


def dropout(dice: Dice) -> Draw:
    return Draw(f"phase: TEST dropout_param {{ dropout_ratio: {dice.number(0.1, 0.9)} }}", [dice.normal(*dice.shape())])


def eltwise(dice: Dice) -> Draw:
    shape, number = dice.shape(), dice.integer(2, 4)
    operation = dice.pick("SUM", "PROD", "MAX")
    coefficients = " ".join(f"coeff: {dice.number(-2, 2)}" for _ in range(number)) if operation == "SUM" else ""
    fields = f"operation: {operation} stable_prod_grad: {dice.switch()} {coefficients}"
    return Draw(f"eltwise_param {{ {fields} }}", [dice.normal(*shape) for _ in range(number)])


def embed(dice: Dice) -> Draw:
    classes = dice.integer(1, 6)
    fields = f"input_dim: {classes} num_output: {dice.integer(1, 5)} bias_term: {dice.switch()}"
    return Draw(f"embed_param {{ {fields} }}", [dice.labels(classes, *dice.shape(1, 3))], labels=[0])


def euclidean_loss(dice: Dice) -> Draw:
    shape = dice.shape()
    return Draw("", [dice.normal(*shape), dice.normal(*shape)])


def filtered(dice: Dice) -> Draw:
    n, number = dice.integer(2, 5), dice.integer(1, 3)
    chosen = dice.labels(2, n)
    chosen[dice.integer(0, n - 1)] = 1
    bottoms = [dice.normal(n, *dice.shape(1, 2)) for _ in range(number)]
    return Draw("", [*bottoms, chosen], tops=number, labels=[number])


def flatten(dice: Dice) -> Draw:
    shape = dice.shape()
    start = dice.integer(0, len(shape) - 1)
    fields = f"axis: {start} end_axis: {dice.integer(start, len(shape) - 1) - len(shape)}"
    return Draw(f"flatten_param {{ {fields} }}", [dice.normal(*shape)])


def hinge_loss(dice: Dice) -> Draw:
    n, c = dice.integer(1, 5), dice.integer(2, 5)
    return Draw(
        f"hinge_loss_param {{ norm: {dice.pick('L1', 'L2')} }}", [dice.normal(n, c), dice.labels(c, n)], labels=[1]
    )


def im2col(dice: Dice) -> Draw:
    window = f"kernel_size: {dice.integer(1, 3)} stride: {dice.integer(1, 2)} pad: {dice.integer(0, 2)}"
    return Draw(f"convolution_param {{ {window} dilation: {dice.integer(1, 2)} }}", [dice.normal(*dice.image())])


def infogain_loss(dice: Dice) -> Draw:
    n, c, h = dice.integer(1, 4), dice.integer(2, 5), dice.integer(1, 3)
    return Draw(
        f"loss_param {{ {normalization(dice)} }}",
        [dice.normal(n, c, h), dice.labels(c, n, h), dice.normal(c, c)],
        labels=[1, 2],
    )


def inner_product(dice: Dice) -> Draw:
    shape = dice.shape()
    fields = f"num_output: {dice.integer(1, 5)} axis: {dice.axis(len(shape))} transpose: {dice.switch()}"
    return Draw(f"inner_product_param {{ {fields} bias_term: {dice.switch()} }}", [dice.normal(*shape)])


def lrn(dice: Dice) -> Draw:
    region = dice.pick("ACROSS_CHANNELS", "WITHIN_CHANNEL")
    k = f"k: {dice.pick(1, 2)}" if region == "ACROSS_CHANNELS" else ""
    fields = f"local_size: {dice.pick(1, 3, 5)} alpha: {dice.number(0.01, 2)} beta: {dice.number(0.5, 1)} {k}"
    return Draw(f"lrn_param {{ {fields} norm_region: {region} }}", [dice.normal(*dice.image())], engine_of="lrn_param")


def lstm_unit(dice: Dice) -> Draw:
    n, d = dice.integer(1, 4), dice.integer(1, 4)
    return Draw("", [dice.normal(1, n, d), dice.normal(1, n, 4 * d), dice.labels(2, 1, n)], tops=2, labels=[2])


def multinomial_logistic_loss(dice: Dice) -> Draw:
    n, c = dice.integer(1, 5), dice.integer(2, 5)
    return Draw("", [dice.probabilities(n, c), dice.labels(c, n)], labels=[1])


def mvn(dice: Dice) -> Draw:
    fields = f"normalize_variance: {dice.switch()} across_channels: {dice.switch()} eps: 0.01"
    return Draw(f"mvn_param {{ {fields} }}", [dice.normal(*dice.image())])


def normalization(dice: Dice) -> str:
    return f"normalization: {dice.pick('FULL', 'VALID', 'BATCH_SIZE', 'NONE')}"


def parameter(dice: Dice) -> Draw:
    dims = " ".join(f"dim: {size}" for size in dice.shape())
    return Draw(f"parameter_param {{ shape {{ {dims} }} }}", [])


def pooling(dice: Dice) -> Draw:
    method = dice.pick("MAX", "AVE")
    tops = dice.integer(1, 2) if method == "MAX" else 1
    kernel = dice.integer(1, 4)
    window = f"kernel_size: {kernel} stride: {dice.integer(1, kernel)} pad: {dice.integer(0, kernel - 1)}"
    if dice.integer(0, 4) == 0:
        window = "global_pooling: true"
    fields = f"pool: {method} {window} round_mode: {dice.pick('CEIL', 'FLOOR')}"
    return Draw(f"pooling_param {{ {fields} }}", [dice.normal(*dice.image())], tops=tops, engine_of="pooling_param")


def recurrent(dice: Dice) -> Draw:
    t, n, d = dice.integer(1, 4), dice.integer(1, 3), dice.integer(1, 4)
    going_on = dice.labels(2, t, n)
    bottoms = [dice.normal(t, n, d), going_on]
    if dice.integer(0, 1):
        bottoms.append(dice.normal(n, dice.integer(1, 3)))
    return Draw(f"recurrent_param {{ num_output: {dice.integer(1, 4)} }}", bottoms, labels=[1])


def reduction(dice: Dice) -> Draw:
    shape = dice.shape()
    fields = f"operation: {dice.pick('SUM', 'ASUM', 'SUMSQ', 'MEAN')} axis: {dice.axis(len(shape))}"
    return Draw(f"reduction_param {{ {fields} coeff: {dice.number(-2, 2)} }}", [dice.normal(*shape)])


def reshape(dice: Dice) -> Draw:
    shape = dice.shape(2, 4)
    start = dice.integer(0, len(shape) - 1)
    return Draw(
        f"reshape_param {{ axis: {start - dice.integer(0, 1) * (len(shape) + 1)} shape {{ dim: -1 dim: 1 }} }}",
        [dice.normal(*shape)],
    )


def sigmoid_cross_entropy_loss(dice: Dice) -> Draw:
    shape = dice.shape()
    ignore = "ignore_label: 1" if dice.integer(0, 1) else ""
    fields = f"loss_param {{ {normalization(dice)} {ignore} }}"
    return Draw(fields, [dice.normal(*shape), dice.labels(2, *shape)], labels=[1])


def silence(dice: Dice) -> Draw:
    return Draw("", [dice.normal(*dice.shape())], tops=0)


def cut(dice: Dice) -> Draw:
    shape = list(dice.shape())
    axis, tops = dice.integer(0, len(shape) - 1), dice.integer(1, 3)
    if dice.integer(0, 1):
        shape[axis] = tops * dice.integer(1, 3)
        points = ""
    else:
        shape[axis] = 6
        points = " ".join(f"slice_point: {p}" for p in sorted(dice.rng.permutation(range(1, 6))[: tops - 1]))
    return Draw(f"slice_param {{ axis: {axis} {points} }}", [dice.normal(*shape)], tops=tops)


def softmax(dice: Dice) -> Draw:
    shape = dice.shape()
    return Draw(f"softmax_param {{ axis: {dice.axis(len(shape))} }}", [dice.normal(*shape)], engine_of="softmax_param")


def softmax_with_loss(dice: Dice) -> Draw:
    n, c, h = dice.integer(1, 4), dice.integer(2, 6), dice.integer(1, 3)
    ignore = f"ignore_label: {dice.integer(0, c - 1)}" if dice.integer(0, 1) else ""
    fields = f"loss_param {{ {normalization(dice)} {ignore} }}"
    return Draw(fields, [dice.normal(n, c, h), dice.labels(c, n, h)], labels=[1], engine_of="softmax_param")


def split(dice: Dice) -> Draw:
    return Draw("", [dice.normal(*dice.shape())], tops=dice.integer(1, 3))


def spp(dice: Dice) -> Draw:
    fields = f"pyramid_height: {dice.integer(1, 3)} pool: {dice.pick('MAX', 'AVE')}"
    # Three levels, 4 x 4 bins, need at least 7 x 7.
    shape = dice.integer(1, 3), dice.integer(1, 4), dice.integer(7, 9), dice.integer(7, 9)
    return Draw(f"spp_param {{ {fields} }}", [dice.normal(*shape)])


def tile(dice: Dice) -> Draw:
    shape = dice.shape()
    return Draw(f"tile_param {{ axis: {dice.axis(len(shape))} tiles: {dice.integer(1, 4)} }}", [dice.normal(*shape)])


def prelu(dice: Dice) -> Draw:
    return Draw(f"prelu_param {{ channel_shared: {dice.switch()} }}", [dice.normal(*dice.shape(2, 4))])


def power(dice: Dice) -> Draw:
    fields = f"power: {dice.pick(0, 1, 2, 3, 0.5, -1)} scale: {dice.number(0.1, 2)} shift: {dice.pick(0, 0.5)}"
    return Draw(f"power_param {{ {fields} }}", [dice.positive(*dice.shape())])


DRAWS: dict[str, Callable[[Dice], Draw]] = {
    "AbsVal": elementwise(),
    "Accuracy": accuracy,
    "ArgMax": argmax,
    "BNLL": elementwise(),
    "BatchNorm": batch_norm,
    "BatchReindex": batch_reindex,
    "Bias": scale_or_bias("bias_param", lambda dice: ""),
    "Clip": elementwise(lambda dice: f"clip_param {{ min: {dice.number(-2, 0)} max: {dice.number(0, 2)} }}"),
    "Concat": concat,
    "ContrastiveLoss": contrastive_loss,
    "Convolution": convolution,
    "Crop": crop,
    "Deconvolution": convolution,
    "Dropout": dropout,
    "ELU": elementwise(lambda dice: f"elu_param {{ alpha: {dice.number(0, 2)} }}"),
    "Eltwise": eltwise,
    "Embed": embed,
    "EuclideanLoss": euclidean_loss,
    "Exp": elementwise(
        lambda dice: (
            f"exp_param {{ base: {dice.pick(-1, 0.5, 2)} scale: {dice.number(-1, 1)} shift: {dice.number(-1, 1)} }}"
        )
    ),
    "Filter": filtered,
    "Flatten": flatten,
    "HingeLoss": hinge_loss,
    "Im2col": im2col,
    "InfogainLoss": infogain_loss,
    "InnerProduct": inner_product,
    "LRN": lrn,
    "LSTM": recurrent,
    "LSTMUnit": lstm_unit,
    "Log": elementwise(
        lambda dice: (
            f"log_param {{ base: {dice.pick(-1, 0.5, 2)} scale: {dice.number(0.1, 2)} shift: {dice.number(0, 1)} }}"
        ),
        positive=True,
    ),
    "MVN": mvn,
    "MultinomialLogisticLoss": multinomial_logistic_loss,
    "PReLU": prelu,
    "Parameter": parameter,
    "Pooling": pooling,
    "Power": power,
    "RNN": recurrent,
    "ReLU": elementwise(lambda dice: f"relu_param {{ negative_slope: {dice.pick(0, 0.1)} }}", "relu_param"),
    "Reduction": reduction,
    "Reshape": reshape,
    "SPP": spp,
    "Scale": scale_or_bias("scale_param", lambda dice: f"bias_term: {dice.switch()}"),
    "Sigmoid": elementwise(engine_of="sigmoid_param"),
    "SigmoidCrossEntropyLoss": sigmoid_cross_entropy_loss,
    "Silence": silence,
    "Slice": cut,
    "Softmax": softmax,
    "SoftmaxWithLoss": softmax_with_loss,
    "Split": split,
    "Swish": elementwise(lambda dice: f"swish_param {{ beta: {dice.number(-2, 2)} }}"),
    "TanH": elementwise(engine_of="tanh_param"),
    "Threshold": elementwise(lambda dice: f"threshold_param {{ threshold: {dice.number(-1, 1)} }}"),
    "Tile": tile,
}
