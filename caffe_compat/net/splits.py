"""Split layers for blobs with several readers, named as Caffe names them."""

from collections import defaultdict

from caffe_compat.errors import NetError
from caffe_compat.proto import Source, caffe_pb2

_Place = tuple[int, int]  # (layer index, top index)


def insert_splits(net_param: caffe_pb2.NetParameter, source: Source) -> caffe_pb2.NetParameter:
    """A copy of ``net_param`` in which every top has at most one reader.

    A top that is also a loss (explicit ``loss_weight``) counts the loss as one more reader.
    Raises NetError for a bottom that no earlier layer produces.
    """
    producer: dict[str, _Place] = {}
    read_from: dict[_Place, _Place] = {}
    readers: defaultdict[_Place, int] = defaultdict(int)
    loss_weight: dict[_Place, float] = {}
    for i, layer in enumerate(net_param.layer):
        for j, name in enumerate(layer.bottom):
            if name not in producer:
                known = ", ".join(sorted(producer)) or "none"
                raise NetError(
                    f'{source.layer(layer.name)} ({layer.type}): unknown bottom blob "{name}" '
                    f"(bottom {j}); blobs made before this layer: {known}"
                )
            read_from[i, j] = producer[name]
            readers[producer[name]] += 1
        for j, name in enumerate(layer.top):
            producer[name] = (i, j)
        for j, weight in enumerate(layer.loss_weight[: len(layer.top)]):
            place = producer[layer.top[j]]
            loss_weight[place] = weight
            readers[place] += weight != 0

    result = type(net_param)()
    result.CopyFrom(net_param)
    del result.layer[:]
    used: defaultdict[_Place, int] = defaultdict(int)
    for i, original in enumerate(net_param.layer):
        layer = result.layer.add()
        layer.CopyFrom(original)
        for j, name in enumerate(original.bottom):
            place = read_from[i, j]
            if readers[place] > 1:
                layer.bottom[j] = _split_blob(net_param, place, name, used[place])
                used[place] += 1
        for j, name in enumerate(original.top):
            place = (i, j)
            if readers[place] <= 1:
                continue
            weight = loss_weight.get(place, 0.0)
            split = result.layer.add(type="Split", bottom=[name])
            split.name = f"{name}_{original.name}_{j}_split"
            split.top.extend(_split_blob(net_param, place, name, k) for k in range(readers[place]))
            if weight:
                # The first output of the split carries the loss instead of the layer.
                split.loss_weight.extend([weight] + [0.0] * (readers[place] - 1))
                del layer.loss_weight[:]
                used[place] += 1
    return result


def _split_blob(net_param: caffe_pb2.NetParameter, place: _Place, blob: str, number: int) -> str:
    return f"{blob}_{net_param.layer[place[0]].name}_{place[1]}_split_{number}"
