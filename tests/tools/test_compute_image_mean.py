import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.cli import main
from caffe_compat.proto import caffe_pb2

GOLDEN = Path(__file__).parent.parent / "golden" / "tool"


@pytest.mark.parametrize("name", ["compute_mean", "compute_mean_big"])
def test_equals_caffe_s_mean(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """To the bit, in the 4-axis form that every Caffe reads."""
    assert json.loads((GOLDEN / name / "case.json").read_text())["args"] == ["db", "mean.binaryproto"]
    out = tmp_path / "mean.binaryproto"
    assert main(["compute_image_mean", str(GOLDEN / name / "db"), str(out)]) == 0
    expected = np.load(GOLDEN / name / "expected.npz")["mean"]
    blob = caffe_pb2.BlobProto()
    blob.ParseFromString(out.read_bytes())
    assert (blob.num, blob.channels, blob.height, blob.width) == expected.shape
    assert (np.array(blob.data, np.float32).reshape(expected.shape) == expected).all()
    printed = capfd.readouterr().err
    assert "Number of channels: 3" in printed
    assert f"mean_value channel [2]: {expected[0, 2].mean():.3f}"[:-2] in printed


def test_missing_database(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compute_image_mean", str(tmp_path / "absent")]) == 1
    assert "absent: no such database" in capfd.readouterr().err


def test_few_images_wait_for_no_torch(tmp_path: Path) -> None:
    words = ["compute_image_mean", str(GOLDEN / "compute_mean" / "db"), str(tmp_path / "mean.binaryproto")]
    code = (
        f"import sys\nfrom caffe_compat.cli import main\nassert main({words}) == 0\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
