"""Caffe's own way of running a net: layer by layer, over blobs with data and diff.

``Net.forward`` builds one autograd graph; this engine instead keeps every blob's value and
gradient where a caller can read and write them between layers, and can run any range of layers.
pycaffe, ``debug_info`` and ``caffe time`` stand on it.
"""

import torch

from caffe_compat.net.blobs import ParamBlob, Place, TensorBlob
from caffe_compat.net.layer_runs import InputRun, LayerRun, make_run
from caffe_compat.net.net import Net


class BlobEngine:
    """Blobs for every blob and parameter of a Net, and passes over any range of layers.

    As in Caffe a layer shapes its tops just before it runs, so that layers that do not run keep theirs.  The blobs
    live on the net's device; the host sees copies, made when somebody asks (``place`` counts them).

    ``place``: where that is; nets that share parameters share it, too.  None: the net's own device.
    """

    def __init__(self, net: Net, place: Place | None = None) -> None:
        self.net = net
        self.place = place or self.place_of(net)
        net.check_memory()
        self.blobs = [TensorBlob(shape, self.place) for shape in net.blob_shapes_in_order]
        self.params = [
            [ParamBlob(step.layer, i, self.place) for i in range(len(step.layer.blobs))] for step in net.steps
        ]
        self.runs = [
            make_run(step, [self.blobs[i] for i in step.bottoms], [self.blobs[i] for i in step.tops], params)
            for step, params in zip(net.steps, self.params, strict=True)
        ]
        for run in self.runs:
            with run.memory_errors:
                run.begin()

    def place_of(self, net: Net) -> Place:
        """A place on the net's device."""
        return Place(net.device, net.dtype, apart=net.device.type != "cpu")

    def reshape(self) -> None:
        """Carry the present shapes of the source blobs through the net."""
        for run in self.runs:
            run.reshape()
        self._note_shapes()

    def _note_shapes(self) -> None:
        self.net.note_shapes([blob.shape for blob in self.blobs])

    def lead_inputs(self) -> None:
        """Let the net, run as a module without inputs, take what stands in our input blobs."""
        for run in self.runs:
            if isinstance(run, InputRun):
                run.lead()

    def flush(self) -> None:
        """Bring to the device what a caller wrote into parameters on the host."""
        if self.place.apart:
            for params in self.params:
                for param in params:
                    param.flush()

    # -- forward ------------------------------------------------------------------------

    @torch.no_grad()
    def forward(self, start: int = 0, end: int | None = None) -> float:
        """Run layers ``start`` to ``end`` (inclusive); returns their weighted loss."""
        loss = 0.0
        for run in self.runs[start : len(self.runs) if end is None else end + 1]:
            loss += self._forward(run)
        self._note_shapes()
        return loss

    @torch.no_grad()
    def forward_layer(self, number: int) -> float:
        """Run one layer on its bottoms' data; returns its weighted loss."""
        return self._forward(self.runs[number])

    def _forward(self, run: LayerRun) -> float:
        if self.place.apart:
            for param in run.params:
                param.flush()
        with run.memory_errors:
            run.reshape()
            run.forward()
        return run.loss() if run.weighted else 0.0

    # -- backward -----------------------------------------------------------------------

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run layers ``start`` down to ``end`` (inclusive) from their tops' diffs.

        Diffs of bottoms are overwritten, those of parameters are added to, as in Caffe (but for the
        few that Caffe overwrites: ``Layer.replaces_diff``).
        """
        first = len(self.runs) - 1 if start is None else start
        for number in range(first, end - 1, -1):
            self.backward_layer(number)

    @torch.no_grad()
    def backward_layer(self, number: int) -> None:
        """Run one layer's backward, if Caffe would."""
        if self._is_ready_for_backward(number):
            with self.runs[number].memory_errors:
                self.runs[number].backward()

    @torch.no_grad()
    def deconv_layer(self, number: int, *, guided: bool) -> None:
        """Run one layer's backward as in a deconvnet, if Caffe would run a backward."""
        if self._is_ready_for_backward(number):
            with self.runs[number].memory_errors:
                self.runs[number].deconv(guided=guided)

    def _is_ready_for_backward(self, number: int) -> bool:
        run = self.runs[number]
        if run.step.need_backward and self.place.apart:
            for param in run.params:
                param.flush()
        return run.step.need_backward

    @torch.no_grad()
    def clear_param_diffs(self) -> None:
        """Zero the gradients of all parameters."""
        for params in self.params:
            for param in params:
                if param.parameter.grad is not None:
                    param.diff_memory.write().zero_()
