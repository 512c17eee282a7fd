"""What a solver file is refused for, with file and field."""

from pathlib import Path

import pytest

from caffe_compat.errors import CaffeCompatError, SolverError
from caffe_compat.solver import Log, Solver
from tests.solver.conftest import SOLVER

REFUSALS = [
    ("net: ", "xnet: ", CaffeCompatError, "xnet"),
    ('net: "net.prototxt"', "", SolverError, "no train net is given; set exactly one of net, net_param"),
    ("net: ", 'train_net: "a" net: ', SolverError, "net and train_net are given"),
    ('"net.prototxt"', '"gone.prototxt"', CaffeCompatError, "gone.prototxt"),
    ('"step"', '"cosine"', SolverError, 'lr_policy is "cosine"'),
    ("stepsize: 6", "", SolverError, "stepsize is not set"),
    ("max_iter: 12", "max_iter: -1", SolverError, "max_iter is -1; expected at least 0"),
    ("max_iter: 12", "iter_size: 0", SolverError, "iter_size is 0"),
    ("average_loss: 3", "average_loss: 0", SolverError, "average_loss is 0"),
    ("test_iter: 2", "test_iter: -2", SolverError, r"test_iter .* is -2"),
    ("test_interval: 4", "", SolverError, "test_interval is 0 but there are test nets"),
    ("test_iter: 2", "test_iter: 2 test_state { } test_state { }", SolverError, "test_state is given 2 times for 1"),
    (
        "test_iter: 2",
        'test_net: "net.prototxt" test_net: "net.prototxt" test_iter: 1',
        SolverError,
        "test_iter is given",
    ),
    (
        'type: "SGD"',
        'type: "Momentum"',
        SolverError,
        'type is "Momentum"; expected one of AdaDelta, AdaGrad, Adam, Nesterov, RMSProp, SGD',
    ),
    ('type: "SGD"', 'type: "AdaGrad"', SolverError, "momentum is 0.9; AdaGrad takes no momentum"),
    ('type: "SGD" base_lr: 0.05 momentum: 0.9', 'type: "RMSProp" rms_decay: 1.5', SolverError, "rms_decay is 1.5"),
    ('type: "SGD"', 'type: "SGD" regularization_type: "L3"', SolverError, 'regularization_type is "L3"'),
    (
        "max_iter: 12",
        'eval_type: "segmentation"',
        SolverError,
        'eval_type is "segmentation"; expected classif',
    ),
    (
        "max_iter: 12",
        'ap_version: "12point"',
        SolverError,
        'ap_version is "12point"; expected 11point or Max',
    ),
    ('"snap"', '"nowhere/snap"', SolverError, 'cannot write to snapshot_prefix "nowhere/snap"'),
]


@pytest.mark.parametrize(("old", "new", "error", "message"), REFUSALS)
def test_refusals_name_file_and_field(old: str, new: str, error: type[Exception], message: str, job: Path) -> None:
    assert old in SOLVER
    Path("solver.prototxt").write_text(SOLVER.replace(old, new))
    with pytest.raises(error, match=message) as caught:
        Solver("solver.prototxt", log=Log(enabled=False))
    assert "\n" not in str(caught.value)
    assert "prototxt" in str(caught.value)


def test_the_folder_of_the_last_snapshot_is_looked_for_at_the_start(job: Path) -> None:
    Path("solver.prototxt").write_text(SOLVER.replace("snapshot: 3", "").replace('"snap"', '"nowhere/snap"'))
    solver = Solver("solver.prototxt", log=Log(enabled=False))
    with pytest.raises(SolverError, match=r'"nowhere/snap"; make sure that the folder nowhere exists') as caught:
        solver.solve()
    assert solver.iter == 0
    assert str(caught.value).endswith(f"(working directory {job})")
    solver.close()
