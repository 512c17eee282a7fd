"""PriorBox: boxes of several sizes and ratios around each cell of a feature map (SSD, Liu et al. 2016)."""

import math

from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields
from caffe_compat.layers.shared.prior_boxes import PriorBoxLayer, Size

# Ratios that differ by less are one.
SAME_RATIO = 1e-6


# FaceBoxes' least sizes -> how many pixels apart its centres are, which fill the cell.
DENSE_STEPS = {32: 8, 64: 16}


def _dense(size: int) -> list[Size]:
    """Where FaceBoxes' centres of boxes of ``size`` lie, right and down of the cell's, row by row."""
    step = DENSE_STEPS.get(size)
    if step is None:
        return [(0.0, 0.0)]
    places = [float(place) for place in range(-16, 16, step)] if size == 32 else [-16.0, 0.0]
    return [(x, y) for y in places for x in places]


@register("PriorBox")
class PriorBox(PriorBoxLayer):
    """For each ``min_size``: a square of it; one of sqrt(min_size max_size), where ``max_size`` is given; then, for
    each ``aspect_ratio`` r, a box of the first square's area that is r times as wide as high, and with ``flip`` one
    that is r times as high as wide.

    SSD cuts ``min_size`` and ``max_size`` to whole pixels, and so does this layer.

    ``dense_faces: true`` (a field of ours, as nothing in FaceBoxes' files tells): FaceBoxes' layer.  Squares of
    ``min_size`` are one pixel smaller; there are 16 of 32 pixels, 8 pixels apart, and 4 of 64, 16 apart.
    """

    def box_sizes(self) -> list[Size]:
        clustered = "it is of PriorBoxClustered; fix the type"
        refuse_fields(self, "prior_box_param", "width", "height", "offset_h", "offset_w", because=clustered)
        param = self.param.prior_box_param
        least, most = [float(size) for size in param.min_size], [float(size) for size in param.max_size]
        if not least or min(least) <= 0:
            self.fail(f"prior_box_param.min_size is {least}; expected at least one number above 0")
        if most and (len(most) != len(least) or any(a >= b for a, b in zip(least, most, strict=True))):
            self.fail(f"prior_box_param.max_size is {most}; expected one above each min_size, {least}")
        ratios = self._ratios()
        sizes: list[Size] = []
        for i, small in enumerate(map(int, least)):
            if param.dense_faces:
                sizes.extend([(small - 1, small - 1)] * len(_dense(small)))
            else:
                sizes.append((small, small))
            if most:
                sizes.append((math.sqrt(small * int(most[i])),) * 2)
            sizes.extend((small * math.sqrt(ratio), small / math.sqrt(ratio)) for ratio in ratios)
        if param.dense_faces:
            self._check_dense(len(sizes), len(least), len(ratios), bool(most))
        return sizes

    def box_shifts(self) -> list[Size]:
        param = self.param.prior_box_param
        if not param.dense_faces:
            return super().box_shifts()
        others = len(self._ratios()) + bool(param.max_size)
        shifts: list[Size] = []
        for small in map(int, param.min_size):
            shifts += [*_dense(small), *[(0.0, 0.0)] * others]
        return shifts

    def _check_dense(self, boxes: int, least: int, ratios: int, most: bool) -> None:
        """FaceBoxes makes room for 21 boxes where there are three sizes, else for one of each size and ratio."""
        room = (21 if least == 3 else (1 + ratios) * least) + most * least
        if boxes != room:
            self.fail(
                f"prior_box_param with dense_faces has {boxes} boxes in a cell where FaceBoxes has room for {room}; "
                "expected min_size 32, 64 and a third, without aspect_ratio, or neither 32 nor 64"
            )

    def _ratios(self) -> list[float]:
        """The ratios other than 1, each once."""
        param = self.param.prior_box_param
        ratios = [1.0]
        for ratio in param.aspect_ratio:
            if ratio <= 0:
                self.fail(f"prior_box_param.aspect_ratio is {ratio}; expected a number above 0")
            if all(abs(ratio - other) >= SAME_RATIO for other in ratios):
                ratios.extend([ratio, 1 / ratio] if param.flip else [ratio])
        return [ratio for ratio in ratios if abs(ratio - 1) >= SAME_RATIO]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        least = [dice.integer(2, 30) for _ in range(dice.integer(1, 2))]
        most = [size + dice.integer(1, 20) for size in least] if dice.integer(0, 1) else []
        fields = [
            *(f"min_size: {size}" for size in least),
            *(f"max_size: {size}" for size in most),
            *(f"aspect_ratio: {dice.integer(1, 3)}" for _ in range(dice.integer(0, 3))),
            f"flip: {dice.switch()} clip: {dice.switch()} {dice.pick('', 'step: 8', 'step_h: 4 step_w: 6')}",
            dice.pick("", "variance: 0.2", "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"),
            dice.pick("", "img_size: 40", "img_h: 40 img_w: 60"),
            dice.pick("", "additional_y_offset: true", "denser_prior_boxes: true"),
        ]
        return Example(
            f"prior_box_param {{ {' '.join(fields)} }}", [dice.normal(*dice.image()), dice.normal(1, 3, 32, 48)]
        )
