"""The layers that do the same to an image at each of its turns: computed once, then looked up.

In a net whose first layers are frozen, training repeats them: with 186 images of 25 windows each, 33,600 times for
4,650 different inputs.  ``look_up_prefix`` makes a table of what these layers make of each input and lets the net start
behind them.  Where nothing is frozen it is a table of the transformed images.
"""

import torch
from torch import Tensor

from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.layers.data import Data
from caffe_compat.data.source_layer import SourceLayer
from caffe_compat.data.table_source import TableSource, is_suited, table_bytes, table_rows
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.inner_product import InnerProduct
from caffe_compat.layers.lrn import LRN
from caffe_compat.layers.pooling import Pooling
from caffe_compat.layers.relu import ReLU
from caffe_compat.net.chains import find_chains
from caffe_compat.net.graph import Step
from caffe_compat.net.net import Net

#: a table larger than this is not made
MOST_BYTES = 256 << 20
#: a table pays where each row is looked up this often, on average
FEWEST_USES = 2


def look_up_prefix(net: Net, images: int, *, most_bytes: int = MOST_BYTES) -> str:
    """Let ``net`` look up what its first layers make of its images, if that pays; what it does now, in words, else "".

    ``images``: how many are going to pass through the net.  Numbers are those of the layers up to rounding, as
    they are computed in other batches; those of a table of images are the same bits.  The table is made at the first
    batch, from the weights of then.

    It can be where the net has one source, a Data layer on the CPU in float32 that reads the database alone, whose
    records have one size and are not mirrored.
    """
    sources = [step for step in net.steps if step.layer.is_source]
    if len(sources) != 1 or net.device.type != "cpu" or net.dtype != torch.float32:
        return ""
    layer = sources[0].layer
    if not isinstance(layer, Data) or not isinstance(layer.source, DatabaseSource):
        return ""
    source, line = layer.source, constant_line(net)
    first, last = sources[0].tops[0], line[-1].tops[0] if line else sources[0].tops[0]
    shape = net.blob_shapes_in_order[last][1:]
    rows = table_rows(source)
    if rows * FEWEST_USES > images or table_bytes(rows, shape) > most_bytes or not is_suited(source):
        return ""
    units = find_chains(line) if net.fast else list(line)

    def features(batch: Tensor) -> Tensor:
        values = {first: batch}
        with torch.no_grad():
            for unit in units:
                unit.run(values)
        return values[last]

    reader: SourceLayer = layer
    reader.source = TableSource(source, features)
    reader.prefetch_depth = 0  # a thread that looks things up gains nothing
    net.start_behind(line)
    size = f"{table_bytes(rows, shape) >> 20} MB"
    if not line:
        return f"{rows} images and windows: the images are computed once, {size}"
    names = f"{line[0].layer.name} to {line[-1].layer.name}"
    return f"{rows} images and windows: what {names} make of them is computed once, {size}"


def constant_line(net: Net) -> list[Step]:
    """The steps behind the data layer, one after the other, that do the same to an image each time, in any batch."""
    (source,) = [step for step in net.steps if step.layer.is_source]
    blob, line = source.tops[0], list[Step]()
    for step in net.steps:
        if blob not in step.bottoms:
            continue
        if not _is_constant(step):
            break
        line.append(step)
        blob = step.tops[0]
    return line


def _is_constant(step: Step) -> bool:
    layer = step.layer
    same = isinstance(layer, Convolution | LRN | ReLU) and type(layer) in (Convolution, LRN, ReLU)
    same |= type(layer) is Pooling and layer.method != "STOCHASTIC"
    same |= type(layer) is InnerProduct and layer.axis == 1
    learned = any(parameter.requires_grad for parameter in layer.parameters())
    alone = len(step.bottoms) == len(step.tops) == 1 and not any(step.loss_weights)
    return same and alone and not learned and not layer.has_hooks()
