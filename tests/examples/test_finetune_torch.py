"""examples/finetune_torch.py: a net that begins with the digits' features learns letters sooner than a new one."""

from pathlib import Path

import pytest
import torch

from caffe_compat import Net
from tests.examples.run_example import number, run_example

TUNED, LEAD = 0.55, 0.1  # seeded: 0.653, and 0.463 from scratch; other processors round otherwise


@pytest.mark.slow
def test_fine_tuning_wins(tmp_path: Path) -> None:
    said = run_example("finetune_torch", tmp_path)
    assert "from the digits: conv1, conv2, fc1; new: score_letters" in said
    tuned = number(r"fine-tuned (\d\.\d+)", said)
    assert tuned >= TUNED
    assert tuned - number(r"from scratch (\d\.\d+)", said) >= LEAD
    # The saved weights fit the net, and are not those of the digits.
    net = Net(tmp_path / "letters.prototxt", tmp_path / "letters.caffemodel", "TEST")
    base = Net(tmp_path / "deploy.prototxt", tmp_path / "digits.caffemodel", "TEST")
    moved = float((net.params["conv1"][0] - base.params["conv1"][0]).detach().abs().max())
    assert 1e-4 < moved < 1
    assert torch.isfinite(net.params["score_letters"][0]).all()
