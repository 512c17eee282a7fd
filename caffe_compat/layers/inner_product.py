"""InnerProduct: a fully connected layer over the axes from ``axis`` on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill
from caffe_compat.layers.shared.unit_rows import make_unit_rows
from caffe_compat.proto import caffe_pb2

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import OnnxGraph, OnnxStep


@register("InnerProduct")
class InnerProduct(Layer):
    """Weight (num_output, K), or (K, num_output) with ``transpose``; K = product of the axes from
    ``axis`` on.  Bottom (..., K axes) -> top (..., num_output).

    ``normalize`` (NormFace, OpenVINO's training toolbox): each forward first makes the rows of the weight unit vectors,
    in place, in TEST too; the gradient is that of a plain product with them.
    """

    param_fields = ("inner_product_param",)
    fork_fields = ("inner_product_param.normalize",)
    graph_safe = True
    drawing_kind = "weights"

    def setup(self, bottom: Shape) -> None:
        param = self.param.inner_product_param
        if not param.num_output:
            self.fail("inner_product_param.num_output is missing or 0; expected at least 1")
        self.num_output = int(param.num_output)
        self.axis = self.canonical_axis(param.axis, len(bottom), "inner_product_param.axis")
        self.inputs = count(bottom, self.axis)
        self.transpose, self.normalize = bool(param.transpose), bool(param.normalize)
        if self.transpose and self.normalize:
            self.fail("inner_product_param has transpose and normalize, whose rows are those of the weight as it lies")
        shape = (self.inputs, self.num_output) if self.transpose else (self.num_output, self.inputs)
        self.add_blob("weight", shape, lambda t: fill(t, param.weight_filler))
        if param.bias_term:
            self.add_blob("bias", (self.num_output,), lambda t: fill(t, param.bias_filler))

    def infer_shapes(self, bottom: Shape) -> list[Shape]:
        if len(bottom) <= self.axis or count(bottom, self.axis) != self.inputs:
            self.fail(
                f"bottom {bottom} has {count(bottom, self.axis)} values from axis {self.axis} on; "
                f"the weights take {self.inputs}"
            )
        return [(*bottom[: self.axis], self.num_output)]

    def forward(self, bottom: Tensor) -> Tensor:
        if self.normalize:
            with torch.no_grad():
                make_unit_rows(self.blob(0))
        weight = self.blob(0).t() if self.transpose else self.blob(0)
        bias = self.blob(1) if len(self._blob_names) > 1 else None
        return functional.linear(bottom.flatten(self.axis), weight, bias)

    def flops(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        return 2 * count(top_shapes[0]) * self.inputs

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        rows, dims = step.bottoms[0], step.dims()
        if len(dims) != 2 or self.axis != 1:
            rows = graph.add("Flatten", rows, axis=self.axis)
        if self.normalize:
            unit = make_unit_rows(self.blob(0).detach().cpu().clone())
            parameters = [graph.constant(unit.numpy()), *(graph.constant(blob) for blob in self.blobs[1:])]
        else:
            parameters = [graph.constant(blob) for blob in self.blobs]
        product = graph.add("Gemm", rows, *parameters, transB=0 if self.transpose else 1)
        return [product if self.axis == 1 else graph.reshape(product, [*dims[: self.axis], self.num_output])]

    @classmethod
    def drawing_details(cls, param: caffe_pb2.LayerParameter) -> list[str]:
        return [f"{param.inner_product_param.num_output} outputs"]

    @classmethod
    def example(cls, dice: Dice) -> Example:
        shape = dice.shape()
        fields = f"num_output: {dice.integer(1, 5)} axis: {dice.axis(len(shape))} transpose: {dice.switch()}"
        return Example(f"inner_product_param {{ {fields} bias_term: {dice.switch()} }}", [dice.normal(*shape)])
