"""Prototxt text of small nets, and the Net of a text."""

from typing import Any

import torch

from caffe_compat import Net
from caffe_compat.proto import parse_net

DATA = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }\n'
LABEL = 'layer { name: "lab" type: "Input" top: "label" input_param { shape { dim: 2 } } }\n'


def net(text: str, **arguments: Any) -> Net:
    torch.manual_seed(0)
    return Net(parse_net(text), **arguments)


def conv(name: str, bottom: str, extra: str = "", param: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {param} '
        f'convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} {extra} }} }}\n'
    )


def ip(name: str, bottom: str, outputs: int = 5, param: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {param} '
        f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}\n'
    )


RELU = 'layer { name: "relu" type: "ReLU" bottom: "c1" top: "c1" }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
ACCURACY = 'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }\n'
SMALL = DATA + LABEL + conv("c1", "data") + RELU + ip("fc", "c1") + ACCURACY + LOSS
