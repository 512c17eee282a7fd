"""Colours on light and on dark ground: how far they stand out, and what stands for them where it is dark."""

from colorsys import hls_to_rgb, rgb_to_hls
from functools import cache

LIGHT, DARK = "#ffffff", "#14171c"
BLACK, BLACK_ON_DARK = "#000000", "#e6e8eb"
#: of lines and signs to their ground (WCAG 2.2, 1.4.11), and a margin
LEAST_CONTRAST = 4.5


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours ``#rrggbb``, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance, from 0 to 1 (WCAG 2.2, from sRGB)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _parts(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@cache
def on_dark(colour: str) -> str:
    """What stands for a colour on dark ground: as much lighter as it takes; for black and white the other."""
    if colour in (LIGHT, BLACK):
        return DARK if colour == LIGHT else BLACK_ON_DARK
    hue, lightness, saturation = rgb_to_hls(*_parts(colour))
    while contrast(colour, DARK) < LEAST_CONTRAST:
        lightness = min(1.0, lightness + 0.02)
        colour = "#" + "".join(f"{round(255 * c):02x}" for c in hls_to_rgb(hue, lightness, saturation))
    return colour


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
