"""Random parts of an image around its boxes: the ``batch_sampler`` of SSD's AnnotatedData.

Numbers are float32 and come from the stream in SSD's order, step by step.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from caffe_compat.data.annotations import Boxes
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator

_KINDS = ("jaccard_overlap", "sample_coverage", "object_coverage")


def uniform(stream: CaffeGenerator, low: float, high: float) -> np.float32:
    """One float32 from ``low`` to ``high``."""
    return np.float32(stream.uniform((1,), low, high)[0])


def check_samplers(samplers: Iterable[caffe_pb2.BatchSampler]) -> None:
    """DataError for ranges that SSD refuses when it draws from them."""
    for number, batch_sampler in enumerate(samplers, 1):
        s = batch_sampler.sampler
        if not 0 < s.min_scale <= s.max_scale <= 1:
            raise DataError(
                f"batch_sampler {number}: min_scale is {s.min_scale:g} and max_scale {s.max_scale:g}; expected "
                "0 < min_scale <= max_scale <= 1"
            )
        if not 0 < s.min_aspect_ratio <= s.max_aspect_ratio < np.inf:
            raise DataError(
                f"batch_sampler {number}: min_aspect_ratio is {s.min_aspect_ratio:g} and max_aspect_ratio "
                f"{s.max_aspect_ratio:g}; expected 0 < min_aspect_ratio <= max_aspect_ratio"
            )


def sample_boxes(
    samplers: Sequence[caffe_pb2.BatchSampler], objects: Boxes, stream: CaffeGenerator
) -> list[npt.NDArray[np.float32]]:
    """Parts (4) of an image, xmin, ymin, xmax, ymax, that meet the constraints with its ``objects`` (B, 4).

    Of each sampler at most ``max_sample``, from ``max_trials`` draws.
    """
    found = []
    for batch_sampler in samplers:
        if not batch_sampler.use_original_image:
            continue
        most = batch_sampler.max_sample if batch_sampler.HasField("max_sample") else np.inf
        own = 0
        for _ in range(batch_sampler.max_trials):
            if own >= most:
                break
            part = _draw(batch_sampler.sampler, stream)
            if satisfies(part, objects, batch_sampler.sample_constraint):
                own += 1
                found.append(part)
    return found


def _draw(sampler: caffe_pb2.Sampler, stream: CaffeGenerator) -> npt.NDArray[np.float32]:
    scale = uniform(stream, sampler.min_scale, sampler.max_scale)
    aspect = uniform(stream, sampler.min_aspect_ratio, sampler.max_aspect_ratio)
    # So that no side is longer than the image's.  Squares and roots are those of C, in double precision; with newer
    # compilers the root is float32, and SSD stops where that makes a side of 1.0000001.
    square = float(scale) ** 2
    aspect = min(max(aspect, np.float32(square)), np.float32(1 / square))
    root = math.sqrt(aspect)
    width, height = np.float32(float(scale) * root), np.float32(float(scale) / root)
    left = uniform(stream, 0, float(np.float32(1) - width))
    top = uniform(stream, 0, float(np.float32(1) - height))
    return np.array([left, top, left + width, top + height], np.float32)


def satisfies(part: npt.NDArray[np.float32], objects: Boxes, constraint: caffe_pb2.SampleConstraint) -> bool:
    """Whether a ``part`` (4) of the image stands to one of ``objects`` (B, 4) as the constraint wants it.

    Where a constraint asks for several things, one that an object meets counts on for the rest of that object and for
    those after it, as in SSD.
    """
    asked = [kind for kind in _KINDS if constraint.HasField(f"min_{kind}") or constraint.HasField(f"max_{kind}")]
    if not asked:
        return True
    shared, part_area, areas = _shared(part, objects), _area(part), _area(objects)
    with np.errstate(all="ignore"):
        values = {
            "jaccard_overlap": shared / (part_area + areas - shared),
            "sample_coverage": shared / part_area,
            "object_coverage": shared / areas,
        }
    found = False
    for number in range(len(objects)):
        for kind in asked:
            value = values[kind][number] if shared[number] > 0 else np.float32(0)
            if constraint.HasField(f"min_{kind}") and value < np.float32(getattr(constraint, f"min_{kind}")):
                break
            if constraint.HasField(f"max_{kind}") and value > np.float32(getattr(constraint, f"max_{kind}")):
                break
            found = True
        else:
            return True
    return found


def _shared(part: npt.NDArray[np.float32], objects: Boxes) -> npt.NDArray[np.float32]:
    sides = np.minimum(part[2:], objects[:, 2:]) - np.maximum(part[:2], objects[:, :2])
    result: npt.NDArray[np.float32] = np.where((sides > 0).all(1), sides[:, 0] * sides[:, 1], np.float32(0))
    return result


def _area(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    sides = boxes[..., 2:] - boxes[..., :2]
    result: npt.NDArray[np.float32] = np.where((sides < 0).any(-1), np.float32(0), sides[..., 0] * sides[..., 1])
    return result
