"""What the paths compute, and in which precision; those that are plain PyTorch run on the CPU as well."""

import pytest
import torch

from caffe_compat.ops import conv_choice
from caffe_compat.ops.conv import reference
from caffe_compat.precision import use_precision
from tests.ops.conv_cases import CONV_CASES, ConvCase
from tests.ops.switches import Switches
from tests.ops.test_conv import FLOAT64_TOLERANCE, close, convert, forward_backward, make_arguments


def run_path(
    name: str, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, case: ConvCase
) -> tuple[torch.Tensor, ...]:
    """Output, output with ReLU and the gradients of input and weight, as the CUDA side of the operators runs them."""
    window = case.window()
    with conv_choice.use_path(name):
        y, cut = (conv_choice.conv_on_cuda(x, weight, bias, window, relu=relu) for relu in (False, True))
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        dy = dy.to(y).contiguous(
            memory_format=torch.channels_last if not y.is_contiguous() else torch.contiguous_format
        )
        dx = conv_choice.conv_input_grad_on_cuda(dy, weight, case.input[2:], window)
        dw = conv_choice.conv_weight_grad_on_cuda(dy, x, case.kernel, window)
    return y, cut, dx, dw


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["cudnn", "cudnn_split", "caffe"])
def test_paths_equal_the_twin(name: str, channels_last: bool) -> None:
    for case in CONV_CASES:
        x, weight, bias = make_arguments(case, torch.device("cpu"))
        expected = forward_backward(reference, (x, weight, bias), case)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        y, cut, dx, dw = run_path(name, x, weight, bias, case)
        for actual, wanted in zip((y, dx, dw), expected, strict=False):
            assert close(actual, wanted, FLOAT64_TOLERANCE), case
        assert torch.equal(cut, y.relu())
        for result, source in ((y, x), (dx, y)):
            assert result.is_contiguous() == source.is_contiguous() or 1 in result.shape[1:], case


@pytest.mark.parametrize(("name", "switch"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "tf32")])
def test_the_precision_in_force_counts_in_both_passes(name: str, switch: str) -> None:
    """Not PyTorch's switches, which take TF32 for convolutions by default."""
    x, weight, bias = convert(make_arguments(CONV_CASES[0], torch.device("cpu")), torch.float32)
    with Switches() as switches, use_precision(name):
        run_path("cudnn", x, weight, bias, CONV_CASES[0])
        assert conv_choice.precision_name(torch.float32) == ("fp32" if name == "fp32" else "tf32")
    assert switches.seen == [("forward", switch)] * 2 + [("backward", switch)] * 2
    with Switches() as switches, torch.backends.cudnn.flags(allow_tf32=True):
        run_path("cudnn", x, weight, bias, CONV_CASES[0])
    assert {seen for _, seen in switches.seen} == {"ieee"}
    assert conv_choice.precision_name(torch.float32) == "fp32"
