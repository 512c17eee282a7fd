"""Fields that say only how NVCaffe or Intel's Caffe computes, not what: they are taken out of a net, and said once."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import Message

#: message -> its fields of that kind
_FIELDS = {
    "NetParameter": {
        "default_forward_type",
        "default_backward_type",
        "default_forward_math",
        "default_backward_math",
        "default_conv_algos_override",
        "default_cudnn_math_override",
        "global_grad_scale",  # keeps float16 gradients from becoming 0, and is divided out again
        "global_grad_scale_adaptive",
        "reduce_buckets",
        "eltwise_mem_sharing",
        "engine",
        "compile_net_state",
        "mem_param",
    },
    "LayerParameter": {
        "forward_type",
        "backward_type",
        "forward_math",
        "backward_math",
        "cudnn_math_override",
        "debug",
        "engine",
        "reshape_every_iter",
        "split_param",
        "quantization_param",  # 8 bits on Intel's MKL-DNN engine; its CAFFE engine computes in floats, as is done here
    },
    "TransformationParameter": {"use_gpu_transform", "forward_packing"},
    "BatchNormParameter": {"engine"},
    "BNParameter": {"engine"},
    "ConcatParameter": {"engine"},
    "ConvolutionParameter": {"conv_algorithm", "conv_algos_override", "cudnn_convolution_algo_seeker"},
    "DataParameter": {"threads", "parser_threads", "cache", "precache"},
    "DropoutParameter": {"engine"},
    "EltwiseParameter": {"engine"},
    "MultiStageMeanfieldParameter": {"force_cpu"},
    "ImageDataParameter": {"threads", "cache", "precache"},
    "InnerProductParameter": {"engine"},
    "ReLUParameter": {"fuse"},
    "SolverParameter": {"solver_data_type", "store_blobs_in_old_format", "engine"},
}
#: values of Caffe's own field ``engine`` that are Intel's
_ENGINES = {"MKL2017", "MKLDNN"}


def ignore_performance_fields(message: Message, place: str) -> None:
    """Take these fields out of a net or solver, in place, and warn once with their names; ``place``: its file."""
    names = list(dict.fromkeys(_take_out(message, "")))
    if names:
        warnings.warn(
            f"{place}: ignored, as they say only how a fork of Caffe computes: {', '.join(names)}", stacklevel=3
        )


def _take_out(message: Message, scope: str) -> Iterator[str]:
    """The names of what was taken out of a message and those inside it: ``convolution_param.engine: MKLDNN``."""
    own = _FIELDS.get(message.DESCRIPTOR.name, ())
    for field, value in message.ListFields():
        if field.name in own:
            message.ClearField(field.name)
            yield scope + field.name
        elif field.name == "engine" and field.enum_type is not None:
            known = field.enum_type.values_by_number[value].name
            if known in _ENGINES:
                message.ClearField(field.name)
                yield f"{scope}engine: {known}"
        elif field.message_type is not None and field.message_type.name not in ("BlobProto", "NetParameter"):
            items: Iterable[Any] = [value] if isinstance(value, Message) else value
            inner = scope if field.message_type.name.endswith("LayerParameter") else f"{scope}{field.name}."
            for item in items:
                yield from _take_out(item, inner)
