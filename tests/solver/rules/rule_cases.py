"""What the tests of all rules share: ten updates against a slow scalar formula, the operator against its plain twin."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from caffe_compat.solver import Rule

ROUNDING = 1e-12  # float64, ten updates
FLOAT32_ROUNDING = 2e-5  # three updates; AdaGrad's and Adam's first ones divide small numbers by small ones

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]

#: (gradient, the parameter's two histories, update number from 1, rate) -> what is subtracted
Scalar = Callable[[float, list[float], int, float], float]


class How(NamedTuple):
    """One way to run a rule."""

    regularization: str
    fused: bool
    device: str


#: parametrizes a test by ``how`` in all ways
in_all_ways = pytest.mark.parametrize(
    "how",
    [
        pytest.param(How(regularization, fused, "cpu" if i == 0 else "cuda"), marks=() if i == 0 else needs_cuda)
        for regularization, fused, i in itertools.product(("L2", "L1"), (True, False), (0, 1))
    ],
    ids=lambda how: "-".join(map(str, how)),
)
on_all_devices = pytest.mark.parametrize("device", DEVICES)


def parameter(*values: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def check_ten_updates(rule: type[Rule], settings: dict[str, Any], scalar: Scalar, how: How) -> None:
    """Clipping, iter_size, decay and both multipliers, on two groups; the learning rate changes on the way."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(n, dtype=torch.float64, device=how.device)) for n in (3, 2, 4)]
    mults = [(1.0, 1.0), (2.0, 0.0), (1.0, 1.0)]
    groups = [
        {"params": [params[0], params[2]], "lr_mult": 1.0, "decay_mult": 1.0},
        {"params": [params[1]], "lr_mult": 2.0, "decay_mult": 0.0},
    ]
    optimizer = rule(
        groups,
        lr=0.1,
        weight_decay=0.02,
        regularization_type=how.regularization,
        clip_gradients=1.5,
        iter_size=2,
        **settings,
    )
    optimizer.fused = how.fused
    expected = [p.detach().tolist() for p in params]
    histories = [[[0.0, 0.0] for _ in values] for values in expected]
    for t in range(1, 11):
        lr = 0.1 if t < 6 else 0.03
        grads = [torch.randn_like(p) * t / 5 for p in params]
        norm = math.sqrt(sum(float(g.square().sum()) for g in grads))
        scale = min(1.0, 1.5 / norm) / 2
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        for k, (lr_mult, decay_mult) in enumerate(mults):
            for i, w in enumerate(expected[k]):
                pull = w if how.regularization == "L2" else math.copysign(1.0, w)
                gradient = float(grads[k][i]) * scale + 0.02 * decay_mult * pull
                expected[k][i] = w - scalar(gradient, histories[k][i], t, lr * lr_mult)
    for p, values in zip(params, expected, strict=True):
        assert p.tolist() == pytest.approx(values, rel=ROUNDING, abs=ROUNDING)
    stored = optimizer.histories(params)
    assert len(stored) == 3 * rule.history_count
    for k in range(rule.history_count):  # the first history of all parameters comes before the second
        for number in range(3):
            wanted = [h[k] for h in histories[number]]
            assert stored[3 * k + number].tolist() == pytest.approx(wanted, rel=ROUNDING, abs=ROUNDING)


def check_fused_equals_plain(rule: type[Rule], settings: dict[str, Any], device: str) -> None:
    """More tensors than a launch takes, sizes of 0, 1 and more than a grid's threads, other memory layouts."""
    sizes = [(0,), (1,), (3, 5), (70_001,), (2, 3, 4, 5), *([(7,)] * 40)]
    torch.manual_seed(1)
    results = []
    start = [torch.randn(size, device=device) for size in sizes]
    start[4] = start[4].to(memory_format=torch.channels_last)
    steps = [[torch.randn(size, device=device) for size in sizes] for _ in range(3)]
    for fused in (True, False):
        params = [torch.nn.Parameter(value.clone()) for value in start]
        optimizer = rule(params, lr=0.1, weight_decay=0.01, clip_gradients=2.0, iter_size=2, **settings)
        optimizer.fused, optimizer.keep_update = fused, True
        for grads in steps:
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            optimizer.step()
        results.append([*params, *(p.grad for p in params), *optimizer.histories(params)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=FLOAT32_ROUNDING, atol=FLOAT32_ROUNDING)
