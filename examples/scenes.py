"""Larger images with digits of several sizes in them, and what a detector's training takes from them.

Boxes are (left, top, side): squares in pixels, a little larger than the digit.
"""

import cv2
import numpy as np
from digits import SIZE_PX

from reproduce.datasets.glyphs import FONTS, glyph_masks

HEIGHT, WIDTH, CELL_PX = 192, 256, 64  # one digit at most in each cell
SIDE_PX = (36, 60)
NONE = 10  # the class of a crop that shows no digit
GOOD, BAD = 0.65, 0.5  # a crop that overlaps a digit's box by so much shows it; by less than BAD it does not

MASKS = glyph_masks()


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (H, W, 3) uint8, BGR, the boxes (N, 3) of its digits, and their labels (N,)."""
    ramp = np.linspace(-1, 1, WIDTH)[:, None] * rng.uniform(-20, 20, 3)
    image = np.tile(rng.uniform(20, 60, 3) + ramp, (HEIGHT, 1, 1))
    boxes, labels = [], []
    for top in range(0, HEIGHT, CELL_PX):
        for left in range(0, WIDTH, CELL_PX):
            if rng.random() < 0.4:
                continue
            side, label = int(rng.integers(*SIDE_PX)), int(rng.integers(10))
            x, y = left + rng.integers(CELL_PX - side), top + rng.integers(CELL_PX - side)
            mask = MASKS[rng.integers(len(FONTS))][label]
            height = round(0.65 * side)
            mask = cv2.resize(mask, (max(1, round(height * mask.shape[1] / mask.shape[0])), height))
            down, right = y + (side - height) // 2, x + (side - mask.shape[1]) // 2
            part = image[down : down + height, right : right + mask.shape[1]]
            part += (rng.uniform(140, 255, 3) - part) * (mask[..., None] / 255)
            boxes.append((x, y, side))
            labels.append(label)
    image += rng.uniform(0, 12) * rng.standard_normal(image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), np.array(boxes, float).reshape(-1, 3), np.array(labels)


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with each of ``boxes``."""
    first = np.maximum(box[:2], boxes[:, :2])
    last = np.minimum(box[:2] + box[2], boxes[:, :2] + boxes[:, 2:])
    common = np.prod(np.clip(last - first, 0, None), axis=1)
    return np.asarray(common / (box[2] ** 2 + boxes[:, 2] ** 2 - common))


def crops(image: np.ndarray, boxes: np.ndarray, size_px: int = SIZE_PX) -> np.ndarray:
    """What lies in the boxes, resized: (N, 3, size, size) uint8."""
    cut = np.empty((len(boxes), 3, size_px, size_px), np.uint8)
    for target, (left, top, side) in zip(cut, boxes, strict=True):
        centre = (left + side / 2 - 0.5, top + side / 2 - 0.5)
        patch = cv2.getRectSubPix(image, (round(side), round(side)), centre)  # edges are repeated beyond the image
        target[...] = cv2.resize(patch, (size_px, size_px), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    return cut


def samples(rng: np.random.Generator, scenes: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (N, 3, 32, 32) and labels from 0 to 10 for training: digits a little off, far off, and background."""
    pixels, labels = [], []
    for _ in range(scenes):
        image, truth, classes = scene(rng)
        near, far = np.repeat(truth, 8, axis=0), np.repeat(truth, 16, axis=0)
        for boxes, shift, growth in ((near, 0.1, 0.15), (far, 0.6, 0.6)):
            centres = boxes[:, :2] + boxes[:, 2:] * (0.5 + rng.uniform(-shift, shift, (len(boxes), 2)))
            boxes[:, 2] *= np.exp(rng.uniform(-growth, growth, len(boxes)))
            boxes[:, :2] = centres - boxes[:, 2:] / 2
        anywhere = np.column_stack([rng.uniform(0, WIDTH, 12), rng.uniform(0, HEIGHT, 12), rng.uniform(30, 70, 12)])
        boxes = np.vstack([near, far, anywhere])
        for box, crop in zip(boxes, crops(image, boxes), strict=True):
            overlaps = overlap(box, truth)
            best = overlaps.max(initial=0)
            if best > GOOD or best < BAD:
                pixels.append(crop)
                labels.append(classes[overlaps.argmax()] if best > GOOD else NONE)
    return np.array(pixels), np.array(labels)
