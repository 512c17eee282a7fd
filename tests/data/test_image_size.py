"""Images that say too much of themselves."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from caffe_compat.data.image_size import check_image_size
from caffe_compat.errors import DataError


def png_head(height: int, width: int, colour_type: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def jpeg_head(height: int, width: int, channels: int = 3) -> bytes:
    small = cv2.imencode(".jpg", np.zeros((8, 8) if channels == 1 else (8, 8, 3), np.uint8))[1].tobytes()
    place = small.index(b"\xff\xc0") + 5
    return small[:place] + struct.pack(">HH", height, width) + small[place + 4 :]


@pytest.mark.parametrize(
    ("data", "color", "message"),
    [
        (
            jpeg_head(65500, 65500),
            True,
            r"^x: its head says 65500x65500 with 3 channels .*, 12870750000 values; expected",
        ),
        (jpeg_head(65500, 65500), False, r"with 1 channels .*, 4290250000 values; expected at most 2147483647"),
        (jpeg_head(20000, 20000), None, r"^x: \d+ bytes whose head says 20000x20000, 1144 MiB; refused"),
        (jpeg_head(20000, 20000, 1), None, r"^x: \d+ bytes whose head says 20000x20000, 381 MiB; refused"),
        (png_head(100000, 100000, 2), None, r"its head says 100000x100000 with 3 channels"),
        (png_head(12000, 12000, 3), True, r"head says 12000x12000, 411 MiB; refused"),
        (png_head(2**31 - 1, 2**31 - 1, 6), None, r"with 4 channels"),
    ],
)
def test_too_large(data: bytes, color: bool | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_image_size(memoryview(data), color, "x")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_real_images_pass(suffix: str) -> None:
    blank = cv2.imencode(suffix, np.zeros((3000, 3000, 3), np.uint8))[1].tobytes()  # packs as well as any image can
    check_image_size(memoryview(blank), None, "x")
    for cut in range(0, 200, 7):
        check_image_size(memoryview(blank[:cut]), None, "x")


def test_large_images_in_files_of_a_fitting_size_pass() -> None:
    check_image_size(memoryview(jpeg_head(12000, 12000) + bytes(2_000_000)), True, "x")
