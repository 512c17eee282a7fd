"""Colour images of letters and digits, drawn from the fonts that matplotlib ships.

62 classes (0-9, A-Z, a-z), 32x32 pixels: random font, size, place, rotation, colours, a shaded
background and noise.  Every run draws the same images.
"""

import string
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.errors import DataError
from reproduce.dataset import LoadedDataSet
from reproduce.images import ArrayImages

CLASSES = string.digits + string.ascii_uppercase + string.ascii_lowercase
#: digits and capitals; against small letters they have less in common than random halves
NATURAL = tuple(range(36))
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
SIZE_PX = 32
FONT_PX = 40  # glyphs are drawn at this size once, then scaled down
PER_CLASS = {"train": 6, "valid": 50}
SEEDS = {"train": 1, "valid": 2}

SCALE = (0.6, 0.85)
ROTATION_DEGREES = 15
SHIFT_PX = 3
PAPER_MOST, INK_LEAST = 60, 140  # of 255, per colour channel
SHADE = 15
NOISE_MOST = 20


class Glyphs(LoadedDataSet):
    """See ``load``."""

    name = "glyphs"
    usage = "glyphs"
    about = "letters and digits, drawn on the spot"
    natural = "digits and capitals / small letters"
    prototxt = "miniature/glyphs"
    size_px = SIZE_PX
    per_class = PER_CLASS

    def load(self, path: str, download: bool) -> ArrayImages:
        """Draws them; DataError when a path is given."""
        if path:
            raise DataError(
                f"--data {self.name}:{path}: the glyphs are drawn, they have no path; use --data {self.name}"
            )
        return load(self.per_class)


DATA_SET = Glyphs()


def load(per_class: dict[str, int] | None = None) -> ArrayImages:
    """Draw the images; ``per_class`` images of each class in each part."""
    counts = per_class or PER_CLASS
    labels = {part: np.arange(count * len(CLASSES)) % len(CLASSES) for part, count in counts.items()}
    pixels = {part: draw(labels[part], SEEDS[part]) for part in counts}
    names = [f"{ord(c):03d}" for c in CLASSES]  # a and A would be one name where case does not count
    return ArrayImages(names, pixels, labels, NATURAL)


def draw(labels: np.ndarray, seed: int) -> np.ndarray:
    """(N, 3, 32, 32) uint8, BGR: one image of the class of each label."""
    rng = np.random.default_rng(seed)
    masks = glyph_masks()
    count = len(labels)
    fonts = rng.integers(len(FONTS), size=count)
    angle = np.deg2rad(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES, count))
    scale = rng.uniform(*SCALE, count)
    centre = SIZE_PX / 2 + rng.uniform(-SHIFT_PX, SHIFT_PX, (count, 2))
    paper = rng.uniform(0, PAPER_MOST, (count, 3))
    ink = rng.uniform(INK_LEAST, 255, (count, 3))
    shade = rng.uniform(-SHADE, SHADE, (count, 2, 3))
    noise = rng.uniform(0, NOISE_MOST, count)
    ramp = np.linspace(-1, 1, SIZE_PX)
    images = np.empty((count, 3, SIZE_PX, SIZE_PX), np.uint8)
    for i, label in enumerate(labels):
        alpha = _place(masks[fonts[i]][label], angle[i], scale[i], centre[i])
        ground = paper[i] + ramp[:, None, None] * shade[i, 0] + ramp[:, None] * shade[i, 1]
        image = ground + (ink[i] - ground) * alpha[..., None]
        image += noise[i] * rng.standard_normal(image.shape)
        images[i] = np.clip(image, 0, 255).transpose(2, 0, 1)
    return images


def _place(mask: np.ndarray, angle: float, scale: float, centre: np.ndarray) -> np.ndarray:
    """The glyph turned, scaled and centred in an image: (32, 32) float64 coverage from 0 to 1."""
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[cos, -sin], [sin, cos]])
    shift = centre - turn @ (np.array(mask.shape[::-1]) / 2)
    matrix = np.column_stack([turn, shift])
    return cv2.warpAffine(mask, matrix, (SIZE_PX, SIZE_PX), flags=cv2.INTER_LINEAR) / 255.0


def glyph_masks() -> list[list[np.ndarray]]:
    """Coverage (H, W) uint8 of each class in each font."""
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    masks = []
    for name in FONTS:
        file = folder / f"{name}.ttf"
        if not file.is_file():
            raise DataError(f"{file}: matplotlib {matplotlib.__version__} lacks this font; install another version")
        font = ImageFont.truetype(str(file), FONT_PX)
        row = []
        for character in CLASSES:
            mask = font.getmask(character)
            row.append(np.array(mask, np.uint8).reshape(mask.size[1], mask.size[0]))
        masks.append(row)
    return masks
