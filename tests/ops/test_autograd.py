"""csrc/autograd: what an operator keeps for its gradients, and which of them it computes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from caffe_compat.ops import conv, fast_conv, linear, lrn, max_pool, relu_pool_lrn

WINDOW = ((2, 2), (2, 2), (0, 0), (2, 2))  # kernel, stride, padding, size of the output


def operands() -> tuple[Tensor, Tensor, Tensor]:
    """One channel, one filter: small enough for a pencil."""
    return torch.tensor([[[[1.0, -2.0, 3.0]]]]), torch.tensor([[[[2.0, 1.0]]]]), torch.tensor([-1.0])


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_by_hand(relu: bool) -> None:
    x, w, b = (t.requires_grad_() for t in operands())
    y = conv(x, w, b, relu=relu)
    assert y.flatten().tolist() == ([0, 0] if relu else [-1, -2])  # 2 - 2 - 1, -4 + 3 - 1
    y.backward(torch.tensor([[[[1.0, 10.0]]]]))
    assert x.grad is not None
    assert w.grad is not None
    assert b.grad is not None
    scale = 0 if relu else 1  # both outputs are cut
    assert x.grad.flatten().tolist() == [2 * scale, 21 * scale, 10 * scale]
    assert w.grad.flatten().tolist() == [-19 * scale, 28 * scale]
    assert b.grad.tolist() == [11 * scale]


@pytest.mark.parametrize("operator", [conv, fast_conv])
@pytest.mark.parametrize(("wanted", "kept"), [("w", "x"), ("x", "w"), ("xw", "wx"), ("b", "")])
def test_only_what_the_wanted_gradients_need_is_kept(operator: Callable[..., Tensor], wanted: str, kept: str) -> None:
    """A frozen weight keeps no activations alive."""
    tensors = dict(zip("xwb", operands(), strict=True))
    for name in wanted:
        tensors[name].requires_grad_()
    seen: set[str] = set()

    def note(tensor: Tensor) -> Tensor:
        seen.update(name for name, given in tensors.items() if given.data_ptr() == tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        operator(*tensors.values())
    assert seen == set(kept)


OPERATORS: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "lrn": (lrn, [(1, 6, 4, 4)]),
    "max_pool": (lambda x: max_pool(x, *WINDOW), [(1, 2, 4, 4)]),
    "relu_pool_lrn": (lambda x: relu_pool_lrn(x, *WINDOW), [(1, 6, 4, 4)]),
    "linear": (linear, [(3, 5), (2, 5), (2,)]),
    "conv": (conv, [(1, 4, 4, 4), (2, 4, 3, 3), (2,)]),
    "fast_conv": (fast_conv, [(1, 4, 4, 4), (2, 4, 3, 3), (2,)]),
}


def leaves_of(name: str) -> list[Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(3)) for shape in OPERATORS[name][1]]


@pytest.mark.parametrize("name", OPERATORS)
def test_each_gradient_alone_is_that_of_all_together(name: str) -> None:
    operator, _ = OPERATORS[name]
    leaves = [leaf.requires_grad_() for leaf in leaves_of(name)]
    together = torch.autograd.grad(operator(*leaves).square().sum(), leaves)
    for place, expected in enumerate(together):
        alone = [leaf.detach().requires_grad_(index == place) for index, leaf in enumerate(leaves)]
        operator(*alone).square().sum().backward()
        assert [leaf.grad is not None for leaf in alone] == [index == place for index in range(len(alone))]
        assert torch.equal(alone[place].grad, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OPERATORS)
def test_no_record_without_need(name: str) -> None:
    operator, _ = OPERATORS[name]
    leaves = leaves_of(name)
    assert operator(*leaves).grad_fn is None
    with torch.no_grad():
        assert operator(*(leaf.requires_grad_() for leaf in leaves)).grad_fn is None
    assert operator(*leaves).grad_fn is not None


def test_what_is_kept_is_freed_behind_the_backward_pass() -> None:
    x = leaves_of("lrn")[0].requires_grad_()
    y = lrn(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


def test_a_changed_input_is_noticed() -> None:
    x = leaves_of("lrn")[0].requires_grad_()
    middle = x * 1
    y = lrn(middle)
    middle.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", OPERATORS)
def test_forward_mode_is_refused(name: str) -> None:
    """A tangent is not lost in silence."""
    operator, _ = OPERATORS[name]
    first, *others = leaves_of(name)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="jvp is not implemented"):
        operator(forward_ad.make_dual(first, torch.ones_like(first)), *others)
