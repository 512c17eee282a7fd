"""Which layers of a NetParameter take part: include and exclude rules against a NetState."""

from caffe_compat.errors import NetError
from caffe_compat.proto import Source, caffe_pb2


def filter_net(net_param: caffe_pb2.NetParameter, source: Source) -> caffe_pb2.NetParameter:
    """A copy of ``net_param`` without the layers that its ``state`` rules out.

    Raises NetError when a layer has both include and exclude rules, or reads a blob of a layer that is ruled out.
    """
    filtered = type(net_param)()
    filtered.CopyFrom(net_param)
    del filtered.layer[:]
    made: set[str] = set()
    left_out: dict[str, caffe_pb2.LayerParameter] = {}  # blob -> the layer that would have made it
    for layer in net_param.layer:
        if _is_included(layer, net_param.state, source):
            _check_bottoms(layer, made, left_out, net_param.state, source)
            made.update(layer.top)
            filtered.layer.append(layer)
        else:
            left_out.update((name, layer) for name in layer.top)
    return filtered


def _check_bottoms(
    layer: caffe_pb2.LayerParameter,
    made: set[str],
    left_out: dict[str, caffe_pb2.LayerParameter],
    state: caffe_pb2.NetState,
    source: Source,
) -> None:
    for j, name in enumerate(layer.bottom):
        if name in left_out and name not in made:
            maker = left_out[name]
            kind = "include" if maker.include else "exclude"
            rules = " or ".join(" ".join(str(rule).split()) for rule in maker.include or maker.exclude)
            raise NetError(
                f'{source.layer(layer.name)} ({layer.type}): unknown bottom blob "{name}" (bottom {j}): '
                f'layer "{maker.name}" makes it, but its rule {kind} {{ {rules} }} leaves it out here, where the '
                f"state is {{ {' '.join(str(state).split())} }}"
            )


def _is_included(layer: caffe_pb2.LayerParameter, state: caffe_pb2.NetState, source: Source) -> bool:
    if layer.include and layer.exclude:
        raise NetError(f"{source.layer(layer.name)} has both include and exclude rules; give only one kind")
    if layer.include:
        return any(rule_matches(state, rule) for rule in layer.include)
    return not any(rule_matches(state, rule) for rule in layer.exclude)


def rule_matches(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule) -> bool:
    """True when a NetState meets every condition of a NetStateRule."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    stages = set(state.stage)
    return stages.issuperset(rule.stage) and stages.isdisjoint(rule.not_stage)


def phase_value(phase: str | int) -> caffe_pb2.Phase:
    """``"TRAIN"``/``"TEST"`` (or the enum's number) -> the enum's number; NetError otherwise."""
    for name, value in (("TRAIN", caffe_pb2.TRAIN), ("TEST", caffe_pb2.TEST)):
        if phase == value or (isinstance(phase, str) and phase.upper() == name):
            return value
    raise NetError(f'phase is {phase!r}; expected "TRAIN" or "TEST"')
