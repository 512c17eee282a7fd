"""What Caffe refuses in a solver file, said with file and field."""

import os
from pathlib import Path

from caffe_compat.errors import SolverError, seen_from
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver.average_precision import VERSIONS
from caffe_compat.solver.rules import RULES
from caffe_compat.solver.rules.base import REGULARIZATIONS

TRAIN_NET_FIELDS = ("net", "net_param", "train_net", "train_net_param")


def check_solver(param: caffe_pb2.SolverParameter, source: str) -> None:
    """Raise SolverError for a SolverParameter that Caffe would abort on."""
    _check_type(param, source)
    _check_train_net(param, source)
    _check_test_nets(param, source)
    for field, least in (("average_loss", 1), ("iter_size", 1)):
        _check_least(param, field, least, source)
    for field in ("max_iter", "display", "test_interval", "snapshot"):
        _check_least(param, field, 0, source)
    for i, count in enumerate(param.test_iter):
        if count < 0:
            raise SolverError(f"{source}: test_iter (entry {i + 1}) is {count}; expected at least 0")
    if param.regularization_type not in REGULARIZATIONS:
        raise SolverError(f'{source}: regularization_type is "{param.regularization_type}"; expected L2 or L1')
    for field, choices in (("eval_type", ("classification", "detection")), ("ap_version", VERSIONS)):
        if getattr(param, field) not in choices:
            raise SolverError(f'{source}: {field} is "{getattr(param, field)}"; expected {" or ".join(choices)}')


def _check_least(param: caffe_pb2.SolverParameter, field: str, least: int, source: str) -> None:
    value = getattr(param, field)
    if value < least:
        raise SolverError(f"{source}: {field} is {value}; expected at least {least}")


def _check_type(param: caffe_pb2.SolverParameter, source: str) -> None:
    if param.type not in RULES:
        raise SolverError(f'{source}: type is "{param.type}"; expected one of {", ".join(RULES)}')
    rule = RULES[param.type]
    for field in rule.refused:
        if getattr(param, field) != 0:
            value = getattr(param, field)
            raise SolverError(f"{source}: {field} is {value:g}; {param.type} takes no {field}, remove it")
    for setting in rule.settings:
        setting.check(setting.value_in(param), param.type, f"{source}: ")


def _check_train_net(param: caffe_pb2.SolverParameter, source: str) -> None:
    given = [field for field in TRAIN_NET_FIELDS if param.HasField(field)]
    if len(given) != 1:
        came = f"{' and '.join(given)} are given" if given else "no train net is given"
        raise SolverError(f"{source}: {came}; set exactly one of {', '.join(TRAIN_NET_FIELDS)}")


def _check_test_nets(param: caffe_pb2.SolverParameter, source: str) -> None:
    own = len(param.test_net_param) + len(param.test_net)
    iters = len(param.test_iter)
    generic = param.HasField("net") or param.HasField("net_param")
    if iters < own or (iters > own and not generic):
        expected = f"at least {own}" if generic else f"{own}"
        raise SolverError(
            f"{source}: test_iter is given {iters} times for {own} test_net and test_net_param entries; "
            f"expected {expected}, one for each test net"
        )
    if param.test_state and len(param.test_state) != iters:
        raise SolverError(
            f"{source}: test_state is given {len(param.test_state)} times for {iters} test nets; "
            "give none, or one for each"
        )
    if iters and param.test_interval <= 0:
        raise SolverError(f"{source}: test_interval is {param.test_interval} but there are test nets; set it above 0")


def check_snapshot_prefix(param: caffe_pb2.SolverParameter, source: str) -> None:
    """Raise SolverError when snapshots are asked for where no file can be made."""
    if not param.snapshot:
        return
    if not param.HasField("snapshot_prefix"):
        raise SolverError(f"{source}: snapshot is {param.snapshot} but snapshot_prefix is not set")
    check_snapshot_folder(param, source)


def check_snapshot_folder(param: caffe_pb2.SolverParameter, source: str) -> None:
    """Raise SolverError when the folder of ``snapshot_prefix`` is missing or cannot be written to."""
    folder = Path(param.snapshot_prefix).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise SolverError(
            f'{source}: cannot write to snapshot_prefix "{param.snapshot_prefix}"; '
            f"make sure that the folder {folder} exists and is writable{seen_from(folder)}"
        )
