"""Legacy inputs, ``input: "data" input_dim: ...``, to an Input layer in front of the net."""

from typing import Any

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.upgrade.log import UpgradeLog


def needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """True when the net names inputs."""
    return len(net.input) > 0


def upgrade(net: caffe_pb2.NetParameter, log: UpgradeLog) -> None:
    """Rewrite the inputs in place.  Inputs without sizes that no layer takes (old caffemodels) are just removed."""
    if net.input_shape or net.input_dim:
        _check_sizes(net, log)
        layers = [_input_layer(net), *net.layer]
        del net.layer[:]
        net.layer.extend(layers)
    elif log.source.text is not None:  # a net, not its weights
        _check_unused(net, log)
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)


def _check_unused(net: caffe_pb2.NetParameter, log: UpgradeLog) -> None:
    """Caffe would say later that it does not know the blob."""
    tops = {top for layer in net.layer for top in layer.top}
    for layer in net.layer:
        for name in layer.bottom:
            if name in net.input and name not in tops:
                log.fail(
                    layer.name,
                    f'takes the net\'s input "{name}", which has no sizes; add input_shape {{ dim: ... }} behind '
                    f'input: "{name}", once for each input',
                )


def _check_sizes(net: caffe_pb2.NetParameter, log: UpgradeLog) -> None:
    count = len(net.input)
    field, got, expected = "input_dim", len(net.input_dim), 4 * count
    if net.input_shape:
        field, got, expected = "input_shape", len(net.input_shape), count
        if net.input_dim:
            log.note("input_dim was dropped because input_shape is given too")
    if got < expected:
        log.fail_net(f"{count} input(s) need {expected} {field} entries; there are {got}")
    if got > expected:
        log.note(f"{got - expected} {field} entries beyond those of the {count} input(s) were dropped")


def _input_layer(net: caffe_pb2.NetParameter) -> Any:
    layer = type(net)().layer.add(name="input", type="Input", top=net.input)
    for i in range(len(net.input)):
        if net.input_shape:
            layer.input_param.shape.add().CopyFrom(net.input_shape[i])
        else:
            layer.input_param.shape.add(dim=net.input_dim[4 * i : 4 * i + 4])
    return layer
