"""What RNN and LSTM share: inputs over time, continuation flags, and the state between batches.

T N H in shape comments: timesteps, independent streams, hidden units.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.layers.base import Layer, Shape, count
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fillers import fill

if TYPE_CHECKING:
    from caffe_compat.onnx_graph import Dim, OnnxGraph, OnnxStep

MOST_UNROLLED = 64  # steps that an ONNX file has one by one, which readers without Scan take
MAX_TIMESTEPS = 100_000  # Caffe builds a few layers for each


class Recurrent(Layer):
    """Bottoms x (T, N, ...), cont (T, N): 0 where a sequence starts, then optionally a static input
    (N, ...), and with ``expose_hidden`` the initial state(s) (1, N, H) -> tops (T, N, H), and with
    ``expose_hidden`` the final state(s).

    Without ``expose_hidden`` the state is carried from one forward to the next.  No gradient
    crosses from batch to batch, not even through exposed states (as in Caffe).
    """

    #: names of the parts of the state
    state_names: ClassVar[tuple[str, ...]] = ()
    #: values per hidden unit that the linear part makes
    gates: ClassVar[int] = 1
    #: Caffe's gates in the order of ONNX's
    onnx_gates: ClassVar[tuple[int, ...]] = (0,)
    param_fields = ("recurrent_param",)
    bottom_count = (2, None)
    top_count = (1, None)
    no_gradient_bottoms = (1,)
    drawing_kind = "weights"

    def setup(self, *bottoms: Shape) -> None:
        param = self.param.recurrent_param
        self.num_output, self.expose_hidden = int(param.num_output), bool(param.expose_hidden)
        if self.num_output < 1:
            self.fail("recurrent_param.num_output is missing or 0; expected at least 1")
        if param.debug_info:
            self.warn("recurrent_param.debug_info has no effect: there is no inner net to report on")
        exposed = len(self.state_names) if self.expose_hidden else 0
        if len(bottoms) not in (2 + exposed, 3 + exposed) or len(self.param.top) != 1 + exposed:
            self.fail(
                f"has {len(bottoms)} bottoms and {len(self.param.top)} tops; expected {2 + exposed} bottoms, or "
                f"{3 + exposed} with a static input, and {1 + exposed} tops"
            )
        self.has_static = len(bottoms) > 2 + exposed
        self.timesteps = bottoms[0][0] if bottoms[0] else 0
        self._check_bottoms(*bottoms)
        if self.timesteps > MAX_TIMESTEPS:
            self.fail(
                f"bottom 0 has {self.timesteps} timesteps; expected at most {MAX_TIMESTEPS}: each is a step of its own"
            )
        self._add_blobs(count(bottoms[0], 2), count(bottoms[2], 1) if self.has_static else 0)
        for name in self.state_names:
            state = torch.zeros(1, bottoms[0][1], self.num_output, dtype=self.context.dtype)
            self.register_buffer(f"last_{name}", state, persistent=False)

    def _add_blobs(self, inputs: int, static_inputs: int) -> None:
        param, outputs = self.param.recurrent_param, self.gates * self.num_output
        self.add_blob("weight", (outputs, inputs), lambda t: fill(t, param.weight_filler))
        self.add_blob("bias", (outputs,), lambda t: fill(t, param.bias_filler))
        if self.has_static:
            self.add_blob("static_weight", (outputs, static_inputs), lambda t: fill(t, param.weight_filler))
        self.first_step_blob = len(self.blobs)
        for step in range(self.timesteps):
            for name, shape in self.step_blobs().items():
                filler = param.bias_filler if name.endswith("bias") else param.weight_filler
                if step == 0:
                    self.add_blob(name, shape, partial(fill, filler=filler))
                elif not self.context.shapes_only:
                    # Caffe fills a shared parameter in every step, which moves the random stream on.
                    fill(torch.empty(shape, dtype=self.context.dtype), filler)

    def step_blobs(self) -> dict[str, Shape]:
        """Names and shapes of the parameters that every step uses, in Caffe's order."""
        return {"hidden_weight": (self.gates * self.num_output, self.num_output)}

    def run_steps(self, projected: Tensor, cont: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """projected (T, N, gates * H): the inputs after their weights; cont (T, N); state (N, H) each
        -> the top (T, N, H) and the final state."""
        raise TypeError(f"{type(self).__name__} lacks run_steps")

    def _check_bottoms(self, *bottoms: Shape) -> None:
        x, cont = bottoms[:2]
        if len(x) < 3 or x[0] < 1:
            self.fail(f"bottom 0 has shape {x}; expected (timesteps, streams, inputs, ...)")
        if x[0] != self.timesteps:
            self.fail(f"bottom 0 has {x[0]} timesteps; the net was made for {self.timesteps}")
        if cont != x[:2]:
            self.fail(f"bottom 1 has shape {cont}; expected {x[:2]}, one continuation flag per step and stream")
        if self.has_static and (len(bottoms[2]) < 2 or bottoms[2][0] != x[1]):
            self.fail(f"bottom 2 (static input) has shape {bottoms[2]}; expected ({x[1]}, inputs, ...)")
        if self.blobs:
            inputs = {0: count(x, 2)} | ({2: count(bottoms[2], 1)} if self.has_static else {})
            for i, number in inputs.items():
                if number != self.blob_shapes[i][1]:
                    self.fail(f"bottom {i} has shape {bottoms[i]}; the weights take {self.blob_shapes[i][1]} inputs")
        for i, state in enumerate(bottoms[2 + self.has_static :], 2 + self.has_static):
            if state != (1, x[1], self.num_output):
                self.fail(f"bottom {i} (initial state) has shape {state}; expected {(1, x[1], self.num_output)}")

    def infer_shapes(self, *bottoms: Shape) -> list[Shape]:
        self._check_bottoms(*bottoms)
        steps, streams = bottoms[0][:2]
        tops: list[Shape] = [(steps, streams, self.num_output)]
        if self.expose_hidden:
            tops += [(1, streams, self.num_output)] * len(self.state_names)
        return tops

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        x, cont = bottoms[0].flatten(2), bottoms[1].detach()
        projected = functional.linear(x, self.blob(0), self.blob(1))
        if self.has_static:
            projected = projected + functional.linear(bottoms[2].flatten(1), self.blob(2))
        if self.expose_hidden:
            initial = [state.detach() for state in bottoms[2 + self.has_static :]]
        else:
            initial = self._last_state(x)
        top, final = self.run_steps(projected, cont, [state[0] for state in initial])
        final = [state.detach().unsqueeze(0) for state in final]
        if self.expose_hidden:
            return (top, *final)
        for name, state in zip(self.state_names, final, strict=True):
            getattr(self, f"last_{name}").copy_(state)
        return (top,)

    def to_onnx(self, graph: "OnnxGraph", step: "OnnxStep") -> list[str]:
        """An ONNX file has no state of its own: without ``expose_hidden`` each run begins with zeros.

        Where cont is constant and 1 from the second step on, ONNX's own operator; else, as that cannot begin anew in
        the middle, the steps one by one, or as a loop (Scan) over many.
        """
        x, cont, *others = step.bottoms
        dims = step.dims()
        if len(dims) > 3:
            x = graph.reshape(x, [*dims[:2], -1])
        static = None
        if self.has_static:
            static = others.pop(0) if len(step.bottom_shapes[2]) == 2 else graph.add("Flatten", others.pop(0), axis=1)
        flags = graph.known(cont)
        if flags is not None and (flags[1:] == 1).all():
            if others and not (flags[0] == 1).all():
                others = [graph.add("Mul", state, graph.constant(flags[0][:, None])) for state in others]
            hidden, *final = self._onnx_whole(graph, x, static, others, dims[1])
        else:
            projected = graph.add("MatMul", x, graph.constant(self.blob(0).t()))
            projected = graph.add("Add", projected, graph.constant(self.blobs[1]))
            if static is not None:
                projected = graph.add("Add", projected, graph.add("MatMul", static, graph.constant(self.blob(2).t())))
            flag = graph.unsqueeze(graph.read(cont), [2])
            state = others or [self._onnx_zeros(graph, dims[1])] * len(self.state_names)
            unroll = self._onnx_unrolled if self.timesteps <= MOST_UNROLLED else self._onnx_scan
            hidden, *final = unroll(graph, projected, flag, state)
        return [self.onnx_top(graph, hidden), *(final if self.expose_hidden else ())]

    def _onnx_zeros(self, graph: "OnnxGraph", streams: "Dim") -> str:
        if isinstance(streams, int):
            return graph.constant(np.zeros((1, streams, self.num_output)))
        return graph.add("Expand", graph.constant([[[0.0]]]), graph.shape([1, streams, self.num_output]))

    def _onnx_unrolled(self, graph: "OnnxGraph", projected: str, flag: str, state: list[str]) -> list[str]:
        steps = self.timesteps
        parts, flags = (
            graph.add_many("Split", [value, graph.sizes([1] * steps)], steps, axis=0) if steps > 1 else [value]
            for value in (projected, flag)
        )
        weight, hidden = graph.constant(self.blob(self.first_step_blob).t()), []
        for part, flag_now in zip(parts, flags, strict=True):
            state = self.onnx_step(graph, part, flag_now, state, weight)
            hidden.append(state[0])
        return [graph.add("Concat", *hidden, axis=0), *state]

    def _onnx_scan(self, graph: "OnnxGraph", projected: str, flag: str, state: list[str]) -> list[str]:
        weight, body = graph.constant(self.blob(self.first_step_blob).t()), graph.subgraph("step")
        given = [body.unique(f"{self.name}/step/{name}") for name in (*self.state_names, "part", "flag")]
        count_of_states = len(self.state_names)
        *before, part, flag_now = given
        after = self.onnx_step(body, part, flag_now, before, weight)
        # The top's name must not be that of the state.
        results = [*after, body.add("Identity", after[0])]
        found = graph.add_many(
            "Scan", [*state, projected, flag], count_of_states + 1, num_scan_inputs=2, body=body.body(given, results)
        )
        hidden = graph.add("Squeeze", found[-1], graph.sizes([1]))
        return [hidden, *found[:-1]]

    def onnx_step(self, graph: "OnnxGraph", part: str, flag: str, state: list[str], weight: str) -> list[str]:
        """``run_steps`` for one step as nodes: part ([1,] N, gates * H), flag ([1,] N, 1), state (1, N, H), h first;
        ``weight``: (H, gates * H) -> the state after it."""
        raise TypeError(f"{type(self).__name__} lacks onnx_step")

    def onnx_top(self, graph: "OnnxGraph", hidden: str) -> str:
        """The top from h of every step (T, N, H)."""
        return hidden

    def _onnx_whole(
        self, graph: "OnnxGraph", x: str, static: str | None, state: list[str], streams: "Dim"
    ) -> list[str]:
        """ONNX's own operator: h of every step, and the final state."""
        weights, order = [self.blob(0)], self.onnx_gates
        if static is not None:  # more inputs, the same at each step
            weights.append(self.blob(2))
            shape = graph.shape([self.timesteps, streams, self.blob_shapes[2][1]])
            x = graph.add("Concat", x, graph.add("Expand", graph.unsqueeze(static, [0]), shape), axis=2)
        rows = torch.cat([torch.arange(self.num_output) + gate * self.num_output for gate in order])
        bias = torch.cat((self.blob(1)[rows], torch.zeros_like(self.blob(1))))
        recurrent = self.blob(self.first_step_blob)
        parameters = [
            graph.constant(part.unsqueeze(0)) for part in (torch.cat(weights, 1)[rows], recurrent[rows], bias)
        ]
        inputs = [x, *parameters, *(["", *state] if state else [])]
        found = graph.add_many(self.type, inputs, 1 + len(self.state_names), hidden_size=self.num_output)
        return [graph.add("Squeeze", found[0], graph.sizes([1])), *found[1:]]

    def _last_state(self, x: Tensor) -> list[Tensor]:
        if self._buffers[f"last_{self.state_names[0]}"].shape[1] != x.shape[1]:  # type: ignore[union-attr]
            # A new number of streams starts from zero.
            for name in self.state_names:
                setattr(self, f"last_{name}", x.new_zeros(1, x.shape[1], self.num_output))
        # Copies, because the buffers are overwritten before backward reads these.
        return [getattr(self, f"last_{name}").clone() for name in self.state_names]

    def index_limits(self, *bottom_shapes: Shape) -> dict[int, int]:
        return {1: 2}

    def flops(self, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
        matrices = sum(count(shape) for shape in self.blob_shapes if len(shape) == 2)
        return 2 * count(bottom_shapes[0], 0, 2) * matrices

    @classmethod
    def example(cls, dice: Dice) -> Example:
        t, n, d = dice.integer(1, 4), dice.integer(1, 3), dice.integer(1, 4)
        bottoms = [dice.normal(t, n, d), dice.indices(2, t, n)]
        if dice.integer(0, 1):
            bottoms.append(dice.normal(n, dice.integer(1, 3)))
        return Example(f"recurrent_param {{ num_output: {dice.integer(1, 4)} }}", bottoms)
