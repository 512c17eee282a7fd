"""The state of a run, taken and given back without files."""

import random as python_random

import numpy as np
import pytest
import torch

from caffe_compat import random
from caffe_compat.errors import SolverError
from tests.solver.conftest import MakeSolver, assert_same_bits, weights


def test_a_run_goes_on_from_a_state(make_solver: MakeSolver) -> None:
    """Another solver with the weights and both parts of the state ends with the same bits."""
    first = make_solver(snapshot=0)
    first.step(5)
    first.net.save("weights.caffemodel")
    snapshot, state = first.state.solver_snapshot("weights.caffemodel"), first.state.state()
    assert (snapshot.iter, snapshot.learned_net, snapshot.current_step) == (5, "weights.caffemodel", 0)
    assert list(state) == ["sources", "random", "losses", "buffers"]
    first.state.load_state(state)  # as in a resumed run, the window goes on
    first.step(4)

    second = make_solver(snapshot=0)
    second.net.copy_from("weights.caffemodel")
    second.state.check_solver_snapshot(snapshot, "here")
    second.state.load_solver_snapshot(snapshot)
    second.state.load_state(state)
    assert second.iter == 5
    second.step(4)
    assert second.iter == first.iter == 9
    assert_same_bits(weights(first), weights(second))
    assert first.smoothed.get_state() == second.smoothed.get_state()


def test_random_states_are_all_there(make_solver: MakeSolver) -> None:
    solver = make_solver()
    state = solver.state.state()

    def draw() -> tuple[int, float, float, float]:
        return random.generator().raw(), torch.rand(()).item(), python_random.random(), np.random.rand()

    expected = draw()
    assert draw() != expected
    solver.state.load_state(state)
    assert draw() == expected


def test_a_window_is_kept_once_after_an_exact_resume(make_solver: MakeSolver) -> None:
    solver = make_solver()
    solver.smoothed.add(torch.tensor(2.0))
    solver.state.load_state(solver.state.state())
    solver.state.start_window()
    assert solver.smoothed.get_state() == [2.0]
    solver.state.start_window()
    assert solver.smoothed.get_state() == []


def test_histories_with_four_axes_fit(make_solver: MakeSolver) -> None:
    """Caffe before BlobShape wrote them so."""
    solver = make_solver()
    snapshot = solver.state.solver_snapshot("")
    shapes = [h.shape for h in snapshot.history]
    snapshot.history = [h.reshape((1,) * (4 - h.ndim) + h.shape) for h in snapshot.history]
    solver.state.check_solver_snapshot(snapshot, "here")
    assert [h.shape for h in snapshot.history] == shapes
    snapshot.history[1] = np.zeros((2, 2), np.float32)
    with pytest.raises(SolverError, match=r'^here: history 1 has shape \(2, 2\), param 1 of layer "conv" '):
        solver.state.check_solver_snapshot(snapshot, "here")
    snapshot.history.pop()
    with pytest.raises(SolverError, match=r"^here: has 3 history blobs; SGD on the net .* needs 4"):
        solver.state.check_solver_snapshot(snapshot, "here")


def test_what_is_no_state_is_refused_with_its_place(make_solver: MakeSolver) -> None:
    solver = make_solver()
    for key in ("random", "losses", "sources"):
        state = solver.state.state()
        state[key] = [[{}]] if key == "sources" else {}
        if key == "losses":
            del state[key]
        with pytest.raises(SolverError, match=r"^a\.resume: cannot be used: .*; remove it to resume as Caffe does$"):
            solver.state.load_state(state, "a.resume")
    state = solver.state.state()
    state["random"]["numpy"][1] = 0.5
    with pytest.raises(SolverError, match=r"^a\.resume: cannot be used: .*'float' object has no attribute 'numpy'"):
        solver.state.load_state(state, "a.resume")


def test_a_buffer_that_is_gone_is_said(make_solver: MakeSolver) -> None:
    solver = make_solver()
    state = solver.state.state()
    state["buffers"][0]["lstm.last_h"] = torch.ones(2)
    assert solver.state.load_state(state) == ["net.prototxt: has no lstm.last_h; it is left out"]
