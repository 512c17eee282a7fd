"""Which sizes of an ONNX graph vary from run to run: found by inferring the net's shapes at several sizes of inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caffe_compat.errors import CaffeCompatError, NetError
from caffe_compat.layers.base import Shape
from caffe_compat.net import Net
from caffe_compat.tools._values import AXES

#: heights and widths to try, the cheapest first: factor * n + term.  Where branches meet again, a net wants multiples
#: of its strides
_TRIALS = ((1, 1), (1, 32), (1, 64), (1, 128), (2, 0), (3, 0))


@dataclass
class Sizes:
    """``varying``: by blob number, the axes that vary.  ``trials``: for each set of input sizes that the net takes, the
    present one first, the shapes of all blobs."""

    net: Net
    varying: list[frozenset[int]]
    trials: list[list[Shape]]
    symbols: dict[Shape, str]

    def described(self, blob: int) -> list[int | str]:
        """A blob's shape with a name for each size that varies; sizes that vary alike have one name."""
        described: list[int | str] = []
        for axis, size in enumerate(self.trials[0][blob]):
            if axis not in self.varying[blob]:
                described.append(size)
                continue
            sizes = tuple(shapes[blob][axis] for shapes in self.trials)
            described.append(self.symbols.setdefault(sizes, f"{self.net.blob_names[blob]}_{axis}"))
        return described

    def inputs(self, trial: int) -> dict[str, Shape]:
        """The inputs' shapes of a trial."""
        return {name: self.trials[trial][self.net.blob_names.index(name)] for name in self.net.inputs}


def find_sizes(net: Net, dynamic: Sequence[str]) -> Sizes:
    """What varies where the inputs' ``dynamic`` axes do (keys of AXES).

    CaffeCompatError where no input has such an axis, or a layer's form needs a fixed size.
    """
    present = [net.blob_shapes[name] for name in net.inputs]
    for word in dynamic:
        if word not in AXES:
            raise CaffeCompatError(f"--dynamic {word}: expected some of {', '.join(AXES)}, as --dynamic batch,height")
        if not any(_varies(word, shape) for shape in present):
            raise CaffeCompatError(f"{net.source}: --dynamic {word}: no input has such an axis; leave it out")
    trials = [_infer(net, dict(zip(net.inputs, present, strict=True)), 0)]
    symbols: dict[Shape, str] = {}
    refused: NetError | None = None
    taken = 0
    told_by_data = any(step.layer.data_sized() for step in net.steps)
    for number in range(1, len(_TRIALS) + 1) if dynamic or told_by_data else ():
        grown = {
            name: tuple(
                _grown(size, axis, number)
                if any(AXES[word] == axis and _varies(word, shape) for word in dynamic)
                else size
                for axis, size in enumerate(shape)
            )
            for name, shape in zip(net.inputs, present, strict=True)
        }
        try:
            trials.append(_infer(net, grown, number))
            taken += number > 1  # one pixel more may vanish where a layer rounds
        except NetError as error:
            refused = refused or error
    if not taken and refused is not None:
        asked = f"--dynamic {','.join(dynamic)}: " if dynamic else ""
        raise CaffeCompatError(f"{asked}{refused}: it needs a fixed size") from refused
    varying = [
        frozenset(axis for axis in range(len(shapes[0])) if len({shape[axis] for shape in shapes}) > 1)
        for shapes in zip(*trials, strict=True)
    ]
    sizes = Sizes(net, varying, trials, symbols)
    for word in dynamic:
        for name, shape in zip(net.inputs, present, strict=True):
            if _varies(word, shape):
                blob = net.blob_names.index(name)
                told = tuple(shapes[blob][AXES[word]] for shapes in trials)
                symbols.setdefault(told, word if word not in symbols.values() else f"{name}_{word}")
    return sizes


def _varies(word: str, shape: Shape) -> bool:
    return len(shape) > 0 if word == "batch" else len(shape) == 4


def _grown(size: int, axis: int, number: int) -> int:
    if axis == AXES["batch"]:
        return size + number
    factor, term = _TRIALS[number - 1]
    return factor * size + term


def _infer(net: Net, inputs: Mapping[str, Shape], grown: int) -> list[Shape]:
    """The shapes of all blobs; a top whose size only the data tell is ``grown`` by so many."""
    shapes: list[Shape] = list(net.blob_shapes_in_order)
    for step in net.steps:
        if step.layer.is_source:
            if step.layer.is_input:
                for i in step.tops:
                    shapes[i] = tuple(inputs[net.blob_names[i]])
            continue
        tops = [tuple(shape) for shape in step.layer.infer_shapes(*(shapes[i] for i in step.bottoms))]
        for top, axis in step.layer.data_sized().items():
            rows = tops[top]
            tops[top] = (*rows[:axis], rows[axis] + grown, *rows[axis + 1 :])
        for i, shape in zip(step.tops, tops, strict=True):
            shapes[i] = tuple(shape)
    return shapes
