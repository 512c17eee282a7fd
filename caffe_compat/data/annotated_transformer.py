"""SSD's DataTransformer: images and the boxes in them, distorted, expanded, sampled, resized, cropped and mirrored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from caffe_compat.data.annotations import AnnotatedRecord, Annotations, Boxes
from caffe_compat.data.box_sampler import check_samplers, sample_boxes, uniform
from caffe_compat.data.image_distortion import Distortion
from caffe_compat.data.image_noise import Noise
from caffe_compat.data.image_resize import Resize
from caffe_compat.data.image_step import Image, Step, recode, take_steps
from caffe_compat.data.libc_random import LibcRandom
from caffe_compat.data.transformer import CropWindow, Transformer, transform_image
from caffe_compat.errors import DataError
from caffe_compat.layers.shared import boxes as box_rules
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import CaffeGenerator, generator

_NO_EXPANSION = 1e-2  # a max_expand_ratio that is nearer to 1 than this
_RAW_BACKGROUND = 32  # SSD fills the room around a raw image with blanks, character 32
_F = np.float32


@dataclass
class Plan:
    """What is to be done to one image: its random numbers are drawn."""

    steps: list[Step]
    window: CropWindow
    size: tuple[int, int]  # (height, width) of the window
    annotations: Annotations
    encoded: bool  # whether the record is an image file


class AnnotatedTransformer:
    """The fields of a TransformationParameter of SSD, and AnnotatedData's batch samplers.

    Random numbers come from two streams: those for ``mirror`` and the crop from one of the transformer's own, all
    others from that of the layer's thread; the order of channels (``random_order_prob``) from the C library's.
    """

    def __init__(
        self,
        param: caffe_pb2.TransformationParameter,
        phase: str,
        samplers: Sequence[caffe_pb2.BatchSampler] = (),
    ) -> None:
        """Raises DataError for settings that SSD refuses."""
        self.plain = Transformer.from_param(param, phase)
        self.samplers, self.phase = list(samplers), phase
        check_samplers(self.samplers)
        self.crop = (param.crop_size, param.crop_size) if param.crop_size else (param.crop_h, param.crop_w)
        if (self.crop[0] > 0) != (self.crop[1] > 0):
            raise DataError(f"crop_h is {param.crop_h} and crop_w {param.crop_w}; set both or neither")
        self.resize = Resize(param.resize_param) if param.HasField("resize_param") else None
        self.noise = Noise(param.noise_param) if param.HasField("noise_param") else None
        self.distortion = Distortion(param.distort_param) if param.HasField("distort_param") else None
        self.expansion = param.expand_param if param.HasField("expand_param") else None
        self.constraint = param.emit_constraint if param.HasField("emit_constraint") else None
        if self.expansion is not None and not self.expansion.max_expand_ratio > 1:
            raise DataError(
                f"expand_param.max_expand_ratio is {self.expansion.max_expand_ratio:g}; expected more than 1"
            )
        self.thread, self.libc = CaffeGenerator(0), LibcRandom()

    # -- random streams -----------------------------------------------------------------

    @property
    def is_random(self) -> bool:
        """Whether the transformer's own stream is used."""
        return self.plain.mirror or (self.phase == "TRAIN" and self.crop[0] > 0)

    def start_random(self) -> None:
        """Seed its own stream by a draw of the process-wide one, where it is used, as Caffe does."""
        self.plain.random = CaffeGenerator(generator().raw()) if self.is_random else None

    def start_thread(self) -> None:
        """Seed the stream of the layer's thread by a draw of the process-wide one."""
        self.thread = CaffeGenerator(generator().raw())

    def get_state(self) -> str:
        """The positions in the streams."""
        libc = ",".join(map(str, self.libc.get_state()))
        return f"{self.thread.get_state().hex()} {self.plain.get_state() or ''} {libc}"

    def set_state(self, state: str) -> None:
        """Continue from a ``get_state``."""
        thread, own, libc = state.split(" ")
        self.thread.set_state(bytes.fromhex(thread))
        self.plain.set_state(own or None)
        self.libc.set_state([int(word) for word in libc.split(",")])

    # -- one image ----------------------------------------------------------------------

    def image_of(self, record: AnnotatedRecord) -> Image:
        """The image (H, W, C) uint8 of a record; DataError when it has none that SSD could transform."""
        datum = record.datum
        image = self.plain.image_of(datum).transpose(1, 2, 0)
        if image.dtype != np.uint8:
            raise DataError("has float_data; expected bytes, or an image file")
        named = {"resize_param": self.resize, "noise_param": self.noise, "distort_param": self.distortion}
        unread = [name for name, setting in named.items() if setting is not None]
        if self.crop[0] and not self.plain.crop_size:
            unread.append("crop_h and crop_w")
        if unread and not datum.encoded:
            raise DataError(f"is raw; {unread[0]} takes encoded images only, in SSD too: convert with --encoded")
        return image

    def output_shape(self, height: int, width: int, channels: int) -> tuple[int, int, int]:
        """(C, H, W) of a transformed image; DataError where SSD refuses the input."""
        if self.resize is not None:
            height, width = self.resize.new_size(height, width)
        crop_height, crop_width = self.crop
        if height < crop_height or width < crop_width:
            raise DataError(
                f"image is {height}x{width} (height x width); expected at least the crop of {crop_height}x{crop_width}"
            )
        if self.plain.mean_value.size not in (0, 1, channels):
            raise DataError(f"{self.plain.mean_value.size} mean_value for {channels} channels; expected 1, or as many")
        shape = channels, crop_height or height, crop_width or width
        if self.plain.mean is not None and (self.plain.mean.shape != shape or shape[1:] != (height, width)):
            raise DataError(
                f"image comes out as {shape} (C, H, W) from {height}x{width}; the mean file is "
                f"{self.plain.mean.shape}, expected the same, without a crop; or give mean_value"
            )
        return shape

    def plan(self, record: AnnotatedRecord, image: Image) -> Plan:
        """Draw the random numbers for an image and work out its boxes; no pixel is touched."""
        annotations, encoded = record.annotations, record.datum.encoded
        height, width, channels = image.shape
        # Boxes are moved by the size that the record names; an encoded one may name none.
        named = record.datum.height or height, record.datum.width or width
        steps: list[Step] = []
        if self.distortion is not None:
            steps += [*self.distortion.plan(self.thread, self.libc), recode]
            named = height, width
        expanded = self._plan_expansion(height, width, channels, encoded)
        if expanded is not None:
            step, frame, (height, width) = expanded
            steps += [step, recode] if encoded else [step]
            annotations, named = self._keep(annotations, frame), (height, width)
        if self.samplers:
            parts = sample_boxes(self.samplers, annotations.boxes, self.thread)
            if parts:
                part = _clip(parts[self.thread.raw() % len(parts)])
                step, (height, width) = _plan_part(part, height, width)
                steps += [step, recode] if encoded else [step]
                annotations, named = self._keep(annotations, part), (height, width)
        plan = self._plan_window(steps, annotations, named, (height, width, channels))
        return replace(plan, encoded=encoded)

    def _plan_window(
        self, steps: list[Step], annotations: Annotations, named: tuple[int, int], shape: tuple[int, int, int]
    ) -> Plan:
        height, width, channels = shape
        size = self.output_shape(height, width, channels)[1:]
        mirror = self.plain.mirror and self._own() % 2 == 1
        if self.resize is not None:
            steps.append(self.resize.plan(height, width, channels, self.thread))
            height, width = self.resize.new_size(height, width)
        if self.noise is not None:
            steps += self.noise.plan(height, width, channels, self.thread)
        top = left = 0
        if self.crop[0]:
            spare = height - size[0], width - size[1]
            random = self.phase == "TRAIN"
            top = self._own() % (spare[0] + 1) if random else spare[0] // 2
            left = self._own() % (spare[1] + 1) if random else spare[1] // 2
        places = np.array([left, top, left + size[1], top + size[0]], np.float32)
        crop: Boxes = (places / np.array([width, height] * 2, np.float32)).astype(np.float32)
        if self.resize is not None:
            annotations = annotations.moved(self.resize.move_boxes(annotations.boxes, *named))
        annotations = self._keep(annotations, crop)
        boxes = annotations.boxes
        if mirror:
            boxes = np.stack((_F(1) - boxes[:, 2], boxes[:, 1], _F(1) - boxes[:, 0], boxes[:, 3]), 1)
        if self.resize is not None:
            boxes = self.resize.extrapolate(boxes, *named, crop)
        return Plan(steps, CropWindow(top, left, mirror), (size[0], size[1]), annotations.moved(boxes), True)

    def apply(self, image: Image, plan: Plan) -> np.ndarray:
        """(C, H, W) float32: (value - mean) * scale of the window."""
        image = take_steps(image, plan.steps)
        mean = self.plain.mean_for(image.shape[2])
        if mean is not None and mean.ndim == 3 and plan.window.mirror and plan.encoded:
            mean = mean[:, :, ::-1]  # SSD mirrors such an image, and not the mean
        values = transform_image(
            image.transpose(2, 0, 1), plan.window, size=plan.size, mean=mean, scale=self.plain.scale
        )
        return np.ascontiguousarray(values)

    def _own(self) -> int:
        if self.plain.random is None:
            self.start_random()
        assert self.plain.random is not None
        return self.plain.random.raw()

    def _plan_expansion(
        self, height: int, width: int, channels: int, encoded: bool
    ) -> tuple[Step, Boxes, tuple[int, int]] | None:
        """What puts the image into a larger one, that one's edges (4) in parts of the image, and its size."""
        if self.expansion is None:
            return None
        ratio = _F(self.expansion.max_expand_ratio)
        if uniform(self.thread, 0, 1) > _F(self.expansion.prob) or abs(float(ratio) - 1) < _NO_EXPANSION:
            return None
        drawn = uniform(self.thread, 1, float(ratio))
        new_height, new_width = int(_F(height) * drawn), int(_F(width) * drawn)
        top = np.floor(uniform(self.thread, 0, new_height - height))
        left = np.floor(uniform(self.thread, 0, new_width - width))
        old = np.array([width, height] * 2, np.float32)
        frame = np.array([-left, -top, _F(new_width) - left, _F(new_height) - top], np.float32) / old
        background = self._background(new_height, new_width, channels, encoded)

        def step(image: Image) -> Image:
            large = np.empty((new_height, new_width, channels), np.uint8)
            large[:] = background
            large[int(top) : int(top) + height, int(left) : int(left) + width] = image
            return large

        return step, frame, (new_height, new_width)

    def _background(self, height: int, width: int, channels: int, encoded: bool) -> Image:
        """What surrounds an expanded image: the mean, else black."""
        if not encoded:
            return np.full(channels, _RAW_BACKGROUND, np.uint8)
        if self.plain.mean is not None:
            if self.plain.mean.shape != (channels, height, width):
                raise DataError(
                    f"expand_param made an image of {channels}x{height}x{width}, the mean file is "
                    f"{self.plain.mean.shape}; give mean_value instead"
                )
            return self.plain.mean.transpose(1, 2, 0).astype(np.int32).astype(np.uint8)
        mean = self.plain.mean_for(channels)
        return np.zeros(channels, np.uint8) if mean is None else np.clip(np.rint(mean), 0, 255).astype(np.uint8)

    def _keep(self, annotations: Annotations, frame: Boxes) -> Annotations:
        """Those boxes that lie in the ``frame`` (4) and meet emit_constraint, as parts of it."""
        if not len(annotations):
            return annotations
        given, edges = torch.from_numpy(annotations.boxes), torch.from_numpy(frame)
        inside, meets = box_rules.project(given, edges)
        if self.constraint is not None:
            if caffe_pb2.EmitConstraint.EmitType.Name(self.constraint.emit_type) == "CENTER":
                centers = (given[:, :2] + given[:, 2:]) / 2
                meets &= ((centers >= edges[:2]) & (centers <= edges[2:])).all(1)
            else:
                meets &= box_rules.coverage(given, edges) > self.constraint.emit_overlap
        return annotations.moved(inside.numpy()).where(meets.numpy())


def _clip(part: Boxes) -> Boxes:
    return np.clip(part, _F(0), _F(1))


def _plan_part(part: Boxes, height: int, width: int) -> tuple[Step, tuple[int, int]]:
    """What cuts a ``part`` (4) out of an image, and its size; at least one pixel, where SSD stops at none."""
    left, top, right, bottom = part * np.array([width, height] * 2, np.float32)
    size = max(1, int(bottom - top)), max(1, int(right - left))
    rows = slice(min(int(top), height - size[0]), min(int(top), height - size[0]) + size[0])
    columns = slice(min(int(left), width - size[1]), min(int(left), width - size[1]) + size[1])
    return partial(_cut, rows=rows, columns=columns), size


def _cut(image: Image, rows: slice, columns: slice) -> Image:
    return np.ascontiguousarray(image[rows, columns])
