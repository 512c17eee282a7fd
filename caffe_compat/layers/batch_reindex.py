"""BatchReindex: pick, repeat or reorder the items of a batch."""

from torch import Tensor

from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.indices import to_indices


@register("BatchReindex")
class BatchReindex(Layer):
    """Bottoms (N, ...) and (M,), whole numbers in [0, N) -> top (M, ...)."""

    bottom_count = (2, 2)
    no_gradient_bottoms = (1,)
    forced_bottoms = (1,)

    def infer_shapes(self, bottom: Shape, index: Shape) -> list[Shape]:
        if not bottom or len(index) != 1:
            self.fail(f"bottoms have shapes {bottom} and {index}; expected (N, ...) and (M,)")
        return [(index[0], *bottom[1:])]

    def forward(self, bottom: Tensor, index: Tensor) -> Tensor:
        return bottom.index_select(0, to_indices(self, index, bottom.shape[0], "index"))
