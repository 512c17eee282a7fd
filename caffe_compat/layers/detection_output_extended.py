"""DetectionOutputExtended: SSD's boxes, with the anchor and the place of each (OpenVINO's training toolbox)."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.detection_output import ROW, DetectionOutput
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("DetectionOutputExtended")
class DetectionOutputExtended(DetectionOutput):
    """DetectionOutput of two classes, background (0) and object, whose offsets come as (N, H, W, A 4): A anchors for
    each place of a map.  Rows have three numbers more behind the box: the anchor, x and y on the map.
    """

    tells_priors: ClassVar[bool] = True
    bottom_count = (3, 3)

    def setup(self, *bottoms: Shape) -> None:
        super().setup(*bottoms)
        self.background = 0  # the fork does not read background_label_id
        if self.classes != 2 or not self.share_location:
            self.fail(
                f"detection_output_param has num_classes {self.classes}, share_location {self.share_location}; "
                "expected 2 and true"
            )

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        offsets = bottoms[0]
        if len(offsets) != 4 or offsets[3] % 4:
            self.fail(f"bottom 0 has shape {offsets}; expected (N, H, W, A 4), offsets of A anchors at each place")
        super().infer_shapes(*bottoms)
        return [(1, 1, 1, ROW + 3)]

    def _detect(self, offsets: Tensor, *bottoms: Tensor) -> Tensor:
        found = super()._detect(offsets, *bottoms)
        width, anchors = offsets.shape[2], offsets.shape[3] // 4
        prior = found[..., ROW].long()
        place = prior.div(anchors, rounding_mode="floor")
        numbers = torch.stack((prior % anchors, place % width, place.div(width, rounding_mode="floor")), -1)
        numbers = torch.where(prior[..., None] < 0, -1, numbers).to(found.dtype)
        return torch.cat((found[..., :ROW], numbers), -1)

    def _onnx_of_priors(self, graph: "OnnxGraph", step: "OnnxStep", kept: str) -> list[str]:
        width = graph.size(step.dims()[2])
        anchors = graph.sizes([step.bottom_shapes[0][3] // 4])
        prior = graph.add("Gather", kept, graph.sizes([2]), axis=1)
        place = graph.add("Div", prior, anchors)
        numbers = (prior, anchors, "Mod"), (place, width, "Mod"), (place, width, "Div")
        return [graph.to_float(graph.add(operator, value, by)) for value, by, operator in numbers]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        images, height, width, anchors = (dice.integer(1, 3) for _ in range(4))
        priors = height * width * anchors
        corner = dice.rng.uniform(0, 0.6, (priors, 2))
        prior = np.concatenate((corner, corner + dice.rng.uniform(0.1, 0.4, (priors, 2))), 1)
        bottoms = [
            dice.normal(images, height, width, anchors * 4),
            dice.probabilities(images * priors, 2).reshape(images, -1),
            np.stack((prior.flatten(), np.full(prior.size, 0.1)))[None].astype(np.float32),
        ]
        fields = f"num_classes: 2 keep_top_k: {dice.pick(-1, 3)} {dice.pick('', 'confidence_threshold: 0.2')}"
        return Example(f"detection_output_param {{ {fields} nms_param {{ nms_threshold: 0.4 }} }}", bottoms)
