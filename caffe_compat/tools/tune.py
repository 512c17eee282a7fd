"""Find the fastest path for each convolution of a net on this GPU, by timing training steps.

caffe-compat tune train_val.prototxt --precision bf16
"""

import argparse

from caffe_compat.errors import SolverError
from caffe_compat.precision import PRECISIONS, keep_losses_in_float32
from caffe_compat.tools._net_arguments import add_net_arguments, add_shape_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The net, its batch and the precisions."""
    parser.add_argument("model", help="the net's prototxt, with the batch size to train with; its data are not needed")
    parser.add_argument("--gpu", default="0", metavar="N", help="CUDA device (default 0)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, action="append", help="of `train --precision`; may be repeated (default all)"
    )
    add_net_arguments(parser, phase="TRAIN")
    add_shape_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Tune and write the table of ``caffe_compat.ops.conv_choice``; returns the exit status."""
    import torch

    from caffe_compat.ops import conv_choice
    from caffe_compat.solver.devices import device_of, parse_gpus
    from caffe_compat.solver.fast_mode import make_fast
    from caffe_compat.solver.tune import PathErrors, StepTimer, tune
    from caffe_compat.tools._looking import look_at

    if not torch.cuda.is_available():
        raise SolverError("PyTorch finds no CUDA device; paths are chosen on CUDA alone")
    device = device_of(parse_gpus(args.gpu))
    name = torch.cuda.get_device_name(device)
    for precision in args.precision or PRECISIONS:
        net = look_at(args.model, args).net().to(device)
        make_fast([net])
        if precision == "bf16":
            keep_losses_in_float32(step.layer for step in net.steps)
        print(f"{precision}:")
        with torch.cuda.device(device):
            found = tune(StepTimer(net, precision), print, PathErrors(device))
        print(f"{precision}: {found.before_ms:.3f} ms a step before, {found.after_ms:.3f} ms now")
        conv_choice.write_choices(name, found.choices, {"step_ms": round(found.after_ms, 4)})
        net.close()
    print(f"{conv_choice.table_path()}: the choices for {name}")
    return 0
