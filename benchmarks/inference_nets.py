"""The nets of bench_inference.py as prototxts: well-known ones, written out by code, with an Input of any batch.

Each function returns a prototxt.  Layers carry BatchNorm and Scale where the published nets do.  ``res10_ssd`` is the
backbone, the extra layers and the heads of OpenCV's face detector without its last layer, the choice of boxes.
"""

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Writer:
    """Layers one after the other; each method adds some on blob ``bottom`` and returns the top's name."""

    def __init__(self, name: str, *shape: int) -> None:
        dims = " ".join(f"dim: {size}" for size in shape)
        self.lines = [f'name: "{name}"']
        self._add("data", "Input", [], f"input_param {{ shape {{ {dims} }} }}")

    @property
    def text(self) -> str:
        """The prototxt."""
        return "\n".join(self.lines) + "\n"

    def _add(self, name: str, type: str, bottoms: list[str], fields: str = "", top: str | None = None) -> str:
        blobs = "".join(f' bottom: "{b}"' for b in bottoms)
        self.lines.append(f'layer {{ name: "{name}" type: "{type}"{blobs} top: "{top or name}" {fields} }}')
        return top or name

    def conv(
        self,
        name: str,
        bottom: str,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: int = 0,
        dilation: int = 1,
        group: int = 1,
        bias: bool = True,
    ) -> str:
        window = f"kernel_size: {kernel} stride: {stride} pad: {pad} dilation: {dilation} group: {group}"
        fields = f'num_output: {outputs} {window} bias_term: {str(bias).lower()} weight_filler {{ type: "msra" }}'
        return self._add(name, "Convolution", [bottom], f"convolution_param {{ {fields} }}")

    def inner_product(self, name: str, bottom: str, outputs: int) -> str:
        fields = f'num_output: {outputs} weight_filler {{ type: "xavier" }}'
        return self._add(name, "InnerProduct", [bottom], f"inner_product_param {{ {fields} }}")

    def relu(self, bottom: str, top: str | None = None) -> str:
        return self._add(f"{top or bottom}_relu", "ReLU", [bottom], top=top or bottom)

    def batch_norm(self, bottom: str, top: str | None = None) -> str:
        """BatchNorm, and the Scale that learns its factor and offset."""
        norm = self._add(f"{top or bottom}_bn", "BatchNorm", [bottom], top=top or bottom)
        fields = "scale_param { bias_term: true }"
        return self._add(f"{norm}_scale", "Scale", [norm], fields, top=norm)

    def pool(self, name: str, bottom: str, kernel: int, stride: int, *, pad: int = 0, method: str = "MAX") -> str:
        fields = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}"
        return self._add(name, "Pooling", [bottom], f"pooling_param {{ {fields} }}")

    def global_average(self, name: str, bottom: str) -> str:
        return self._add(name, "Pooling", [bottom], "pooling_param { pool: AVE global_pooling: true }")

    def lrn(self, name: str, bottom: str) -> str:
        return self._add(name, "LRN", [bottom], "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def add(self, name: str, *bottoms: str) -> str:
        return self._add(name, "Eltwise", list(bottoms))

    def concat(self, name: str, *bottoms: str) -> str:
        return self._add(name, "Concat", list(bottoms))

    def flatten(self, name: str, bottom: str) -> str:
        return self._add(name, "Flatten", [bottom])

    def dropout(self, bottom: str) -> str:
        return self._add(f"{bottom}_drop", "Dropout", [bottom], top=bottom)

    def softmax(self, bottom: str) -> str:
        return self._add("prob", "Softmax", [bottom])


def caffenet(batch: int) -> str:
    """The prototxt of this repository."""
    text = (ROOT / "prototxt/caffenet/caffenet_deploy.prototxt").read_text()
    return text.replace("dim: 10", f"dim: {batch}", 1)


def googlenet(batch: int) -> str:
    """Szegedy et al., CVPR 2015, as BVLC's bvlc_googlenet deploys it."""
    net = Writer("GoogLeNet", batch, 3, 224, 224)
    x = net.pool("pool1", net.relu(net.conv("conv1", "data", 64, 7, stride=2, pad=3)), 3, 2)
    x = net.relu(net.conv("conv2_reduce", net.lrn("norm1", x), 64, 1))
    x = net.relu(net.conv("conv2", x, 192, 3, pad=1))
    x = net.pool("pool2", net.lrn("norm2", x), 3, 2)
    sizes = {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }
    for name, (one, three_reduce, three, five_reduce, five, pooled) in sizes.items():
        branches = [
            net.relu(net.conv(f"{name}_1x1", x, one, 1)),
            net.relu(net.conv(f"{name}_3x3", net.relu(net.conv(f"{name}_3x3r", x, three_reduce, 1)), three, 3, pad=1)),
            net.relu(net.conv(f"{name}_5x5", net.relu(net.conv(f"{name}_5x5r", x, five_reduce, 1)), five, 5, pad=2)),
            net.relu(net.conv(f"{name}_proj", net.pool(f"{name}_pool", x, 3, 1, pad=1), pooled, 1)),
        ]
        x = net.concat(f"{name}_output", *branches)
        if name in ("3b", "4e"):
            x = net.pool(f"pool_{name}", x, 3, 2)
    x = net.dropout(net.pool("pool5", x, 7, 1, method="AVE"))
    net.softmax(net.inner_product("classifier", x, 1000))
    return net.text


def vgg16(batch: int) -> str:
    """Simonyan and Zisserman, ICLR 2015."""
    net, x = Writer("VGG16", batch, 3, 224, 224), "data"
    for block, (outputs, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], 1):
        for i in range(1, count + 1):
            x = net.relu(net.conv(f"conv{block}_{i}", x, outputs, 3, pad=1))
        x = net.pool(f"pool{block}", x, 2, 2)
    for name in ("fc6", "fc7"):
        x = net.dropout(net.relu(net.inner_product(name, x, 4096)))
    net.softmax(net.inner_product("fc8", x, 1000))
    return net.text


