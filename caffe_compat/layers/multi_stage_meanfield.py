"""MultiStageMeanfield: mean field inference in a dense CRF, as a layer to train (Zheng et al. 2015, CRF-RNN)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.permutohedral import Lattice, build_lattice


def _fill_diagonal(blob: Tensor, values: Tensor) -> None:
    blob.copy_(torch.diag(values))


@register("MultiStageMeanfield")
class MultiStageMeanfield(Layer):
    """Bottoms unary (N, C, H, W), what the first step starts from (N, C, H, W), as a rule the unary again, and the
    image (N, 3, H, W) -> top (N, C, H, W), scores.

    Each of ``num_iterations`` steps takes the softmax over C, filters it by Gaussians of place (``theta_gamma``) and of
    place and colour (``theta_alpha``, ``theta_beta``), and subtracts compatibility @ (spatial @ the one + bilateral @
    the other) from the unary.  Blobs: spatial and bilateral weights and compatibility, each (1, 1, C, C).  The image
    receives no gradient.
    """

    param_fields = ("multi_stage_meanfield_param",)
    onnx_obstacle = "ONNX has no operator that filters on a lattice made of an image's colours"
    bottom_count = (3, 3)
    keeps_forward = True
    graph_obstacle = "numbers the corners of its lattices on the host"
    drawing_kind = "weights"

    def setup(self, unary: Shape, start: Shape, image: Shape) -> None:
        param = self.param.multi_stage_meanfield_param
        self.iterations = int(param.num_iterations)
        if self.iterations < 2:
            self.fail(f"multi_stage_meanfield_param.num_iterations is {self.iterations}; expected at least 2")
        self.thetas = {name: float(getattr(param, f"theta_{name}")) for name in ("alpha", "beta", "gamma")}
        if min(self.thetas.values()) <= 0:
            self.fail(f"multi_stage_meanfield_param has thetas {self.thetas}; expected above 0")
        for kind in ("spatial", "bilateral"):
            if param.HasField(f"forced_{kind}_filter_weight"):
                self.warn(f"multi_stage_meanfield_param.forced_{kind}_filter_weight has no effect, as in CRF-RNN")
        self.infer_shapes(unary, start, image)
        channels = unary[1]
        for kind in ("spatial", "bilateral"):
            diagonal = self._first_weights(kind, channels)
            self.add_blob(f"{kind}_weight", (1, 1, channels, channels), partial(_fill_diagonal, values=diagonal))
        potts = torch.full((channels,), -1.0)
        self.add_blob("compatibility", (1, 1, channels, channels), partial(_fill_diagonal, values=potts))

    def _first_weights(self, kind: str, channels: int) -> Tensor:
        """For each class; from ``*_filter_weights_str``, or ``*_filter_weight``, or 1."""
        param = self.param.multi_stage_meanfield_param
        text = getattr(param, f"{kind}_filter_weights_str") or str(getattr(param, f"{kind}_filter_weight") or 1)
        try:
            values = [float(word) for word in text.split()]
        except ValueError:
            values = []
        if len(values) not in (1, channels):
            self.fail(
                f"multi_stage_meanfield_param.{kind}_filter_weights_str is {text!r}; expected one number, or one for "
                f"each of {channels} classes"
            )
        return torch.tensor(values if len(values) == channels else values * channels)

    def infer_shapes(self, unary: Shape, start: Shape, image: Shape) -> list[Shape]:
        if len(unary) != 4 or start != unary or image != (unary[0], 3, *unary[2:]):
            self.fail(f"bottoms have shapes {unary}, {start} and {image}; expected (N, C, H, W) twice and (N, 3, H, W)")
        if self.blob_shapes and self.blob_shapes[0][2] != unary[1]:
            self.fail(f"bottom 0 has shape {unary}; the weights take {self.blob_shapes[0][2]} channels")
        return [unary]

    def forward(self, unary: Tensor, start: Tensor, image: Tensor) -> Tensor:
        height, width = unary.shape[2:]
        rows = torch.arange(height, device=image.device).float().unsqueeze(1).expand(height, width).flatten()
        columns = torch.arange(width, device=image.device).float().repeat(height)
        places = torch.stack([columns, rows], 1)
        spatial = self._lattice(places / self.thetas["gamma"])
        items = zip(unary.flatten(2), start.flatten(2), image.detach().float().flatten(2), strict=True)
        tops = []
        for own, first, colours in items:
            features = torch.cat([places / self.thetas["alpha"], colours.t() / self.thetas["beta"]], 1)
            tops.append(self._infer(own, first, [spatial, self._lattice(features)]))
        return torch.stack(tops).reshape(unary.shape)

    def _lattice(self, features: Tensor) -> Lattice:
        lattice = build_lattice(features)
        if lattice is None:
            self.fail(f"places or colours are too many of the thetas {self.thetas} apart, or NaN; make these larger")
        return lattice

    def _infer(self, unary: Tensor, scores: Tensor, lattices: Sequence[Lattice]) -> Tensor:
        """unary and scores (C, P) -> (C, P)"""
        ones = torch.ones_like(unary[:1]).detach()
        norms = [1 / (lattice.filtered(ones) + 1e-20) for lattice in lattices]
        *weights, compatibility = (self.blob(i)[0, 0] for i in range(3))
        for _ in range(self.iterations):
            shares = scores.softmax(0)
            parts = zip(lattices, norms, weights, strict=True)
            message = sum(weight @ (lattice.filtered(shares) * norm) for lattice, norm, weight in parts)
            scores = unary - compatibility @ message
        return scores

    @classmethod
    def example(cls, dice: Dice) -> Example:
        n, c, h, w = dice.integer(1, 2), dice.integer(1, 3), dice.integer(2, 4), dice.integer(2, 4)
        fields = "num_iterations: 2 theta_alpha: 5 theta_beta: 2 theta_gamma: 3"
        bottoms = [dice.normal(n, c, h, w), dice.normal(n, c, h, w), dice.normal(n, 3, h, w)]
        return Example(f"multi_stage_meanfield_param {{ {fields} }}", bottoms)
