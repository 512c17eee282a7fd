"""Precision switches: accurate unless asked, and bfloat16 training close to float32."""

from typing import Any

import pytest
import torch

from caffe_compat import Net, Solver, precision
from caffe_compat.layers.base import Layer
from caffe_compat.proto import caffe_pb2, parse_net
from caffe_compat.solver import Log

NET = """
layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 8 dim: 6 } data_filler { type: "gaussian" }
  shape { dim: 8 } data_filler { type: "constant" value: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "t" top: "loss" }
"""
BF16_TOLERANCE = 2e-2  # 8 bits of mantissa


def switches() -> tuple[str, str]:
    """PyTorch's own: of cuDNN's convolutions and of cuBLAS."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return convolutions.fp32_precision, torch.backends.cuda.matmul.fp32_precision


def test_precision_is_scoped() -> None:
    before = switches()
    assert precision.precision() == "fp32"
    with precision.use_precision("tf32"):
        assert (precision.precision(), switches()) == ("tf32", ("tf32", "tf32"))
        with precision.use_precision("fp32"):
            assert (precision.precision(), switches()) == ("fp32", ("ieee", "ieee"))
        assert (precision.precision(), switches()) == ("tf32", ("tf32", "tf32"))
    assert (precision.precision(), switches()) == ("fp32", before)
    with pytest.raises(ZeroDivisionError), precision.use_precision("tf32"):
        _ = 1 / 0
    assert (precision.precision(), switches()) == ("fp32", before)
    with pytest.raises(ValueError, match="expected one of fp32, tf32, bf16"), precision.use_precision("fp8"):
        pass


def test_building_and_running_a_net_changes_no_switch() -> None:
    before = switches()
    net = Net(parse_net(NET))
    net.forward_with_loss()[1].backward()
    assert switches() == before


def make_solver(name: str) -> Solver:
    param = caffe_pb2.SolverParameter(base_lr=0.1, lr_policy="fixed", momentum=0.9, random_seed=5)
    param.net_param.CopyFrom(parse_net(NET))
    return Solver(param, log=Log(enabled=False), precision=name)


def train(name: str) -> torch.Tensor:
    solver = make_solver(name)
    solver.step(20)
    weight = solver.net.layers["fc"].blobs[0]
    assert weight.dtype == torch.float32
    return weight.detach().clone()


def test_bf16_training_stays_near_fp32() -> None:
    accurate, fast = train("fp32"), train("bf16")
    assert not torch.equal(accurate, fast), "bf16 must really have been used"
    torch.testing.assert_close(fast, accurate, rtol=0, atol=BF16_TOLERANCE * float(accurate.abs().max()))


def test_losses_are_float32_in_bf16() -> None:
    solver = make_solver("bf16")
    seen: dict[str, tuple[torch.dtype, torch.dtype]] = {}

    def look(layer: Layer, bottoms: tuple[torch.Tensor, ...], top: torch.Tensor) -> None:
        seen[layer.name] = bottoms[0].dtype, top.dtype

    for layer in solver.net.layers.values():
        layer.register_forward_hook(look)
    solver.step(1)
    assert seen["fc"] == (torch.float32, torch.bfloat16)
    assert seen["loss"][1] == torch.float32
    assert solver.train_step.forward_backward()[1].dtype == torch.float32
    gradient = solver.net.layers["fc"].blobs[0].grad
    assert gradient is not None
    assert gradient.dtype == torch.float32
    assert solver.optimizer.history(solver.net.layers["fc"].blobs[0]).dtype == torch.float32


def test_a_solver_keeps_its_precision() -> None:
    accurate = make_solver("fp32")
    rough = make_solver("bf16")
    for solver, dtype in ((accurate, torch.float32), (rough, torch.bfloat16)):
        outputs: list[torch.dtype] = []
        solver.net.layers["fc"].register_forward_hook(lambda layer, bottoms, top, to=outputs: to.append(top.dtype))
        solver.step(1)
        assert outputs == [dtype]
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        make_solver("fp8")
