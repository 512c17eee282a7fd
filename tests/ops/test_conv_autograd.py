"""What a convolution keeps for its gradients, and the gradients themselves by hand."""

import pytest
import torch
from torch import Tensor

from caffe_compat.ops import conv


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


@pytest.mark.parametrize(("wanted", "kept"), [("w", "x"), ("x", "w"), ("xw", "wx"), ("b", "")])
def test_only_what_the_wanted_gradients_need_is_kept(wanted: str, kept: str) -> None:
    """A frozen weight keeps no activations alive."""
    tensors = dict(zip("xwb", operands(), strict=True))
    for name in wanted:
        tensors[name].requires_grad_()
    seen: set[str] = set()

    def note(tensor: Tensor) -> Tensor:
        seen.update(name for name, given in tensors.items() if given.data_ptr() == tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        conv(*tensors.values())
    assert seen == set(kept)
