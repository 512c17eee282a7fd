"""V0 nets, ``layers { layer { type: "conv" ... } bottom: ... }``, to V1.

V0 keeps the fields of all types in one flat message, and pads with a layer of its own in front
of a convolution or pooling layer.  SPP-net's nets have messages as V1's in it.
"""

from typing import Any

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.upgrade.log import UpgradeLog

#: V0 type -> V1 enum value.  "padding" is folded into the layer behind it.
TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "inner_product": "INNER_PRODUCT",  # SPP-net
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}

#: These keep their names; the V1 layer has them too.
_SAME = ("name", "blobs", "blobs_lr", "weight_decay")

#: V0 field -> V1 field of any type of layer.
_ANY_TYPE = {
    "scale": "transform_param.scale",
    "meanfile": "transform_param.mean_file",
    "cropsize": "transform_param.crop_size",
    "mirror": "transform_param.mirror",
}

#: V0 field -> V0 type -> V1 field.
_BY_TYPE = {
    "num_output": {"conv": "convolution_param.num_output", "innerproduct": "inner_product_param.num_output"},
    "biasterm": {"conv": "convolution_param.bias_term", "innerproduct": "inner_product_param.bias_term"},
    "weight_filler": {"conv": "convolution_param.weight_filler", "innerproduct": "inner_product_param.weight_filler"},
    "bias_filler": {"conv": "convolution_param.bias_filler", "innerproduct": "inner_product_param.bias_filler"},
    "pad": {"conv": "convolution_param.pad", "pool": "pooling_param.pad"},
    "kernelsize": {"conv": "convolution_param.kernel_size", "pool": "pooling_param.kernel_size"},
    "group": {"conv": "convolution_param.group"},
    "stride": {"conv": "convolution_param.stride", "pool": "pooling_param.stride"},
    "pool": {"pool": "pooling_param.pool"},
    "dropout_ratio": {"dropout": "dropout_param.dropout_ratio"},
    "local_size": {"lrn": "lrn_param.local_size"},
    "alpha": {"lrn": "lrn_param.alpha"},
    "beta": {"lrn": "lrn_param.beta"},
    "k": {"lrn": "lrn_param.k"},
    "source": {
        "data": "data_param.source",
        "hdf5_data": "hdf5_data_param.source",
        "images": "image_data_param.source",
        "window_data": "window_data_param.source",
        "infogain_loss": "infogain_loss_param.source",
    },
    "batchsize": {
        "data": "data_param.batch_size",
        "hdf5_data": "hdf5_data_param.batch_size",
        "images": "image_data_param.batch_size",
        "window_data": "window_data_param.batch_size",
    },
    "rand_skip": {"data": "data_param.rand_skip", "images": "image_data_param.rand_skip"},
    "shuffle_images": {"images": "image_data_param.shuffle"},
    "new_height": {"images": "image_data_param.new_height"},
    "new_width": {"images": "image_data_param.new_width"},
    "concat_dim": {"concat": "concat_param.concat_dim"},
    "det_fg_threshold": {"window_data": "window_data_param.fg_threshold"},
    "det_bg_threshold": {"window_data": "window_data_param.bg_threshold"},
    "det_fg_fraction": {"window_data": "window_data_param.fg_fraction"},
    "det_context_pad": {"window_data": "window_data_param.context_pad"},
    "det_crop_mode": {"window_data": "window_data_param.crop_mode"},
    "hdf5_output_param": {"hdf5_output": "hdf5_output_param"},
    # SPP-net
    "conv_param": {"conv": "convolution_param"},
    "pool_param": {"pool": "pooling_param"},
    "lrn_param": {"lrn": "lrn_param"},
    "concat_param": {"concat": "concat_param"},
    "inner_product_param": {"inner_product": "inner_product_param", "innerproduct": "inner_product_param"},
    "dropout_param": {"dropout": "dropout_param"},
}

_NET_FIELDS_KEPT = ("name", "layers", "input", "input_dim", "force_backward")


def needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """True when any layer has the nested ``layer`` of V0."""
    return any(connection.HasField("layer") for connection in net.layers)


