"""One layer over blobs: Caffe's Reshape, Forward and Backward, by the kind of layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor, nn

from caffe_compat.layers.base import Shape, SharedMemory
from caffe_compat.layers.input import Input
from caffe_compat.net.blobs import ParamBlob, TensorBlob
from caffe_compat.net.graph import Step


class MemoryErrors:
    """Around a layer's work: where there is no memory for it the error names layer and blobs."""

    def __init__(self, step: Step, bottoms: list[TensorBlob]) -> None:
        self._step, self._bottoms = step, bottoms

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, MemoryError | RuntimeError):
            self._step.fail_without_memory(error, self._bottoms)


class LayerRun:
    """A layer with the blobs that it reads and writes."""

    def __init__(self, step: Step, bottoms: list[TensorBlob], tops: list[TensorBlob], params: list[ParamBlob]) -> None:
        self.step, self.layer = step, step.layer
        self.bottoms, self.tops, self.params = bottoms, tops, params
        self.memory_errors = MemoryErrors(step, bottoms)
        #: tops with a loss weight
        self.weighted = [top for top, weight in zip(tops, step.loss_weights, strict=True) if weight]

    def begin(self) -> None:
        """The net has been built: put loss weights into the diffs of their tops, where they stay until somebody writes.

        As in Caffe that happens once: a top that outgrows its memory in a reshape loses its weights.
        """
        for top, weight in zip(self.tops, self.step.loss_weights, strict=True):
            if weight:
                top.diff.fill_(weight)

    def use_param(self, index: int, param: ParamBlob) -> None:
        """Work with another layer's parameter from now on; NetError where it has another shape."""
        own = self.params[index]
        if param.shape != own.shape:
            self.layer.fail(f"param {index} has shape {own.shape}; the one to use instead has {param.shape}")
        if own.parameter.requires_grad:
            param.parameter.requires_grad_()
        self.layer.share_blob(index, param.parameter)
        self.params[index] = param

    def reshape(self) -> None:
        """Give the tops the shapes that follow from the bottoms'."""

    def forward(self) -> None:
        """Compute the tops."""

    def backward(self) -> None:
        """Compute the diffs of bottoms and parameters from those of the tops."""

    def deconv(self, *, guided: bool) -> None:
        """Backward as in a deconvnet (``Layer.deconvolved``), which leaves the diffs of parameters alone."""
        self.backward()

    def loss(self) -> float:
        """The weighted loss of the tops."""
        total = 0.0
        for top in self.weighted:
            total += float(torch.dot(top.read_data().view(-1), top.read_diff().view(-1)))
        return total


class InputRun(LayerRun):
    """A layer whose tops the caller writes; they begin with what it holds."""

    def begin(self) -> None:
        super().begin()
        if isinstance(self.layer, Input):
            for top, value in zip(self.tops, self.layer.held, strict=True):
                if value is not None:
                    _store(top, value, fresh=False)

    def lead(self) -> None:
        """From now on the layer gives the tops' data when the net runs as a module."""
        if isinstance(self.layer, Input):
            self.layer.follow([top.read_data for top in self.tops])


class SourceRun(LayerRun):
    """A layer that reads data: its tops take the shape of what comes."""

    def begin(self) -> None:
        self._take(self.layer.first_values())
        super().begin()

    def forward(self) -> None:
        self._take(self.layer.next_values([top.shape for top in self.tops]))

    def _take(self, values: Sequence[Tensor | None]) -> None:
        for top, value in zip(self.tops, values, strict=True):
            if value is not None:
                _store(top, value, fresh=False)


class _ShapedRun(LayerRun):
    """A layer whose tops' shapes follow from the bottoms'."""

    _seen: list[Shape] | None = None
    _shapes: Sequence[Shape] = ()

    def reshape(self) -> None:
        shapes = [bottom.shape for bottom in self.bottoms]
        if shapes != self._seen:
            self._shapes = self.layer.infer_shapes(*shapes)
            for shape in self._shapes:
                self.layer.check_count("a top", shape)
            self._seen = shapes
        for top, shape in zip(self.tops, self._shapes, strict=True):
            if top.shape != shape:
                top.reshape(shape)


class SharedRun(_ShapedRun):
    """A layer whose tops are other views of one memory: it runs by pointing there."""

    def __init__(
        self,
        step: Step,
        bottoms: list[TensorBlob],
        tops: list[TensorBlob],
        params: list[ParamBlob],
        shared: SharedMemory,
    ) -> None:
        super().__init__(step, bottoms, tops, params)
        self.shared = shared

    @property
    def owner(self) -> TensorBlob | ParamBlob:
        """Whose memory the tops are."""
        return self.params[0] if self.shared.of_parameter else self.bottoms[0]

    def begin(self) -> None:
        self.reshape()
        super().begin()

    def reshape(self) -> None:
        super().reshape()
        if self.shared.since == "reshape":
            self._point()

    def forward(self) -> None:
        if self.shared.since == "forward":
            self._point()

    def _point(self) -> None:
        for top in self.tops:
            top.share_data(self.owner)
            if self.shared.diff == "shared":
                top.share_diff(self.owner)

    def backward(self) -> None:
        if not self.step.bottom_need_backward or not self.step.bottom_need_backward[0]:
            return
        bottom = self.bottoms[0]
        if self.shared.diff == "backward":
            bottom.share_diff(self.tops[0])
        elif self.shared.diff == "added":
            total = bottom.diff
            first, *others = (top.read_diff().view(total.shape) for top in self.tops)
            total.copy_(first)
            for diff in others:
                total.add_(diff)


