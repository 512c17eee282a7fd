"""Train or fine-tune a net from a solver file.

    caffe-compat train --solver solver.prototxt --gpu 0
    caffe-compat train --solver solver.prototxt --snapshot auto
    caffe-compat train --solver finetune.prototxt --weights base.caffemodel

Several devices: ``--gpu 0,1`` (or ``all``), or one process each by ``torchrun -m caffe_compat.cli train ...``;
each device takes the file's batch_size of its own share of the data.
Signals: SIGINT (Ctrl-C) stops after a snapshot, SIGHUP snapshots, SIGTERM ends at once; see --sigint_effect,
--sighup_effect and --sigterm_effect (stop is for queues that send SIGTERM before they kill).
"""

import argparse
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_compat.errors import CaffeCompatError, SolverError, one_line
from caffe_compat.precision import PRECISIONS
from caffe_compat.solver.metrics import Csv, JsonLines, Sink, TensorBoard
from caffe_compat.solver.signals import ACTIONS, SignalActions
from caffe_compat.tools._extensions import load_extensions
from caffe_compat.tools._log import CaffeTrainLog
from caffe_compat.tools._net_arguments import add_python_layers_argument, add_weights_arguments, reshape_of
from caffe_compat.tools._values import int32, phase_or_none, whole

if TYPE_CHECKING:
    import torch

    from caffe_compat.proto import caffe_pb2
    from caffe_compat.solver import Solver
    from caffe_compat.solver.parallel import Parallel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``caffe train``, and where structured metrics go."""
    parser.add_argument("--solver", required=True, metavar="FILE", help="the solver prototxt")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--snapshot", default="", metavar="FILE", help='resume from this .solverstate; "auto": the newest whole one'
    )
    start.add_argument("--weights", default="", metavar="A,B", help="start from the weights in these caffemodels")
    parser.add_argument("--gpu", default="", metavar="LIST", help='CUDA devices with commas, or "all"; default the CPU')
    parser.add_argument(
        "--phase", type=phase_or_none, default="", metavar="TRAIN|TEST", help="the train net's phase (default TRAIN)"
    )
    parser.add_argument("--level", type=int32, default=0, help="the train net's level")
    parser.add_argument("--stage", default="", metavar="A,B", help="the train net's stages")
    parser.add_argument("--iterations", type=int32, help="train to this iteration instead of the file's max_iter")
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
        type=whole(0),
        default=0,
        metavar="N",
        help="pass over up to N unreadable records per data layer",
    )
    parser.add_argument("--stop_at_nan", action="store_true", help="end with an error when the loss is NaN or infinite")
    add_weights_arguments(parser)
    add_python_layers_argument(parser)
    parser.add_argument("--sigint_effect", default="stop", choices=ACTIONS, help="what SIGINT does (default stop)")
    parser.add_argument(
        "--sighup_effect", default="snapshot", choices=ACTIONS, help="what SIGHUP does (default snapshot)"
    )
    parser.add_argument("--sigterm_effect", choices=ACTIONS, help="what SIGTERM does; by default it ends the process")
    parser.add_argument("--lines_of_2014", action="store_true", help="also log the lines that 2014's log readers want")
    parser.add_argument("--log_json", metavar="FILE", help="append the events as JSON lines")
    parser.add_argument("--log_csv", metavar="FILE", help="append the events as CSV")
    parser.add_argument("--tensorboard", metavar="DIR", help="write the events for TensorBoard")


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    import torch

    from caffe_compat.solver.devices import device_of, solver_gpus
    from caffe_compat.solver.launch import FORWARDED, launch
    from caffe_compat.solver.parallel import SINGLE, is_launched, joined, local_device

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
        term = [signal.SIGTERM] if args.sigterm_effect else []
        return launch(_worker, (args,), len(gpus), [*FORWARDED, *term])
    _train(args, param, device_of(gpus), SINGLE)
    return 0


def _worker(args: argparse.Namespace) -> None:
    """One process of several; its errors are one line, too."""
    try:
        load_extensions(args)
        status = run(args)
    except (CaffeCompatError, OSError) as error:
        print(f"caffe-compat train: {one_line(error)}", file=sys.stderr)
        status = 1
    sys.exit(status)


def _solver_param(args: argparse.Namespace) -> "caffe_pb2.SolverParameter":
    """The solver file with the flags worked in."""
    from caffe_compat.net.phase_rules import phase_value
    from caffe_compat.proto import read_solver

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
    for flag in ("strict", "reshape"):
        if getattr(args, flag) and not (param.weights or args.snapshot):
            raise SolverError(f"--{flag}: there are no weights that could fit; give --weights, or leave it out")
    return param


def _train(
    args: argparse.Namespace, param: "caffe_pb2.SolverParameter", device: "torch.device", parallel: "Parallel"
) -> None:
    import torch

    from caffe_compat.solver import Solver

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
        SignalActions(args.sigint_effect, args.sighup_effect, args.sigterm_effect) as signals,
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
            allow_python_layers=args.allow_python_layers,
        )
        try:
            solver.set_action_function(signals.requested)
            snapshot = _snapshot_to_resume(args, solver, log)
            if snapshot is not None:
                log.resuming(snapshot)
                solver.restore(snapshot)
            log.starting()
            solver.solve()
            log.command_done()
        finally:
            solver.close()


def _only_writer(param: "caffe_pb2.SolverParameter", source: str) -> AbstractContextManager[object]:
    """Keep others from writing snapshots of the same names: before the nets are built, which may take long."""
    from caffe_compat.solver.snapshot import lock_prefix

    writes = param.snapshot or param.snapshot_after_train
    return (lock_prefix(param, source) if writes else None) or nullcontext()


def _snapshot_to_resume(args: argparse.Namespace, solver: "Solver", log: CaffeTrainLog) -> Path | None:
    if args.snapshot != "auto":
        return Path(args.snapshot) if args.snapshot else None
    found = solver.newest_snapshot()
    if found is None:
        log.no_snapshot(solver.param.snapshot_prefix)
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
