"""Copies of parameters in bfloat16: where they come from, and when they are made anew."""

import threading

import pytest
import torch

from caffe_compat.ops.rounded import RoundedCopies, rounded

BF16 = torch.bfloat16


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))))


def test_without_copies_each_use_rounds() -> None:
    weight = parameter(3, 4)
    first, second = rounded(weight, BF16), rounded(weight, BF16)
    assert torch.equal(first, weight.detach().to(BF16))
    assert first.data_ptr() != second.data_ptr()
    assert not first.requires_grad
    assert rounded(weight, torch.float32).data_ptr() == weight.data_ptr()


def test_a_copy_is_made_once_in_its_parameters_layout() -> None:
    copies, weight = RoundedCopies(), parameter(2, 3, 4, 5)
    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        with copies.in_force():
            copy = rounded(weight, BF16)
            assert copy is copies.tensors[weight]
            assert rounded(weight, torch.float16).dtype == torch.float16
    assert copy.stride() == weight.stride()
    assert torch.equal(copy, weight.detach().to(BF16))
    with copies.in_force():
        assert rounded(parameter(3).double(), BF16) is not None
    assert list(copies.tensors) == [weight]


@pytest.mark.parametrize("undisturbed", [False, True])
def test_refresh_finds_what_the_counter_shows_and_the_rest_unless_told(undisturbed: bool) -> None:
    """Writes through .data leave the counter as it is: only who says that nobody else ran may leave them out."""
    copies, seen, hidden = RoundedCopies(), parameter(3), parameter(3, 4)
    with copies.in_force():
        rounded(seen, BF16), rounded(hidden, BF16)
    places = [copies.tensors[p].data_ptr() for p in (seen, hidden)]
    before = copies.tensors[hidden].clone()
    with torch.no_grad():
        seen.fill_(3)
    hidden.data.fill_(4)
    copies.refresh(undisturbed=undisturbed)
    assert torch.equal(copies.tensors[seen], torch.full((3,), 3, dtype=BF16))
    assert torch.equal(copies.tensors[hidden], before if undisturbed else torch.full((3, 4), 4, dtype=BF16))
    assert [copies.tensors[p].data_ptr() for p in (seen, hidden)] == places
    hidden.data = torch.full((3, 4), 5.0)  # other memory, the same counter
    copies.refresh(undisturbed=True)
    assert torch.equal(copies.tensors[hidden], torch.full((3, 4), 5, dtype=BF16))


def test_what_is_written_in_a_pass_has_no_copy() -> None:
    copies, weight = RoundedCopies(), parameter(3)
    with copies.in_force():
        rounded(weight, BF16)
        with torch.no_grad():
            weight.mul_(2)
        assert torch.equal(rounded(weight, BF16), weight.detach().to(BF16))
    assert not copies.tensors
    with copies.in_force():
        assert torch.equal(rounded(weight, BF16), weight.detach().to(BF16))
    assert not copies.tensors


def test_a_closed_set_takes_no_more() -> None:
    copies, weight = RoundedCopies(), parameter(3)
    copies.open = False
    with copies.in_force():
        assert torch.equal(rounded(weight, BF16), weight.detach().to(BF16))
    assert not copies.tensors
    copies.clear()
    with copies.in_force():
        assert rounded(weight, BF16) is copies.tensors[weight]


def test_copies_are_in_force_in_their_own_thread_and_block() -> None:
    copies, weight, other = RoundedCopies(), parameter(3), []
    with copies.in_force():
        copy = rounded(weight, BF16)
        thread = threading.Thread(target=lambda: other.append(rounded(weight, BF16)))
        thread.start()
        thread.join()
    assert other[0] is not copy
    assert rounded(weight, BF16) is not copy
