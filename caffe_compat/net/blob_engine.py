"""Caffe's own way of running a net: layer by layer, over blobs with data and diff.

``Net.forward`` builds one autograd graph; this engine instead keeps every blob's value and
gradient where a caller can read and write them between layers, and can run any range of layers.
pycaffe, ``debug_info`` and ``caffe time`` stand on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.input import Input
from caffe_compat.net.graph import Step
from caffe_compat.net.net import Net


class TensorBlob:
    """A value (``data``) and its gradient (``diff``), both contiguous and of one shape.

    ``reshape`` keeps the memory, and with it the leading values, when the new count fits.
    The memory may be another blob's, as Caffe's is for a layer that only renames its bottom.
    """

    def __init__(self, shape: Shape, like: Tensor) -> None:
        self._data_owner: TensorBlob | ParamBlob | None = None
        self._diff_owner: TensorBlob | ParamBlob | None = None
        self._like = like
        self._data = like.new_zeros(0)
        self._diff: Tensor | None = None
        self.shape: Shape = ()
        self.reshape(shape)

    def reshape(self, shape: Sequence[int]) -> None:
        """Set the shape; new memory, zero-filled, only when the old is too small."""
        self.shape = tuple(int(d) for d in shape)
        if self._data_owner is None and self.count > self._data.numel():
            self._data = self._like.new_zeros(self.count)
        if self._diff is not None and self.count > self._diff.numel():
            self._diff = self._like.new_zeros(self.count)

    def share_data(self, tensor: Tensor) -> None:
        """Use ``tensor``'s memory as data."""
        self._data = tensor.detach().view(-1)
        self.shape = tuple(tensor.shape)

    def use_memory(self, owner: "TensorBlob | ParamBlob", diff: bool) -> None:
        """From now on be another view of ``owner``'s data, and with ``diff`` of its gradient."""
        self._data_owner = owner
        self._diff_owner = owner if diff else None

    @property
    def count(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def data(self) -> Tensor:
        if self._data_owner is not None:
            return self._data_owner.data.view(self.shape)
        # .data cuts off version counting: a layer's saved bottom may be written by the caller.
        return self._data.data[: self.count].view(self.shape)

    @property
    def diff(self) -> Tensor:
        if self._diff_owner is not None:
            return self._diff_owner.diff.view(self.shape)
        if self._diff is None:
            self._diff = self._like.new_zeros(self.count)
        return self._diff[: self.count].view(self.shape)


class ParamBlob:
    """The same view of a layer's parameter; ``diff`` is the parameter's ``grad``."""

    def __init__(self, parameter: nn.Parameter, shape: Shape) -> None:
        self.parameter = parameter
        self.shape = shape

    @property
    def count(self) -> int:
        return self.parameter.numel()

    @property
    def data(self) -> Tensor:
        return self.parameter.data.view(self.shape)

    @property
    def diff(self) -> Tensor:
        if self.parameter.grad is None:
            self.parameter.grad = torch.zeros_like(self.parameter)
        return self.parameter.grad.view(self.shape)

    def reshape(self, shape: Sequence[int]) -> None:
        """Parameters keep their shape; NetError for any other."""
        if tuple(shape) != self.shape:
            raise NetError(f"a parameter of shape {self.shape} cannot become {tuple(shape)}; edit the prototxt instead")


@dataclass
class _Record:
    """What one layer's forward left for its backward."""

    bottoms: list[Tensor]
    tops: tuple[Tensor, ...]


class BlobEngine:
    """Blobs for every blob and parameter of a Net, and passes over any range of layers."""

    def __init__(self, net: Net) -> None:
        self.net = net
        like = torch.empty(0, dtype=net.dtype, device=net.device)
        net.check_memory()
        try:
            self.blobs = [TensorBlob(shape, like) for shape in net.blob_shapes_in_order]
        except (MemoryError, RuntimeError) as error:
            net.fail_without_memory(error, "all blobs of the net")
            raise
        self.params = [
            [ParamBlob(p, s) for p, s in zip(step.layer.blobs, step.layer.blob_shapes, strict=True)]
            for step in net.steps
        ]
        self._records: dict[int, _Record] = {}
        self._shared = [step.shared_memory for step in net.steps]
        for step, params, shared in zip(net.steps, self.params, self._shared, strict=True):
            if shared is not None:
                owner = params[0] if shared.of_parameter else self.blobs[step.bottoms[0]]
                for index in step.tops:
                    self.blobs[index].use_memory(owner, shared.diff)
        self._hold_inputs()
        self._weigh_losses()

    def _hold_inputs(self) -> None:
        """Let Input blobs be views of what their layers hold."""
        for step in self.net.steps:
            if isinstance(step.layer, Input):
                for j, index in enumerate(step.tops):
                    self.blobs[index].share_data(step.layer.hold(j, self.blobs[index].shape))

    def _weigh_losses(self) -> None:
        """Put loss weights into the diffs of their tops, where they stay until somebody writes there.

        As in Caffe that happens once: a top that outgrows its memory in a reshape loses its weights.
        """
        for step, shared in zip(self.net.steps, self._shared, strict=True):
            of_parameter = shared is not None and shared.of_parameter
            for index, weight in zip(step.tops, step.loss_weights, strict=True):
                if weight and not of_parameter:
                    self.blobs[index].diff.fill_(weight)

    def reshape(self) -> None:
        """Infer all shapes from the present shapes of the source blobs."""
        net = self.net
        net.infer_all({i: self.blobs[i].shape for step in net.steps if step.layer.is_source for i in step.tops})
        for blob, shape in zip(self.blobs, net.blob_shapes_in_order, strict=True):
            blob.reshape(shape)
        self._hold_inputs()
        self._records.clear()

    # -- forward ------------------------------------------------------------------------

    def forward(self, start: int = 0, end: int | None = None) -> float:
        """Run layers ``start`` to ``end`` (inclusive); returns their weighted loss."""
        if any(self.blobs[i].shape != self.net.blob_shapes_in_order[i] for step in self.net.steps for i in step.tops):
            self.reshape()
        last = len(self.net.steps) - 1 if end is None else end
        return sum((self.forward_layer(i) for i in range(start, last + 1)), 0.0)

    def forward_layer(self, number: int) -> float:
        """Run one layer on its bottoms' data; returns its weighted loss."""
        step = self.net.steps[number]
        layer = step.layer
        if isinstance(layer, Input) or self._shared[number] is not None:
            pass  # their tops share memory with the value
        elif layer.is_source:
            for index, value in zip(step.tops, layer.next_batch(), strict=True):
                self._store(index, value)
        else:
            self._run(number, step)
        return sum(
            float(torch.dot(self.blobs[index].data.view(-1), self.blobs[index].diff.view(-1)))
            for index, weight in zip(step.tops, step.loss_weights, strict=True)
            if weight
        )

    def _run(self, number: int, step: Step) -> None:
        bottoms = []
        for j, index in enumerate(step.bottoms):
            data = self.blobs[index].data
            # An in-place layer's result overwrites its bottom, which its backward may need.
            bottom = data.clone() if index in step.tops else data
            bottoms.append(bottom.requires_grad_(step.need_backward and step.bottom_need_backward[j]))
        try:
            with torch.set_grad_enabled(step.need_backward):
                tops = step.layer(*bottoms)
        except (MemoryError, RuntimeError) as error:
            step.fail_without_memory(error, bottoms)
            raise
        if isinstance(tops, Tensor):
            tops = (tops,)
        if step.need_backward:
            self._records[number] = _Record(bottoms, tops)
        for index, top in zip(step.tops, tops, strict=True):
            self._store(index, top.detach())

    def _store(self, index: int, value: Tensor) -> None:
        blob = self.blobs[index]
        if blob.shape != tuple(value.shape):
            blob.reshape(tuple(value.shape))
            self.net.note_shape(index, blob.shape)
        blob.data.copy_(value)

    # -- backward -----------------------------------------------------------------------

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run layers ``start`` down to ``end`` (inclusive) from their tops' diffs.

        Diffs of bottoms are overwritten, those of parameters are added to, as in Caffe (but for the
        few that Caffe overwrites: ``Layer.replaces_diff``).
        """
        first = len(self.net.steps) - 1 if start is None else start
        for number in range(first, end - 1, -1):
            self.backward_layer(number)

    def backward_layer(self, number: int) -> None:
        """Run one layer's backward, if Caffe would."""
        step = self.net.steps[number]
        if not step.need_backward or step.layer.is_source:
            return
        shared = self._shared[number]
        if shared is not None:
            if not shared.diff:
                self._add_up_diffs(step)
            return
        needed = [j for j, need in enumerate(step.bottom_need_backward) if need]
        self._check_differentiable(step, needed)
        record = self._records.get(number)
        if record is None:
            step.layer.fail("backward before forward; run forward first")
        owners = [
            p for p, need in zip(step.layer.blobs, step.param_need_backward, strict=True) if need and p.requires_grad
        ]
        params = list({id(p): p for p in owners}.values())
        pairs = [(i, top) for i, top in zip(step.tops, record.tops, strict=True) if top.requires_grad]
        wanted = [record.bottoms[j] for j in needed] + params
        grads: Sequence[Tensor | None] = [None] * len(wanted)
        if pairs and wanted:
            try:
                grads = torch.autograd.grad(
                    [top for _, top in pairs],
                    wanted,
                    [self.blobs[i].diff.clone().view(top.shape) for i, top in pairs],
                    retain_graph=True,
                    allow_unused=True,
                )
            except (MemoryError, RuntimeError) as error:
                step.fail_without_memory(error, record.bottoms)
                raise
        for j, grad in zip(needed, grads, strict=False):
            diff = self.blobs[step.bottoms[j]].diff
            # A layer that works in place may have given the blob more axes.
            diff.zero_() if grad is None else diff.copy_(grad.view(diff.shape))
        shapes = [self.blobs[i].shape for i in step.bottoms]
        replaced = {id(p) for i, p in enumerate(step.layer.blobs) if step.layer.replaces_diff(i, *shapes)}
        for parameter, grad in zip(params, grads[len(needed) :], strict=True):
            if grad is not None:
                diff = ParamBlob(parameter, tuple(parameter.shape)).diff
                diff.copy_(grad) if id(parameter) in replaced else diff.add_(grad)

    def _check_differentiable(self, step: Step, needed: list[int]) -> None:
        layer = step.layer
        if needed and not layer.has_backward:
            layer.fail(f"{layer.type} has no backward, but force_backward or propagate_down asks for one")
        for j in needed:
            if j in layer.no_gradient_bottoms:
                layer.fail(f"cannot backpropagate to bottom {j} (labels); remove its propagate_down or lr_mult below")

    def _add_up_diffs(self, step: Step) -> None:
        """Set the bottom's diff to the sum of the tops'."""
        if step.bottom_need_backward[0]:
            total = self.blobs[step.bottoms[0]].diff
            total.zero_()
            for index in step.tops:
                total.add_(self.blobs[index].diff)

    def clear_param_diffs(self) -> None:
        """Zero the gradients of all parameters."""
        for parameter in self.net.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
