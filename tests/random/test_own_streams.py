"""Two that take turns draw what each would draw alone."""

import random as python_random

import numpy as np
import pytest
import torch

from caffe_compat import random
from caffe_compat.random.own_streams import OwnStreams


def draw() -> tuple[float, ...]:
    return random.generator().raw(), float(torch.rand(())), float(np.random.rand()), python_random.random()


def seed(number: int) -> None:
    random.set_seed(number)
    torch.manual_seed(number)
    np.random.seed(number)
    python_random.seed(number)


def test_in_turns_as_alone() -> None:
    with random.scope(), torch.random.fork_rng(devices=[]):
        alone = []
        for number in (1, 2):
            seed(number)
            alone.append([draw() for _ in range(3)])
        seed(3)
        first = draw()
        both = [OwnStreams(torch.device("cpu")) for _ in range(2)]
        for number, streams in enumerate(both, 1):
            with streams.in_force():
                assert not random.is_seeded()
                seed(number)
        turns: list[list[tuple[float, ...]]] = [[], []]
        for _ in range(3):
            for streams, drawn in zip(both, turns, strict=True):
                with streams.in_force():
                    assert random.is_seeded()
                    drawn.append(draw())
        assert turns == alone
        behind = draw()
        seed(3)
        assert [first, behind] == [draw(), draw()]  # the process's own went on where they stood


def test_an_error_gives_the_process_its_streams_back() -> None:
    with random.scope(seed=1):
        expected = random.CaffeGenerator(1).raw()
        with pytest.raises(ValueError, match="enough"), OwnStreams(torch.device("cpu")).in_force():
            raise ValueError("enough")
        assert random.generator().raw() == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cudas_generator_takes_turns_too() -> None:
    device = torch.device("cuda")
    torch.cuda.manual_seed(1)
    alone = [float(torch.rand((), device=device)) for _ in range(3)]
    torch.cuda.manual_seed(1)
    streams, drawn = OwnStreams(device), []
    for _ in range(3):
        with streams.in_force():
            drawn.append(float(torch.rand((), device=device)))
        torch.rand(5, device=device)
    assert drawn == alone
