"""What the head of a PNG or JPEG file says of its size, so that no memory is taken for an image that lies."""

import struct

from caffe_compat.errors import DataError

MAX_VALUES = 2**31 - 1  # of a blob, as in Caffe
_LARGE_BYTES = 1 << 27  # a decoded image above this has to come from a file of some size
_LARGEST_RATIO = 500  # decoded to stored; photographs have 10, line drawings 100, bombs 1000

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 4, 6: 4}  # by colour type, as OpenCV decodes
_START_OF_FRAME = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}


def check_image_size(data: memoryview, color: bool | None, name: str) -> None:
    """DataError when the image would have more values than a blob, or is a bomb: a small file that decodes to much."""
    size = _png_size(data) or _jpeg_size(data)
    if size is None:
        return
    height, width, channels = size
    channels = channels if color is None else 3 if color else 1
    values = height * width * channels
    if values > MAX_VALUES:
        raise DataError(
            f"{name}: its head says {height}x{width} with {channels} channels (height x width), {values} values; "
            f"expected at most {MAX_VALUES}, as in Caffe"
        )
    if values > _LARGE_BYTES and values > _LARGEST_RATIO * len(data):
        raise DataError(
            f"{name}: {len(data)} bytes whose head says {height}x{width}, {values >> 20} MiB; refused: no image packs "
            f"{_LARGEST_RATIO} times as much"
        )


def _png_size(data: memoryview) -> tuple[int, int, int] | None:
    """(height, width, channels); None for what is no PNG."""
    if len(data) < 26 or data[:8] != _PNG:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width, _PNG_CHANNELS.get(data[25], 4)


def _jpeg_size(data: memoryview) -> tuple[int, int, int] | None:
    """(height, width, channels) of the first frame; None for what is no JPEG, or ends before it."""
    if data[:2] != _JPEG:
        return None
    place = 2
    while place + 9 < len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return height, width, 1 if data[place + 9] == 1 else 3
        if marker == 0xFF:
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
