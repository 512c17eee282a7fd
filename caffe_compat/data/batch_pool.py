"""Batches that several data layers would make alike, made by one of them."""

from collections.abc import Hashable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from torch import Tensor

from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.device_source import DeviceSource
from caffe_compat.data.source_layer import SourceLayer


@dataclass(frozen=True)
class _Made:
    """The batch of a layer that stood at ``before``, and where it stands behind it."""

    before: dict[str, Any]
    after: dict[str, Any]
    tensors: tuple[Tensor, ...]


class BatchPool:
    """Hands out a batch to every layer that is about to make the same one.

    Such layers read one database, transform it alike, and stand at one place of it with random streams in one state
    (``transform_param.random_seed``).  Whether they do is asked for each batch: a layer that stands elsewhere makes its
    own.  Only the last batch of each kind is kept, so the nets should take turns, an iteration each.
    """

    def __init__(self) -> None:
        self._kinds: dict[SourceLayer, Hashable] = {}
        self._made: dict[Hashable, _Made] = {}

    def add(self, layer: SourceLayer) -> bool:
        """Let ``layer`` take its batches from here; whether that can be: it must read a database by itself."""
        source = layer.source
        database = source.source if isinstance(source, DeviceSource) else source
        if not isinstance(database, DatabaseSource):
            return False
        mean = database.transformer.mean
        self._kinds[layer] = (
            *sorted(layer.source_identity().items()),
            sha256(b"" if mean is None else mean.tobytes()).digest(),  # other folders may have another of that name
            (layer.phase, layer.context.dtype, len(layer.param.top), getattr(source, "device", None)),
            (database.rank, database.rank_count, database.bad_records.allowed),
        )
        layer.pool = self
        return True

    def take(self, layer: SourceLayer) -> tuple[Tensor, ...]:
        """What ``layer.make_batch`` would return."""
        kind, before = self._kinds[layer], layer.source_state()
        made = self._made.get(kind)
        if made is not None and made.before == before:
            layer.go_on_from(made.after)
        else:
            tensors = layer.make_batch()
            made = self._made[kind] = _Made(before, layer.source_state(), tensors)
        return made.tensors