def resnet50(batch: int, width: int = 64) -> str:
    """He et al., CVPR 2016; ``width`` 32 is half of each layer's channels."""
    net = Writer("ResNet50", batch, 3, 224, 224)
    x = net.relu(net.batch_norm(net.conv("conv1", "data", width, 7, stride=2, pad=3)))
    x = net.pool("pool1", x, 3, 2)
    for stage, blocks in enumerate([3, 4, 6, 3], 2):
        inner = width * 2 ** (stage - 2)
        for block in range(blocks):
            name, stride = f"res{stage}{'abcdef'[block]}", 2 if block == 0 and stage > 2 else 1
            y = net.relu(net.batch_norm(net.conv(f"{name}_2a", x, inner, 1, stride=stride, bias=False)))
            y = net.relu(net.batch_norm(net.conv(f"{name}_2b", y, inner, 3, pad=1, bias=False)))
            y = net.batch_norm(net.conv(f"{name}_2c", y, 4 * inner, 1, bias=False))
            if block == 0:
                x = net.batch_norm(net.conv(f"{name}_1", x, 4 * inner, 1, stride=stride, bias=False))
            x = net.relu(net.add(name, x, y))
    net.softmax(net.inner_product("fc", net.pool("pool5", x, 7, 1, method="AVE"), 1000))
    return net.text


def resnet50_half(batch: int) -> str:
    """ResNet-50 with half of each layer's channels."""
    return resnet50(batch, 32)


