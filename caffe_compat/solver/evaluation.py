"""The test nets, run over their batches while training pauses."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from caffe_compat.errors import NetError
from caffe_compat.net import Net
from caffe_compat.precision import autocast
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver.average_precision import COLUMNS, Precision, Verdicts
from caffe_compat.solver.log import Log, Score
from caffe_compat.solver.scores import make_scores
from caffe_compat.solver.turns import Turns

Result = tuple[Mapping[str, Tensor], Tensor]  # output blobs, loss


class Evaluation:
    """Runs the test nets of a solver file (``param``) and logs their mean outputs.

    ``interrupted`` is asked before each batch whether to stop; ``run_net`` makes one pass.
    """

    def __init__(
        self,
        param: caffe_pb2.SolverParameter,
        test_nets: Sequence[Net],
        *,
        log: Log,
        interrupted: Callable[[], bool],
        run_net: Callable[[Net], Result],
    ) -> None:
        self._param, self._nets, self._run_net = param, test_nets, run_net
        self._log, self._interrupted = log, interrupted

    def is_due(self, iteration: int) -> bool:
        """Whether an iteration begins with tests."""
        interval = self._param.test_interval
        return bool(interval) and iteration % interval == 0 and (iteration > 0 or self._param.test_initialization)

    def run(self, iteration: int, number: int) -> Turns[list[Score]]:
        """Run test net ``number`` over its test_iter batches, a turn for each: the mean of each output, or nothing when
        interrupted.
        """
        self._log.testing(iteration, number)
        compute_loss = self._param.test_compute_loss
        net, batches = self._nets[number], self._param.test_iter[number]
        if self._param.eval_type == "detection":
            return (yield from self._run_detection(iteration, number))
        result = yield from evaluate(
            net, batches, self._run_net, compute_loss=compute_loss, interrupted=self._interrupted
        )
        if result is None:
            self._log.test_interrupted()
            return []
        mean_loss, scores = result
        self._log.test(iteration, number, mean_loss, scores)
        return scores

    def _run_detection(self, iteration: int, number: int) -> Turns[list[Score]]:
        """SSD's test: the mean average precision of each output, all made by DetectionEvaluate."""
        param, net = self._param, self._nets[number]
        result = yield from evaluate_detections(
            net,
            param.test_iter[number],
            self._run_net,
            version=param.ap_version,
            compute_loss=param.test_compute_loss,
            interrupted=self._interrupted,
        )
        if result is None:
            self._log.test_interrupted()
            return []
        loss, found = result
        self._log.test_detection(iteration, number, loss, found, per_class=param.show_per_class_result)
        return [Score(name, precision.mean) for name, precision in found.items()]


def evaluate_detections(
    net: Net,
    batches: int,
    run_net: Callable[[Net], Result],
    *,
    version: str,
    compute_loss: bool,
    interrupted: Callable[[], bool],
) -> Turns[tuple[float | None, dict[str, Precision]] | None]:
    """(mean loss or None, {output: average precision of ``version``}) over ``batches`` forward passes.

    NetError where an output is not DetectionEvaluate's.  None when ``interrupted``, asked before each batch, says yes.
    """
    verdicts = {name: Verdicts() for name in net.outputs}
    loss = 0.0
    for _ in range(batches):
        if interrupted():
            return None
        outputs, batch_loss = run_net(net)
        loss += float(batch_loss) if compute_loss else 0.0
        for name, own in verdicts.items():
            shape = outputs[name].shape
            if len(shape) != 4 or shape[3] != COLUMNS:
                raise NetError(
                    f'{net.source}: output "{name}" has shape {tuple(shape)}; eval_type "detection" expects outputs of '
                    f"DetectionEvaluate, (1, 1, rows, {COLUMNS}); send others to a Silence layer"
                )
            own.add(outputs[name].detach().float().cpu().reshape(-1, COLUMNS).numpy())
        yield
    found = {name: own.precision(version) for name, own in verdicts.items()}
    return loss / batches if compute_loss and batches else None, found


def evaluate(
    net: Net, batches: int, run_net: Callable[[Net], Result], *, compute_loss: bool, interrupted: Callable[[], bool]
) -> Turns[tuple[float | None, list[Score]] | None]:
    """(mean loss or None, mean of every number in the outputs) over ``batches`` forward passes.

    ``compute_loss``: whether the loss is wanted.  None when ``interrupted``, asked before each batch, says yes.
    """
    total: Tensor | None = None
    outputs: Mapping[str, Tensor] = {}
    loss = torch.zeros((), dtype=torch.float64)
    for _ in range(batches):
        if interrupted():
            return None
        outputs, batch_loss = run_net(net)
        values = [outputs[name].detach().reshape(-1) for name in net.outputs]
        flat = torch.cat(values) if values else torch.zeros(0)
        check_same_size(net, outputs, flat, total)
        total = flat.clone() if total is None else total + flat
        if compute_loss:
            loss = loss.to(batch_loss.device) + batch_loss.detach()
        yield
    means = [] if total is None else (total / batches).tolist()
    return float(loss) / batches if compute_loss and batches else None, make_scores(net, outputs, means)


def check_same_size(net: Net, outputs: Mapping[str, Tensor], values: Tensor, total: Tensor | None) -> None:
    """NetError where a batch has another number of ``values`` than those in ``total``: they have no mean."""
    if total is not None and len(values) != len(total):
        shapes = ", ".join(f"{name} {tuple(outputs[name].shape)}" for name in net.outputs)
        raise NetError(
            f"{net.source}: a batch has {len(values)} output values ({shapes}), the one before {len(total)}; outputs "
            'of DetectionEvaluate need a solver with eval_type: "detection"'
        )


def forward(net: Net, precision: str) -> Result:
    """A forward pass without gradients: (output blobs, loss)."""
    with torch.no_grad(), autocast(net.device, precision):
        return net.forward_with_loss()
