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

    Forks (caffe-windows, OpenVINO's training toolbox) also take the weight (num_output, ...) as a second bottom, and
    with ``bias_term`` the bias (num_output,) as a third; ``normalize`` leaves such a weight as it is, as there.

    ``normalize`` (the same forks): each forward first makes the rows of the weight unit vectors, in place, in TEST too;
    the gradient is that of a plain product with them.
    """

    bottom_count = (1, 3)
    param_fields = ("inner_product_param",)
    fork_fields = ("inner_product_param.normalize",)
    graph_safe = True
    drawing_kind = "weights"

    def setup(self, bottom: Shape, *given: Shape) -> None:
        param = self.param.inner_product_param
        self.num_output = given[0][0] if given and given[0] and not param.num_output else int(param.num_output)
        if not self.num_output:
            self.fail("inner_product_param.num_output is missing or 0; expected at least 1")
        self.axis = self.canonical_axis(param.axis, len(bottom), "inner_product_param.axis")
        self.inputs = count(bottom, self.axis)
        self.transpose, self.normalize = bool(param.transpose), bool(param.normalize) and not given
        #: weight and bias are bottoms
        self.is_given = bool(given)
        if self.is_given:
            self._check_given(given)
            return
        if self.transpose and self.normalize:
            self.fail("inner_product_param has transpose and normalize, whose rows are those of the weight as it lies")
        shape = (self.inputs, self.num_output) if self.transpose else (self.num_output, self.inputs)
        self.add_blob("weight", shape, lambda t: fill(t, param.weight_filler))
        if param.bias_term:
            self.add_blob("bias", (self.num_output,), lambda t: fill(t, param.bias_filler))

    def _check_given(self, given: Sequence[Shape]) -> None:
        param = self.param.inner_product_param
        if self.transpose:
            self.fail("has its weight as a bottom and transpose, of which forks make another matrix; expected false")
        if param.bias_term != (len(given) == 2):
            self.fail(
                f"has {1 + len(given)} bottoms and bias_term: {str(param.bias_term).lower()}; expected values and "
                "weight with bias_term: false, or values, weight and bias"
            )

    def infer_shapes(self, bottom: Shape, *given: Shape) -> list[Shape]:
        if len(bottom) <= self.axis or count(bottom, self.axis) != self.inputs:
            self.fail(
                f"bottom {bottom} has {count(bottom, self.axis)} values from axis {self.axis} on; "
                f"the weights take {self.inputs}"
            )
        if given and (given[0][:1] != (self.num_output,) or count(given[0]) != self.num_output * self.inputs):
            self.fail(f"weight (bottom 1) has shape {given[0]}; expected ({self.num_output}, {self.inputs})")
        if len(given) == 2 and count(given[1]) != self.num_output:
            self.fail(f"bias (bottom 2) has shape {given[1]}; expected {self.num_output} values")
        return [(*bottom[: self.axis], self.num_output)]

    def forward(self, bottom: Tensor, *given: Tensor) -> Tensor:
        if given:
            weight, bias = given[0].flatten(1), given[1].flatten() if len(given) == 2 else None
            return functional.linear(bottom.flatten(self.axis), weight, bias)
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
        if self.is_given:
            parameters = [graph.reshape(step.bottoms[1], [self.num_output, self.inputs])]
            parameters += [graph.reshape(name, [self.num_output]) for name in step.bottoms[2:]]
        elif self.normalize:
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
        if not dice.integer(0, 3):
            outputs, bias = dice.integer(1, 4), dice.switch()
            weight = dice.normal(outputs, shape[-1])
            given = [weight, dice.normal(outputs)] if bias == "true" else [weight]
            return Example(f"inner_product_param {{ axis: -1 bias_term: {bias} }}", [dice.normal(*shape), *given])
        fields = f"num_output: {dice.integer(1, 5)} axis: {dice.axis(len(shape))} transpose: {dice.switch()}"
        return Example(f"inner_product_param {{ {fields} bias_term: {dice.switch()} }}", [dice.normal(*shape)])
