"""The train net and the test nets that a SolverParameter describes."""

from dataclasses import dataclass

import torch

from caffe_compat.net import Net
from caffe_compat.net.layer_checks import read_known_net
from caffe_compat.proto import Source, caffe_pb2
from caffe_compat.solver.copy_weights import copy_weights
from caffe_compat.solver.log import Log
from caffe_compat.solver.solver_checks import TRAIN_NET_FIELDS


@dataclass
class NetOptions:
    """How the solver (of file ``source``) wants its nets: where, in which type, its place among parallel ones."""

    source: str
    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    count: int = 1
    skip_bad_records: int = 0
    strict: bool = False  # of the weights for the train net, as in ``copy_weights``
    reshape: tuple[str, ...] = ()
    allow_python_layers: bool = False


def build_nets(param: caffe_pb2.SolverParameter, options: NetOptions, log: Log) -> list[Net]:
    """The train net, then the test nets, which share its parameters by layer name."""
    nets = [build_train_net(param, options, log), *build_test_nets(param, options, log)]
    for number, test_net in enumerate(nets[1:]):
        own = test_net.share_with(nets[0])
        if own:
            log.not_shared(number, own)
    return nets


def build_train_net(param: caffe_pb2.SolverParameter, options: NetOptions, log: Log) -> Net:
    """The train net (from whichever field gives it) with the solver's ``weights`` copied in."""
    field = next(name for name in TRAIN_NET_FIELDS if param.HasField(name))
    model = getattr(param, field)
    if field.endswith("_param"):
        log.train_net_from_field(field)
    else:
        log.train_net_from_file(field, model)
    net = _build(model, field, caffe_pb2.TRAIN, param.train_state, options)
    _copy_weights(net, param, options, log, train=True)
    return net


def build_test_nets(param: caffe_pb2.SolverParameter, options: NetOptions, log: Log) -> list[Net]:
    """The test nets in Caffe's order: test_net_param, test_net, then net or net_param for the rest of test_iter."""
    models: list[tuple[str, str | caffe_pb2.NetParameter]]
    models = [("test_net_param", model) for model in param.test_net_param]
    models += [("test_net", path) for path in param.test_net]
    generic = "net_param" if param.HasField("net_param") else "net"
    models += [(generic, getattr(param, generic))] * (len(param.test_iter) - len(models))
    nets = []
    for i, (field, model) in enumerate(models):
        log.test_net(i, field if field.endswith("_param") else f"{field} file: {model}")
        state = param.test_state[i] if param.test_state else caffe_pb2.NetState()
        net = _build(model, field, caffe_pb2.TEST, state, options)
        _copy_weights(net, param, options, log, train=False)
        nets.append(net)
    return nets


def _build(
    model: str | caffe_pb2.NetParameter,
    field: str,
    phase: caffe_pb2.Phase,
    override: caffe_pb2.NetState,
    options: NetOptions,
) -> Net:
    """A Net in the state that the defaults, the file and the solver's own state make, later ones winning."""
    message, source = read_known_net(model)
    state = caffe_pb2.NetState(phase=phase)
    state.MergeFrom(message.state)
    state.MergeFrom(override)
    message.state.CopyFrom(state)
    net = Net(
        message,
        phase=caffe_pb2.Phase.Name(state.phase),
        level=state.level,
        stages=state.stage,
        dtype=options.dtype,
        solver_rank=options.rank,
        solver_count=options.count,
        skip_bad_records=options.skip_bad_records,
        allow_python_layers=options.allow_python_layers,
        source=Source(f"{options.source}: {field}") if field.endswith("_param") else source,
    )
    net.graph.skip_backward()
    return net.to(options.device)


def _copy_weights(net: Net, param: caffe_pb2.SolverParameter, options: NetOptions, log: Log, *, train: bool) -> None:
    # A test net may lack layers, and has its parameters from the train net anyway.
    paths = [path.strip() for entry in param.weights for path in entry.split(",")]
    reshape = options.reshape if train else [name for name in options.reshape if name in net.params]
    copy_weights(net, paths, log, strict=train and options.strict, reshape=reshape)
