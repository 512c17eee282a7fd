"""From a net that trains to the net that is deployed: no data, no losses, probabilities in their place."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from caffe_compat.net.graph import Graph, Step
from caffe_compat.proto import caffe_pb2


@dataclass
class Deployed:
    """``param``: the deploy net.  ``changes``: what became of layers that it does not have, each in a few words."""

    param: caffe_pb2.NetParameter
    changes: list[str]


@dataclass
class _Part:
    """A layer of the file and what becomes of it."""

    given: caffe_pb2.LayerParameter
    step: Step
    form: caffe_pb2.LayerParameter | None
    type: str
    #: its tops come of weights somewhere, and so are no mere preparation of labels
    weighted: bool = False
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def deploy(param: caffe_pb2.NetParameter, graph: Graph, replaced: Mapping[str, str] | None = None) -> Deployed:
    """A filtered net without Splits, and its ``graph``, which has them -> its deploy net.

    ``replaced``: {layer: its type} of data layers for which Input layers stand already.

    Sources become Input layers of their present shapes, without the tops that only what was dropped read (labels);
    losses become what ``Layer.deploy_form`` says, or are dropped, and with them the layers without weights that did
    nothing but prepare their labels.
    """
    parts = _parts(param, graph, replaced or {})
    _mark_weighted(parts)
    _drop_unread(parts)
    net = caffe_pb2.NetParameter(name=param.name)
    changes = _name_replaced(parts)
    for part in parts:
        if part.form is None:
            changes.append(f"{_called(part)} is dropped")
        else:
            net.layer.append(_without_training(part.form))
    return Deployed(net, changes)


def _parts(param: caffe_pb2.NetParameter, graph: Graph, replaced: Mapping[str, str]) -> list[_Part]:
    steps = _steps_of(param, graph)
    parts = []
    gone: set[str] = set()  # blobs that only losses and the like wrote
    for given, step in zip(param.layer, steps, strict=True):
        form = step.layer.deploy_form()
        if gone.intersection(given.bottom):
            form = None
        if form is not step.layer.param:
            gone.update(name for name in given.top if form is None or name not in form.top)
        part = _Part(given, step, given if form is step.layer.param else form, replaced.get(given.name, given.type))
        if form is not None and form is not step.layer.param:  # whose bottoms are tops of Splits
            names = dict(zip(step.layer.param.bottom, given.bottom, strict=True))
            form.bottom[:] = [names[name] for name in form.bottom]
        if step.layer.is_source:
            part.form = caffe_pb2.LayerParameter(name=given.name, type="Input")
            part.shapes = {top: graph.shapes[i] for top, i in zip(given.top, step.tops, strict=True)}
        parts.append(part)
    return parts


def _steps_of(param: caffe_pb2.NetParameter, graph: Graph) -> Iterator[Step]:
    """The steps of the file's own layers: those between are Splits that were put in."""
    steps = iter(graph.steps)
    for layer in param.layer:
        yield next(step for step in steps if (step.layer.name, step.layer.type) == (layer.name, layer.type))


def _mark_weighted(parts: Iterable[_Part]) -> None:
    weighted: set[str] = set()
    for part in parts:
        part.weighted = bool(part.step.layer.blobs) or any(name in weighted for name in part.given.bottom)
        if part.weighted:
            weighted.update(part.given.top)
        if part.form is not None and not part.given.top:  # Silence, of labels or of what has weights
            kept = [name for name in part.given.bottom if name in weighted]
            part.form = caffe_pb2.LayerParameter()
            part.form.CopyFrom(part.given)
            part.form.bottom[:] = kept


def _drop_unread(parts: list[_Part]) -> None:
    """Drop what only prepared labels, from the last layer back; and tops of sources that nobody reads now."""
    read: set[str] = set()
    given_up: set[str] = set()
    for part in reversed(parts):
        if part.step.layer.is_source and part.form is not None:
            kept = [top for top in part.given.top if top in read]
            part.form.top.extend(kept)
            for top in kept:
                part.form.input_param.shape.add(dim=part.shapes[top])
            if not kept:
                part.form = None
            continue
        if part.form is not None and not part.weighted and not read.intersection(part.given.top):
            useless = not part.form.bottom if not part.given.top else given_up.issuperset(part.given.top)
            if useless:
                part.form = None
        if part.form is not None:
            read.update(part.form.bottom)
        given_up.update(name for name in part.given.bottom if part.form is None or name not in part.form.bottom)


def _name_replaced(parts: list[_Part]) -> list[str]:
    """Names that the other layers have not, for those put in the place of losses; what became of sources and losses."""
    kept = [part for part in parts if part.form is not None]
    replaced = [
        part for part in kept if part.form is not part.given and part.given.top and not part.step.layer.is_source
    ]
    taken = {name for part in kept if part not in replaced for name in (part.given.name, *part.given.top)}
    changes = []
    for part in parts:
        form = part.form
        if form is None:
            continue
        if part.step.layer.is_source and part.type != form.type:
            sizes = ", ".join(f"{top} {'x'.join(map(str, part.shapes[top]))}" for top in form.top)
            changes.append(f"{_called(part)} is an Input, {sizes}")
        if part.step.layer.is_source:
            changes += [f"{_called(part)} has no {top}" for top in part.given.top if top not in form.top]
        if part in replaced:
            name = form.top[0] if len(replaced) == 1 else f"{form.bottom[0]}_{form.top[0]}"
            while name in taken:
                name += "_"
            taken.add(name)
            form.name = form.top[0] = name
            changes.append(f"{_called(part)} is {name} ({form.type})")
    return changes


def _called(part: _Part) -> str:
    return f"{part.given.name} ({part.type})"


def _without_training(given: caffe_pb2.LayerParameter) -> caffe_pb2.LayerParameter:
    layer = caffe_pb2.LayerParameter()
    layer.CopyFrom(given)
    for name in ("include", "exclude", "loss_weight", "propagate_down"):
        layer.ClearField(name)
    if not any(spec.name for spec in layer.param):  # names say that weights are shared
        layer.ClearField("param")
    return layer
