"""pycaffe beside the package's own Net and Solver: passes, training in steps of one, and the import.

    python benchmarks/pycaffe_costs.py                    # on the CPU; --gpu: on the first CUDA device
    python benchmarks/pycaffe_costs.py --only steps --rounds 21

forward: ``net.forward()`` over blobs beside the Module under ``torch.no_grad()`` and as it is called in training (with
autograd's record).  steps: 200 times ``step(1)`` beside ``step(200)``, LeNet with batches of 64.  import: milliseconds
of ``import caffe_compat.pycaffe`` above those of ``import torch``, each in a process of its own.

On the CPU the clock is the process's own time (one thread), which other programs on the machine disturb less.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from timing import Contestants, machine, median_ms, print_table

import caffe_compat.pycaffe as caffe
from caffe_compat import Net
from caffe_compat.pycaffe import layers as L
from caffe_compat.pycaffe import params as P

CAFFENET = Path(__file__).parent.parent / "prototxt" / "caffenet" / "caffenet_deploy.prototxt"
STEPS = 200


def lenet(batch: int, *, train: bool) -> str:
    """LeNet as Caffe's tutorial has it, over random digits."""
    spec, filler = caffe.NetSpec(), {"type": "xavier"}
    shape = {"dim": [batch, 1, 28, 28]}
    if train:
        spec.data = L.DummyData(shape=shape, data_filler={"type": "gaussian"})
        spec.label = L.DummyData(shape={"dim": [batch]}, data_filler={"type": "constant", "value": 3})
    else:
        spec.data = L.Input(input_param={"shape": shape})
    spec.conv1 = L.Convolution(spec.data, kernel_size=5, num_output=20, weight_filler=filler)
    spec.pool1 = L.Pooling(spec.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    spec.conv2 = L.Convolution(spec.pool1, kernel_size=5, num_output=50, weight_filler=filler)
    spec.pool2 = L.Pooling(spec.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    spec.ip1 = L.InnerProduct(spec.pool2, num_output=500, weight_filler=filler)
    spec.relu1 = L.ReLU(spec.ip1, in_place=True)
    spec.ip2 = L.InnerProduct(spec.relu1, num_output=10, weight_filler=filler)
    if train:
        spec.loss = L.SoftmaxWithLoss(spec.ip2, spec.label)
    else:
        spec.prob = L.Softmax(spec.ip2)
    return str(spec.to_proto())


def passes(model: Path, device: torch.device) -> Contestants:
    """The contestants of one net's forward pass, on the same input."""
    facade = caffe.Net(str(model), caffe.TEST)
    module = Net(model, phase="TEST").to(device)
    blob = facade.blobs[facade.inputs[0]]
    images = torch.rand(blob.shape, device=device)
    blob.data[...] = images.cpu().numpy()

    def without_record() -> None:
        with torch.no_grad():
            module(images)

    return {"pycaffe": facade.forward, "Module, no_grad": without_record, "Module": lambda: module(images)}


def forward_rows(device: torch.device, rounds: int) -> Iterator[tuple[str, dict[str, float]]]:
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "lenet.prototxt"
        small.write_text(lenet(1, train=False))
        twenty = repeated(passes(small, device), 20)
        yield "LeNet, batch 1, 20 times", median_ms(twenty, device, 4 * rounds, time.process_time)
        yield "CaffeNet, batch 10", median_ms(passes(CAFFENET, device), device, rounds, time.process_time)


def repeated(contestants: Contestants, times: int) -> Contestants:
    """Each call ``times`` over: a pass of a small net is too short for the clock."""

    def run(name: str) -> None:
        for _ in range(times):
            contestants[name]()

    return {name: lambda name=name: run(name) for name in contestants}  # type: ignore[misc]


def step_rows(device: torch.device, rounds: int) -> Iterator[tuple[str, dict[str, float]]]:
    with tempfile.TemporaryDirectory() as folder:
        model, settings = Path(folder) / "lenet.prototxt", Path(folder) / "solver.prototxt"
        model.write_text(lenet(64, train=True))
        settings.write_text(
            f'net: "{model}" base_lr: 0.0001 momentum: 0.9 lr_policy: "fixed" max_iter: {10**9}\n'
            f'snapshot_prefix: "{folder}/lenet" random_seed: 1\n'
        )
        one, many = caffe.SGDSolver(str(settings)), caffe.SGDSolver(str(settings))

        def one_by_one() -> None:
            for _ in range(STEPS):
                one.step(1)

        contestants = {f"{STEPS} x step(1)": one_by_one, f"step({STEPS})": lambda: many.step(STEPS)}
        yield "LeNet, batch 64", median_ms(contestants, device, max(3, rounds // 3), time.process_time)


def import_ms(statement: str) -> float:
    """Milliseconds of the processor for a statement in a new process; the least of five."""
    code = f"import time; start = time.process_time(); {statement}; print(1e3 * (time.process_time() - start))"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


def import_row() -> dict[str, float]:
    torch_alone, ours = import_ms("import torch"), import_ms("import caffe_compat.pycaffe")
    return {"pycaffe": ours, "torch": torch_alone, "above torch": ours - torch_alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["forward", "steps", "import"])
    parser.add_argument("--gpu", action="store_true", help="on the first CUDA device")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path, help="write the medians here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda", 0) if args.gpu else torch.device("cpu")
    if args.gpu:
        caffe.set_mode_gpu()
    result: dict[str, object] = {"machine": machine(device)}
    print(result["machine"])
    for name, rows, ratio_to in (("forward", forward_rows, "Module, no_grad"), ("steps", step_rows, f"step({STEPS})")):
        if args.only in {None, name}:
            measured = dict(rows(device, args.rounds))
            print_table(name, measured, ratio_to)
            result[name] = measured
    if args.only in {None, "import"}:
        row = import_row()
        print(f"\nimport: {', '.join(f'{name} {value:.0f} ms' for name, value in row.items())}")
        result["import"] = row
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
