"""The fake recorder shows what a CUDA graph would do wrong."""

import pytest
import torch
from torch import Tensor

from tests.solver.tape_recorder import TapeRecorder


def test_recording_changes_nothing_and_a_replay_does_it_again() -> None:
    x, made = torch.ones(3), list[Tensor]()

    def work() -> None:
        x.add_(1)
        made.append(x * 2)

    replay = TapeRecorder().record(work)
    assert torch.equal(x, torch.ones(3))
    assert made[0].isnan().all()
    replay()
    replay()
    assert torch.equal(x, torch.full((3,), 3.0))
    assert len(made) == 1
    assert torch.equal(made[0], torch.full((3,), 6.0))


def test_numbers_of_the_host_stay_and_those_of_the_device_are_read() -> None:
    x, rate, number = torch.ones(1), torch.ones(1), 1.0

    def work() -> None:
        x.copy_(rate + number)

    replay = TapeRecorder().record(work)
    rate.fill_(10)
    number = 100.0
    replay()
    assert x.item() == 11


def test_no_value_is_looked_at() -> None:
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        TapeRecorder().record(lambda: print(torch.ones(1).item()))


def test_gradients_are_written_where_they_were() -> None:
    x = torch.ones(2, requires_grad=True)

    def work() -> None:
        x.grad = None
        (x * x).sum().backward()

    replay = TapeRecorder().record(work)
    place = x.grad
    x.grad = None
    replay()
    assert x.grad is None
    assert place is not None
    assert torch.equal(place, torch.full((2,), 2.0))


def test_what_nobody_holds_is_lost() -> None:
    x, held = torch.ones(2), dict[str, Tensor]()

    def work() -> None:
        held["kept"] = x + 1
        held["gone"] = x + 2

    replay = TapeRecorder().record(work)
    gone = held.pop("gone").numpy()  # its memory alone
    replay()
    assert torch.equal(held["kept"], torch.full((2,), 2.0))
    assert torch.from_numpy(gone).isnan().all()
