"""Work in turns: the same as at once."""

import torch

from caffe_compat.random.own_streams import OwnStreams
from caffe_compat.solver.turns import Turns, take_all
from tests.solver.conftest import MakeSolver, train


def test_what_the_turns_return() -> None:
    taken: list[int] = []

    def work() -> Turns[str]:
        for number in range(3):
            taken.append(number)
            yield
        return "done"

    assert take_all(work()) == "done"
    assert taken == [0, 1, 2]


def test_two_solvers_side_by_side_train_as_each_alone(make_solver: MakeSolver) -> None:
    """A turn is an iteration or a batch of a test."""
    alone = []
    for seed in (1, 2):
        solver, lines = train(make_solver, max_iter=4, random_seed=seed)
        alone.append((solver.net.params["ip"][0].detach().clone(), [line for line in lines if "loss" in line]))
    own = [OwnStreams(torch.device("cpu")) for _ in range(2)]
    solvers = []
    for seed, streams in zip((1, 2), own, strict=True):
        with streams.in_force():
            solvers.append(make_solver(max_iter=4, random_seed=seed, snapshot_prefix=f"side{seed}"))
    turns = [solver.solve_in_turns() for solver in solvers]
    where: list[list[int]] = [[], []]
    while any(not seen or seen[-1] >= 0 for seen in where):
        for streams, work, seen in zip(own, turns, where, strict=True):
            with streams.in_force():
                seen.append(next(work, -1))
    batches = solvers[0].param.test_iter[0]
    assert where[0] == where[1] == [0] * batches + [1, 2, 3, 4] + [4] * batches + [-1]
    for solver, (weights, _) in zip(solvers, alone, strict=True):
        assert torch.equal(solver.net.params["ip"][0], weights)
