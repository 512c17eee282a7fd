"""examples/digits.py: the images, and a net whose deploy and training forms have the same layers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.proto import read_net
from tests.examples.run_example import ROOT

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import digits
out = Path(sys.argv[1])
digits.train(out, iterations=2)
first, labels = digits.images(per_class=2, seed=5)
again, _ = digits.images(per_class=2, seed=5)
other, _ = digits.images(per_class=2, seed=6)
letters, of_letters = digits.images(per_class=1, seed=5, classes=range(10, 14))
np.savez(out / "images.npz", first=first, again=again, other=other, labels=labels, of_letters=of_letters,
         rgb=digits.to_rgb(first))
"""


@pytest.mark.slow
def test_images_and_net(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    path = f"{ROOT / 'examples'}:{ROOT}"
    subprocess.run(command, env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, check=True)
    made = np.load(tmp_path / "images.npz")
    assert made["first"].shape == (20, 3, 32, 32)
    assert made["first"].dtype == np.uint8
    np.testing.assert_array_equal(made["first"], made["again"])
    assert (made["first"] != made["other"]).any()
    assert made["labels"].tolist() == [*range(10), *range(10)]
    assert made["of_letters"].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(made["rgb"][0, :, :, 0], made["first"][0, 2])
    layers = [
        [layer.name for layer in read_net(tmp_path / f"{name}.prototxt").layer] for name in ("digits_train", "deploy")
    ]
    assert layers[0][2:-1] == layers[1][1:-1]
    assert layers[1][-1] == "prob"
