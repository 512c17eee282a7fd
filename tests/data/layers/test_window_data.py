"""WindowData beyond its golden cases."""

from pathlib import Path

import cv2
import pytest

from caffe_compat import random
from caffe_compat.errors import DataError
from tests.data.conftest import MakeLayer, noise_images, same


def write_windows(folder: Path, text: str | None = None) -> str:
    cv2.imwrite(str(folder / "image.png"), noise_images(1, (3, 30, 40))[0].transpose(1, 2, 0).copy())
    default = "# 0\nimage.png\n3 \n30\n40\n3\n2 0.9 5 5 20 20\n1 0.1 0 0 39 29\n1 0.55 3 3 9 9\n"
    (folder / "windows.txt").write_text(default if text is None else text)
    return (
        f"type: 'WindowData' top: 'data' top: 'label' window_data_param {{ source: '{folder}/windows.txt' root_folder: "
        f"'{folder}/' batch_size: 8 fg_threshold: 0.6 bg_threshold: 0.5 context_pad: 2 crop_mode: 'square' }} "
        "transform_param { crop_size: 12 mirror: true }"
    )


def test_window_data_share_and_resume(tmp_path: Path, make_layer: MakeLayer) -> None:
    random.set_seed(2)
    layer = make_layer(write_windows(tmp_path))
    data, label = layer.next_batch()
    assert data.shape == (8, 3, 12, 12)
    assert label.tolist() == [0] * 6 + [2] * 2
    state = layer.source_state()
    expected = [layer.next_batch() for _ in range(3)]
    layer.load_source_state(state)
    assert all(same(layer.next_batch(), batch) for batch in expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "windows.txt: is empty"),
        ("# 1\nimage.png\n", "windows.txt:1: image 0: expected `# 0`"),
        ("# 0\nimage.png\n3\n30\n40\n1\n2 0.9 5 5 20\n", "lines of 6 numbers"),
        ("# 0\nimage.png\n3\n30\n40\n1\n2 0.9 5 5 20 20\n", "no background windows"),
    ],
)
def test_window_file_errors(tmp_path: Path, make_layer: MakeLayer, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_layer(write_windows(tmp_path, text))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("20 20 5 5", r"image.png: window \[20, 20, 5, 5\] is x1 y1 x2 y2; x2 < x1 or y2 < y1"),
        ("5 5 4 20", r"window \[5, 5, 4, 20\] is x1 y1 x2 y2"),
        ("900 900 950 950", r"window \[900, 900, 950, 950\] is empty, or outside the image"),
        ("-900 -900 -890 -890", r"is empty, or outside the image"),
    ],
)
@pytest.mark.parametrize("mode", ["square", "warp"])
def test_windows_that_are_none(tmp_path: Path, make_layer: MakeLayer, window: str, message: str, mode: str) -> None:
    text = write_windows(tmp_path, f"# 0\nimage.png\n3\n30\n40\n2\n2 0.9 {window}\n1 0.1 0 0 39 29\n")
    text = text.replace("square", mode).replace("context_pad: 2", f"context_pad: {2 if mode == 'square' else 0}")
    with pytest.raises(DataError, match=message):
        make_layer(text).next_batch()
