"""The paper's networks with 1 to 7 frozen layers of one base: each apart, and all side by side in one process.

    python benchmarks/side_by_side.py                           # on the CPU, batches of 16
    python benchmarks/side_by_side.py --device cuda:0 --batch 256 --fast --precision bf16

Each network is CaffeNet on one half of ImageNet, as run_paper.py writes it with --same-crops; the images are noise of
256 x 256 pixels.  Apart, each reads its own batches and runs its own frozen layers; side by side, a batch is read and a
frozen layer run once for all, to the same numbers (tests/reproduce/test_side_by_side.py).  Seconds are those of one
iteration of all seven.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from google.protobuf import text_format
from timing import machine, open_device

from caffe_compat import Solver
from caffe_compat.net.flops import training_flops
from caffe_compat.precision import PRECISIONS
from caffe_compat.proto import caffe_pb2, read_message
from caffe_compat.solver import Log
from reproduce.learned_layers import shape_graph
from reproduce.measure import write_noise
from reproduce.network import DEPTHS
from reproduce.run_folder import RunSettings, write_run_folder
from reproduce.side_by_side import Common
from reproduce.treatments import SELFFER

SIZE_PX, CHANNELS = 256, 3


def make_solvers(out: Path, args: argparse.Namespace) -> list[Solver]:
    """One for each depth, with the same weights."""
    solvers = list[Solver]()
    for n in DEPTHS:
        folder = out / SELFFER.network("0", "B", "B", n).name
        os.chdir(folder)
        param = read_message(folder / "solver.prototxt", caffe_pb2.SolverParameter())
        param.test_initialization, param.test_interval = False, 1 << 30
        param.snapshot = param.display = 0
        param.ClearField("weights")
        quiet = Log(enabled=False)
        solver = Solver(param, device=args.device, fast=args.fast, precision=args.precision, log=quiet)
        solver.test_nets[0].close()
        if solvers:
            with torch.no_grad():
                for ours, first in zip(solver.net.parameters(), solvers[0].net.parameters(), strict=True):
                    ours.copy_(first)
        solvers.append(solver)
    return solvers


def seconds(solvers: Sequence[Solver], iterations: int, in_turns: bool) -> float:
    """Of an iteration of all."""

    def wait() -> None:
        if solvers[0].device.type == "cuda":
            torch.cuda.synchronize(solvers[0].device)

    wait()
    began = time.perf_counter()
    if in_turns:
        for _ in range(iterations):
            for solver in solvers:
                solver.step(1)
    else:
        for solver in solvers:
            solver.step(iterations)
    wait()
    return (time.perf_counter() - began) / iterations


def flops(out: Path) -> tuple[float, float]:
    """Operations of an iteration of all: apart, and with each frozen layer computed once."""
    apart = once = 0.0
    seen = set[str]()
    for n in DEPTHS:
        graph = shape_graph(out / SELFFER.network("0", "B", "B", n).name / "train.prototxt", "TRAIN", CHANNELS, SIZE_PX)
        for step in graph.steps:
            count = training_flops(step, graph.shapes)
            apart += count
            frozen = bool(step.layer.blobs) and not any(p.requires_grad for p in step.layer.parameters())
            if not (frozen and step.layer.name in seen):
                once += count
            if frozen:
                seen.add(step.layer.name)
    return apart, once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=2, help="of each round")
    parser.add_argument("--rounds", type=int, default=3, help="the two ways in turns; the least time counts")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    args = parser.parse_args()
    device = open_device(args.device)
    warnings.simplefilter("ignore")
    about = machine(device)
    print(f"{about['name']}, {about['threads']} threads, torch {about['torch']}, batches of {args.batch}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        networks = [SELFFER.network("0", "B", "B", n) for n in DEPTHS]
        write_noise(networks, out / "data", channels=CHANNELS, size_px=SIZE_PX, classes=500)
        for network in networks:
            written = write_run_folder(network, RunSettings(seed=1, same_crops=True), out) / "train.prototxt"
            net = read_message(written, caffe_pb2.NetParameter())
            net.layer[0].data_param.batch_size = args.batch
            written.write_text(text_format.MessageToString(net))
        apart, together = make_solvers(out, args), make_solvers(out, args)
        common = Common()
        for solver in together:
            common.join(solver)
        for solvers in (apart, together):
            seconds(solvers, 1, in_turns=True)  # buffers, recordings
        rounds = [
            (seconds(apart, args.iterations, in_turns=False), seconds(together, args.iterations, in_turns=True))
            for _ in range(args.rounds)
        ]
        apart_s, together_s = (min(times) for times in zip(*rounds, strict=True))
        for solver in [*apart, *together]:
            solver.close()
        all_flops, once_flops = flops(out)
    print(f"GFLOP:   {all_flops / 1e9:.1f} apart, {once_flops / 1e9:.1f} side by side ({once_flops / all_flops:.3f})")
    print(f"seconds: {apart_s:.2f} apart, {together_s:.2f} side by side ({together_s / apart_s:.3f})")


if __name__ == "__main__":
    main()
