import pytest
import torch
from torch.nn import functional

from caffe_compat.layers.shared.geometry import KernelWindow
from caffe_compat.ops import ConvWindow


def test_one_number_is_for_every_axis() -> None:
    assert ConvWindow.per_axis(3, stride=2, groups=4) == ((2, 2, 2), (0, 0, 0), (1, 1, 1), 4)
    assert ConvWindow.per_axis(2, padding=[1, 3]) == ConvWindow((1, 1), (1, 3), (1, 1), 1)
    with pytest.raises(ValueError, match=r"conv: dilation is \(1, 2, 3\); expected one number, or 2"):
        ConvWindow.per_axis(2, dilation=(1, 2, 3))


def test_arguments_and_keywords_come_back() -> None:
    window = ConvWindow.from_arguments([2, 1], [0, 3], [1, 2], 5)
    assert window == ConvWindow((2, 1), (0, 3), (1, 2), 5)
    assert ConvWindow.per_axis(2, **window.keywords()) == window


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_output_size_is_pytorchs(axes: int) -> None:
    window = ConvWindow.per_axis(axes, stride=2, padding=1, dilation=2, groups=2)
    input, weight = (3, 4, *range(7, 7 + axes)), (6, 2, *range(2, 2 + axes))
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    assert (
        window.output_size(input, weight) == function(torch.empty(input), torch.empty(weight), None, *window).shape[2:]
    )


def test_a_kernel_that_does_not_fit_gives_less_than_one() -> None:
    assert ConvWindow.per_axis(2).output_size((1, 1, 3, 4), (1, 1, 4, 4)) == (0, 1)


def test_from_a_layers_window() -> None:
    window = KernelWindow(kernel=(3, 2), stride=(2, 1), pad=(1, 0), dilation=(1, 2))
    assert window.with_groups(2) == ConvWindow((2, 1), (1, 0), (1, 2), 2)
    assert window.extent() == (3, 3)
