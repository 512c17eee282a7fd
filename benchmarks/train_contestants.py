"""Who takes part in bench_train.py: this package's net, plain and fast, and torch.nn's in two layouts, eager and
compiled, each with forward and backward alone and with SGD's update behind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_twin import TorchTwin

from caffe_compat import Net
from caffe_compat.precision import autocast, keep_losses_in_float32
from caffe_compat.solver import SGD
from caffe_compat.solver.fast_mode import make_fast
from caffe_compat.solver.graphs import CudaRecorder, GraphedStep

Call = Callable[[], object]
RATE, MOMENTUM, DECAY = 1e-6, 0.9, 5e-4  # so small a rate that the numbers stay as they are


@dataclass
class Contestant:
    """One way to train; calling ``passes`` or ``step`` does it once."""

    passes: Call  # forward and backward
    step: Call  # forward, backward, update


@dataclass
class Setting:
    """What all contestants of a run share."""

    device: torch.device
    precision: str
    data: Tensor
    label: Tensor

    @property
    def channels_last(self) -> Tensor:
        """The images in the layout that tensor cores want."""
        return self.data.contiguous(memory_format=torch.channels_last)


def make_contestants(net: Net, fast_net: Net, setting: Setting, compiled: bool) -> dict[str, Contestant]:
    """All of them by name, to run in the precision of ``setting`` (``use_precision``).

    ``net`` and ``fast_net``: two nets of one file; the second one's weights are replaced.
    """
    fast_net.share_with(net)
    if setting.device.type == "cuda":
        make_fast([fast_net])
    else:
        fast_net.fast = True  # make_fast would also keep freed memory, which is --plain-malloc's to say
    if setting.precision == "bf16":
        for ours in (net, fast_net):
            keep_losses_in_float32(ours.layers.values())
    twin = TorchTwin(net).to(setting.device)
    twin_last = TorchTwin(net).to(setting.device).to(memory_format=torch.channels_last)
    made = {
        "ours": plain(net, setting),
        "ours fast": graphed(fast_net, setting) if setting.device.type == "cuda" else plain(fast_net, setting),
        "torch": of_torch(twin, twin, setting.data, setting),
        "torch channels_last": of_torch(twin_last, twin_last, setting.channels_last, setting),
    }
    if compiled:
        made["torch.compile"] = of_torch(twin, torch.compile(twin), setting.data, setting)
        made["torch.compile channels_last"] = of_torch(
            twin_last, torch.compile(twin_last), setting.channels_last, setting
        )
    return made


def _sgd(net: Net) -> SGD:
    weights = [p for p in net.parameters() if p.dim() > 1]
    biases = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": weights}, {"params": biases, "lr_mult": 2.0, "decay_mult": 0.0}]
    return SGD(groups, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)


def plain(net: Net, setting: Setting) -> Contestant:
    """Our net layer by layer, or (``net.fast``) with fused patterns."""
    optimizer = _sgd(net)

    def passes() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(setting.device, setting.precision):
            loss = net.forward_with_loss(data=setting.data, label=setting.label)[1]
        loss.backward()

    def step() -> None:
        passes()
        optimizer.step()

    return Contestant(passes, step)


def graphed(net: Net, setting: Setting) -> Contestant:
    """Our net as the solver's fast mode runs it on CUDA."""

    def run(batch: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Tensor]:
        with autocast(setting.device, setting.precision):
            return net.forward_with_loss(**batch)

    graphs = GraphedStep(net, _sgd(net), run, CudaRecorder(setting.device), print)
    batch = {"data": setting.data, "label": setting.label.float()}

    def passes() -> None:
        graphs.clear_gradients()
        graphs.forward_backward(batch)

    def step() -> None:
        passes()
        graphs.update()

    for _ in range(2 * GraphedStep.WARM_UP + 1):  # until all is recorded
        step()
    return Contestant(passes, step)


def of_torch(model: TorchTwin, call: Callable[..., Tensor], data: Tensor, setting: Setting) -> Contestant:
    """Plain torch.nn with torch's fused SGD; ``call``: the model, or its compiled form."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=True)

    def passes() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(setting.device, setting.precision):
            loss = call(data, setting.label)
        loss.backward()

    def step() -> None:
        passes()
        optimizer.step()

    return Contestant(passes, step)
