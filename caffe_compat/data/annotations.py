"""SSD's record: an image and the boxes in it (message ``AnnotatedDatum``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from caffe_compat.data.datum import Buffer, Datum
from caffe_compat.errors import DataError
from caffe_compat.proto import caffe_pb2

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Annotations:
    """The boxes of an image, group by group; B boxes."""

    labels: npt.NDArray[np.int32]  # (B)
    instances: npt.NDArray[np.int32]  # (B): numbers of the objects of a label
    boxes: Boxes  # (B, 4): xmin, ymin, xmax, ymax in parts of the image's width and height
    difficult: npt.NDArray[np.bool_]  # (B)

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, kept: npt.NDArray[np.bool_]) -> "Annotations":
        """Those boxes for which ``kept`` (B) is true."""
        return Annotations(self.labels[kept], self.instances[kept], self.boxes[kept], self.difficult[kept])

    def moved(self, boxes: Boxes) -> "Annotations":
        """The same with other ``boxes`` (B, 4)."""
        return Annotations(self.labels, self.instances, boxes, self.difficult)

    def rows(self, item: int) -> Boxes:
        """(B, 8) as MultiBoxLoss and DetectionEvaluate read them: item, label, instance, box, difficult."""
        columns = [np.full(len(self), item), self.labels, self.instances, *self.boxes.T, self.difficult]
        return np.stack(columns, 1).astype(np.float32)


class AnnotatedRecord(NamedTuple):
    """A record as it is in the database; ``type`` is None where it has none."""

    datum: Datum
    type: str | None
    annotations: Annotations
    has_label: bool  # of the whole image


def parse_annotated(record: Buffer) -> AnnotatedRecord:
    """A serialized AnnotatedDatum; DataError when the bytes are none."""
    try:
        message = caffe_pb2.AnnotatedDatum.FromString(bytes(record))
    except DecodeError:
        raise DataError("is no AnnotatedDatum; expected a database made by convert_annoset") from None
    if not message.HasField("datum"):
        raise DataError("has no image; expected a database of AnnotatedDatum, made by convert_annoset")
    found = message.datum
    floats = np.array(found.float_data, np.float32) if found.float_data else None
    size = {"channels": found.channels, "height": found.height, "width": found.width}
    datum = Datum(**size, data=found.data, label=found.label, float_data=floats, encoded=found.encoded)
    kind = caffe_pb2.AnnotatedDatum.AnnotationType.Name(message.type) if message.HasField("type") else None
    pairs = [(group.group_label, one) for group in message.annotation_group for one in group.annotation]
    corners = [(one.bbox.xmin, one.bbox.ymin, one.bbox.xmax, one.bbox.ymax) for _, one in pairs]
    annotations = Annotations(
        np.array([label for label, _ in pairs], np.int32),
        np.array([one.instance_id for _, one in pairs], np.int32),
        np.array(corners, np.float32).reshape(-1, 4),
        np.array([one.bbox.difficult for _, one in pairs], bool),
    )
    return AnnotatedRecord(datum, kind, annotations, found.HasField("label"))


def encode_annotated(
    datum: bytes, boxes: Sequence[tuple[int, Sequence[float], bool]], kind: str | None = "BBOX"
) -> bytes:
    """The bytes of an AnnotatedDatum.

    ``datum``: a serialized Datum (``encode_datum``, ``encode_image``); ``boxes``: label, (xmin, ymin, xmax, ymax) in
    parts of the image's width and height, and whether it is difficult.  The boxes of a label are a group and are
    numbered from 0, as SSD's convert_annoset does.
    """
    message = caffe_pb2.AnnotatedDatum()
    message.datum.ParseFromString(datum)
    if kind is not None:
        message.type = caffe_pb2.AnnotatedDatum.AnnotationType.Value(kind)  # type: ignore[assignment]
    groups: dict[int, caffe_pb2.AnnotationGroup] = {}
    for label, (xmin, ymin, xmax, ymax), difficult in boxes:
        if label not in groups:
            groups[label] = message.annotation_group.add(group_label=label)
        annotation = groups[label].annotation.add()
        annotation.instance_id = len(groups[label].annotation) - 1
        box = annotation.bbox
        box.xmin, box.ymin, box.xmax, box.ymax, box.difficult = xmin, ymin, xmax, ymax, difficult
    return message.SerializeToString()