class BlobLayerRun(LayerRun):
    """A layer that works on the blobs themselves (Python)."""

    def begin(self) -> None:
        self.layer.attach_blobs(self.bottoms, self.tops, self.params)
        super().begin()

    def reshape(self) -> None:
        self.layer.reshape_blobs()

    def forward(self) -> None:
        self.layer.forward_blobs()

    def backward(self) -> None:
        self.layer.backward_blobs(self.step.bottom_need_backward)


@dataclass
class _Record:
    """What one forward left for the backward: autograd's graph between ``bottoms`` and ``tops``."""

    bottoms: list[Tensor]
    tops: Sequence[Tensor]
    params: list[tuple[int, int]]


class TensorRun(_ShapedRun):
    """A layer that computes: its forward under autograd, whose record its backward uses while that tells the truth.

    Caffe's backward reads the blobs as they are at that time (autograd saves these very tensors, so that a write into
    one is seen), but for what its forward has kept (``Layer.keeps_forward``).
    """

    def __init__(self, step: Step, bottoms: list[TensorBlob], tops: list[TensorBlob], params: list[ParamBlob]) -> None:
        super().__init__(step, bottoms, tops, params)
        layer = step.layer
        self._needed = [j for j, need in enumerate(step.bottom_need_backward) if need]
        self._learned = self._find_learned()
        self._in_place = [bottom in step.tops for bottom in step.bottoms]
        self._by_formula = layer.has_gradient_now()
        self._records = step.need_backward and (layer.keeps_forward or not self._by_formula)
        self._record: _Record | None = None

    def _find_learned(self) -> list[nn.Parameter]:
        """The parameters that get gradients, each once."""
        needed = [p.parameter for p, need in zip(self.params, self.step.param_need_backward, strict=True) if need]
        return list({id(parameter): parameter for parameter in needed if parameter.requires_grad}.values())

    def use_param(self, index: int, param: ParamBlob) -> None:
        super().use_param(index, param)
        self._learned, self._record = self._find_learned(), None

    def forward(self) -> None:
        self._record = None
        if not self._records:
            bottoms = [bottom.peek_data() for bottom in self.bottoms]
            tops = self._call(bottoms)
        else:
            record = self._make_record([self._kept(j) for j in range(len(self.bottoms))])
            self._record = record
            bottoms, tops = record.bottoms, record.tops
        held = [bottom.data_ptr() for bottom in bottoms]
        for blob, top in zip(self.tops, tops, strict=True):
            _store(blob, top, fresh=_is_fresh(top, held))

    def _call(self, bottoms: list[Tensor]) -> Sequence[Tensor]:
        tops = self.layer(*bottoms)
        return (tops,) if isinstance(tops, Tensor) else tops

    def _make_record(self, bottoms: list[Tensor]) -> _Record:
        leaves = [bottom.data.requires_grad_(j in self._needed) for j, bottom in enumerate(bottoms)]
        with torch.enable_grad():
            tops = self._call(leaves)
        return _Record(leaves, tops, self._param_versions())

    def _kept(self, j: int) -> Tensor:
        """Bottom ``j`` for a record: a copy where somebody may overwrite what has to be kept."""
        blob = self.bottoms[j]
        value = blob.read_data()
        exposed = blob.data_memory.exposed and not blob.place.apart
        overwritten = self._in_place[j] and (exposed or blob.data_memory.count != blob.count)
        return value.clone() if overwritten or (exposed and self.layer.keeps_forward) else value

    def _param_versions(self) -> list[tuple[int, int]]:
        if self.layer.keeps_forward and not self._learned:
            return []  # its backward does not read them (BatchNorm's averages)
        return [(p.parameter.data_ptr(), p.parameter._version) for p in self.params]

    # -- backward -----------------------------------------------------------------------

    def deconv(self, *, guided: bool) -> None:
        diff = None
        if self._needed == [0]:
            diff = self.layer.deconvolved(self.bottoms[0].read_data(), self.tops[0].read_diff(), guided=guided)
        if diff is None:
            self._go_back([])
        else:
            self._store_diffs([diff])

    def backward(self) -> None:
        self._go_back(self._learned)

    def _go_back(self, learned: list[nn.Parameter]) -> None:
        self._check_differentiable()
        if not self._needed and not learned:
            return
        if self._by_formula and self._reads_now():
            kept = self._record.bottoms[0].detach() if self._record else self.bottoms[0].read_data()
            diff = self.layer.gradient_now(
                self.bottoms[0].read_data(), self.tops[0].read_data(), self.tops[0].read_diff(), kept
            )
            self._store_diffs([diff])
            return
        record = self._present_record()
        pairs = [(blob, top) for blob, top in zip(self.tops, record.tops, strict=True) if top.requires_grad]
        wanted = [record.bottoms[j] for j in self._needed] + learned
        grads: Sequence[Tensor | None] = [None] * len(wanted)
        if pairs:
            grads = torch.autograd.grad(
                [top for _, top in pairs],
                wanted,
                [blob.read_diff().view(top.shape) for blob, top in pairs],
                retain_graph=True,
                allow_unused=True,
            )
        self._store_diffs(grads[: len(self._needed)])
        self._add_to_params(learned, grads[len(self._needed) :])

    def _check_differentiable(self) -> None:
        layer = self.layer
        if self._needed and not layer.has_backward:
            layer.fail(f"{layer.type} has no backward, but force_backward or propagate_down asks for one")
        for j in self._needed:
            if j in layer.no_gradient_bottoms:
                layer.fail(f"cannot backpropagate to bottom {j} (labels); remove its propagate_down or lr_mult below")

    def _reads_now(self) -> bool:
        """Whether the formula over the blobs is asked: where no record stands for the same numbers."""
        if self._record is None:
            return True
        return self.bottoms[0].data_memory.exposed or self.tops[0].data_memory.exposed

    def _present_record(self) -> _Record:
        """The last forward's record where it holds; else the layer runs again, on the blobs as they are now."""
        record, layer = self._record, self.layer
        shapes = [bottom.shape for bottom in self.bottoms]
        if record is None or [tuple(bottom.shape) for bottom in record.bottoms] != shapes:
            kept: list[Tensor | None] = [None] * len(shapes)
        else:
            kept = [
                bottom if (self._in_place[j] or layer.keeps_forward) and j not in layer.reads_again else None
                for j, bottom in enumerate(record.bottoms)
            ]
            unmoved = all(keep is not None or self._is_current(j, record.bottoms[j]) for j, keep in enumerate(kept))
            if unmoved and record.params == self._param_versions():
                return record
        bottoms = [self.bottoms[j].read_data() if keep is None else keep.detach() for j, keep in enumerate(kept)]
        record = self._make_record(bottoms)
        for blob, top in zip(self.tops, record.tops, strict=True):
            if blob.count != top.numel():
                layer.fail(
                    f"backward after a reshape: a top has shape {blob.shape}, the bottoms now make {tuple(top.shape)}; "
                    "run forward first"
                )
        self._record = record
        return record

    def _is_current(self, j: int, recorded: Tensor) -> bool:
        blob = self.bottoms[j]
        if j in self.layer.reads_again and blob.data_memory.exposed:
            return False  # the layer has made something else of it (whole numbers of labels)
        return recorded.data_ptr() == blob.read_data().data_ptr()

    def _store_diffs(self, grads: Sequence[Tensor | None]) -> None:
        for j, grad in zip(self._needed, grads, strict=True):
            blob = self.bottoms[j]
            if grad is None:
                blob.diff.zero_()
            else:
                # A layer that works in place may have given the blob more axes.
                blob.diff_memory.put(grad.reshape(blob.shape), fresh=False)

    def _add_to_params(self, learned: list[nn.Parameter], grads: Sequence[Tensor | None]) -> None:
        if not learned:
            return
        shapes = [bottom.shape for bottom in self.bottoms]
        replaced = {id(p.parameter) for i, p in enumerate(self.params) if self.layer.replaces_diff(i, *shapes)}
        blobs = {id(p.parameter): p for p in self.params}
        for parameter, grad in zip(learned, grads, strict=True):
            if grad is not None:
                diff = blobs[id(parameter)].diff_memory.write()
                flat = grad.reshape(-1)
                diff.copy_(flat) if id(parameter) in replaced else diff.add_(flat)


def _is_fresh(top: Tensor, held: list[int]) -> bool:
    """Whether ``top`` fills a storage of its own, none of those that begin in ``held``."""
    if top.storage_offset() or top.data_ptr() in held:
        return False
    return top.untyped_storage().nbytes() == top.numel() * top.element_size()


def _store(blob: TensorBlob, value: Tensor, *, fresh: bool) -> None:
    if blob.shape != value.shape:
        blob.reshape(tuple(value.shape))
    blob.data_memory.put(value, fresh=fresh)


def make_run(step: Step, bottoms: list[TensorBlob], tops: list[TensorBlob], params: list[ParamBlob]) -> LayerRun:
    """The run of a step's kind."""
    if step.layer.is_input:
        return InputRun(step, bottoms, tops, params)
    if step.layer.runs_on_blobs:
        return BlobLayerRun(step, bottoms, tops, params)
    if step.layer.is_source:
        return SourceRun(step, bottoms, tops, params)
    shared = step.shared_memory
    if shared is not None:
        return SharedRun(step, bottoms, tops, params, shared)
    return TensorRun(step, bottoms, tops, params)