def upgrade(net: caffe_pb2.NetParameter, log: UpgradeLog) -> None:
    """Rewrite ``net`` in place as a V1 net."""
    if net.layer:
        log.fail_net("has both old 'layers' and new 'layer' blocks; write all of them as 'layer'")
    for connection in net.layers:
        if not connection.HasField("layer"):
            log.fail(connection.name, "is a V1 layer in a net with V0 layers; write all layers in one form")
    for field, _ in net.ListFields():
        if field.name not in _NET_FIELDS_KEPT:
            log.note(f"{field.name} has no meaning in a V0 net and was dropped")
            net.ClearField(field.name)
    layers = [_upgrade_layer(connection, log) for connection in _fold_padding(net, log)]
    del net.layers[:]
    net.layers.extend(layers)


def _fold_padding(net: caffe_pb2.NetParameter, log: UpgradeLog) -> list[caffe_pb2.V1LayerParameter]:
    """Copies of the layers without padding layers, whose pad moves into the layer behind them."""
    kept = []
    # blob name -> the layer that made it last
    producer: dict[str, caffe_pb2.V1LayerParameter | None] = dict.fromkeys(net.input)
    for original in net.layers:
        connection = type(original)()
        connection.CopyFrom(original)
        layer = connection.layer
        if layer.type != "padding":
            kept.append(connection)
        for i, name in enumerate(original.bottom):
            if name not in producer:
                log.fail(layer.name, f'bottom "{name}" is the top of no earlier layer and no input')
            padding = producer[name]
            if padding is None or padding.layer.type != "padding":
                continue
            if layer.type not in ("conv", "pool"):
                log.fail(layer.name, f'of type "{layer.type}" follows a padding layer; only conv and pool may')
            if len(original.bottom) != 1:
                log.fail(layer.name, f"has {len(original.bottom)} bottoms; behind a padding layer it takes one")
            if len(padding.bottom) != 1 or len(padding.top) != 1:
                log.fail(padding.layer.name, "is a padding layer; expected one bottom and one top")
            layer.pad = padding.layer.pad
            connection.bottom[i] = padding.bottom[0]
        producer.update(dict.fromkeys(original.top, original))
    return kept


def _upgrade_layer(connection: caffe_pb2.V1LayerParameter, log: UpgradeLog) -> caffe_pb2.V1LayerParameter:
    old = connection.layer
    new = caffe_pb2.V1LayerParameter(bottom=connection.bottom, top=connection.top)
    for field, _ in connection.ListFields():
        if field.name not in ("bottom", "top", "layer"):
            log.note(f'layer "{old.name}": {field.name} beside the V0 block was dropped')
    if old.HasField("type"):
        if old.type not in TYPES:
            log.fail(old.name, f'unknown V0 layer type "{old.type}"; expected one of {", ".join(TYPES)}, padding')
        new.MergeFrom(caffe_pb2.V1LayerParameter(type=TYPES[old.type]))
    for field, value in old.ListFields():
        if field.name == "type":
            continue
        if field.name in _SAME:
            path = field.name
        elif field.name in _ANY_TYPE:
            path = _ANY_TYPE[field.name]
        elif field.name not in _BY_TYPE:  # new_num, new_channels
            log.note(f'layer "{old.name}": {field.name} was never implemented and was dropped')
            continue
        elif old.type not in _BY_TYPE[field.name]:
            log.problem(old.name, f'field {field.name} does not fit V0 type "{old.type}" and was dropped')
            continue
        else:
            path = _BY_TYPE[field.name][old.type]
            if "." not in path and new.HasField(path):
                log.fail(old.name, f"has {field.name} and fields of V0 that belong in it; write all of them in it")
        _set(new, path, value)
    return new


def _set(message: Any, path: str, value: Any) -> None:
    """Set ``param.field``: append to a repeated field, copy a message."""
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    target = getattr(message, name)
    if hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    elif hasattr(target, "extend"):
        target.extend(value if hasattr(value, "extend") else [value])
    else:
        setattr(message, name, value)