def mobilenet(batch: int) -> str:
    """Howard et al., 2017; depthwise layers are convolutions with a group for each channel."""
    net = Writer("MobileNet", batch, 3, 224, 224)
    x = net.relu(net.batch_norm(net.conv("conv1", "data", 32, 3, stride=2, pad=1, bias=False)))
    channels = 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for i, (outputs, stride) in enumerate(plan, 2):
        x = net.conv(f"conv{i}_dw", x, channels, 3, stride=stride, pad=1, group=channels, bias=False)
        x = net.relu(net.batch_norm(x))
        x = net.relu(net.batch_norm(net.conv(f"conv{i}_sep", x, outputs, 1, bias=False)))
        channels = outputs
    net.softmax(net.conv("fc7", net.global_average("pool6", x), 1000, 1))
    return net.text


def squeezenet(batch: int) -> str:
    """Iandola et al., 2016, version 1.1."""
    net = Writer("SqueezeNet", batch, 3, 227, 227)
    x = net.pool("pool1", net.relu(net.conv("conv1", "data", 64, 3, stride=2)), 3, 2)
    plan = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
    for i, (squeeze, expand) in enumerate(plan, 2):
        s = net.relu(net.conv(f"fire{i}_squeeze", x, squeeze, 1))
        one = net.relu(net.conv(f"fire{i}_expand1", s, expand, 1))
        three = net.relu(net.conv(f"fire{i}_expand3", s, expand, 3, pad=1))
        x = net.concat(f"fire{i}", one, three)
        if i in (3, 5):
            x = net.pool(f"pool{i}", x, 3, 2)
    x = net.relu(net.conv("conv10", net.dropout(x), 1000, 1))
    net.softmax(net.global_average("pool10", x))
    return net.text


def res10_ssd(batch: int) -> str:
    """A residual net of ten layers on 300 x 300 images with SSD's heads, as OpenCV's face detector."""
    net = Writer("res10SSD", batch, 3, 300, 300)
    x = net.batch_norm("data", "data_bn")
    x = net.relu(net.batch_norm(net.conv("conv1", x, 32, 7, stride=2, pad=3)))
    x = net.pool("pool1", x, 3, 2)
    y = net.relu(net.batch_norm(net.conv("layer_64_conv1", x, 32, 3, pad=1, bias=False)))
    x = net.add("layer_64_sum", net.conv("layer_64_conv2", y, 32, 3, pad=1, bias=False), x)
    sources: list[str] = []
    for outputs, stride, dilation in ((128, 2, 1), (256, 2, 1), (256, 1, 2)):
        name = f"layer_{len(sources)}_{outputs}"
        first = net.relu(net.batch_norm(x, f"{name}_bn1"))
        y = net.conv(f"{name}_conv1", first, outputs, 3, stride=stride, pad=1, bias=False)
        y = net.relu(net.batch_norm(y))
        y = net.conv(f"{name}_conv2", y, outputs, 3, pad=dilation, dilation=dilation, bias=False)
        x = net.add(f"{name}_sum", y, net.conv(f"{name}_expand", first, outputs, 1, stride=stride, bias=False))
        sources.append(x)
    x = net.relu(net.batch_norm(x, "last_bn"))
    sources = [sources[1], x]
    for i, stride in enumerate((2, 2, 1, 1)):
        x = net.relu(net.conv(f"conv{6 + i}_1", x, 128, 1))
        x = net.relu(net.conv(f"conv{6 + i}_2", x, 256, 3, stride=stride, pad=1))
        sources.append(x)
    for what, numbers in (("loc", 4), ("conf", 2)):
        heads = [net.conv(f"{what}_{i}", source, 4 * numbers, 3, pad=1) for i, source in enumerate(sources)]
        net.concat(f"mbox_{what}", *(net.flatten(f"{head}_flat", head) for head in heads))
    return net.text


NETS: dict[str, Callable[[int], str]] = {
    "CaffeNet": caffenet,
    "GoogLeNet": googlenet,
    "VGG-16": vgg16,
    "ResNet-50": resnet50,
    "ResNet-50, half width": resnet50_half,
    "MobileNet": mobilenet,
    "SqueezeNet": squeezenet,
    "res10 SSD": res10_ssd,
}
