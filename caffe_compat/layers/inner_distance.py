"""InnerDistance: distances between features and learned centres (NormFace, Wang et al. 2017)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.indices import to_indices
from caffe_compat.layers.shared.unit_rows import make_unit_rows

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("InnerDistance")
class InnerDistance(Layer):
    """Bottom (..., K axes) -> top (..., N): the squared distance to each of N centres (``distance_type`` L2), or the
    sum of absolute differences (L1).

    Centres (N, K): the weight, N ``num_output``, of which ``normalize`` makes the rows unit vectors in each forward, in
    place; or a second bottom.  ``update_center_only``: a third bottom has a label for each row of features, and a
    centre's gradient comes from the features of its label only.  There is no bias, as the fork has none.
    """

    param_fields = ("inner_distance_param",)
    bottom_count = (1, 3)
    graph_safe = True
    drawing_kind = "weights"

    def setup(self, features: Shape, *others: Shape) -> None:
        param = self.param.inner_distance_param
        self.order, self.normalize = str(param.distance_type), bool(param.normalize)
        if self.order not in ("L2", "L1"):
            self.fail(f'inner_distance_param.distance_type is "{self.order}"; expected L2 or L1')
        if param.transpose:
            self.fail("inner_distance_param.transpose is not computed by the fork, either; expected false")
        self.has_labels = bool(param.update_center_only)
        if (len(others) == 2) != self.has_labels:
            self.fail(
                f"has {1 + len(others)} bottom(s) and update_center_only {self.has_labels}; expected features, or "
                "features and centres; or with update_center_only features, centres and labels"
            )
        self.axis = self.canonical_axis(param.axis, len(features), "inner_distance_param.axis")
        self.inputs = count(features, self.axis)
        if not others:
            if not param.num_output:
                self.fail("inner_distance_param.num_output is missing or 0; expected at least 1")
            self.add_blob("weight", (param.num_output, self.inputs), lambda t: fill(t, param.weight_filler))

    def infer_shapes(self, features: Shape, *others: Shape) -> list[Shape]:
        if len(features) <= self.axis or count(features, self.axis) != self.inputs:
            self.fail(
                f"bottom {features} has {count(features, self.axis)} values from axis {self.axis} on; expected "
                f"{self.inputs}, as the centres"
            )
        centers = others[0] if others else self.blob_shapes[0]
        rows = count(features[: self.axis])
        if count(centers, 1) != self.inputs or (self.has_labels and count(others[1]) != rows):
            self.fail(
                f"bottoms have shapes {features} and {', '.join(map(str, others))}; expected centres of {self.inputs} "
                f"values, and of labels {rows}"
            )
        return [(*features[: self.axis], centers[0])]

    def forward(self, features: Tensor, *others: Tensor) -> Tensor:
        if self.normalize and not others:
            with torch.no_grad():
                make_unit_rows(self.blob(0))
        centers = (others[0] if others else self.blob(0)).flatten(1)
        rows = features.reshape(-1, self.inputs)
        if self.has_labels:
            top = self._distances(rows, centers.detach())
            labels = to_indices(self, others[1], len(centers), "label", bottom=2).flatten()
            own = labels.unsqueeze(1) == torch.arange(len(centers), device=labels.device)
            for_centers = self._distances(rows.detach(), centers)
            top = top + (for_centers - for_centers.detach()) * own
        else:
            top = self._distances(rows, centers)
        return top.view(*features.shape[: self.axis], len(centers))

    def _distances(self, rows: Tensor, centers: Tensor) -> Tensor:
        """(M, K) and (N, K) -> (M, N)."""
        if self.order == "L1":
            return torch.cdist(rows, centers, p=1.0)
        return torch.cdist(rows, centers, compute_mode="donot_use_mm_for_euclid_dist").square()

    def index_limits(self, features: Shape, *others: Shape) -> dict[int, int]:
        return {2: others[0][0]} if self.has_labels else {}

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        leading = step.dims()[: self.axis]
        rows = graph.reshape(step.bottoms[0], [-1, 1, self.inputs])
        if len(step.bottoms) > 1:
            centers = graph.reshape(step.bottoms[1], [1, -1, self.inputs])
        else:
            weight = self.blob(0).detach().cpu().clone()
            centers = graph.constant((make_unit_rows(weight) if self.normalize else weight).numpy()[None])
        difference = graph.add("Sub", rows, centers)
        kind = "ReduceL1" if self.order == "L1" else "ReduceSumSquare"
        top = graph.add(kind, difference, graph.sizes([2]), keepdims=0)
        return [top if self.axis == 1 else graph.reshape(top, [*leading, step.top_shapes[0][-1]])]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, inputs, centers, kind = dice.integer(1, 4), dice.integer(1, 5), dice.integer(1, 4), dice.integer(0, 2)
        order = f'distance_type: "{dice.pick("L1", "L2")}"'
        features = dice.normal(n, inputs)
        if kind == 0:
            fields, bottoms = f'num_output: {centers} weight_filler {{ type: "xavier" }}', [features]
        elif kind == 1:
            fields, bottoms = "", [features, dice.normal(centers, inputs)]
        else:
            bottoms = [features, dice.normal(centers, inputs), dice.indices(centers, n)]
            fields = "update_center_only: true"
        return Example(f"inner_distance_param {{ {order} {fields} }}", bottoms)
