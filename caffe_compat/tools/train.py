"""Train or fine-tune a net from a solver file.

Several devices: ``--gpu 0,1`` (or ``all``), or one process each by ``torchrun -m caffe_compat.cli train ...``;
each device takes the file's batch_size of its own share of the data.
Signals: SIGINT (Ctrl-C) stops after a snapshot, SIGHUP snapshots; see --sigint_effect and --sighup_effect.
"""

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from caffe_compat.errors import CaffeCompatError, SolverError
from caffe_compat.file_lock import FileLock
from caffe_compat.net.phase_rules import phase_value
from caffe_compat.precision import PRECISIONS
from caffe_compat.proto import caffe_pb2, read_solver
from caffe_compat.solver import Solver, find_snapshot
from caffe_compat.solver.devices import device_of, solver_gpus
from caffe_compat.solver.launch import launch
from caffe_compat.solver.log import CaffeTrainLog
from caffe_compat.solver.metrics import Csv, JsonLines, Sink, TensorBoard
from caffe_compat.solver.parallel import SINGLE, Parallel, is_launched, joined, local_device
from caffe_compat.solver.signals import ACTIONS, SignalActions
from caffe_compat.tools._extensions import load_extensions
from caffe_compat.tools._net_arguments import add_weights_arguments, reshape_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``caffe train``, and where structured metrics go."""
    parser.add_argument("--solver", required=True, metavar="FILE", help="the solver prototxt")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--snapshot", default="", metavar="FILE", help='resume from this .solverstate; "auto": the newest whole one'
    )
    start.add_argument("--weights", default="", metavar="A,B", help="start from the weights in these caffemodels")
    parser.add_argument("--gpu", default="", metavar="LIST", help='CUDA devices with commas, or "all"; default the CPU')
    parser.add_argument("--phase", default="", choices=["", "TRAIN", "TEST"], help="the train net's phase")
    parser.add_argument("--level", type=int, default=0, help="the train net's level")
    parser.add_argument("--stage", default="", metavar="A,B", help="the train net's stages")
    parser.add_argument("--iterations", type=int, help="train to this iteration instead of the file's max_iter")
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=PRECISIONS,
        help="fp32: Caffe's numbers; tf32, bf16: faster on tensor cores (default fp32)",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="fused layers; on CUDA also batches made on the device and the training step as CUDA graphs",
    )
    parser.add_argument(
        "--skip-bad-records",
        type=int,
        default=0,
        metavar="N",
        help="pass over up to N unreadable records per data layer",
    )
    parser.add_argument(
        "--stop_at_nan", action="store_true", help="end with an error at a display whose loss is NaN or infinite"
    )
    add_weights_arguments(parser)
    parser.add_argument("--sigint_effect", default="stop", choices=ACTIONS, help="what SIGINT does")
    parser.add_argument("--sighup_effect", default="snapshot", choices=ACTIONS, help="what SIGHUP does")
    parser.add_argument("--lines_of_2014", action="store_true", help="also log the lines that 2014's log readers want")
    parser.add_argument("--log_json", metavar="FILE", help="append the events as JSON lines")
    parser.add_argument("--log_csv", metavar="FILE", help="append the events as CSV")
    parser.add_argument("--tensorboard", metavar="DIR", help="write the events for TensorBoard")


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    param = _solver_param(args)
    gpus = solver_gpus(param, args.gpu, args.solver)
    if is_launched():
        device = local_device(gpus)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with joined(device) as parallel:
            _train(args, param, device, parallel)
        return 0
    if len(gpus) > 1:
        return launch(_worker, (args,), len(gpus))
    _train(args, param, device_of(gpus), SINGLE)
    return 0


def _worker(args: argparse.Namespace) -> None:
    """One process of several; its errors are one line, too."""
    try:
        load_extensions(args)
        status = run(args)
    except (CaffeCompatError, OSError) as error:
        print(f"caffe-compat train: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)


def _solver_param(args: argparse.Namespace) -> caffe_pb2.SolverParameter:
    """The solver file with the flags worked in."""
    param = read_solver(args.solver)
    if args.phase:
        param.train_state.phase = phase_value(args.phase)
    if args.level:
        param.train_state.level = args.level
    param.train_state.stage.extend(stage for stage in args.stage.split(",") if stage)
    if args.iterations is not None:
        if args.iterations < 0:
            raise SolverError(f"--iterations is {args.iterations}; expected at least 0")
        param.max_iter = args.iterations
    if args.snapshot or args.weights:
        del param.weights[:]
    if args.weights:
        param.weights.append(args.weights)
    return param


def _train(
    args: argparse.Namespace, param: caffe_pb2.SolverParameter, device: torch.device, parallel: Parallel
) -> None:
    log = CaffeTrainLog(
        sinks=_sinks(args) if parallel.is_root else (),
        enabled=parallel.is_root,
        lines_of_2014=args.lines_of_2014,
    )
    if device.type == "cuda":
        log.using_gpu(args.gpu or str(device.index), device.index, torch.cuda.get_device_name(device))
    else:
        log.using_cpu()
    with (
        _only_writer(param, args.solver) if parallel.is_root else nullcontext(),
        SignalActions(args.sigint_effect, args.sighup_effect) as signals,
    ):
        solver = Solver(
            param,
            device=device,
            log=log,
            parallel=parallel,
            source=args.solver,
            skip_bad_records=args.skip_bad_records,
            fast=args.fast,
            precision=args.precision,
            stop_at_nan=args.stop_at_nan,
            strict=args.strict,
            reshape=reshape_of(args),
        )
        try:
            solver.set_action_function(signals.requested)
            snapshot = _snapshot_to_resume(args, param, log)
            if snapshot is not None:
                log.resuming(snapshot)
                solver.restore(snapshot)
            log.starting()
            solver.solve()
            log.command_done()
        finally:
            solver.close()


def _only_writer(param: caffe_pb2.SolverParameter, source: str) -> AbstractContextManager[object]:
    """Keep others from writing snapshots of the same names; SolverError when one trains here already."""
    lock = Path(f"{param.snapshot_prefix}.lock")
    # Where no file can be made, the solver says so if it is to write snapshots.
    if not (param.snapshot or param.snapshot_after_train) or not os.access(lock.parent, os.W_OK | os.X_OK):
        return nullcontext()
    refusal = SolverError(
        f'{source}: another process trains with snapshot_prefix "{param.snapshot_prefix}"; wait for it or stop it, '
        "or set another snapshot_prefix"
    )
    return FileLock(lock, refusal)


def _snapshot_to_resume(args: argparse.Namespace, param: caffe_pb2.SolverParameter, log: CaffeTrainLog) -> Path | None:
    if args.snapshot != "auto":
        return Path(args.snapshot) if args.snapshot else None
    found = find_snapshot(param.snapshot_prefix, log)
    if found is None:
        log.no_snapshot(param.snapshot_prefix)
    return found


def _sinks(args: argparse.Namespace) -> list[Sink]:
    sinks: list[Sink] = []
    if args.log_json:
        sinks.append(JsonLines(args.log_json))
    if args.log_csv:
        sinks.append(Csv(args.log_csv))
    if args.tensorboard:
        sinks.append(TensorBoard(args.tensorboard))
    return sinks
