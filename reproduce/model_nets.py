"""The base prototxts of ``--model``: a torchvision network block by block, behind the data layer of the data set's own
networks and with their solver.
"""

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2

#: images become (pixel - mean) times this: the spread of ImageNet's is about 57 of 255
SCALE = 1 / 57
COLOURS = 3
_MOST_PX = 4096


def model_prototxts(model: str, prototxt: Path, channels: int, crop_px: int = 0) -> Path:
    """A folder with ``base/{train,val,solver}.prototxt`` of ``--model``, for images of so many channels.

    ``model``: torchvision's name, or with a size behind (``vgg11:64``) to which images are brought in the net.
    ``prototxt``: the folder of the data set's own networks, whose crops are ``crop_px`` (0: as they are).  The folder
    goes when this process ends.
    Raises CaffeCompatError for a model that there is not, or that is no chain of blocks.
    """
    return Path(_written(*split_model(model), prototxt, channels, crop_px).name)


def split_model(model: str) -> tuple[str, int]:
    """``vgg11:64`` is ("vgg11", 64); without a size ("vgg11", 0).  Raises DataError."""
    parts = re.fullmatch(r"(\w+)(?::(\d{1,4}))?", model)
    if not parts or (parts[2] and not 1 <= int(parts[2]) <= _MOST_PX):
        raise DataError(
            f"--model {model[:50]}: expected a name of torchvision's, resnet18, or with a size in pixels, resnet18:64"
        )
    return parts[1], int(parts[2] or 0)


@cache  # which keeps the folder
def _written(
    name: str, size_px: int, prototxt: Path, channels: int, crop_px: int
) -> "tempfile.TemporaryDirectory[str]":
    from reproduce.learned_layers import net_of_phase  # here: it brings PyTorch

    folder: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(prefix="caffe_compat_model_")
    base = Path(folder.name) / "base"
    base.mkdir()
    for part, phase in (("train", "TRAIN"), ("val", "TEST")):
        data = net_of_phase(prototxt / "base" / f"{part}.prototxt", phase).layer[0]
        data.transform_param.crop_size = crop_px or data.transform_param.crop_size
        net = model_net(name, size_px, data, channels, test=phase == "TEST")
        write_text(base / f"{part}.prototxt", text_format.MessageToString(net))
    write_text(base / "solver.prototxt", (prototxt / "base" / "solver.prototxt").read_text())
    return folder


def model_net(name: str, size_px: int, data: Any, channels: int, *, test: bool) -> caffe_pb2.NetParameter:
    """The net of one phase: ``data``, grey images three times, resized to ``size_px`` (0: as they are), the blocks, and
    the classifier with its loss.
    """
    from reproduce.torchvision_blocks import blocks_of  # here: it brings PyTorch

    found = blocks_of(name)
    net = caffe_pb2.NetParameter(name=name)
    net.layer.add().CopyFrom(data)
    net.layer[0].transform_param.scale = SCALE
    pixels, labels = data.top
    bottom = pixels
    if channels == 1:
        layer = net.layer.add(name="grey", type="Tile", bottom=[bottom], top=["grey"])
        layer.tile_param.tiles = COLOURS
        bottom = "grey"
    if size_px:
        layer = net.layer.add(name="resized", type="Interp", bottom=[bottom], top=["resized"])
        layer.interp_param.height = layer.interp_param.width = size_px
        bottom = "resized"
    for block in found.blocks:
        layer = net.layer.add(name=block.name, type="TorchvisionBlock", bottom=[bottom], top=[block.name])
        layer.python_param.module, layer.python_param.layer = name, block.name
        bottom = block.name
    end = found.classifier
    layer = net.layer.add(name=end, type="InnerProduct", bottom=[bottom], top=[end])
    product, bound = layer.inner_product_param, found.inputs**-0.5
    product.num_output, product.bias_term = 1000, found.bias  # as many outputs as there are classes, later
    for filler in (product.weight_filler, product.bias_filler):
        filler.type, filler.min, filler.max = "uniform", -bound, bound
    if test:
        net.layer.add(name="accuracy", type="Accuracy", bottom=[end, labels], top=["accuracy"])
    net.layer.add(name="loss", type="SoftmaxWithLoss", bottom=[end, labels], top=["loss"])
    return net
