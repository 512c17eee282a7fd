"""Binary nets of Caffe's forks: which fork wrote one, as far as its bytes tell, and nets written as a fork would."""

import itertools
import warnings
from collections.abc import Callable, Collection, Iterable
from functools import cache

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.extend import added_fields
from caffe_compat.proto.fork_numbers import (
    CAFFE,
    OURS,
    MessageType,
    Numbering,
    Reading,
    built_in,
    knows,
    numbers_in,
    read_numbers,
    write_numbers,
)
from caffe_compat.proto.schema import load_caffe_schema, load_schema
from caffe_compat.proto.upgrade import v1

#: an encoded message and its descriptor -> the same in the numbers of a fork
Numbers = Callable[[bytes, MessageType], bytes]

_FIRST_CLASHING_NUMBER = 132  # of LayerParameter: forks agree on the fields before it

#: fields of a type that do not bear its name
_OWN_FIELDS = {
    "BoxGroupOutput": {"bbox_reg_param"},
    "BoxOutput": {"bbox_reg_param"},
    "ConvolutionDepthwise": {"convolution_param"},
    "DataAugmentation": {"augmentation_param", "coeff_schedule_param"},
    "DecodeBBox": {"bbox_reg_param"},
    "Deconvolution": {"convolution_param"},
    "DetectionAccuracy": {"bbox_reg_param"},
    "DetectionGroupAccuracy": {"bbox_reg_param"},
    "DetectionGroupLoss": {"bbox_reg_param"},
    "DetectionLoss": {"bbox_reg_param"},
    "DepthwiseConvolution": {"convolution_param"},
    "DetectNetTransformation": {"detectnet_augmentation_param", "detectnet_groundtruth_param"},
    "FrcnnOutput": {"bbox_reg_param"},
    "GenerateAugmentationParameters": {"augmentation_param", "coeff_schedule_param"},
    "LSTM": {"recurrent_param"},
    "Normalize": {"norm_param"},
    "PriorBoxClustered": {"prior_box_param"},
    "ProposalTarget": {"bbox_reg_param"},
    "RNN": {"recurrent_param"},
    "ROIAlign": {"roi_pooling_param"},
    "SmoothL1LossOHEM": {"smooth_l1_loss_param"},
}
#: fields that a layer of any of Caffe's own types can have
_OF_ANY_TYPE = {"mn_activation_param", "mn_grad_compress_param", "quantization_param", "split_param"}
#: V1 types whose numbers forks share, and the field without which there is no such layer
_NEEDED = {
    "DECONVOLUTION": "convolution_param",
    "IMAGE_SEG_DATA": "image_data_param",
    "INTERP": "interp_param",
    "DENSE_CRF": "dense_crf_param",
    "MAT_WRITE": "mat_write_param",
    "MAT_READ": "mat_read_param",
    "UNIQUE_LABEL": "unique_label_param",
}


def translate_net(data: bytes, place: str) -> bytes:
    """The bytes of a NetParameter in our numbers, whichever fork wrote it; ``place``: the file, for messages.

    A net of Caffe 1.0 comes back as it is.  One whose numbers fit several forks that mean different things by them is
    refused with a ProtoError.  One that fits none is taken for one of Caffe 1.0, and a warning lists what is left out.
    Bytes that are no message at all come back as they are.
    """
    layers = _layer_fields()
    try:
        for numbering in caffe_pb2.current_schema().numberings:
            reading = read_numbers(data, numbering, layers, give_up=True)
            if reading.fits:
                return reading.data
        caffe = read_numbers(data, CAFFE, layers)
        if caffe.fits:
            return data
        numbers = numbers_in(data)
        candidates = [numbering for numbering in built_in() if knows(numbering, numbers)]
        readings = [(numbering, read_numbers(data, numbering, layers, give_up=True)) for numbering in candidates]
    except ProtoError:
        return data  # protobuf says what it is not
    found = _by_meaning(reading for reading in readings if reading[1].fits)
    if not found and caffe.problems:
        # A field may stand in a layer that does not read it, if others tell the fork.
        found = _by_meaning(reading for reading in readings if reading[1].own and not reading[1].problems)
    if len(found) > 1:
        forks = " or ".join(" = ".join(numbering.name for numbering, _ in same) for same in found)
        raise ProtoError(
            f"{place}: a binary net with numbers that Caffe 1.0 does not have "
            f"({_some(caffe.problems + caffe.strays)}), and they mean different things in {forks}; give the net as "
            "prototxt, or the fork's caffe.proto with --schema (weights can be read from the file as it is)"
        )
    if found:
        numbering, reading = found[0][0]
        if reading.left_out:
            _warn(
                f"{place}: its numbers are those of {numbering.name}; left out, as not known here: "
                f"{_some(reading.left_out)}"
            )
        return reading.data
    if caffe.problems and not caffe.broken:
        _warn(
            f"{place}: read as a net of Caffe 1.0; left out, as neither Caffe nor one fork known here has them: "
            f"{_some(caffe.problems)}; if it is a fork's, give its caffe.proto with --schema"
        )
        return caffe.data
    return data  # of Caffe 1.0, with fields that have no effect; or damaged, as protobuf will say


def _by_meaning(readings: Iterable[tuple[Numbering, Reading]]) -> list[list[tuple[Numbering, Reading]]]:
    found: dict[bytes, list[tuple[Numbering, Reading]]] = {}
    for numbering, reading in readings:
        found.setdefault(reading.meaning, []).append((numbering, reading))
    return list(found.values())


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def _some(notes: Iterable[str], most: int = 6) -> str:
    different = list(dict.fromkeys(notes))
    more = f" and {len(different) - most} more" if len(different) > most else ""
    return "; ".join(different[:most]) + more


@cache
def _layer_fields() -> "KnownFields":
    return KnownFields()


class KnownFields:
    """Which fields belong to a layer of a type, as far as Caffe and the forks known here go."""

    def __init__(self) -> None:
        caffes = load_caffe_schema().names["LayerParameter"].DESCRIPTOR.fields
        tables = [n.table.get(kind, {}) for n in built_in() for kind in ("LayerParameter", "V1LayerParameter")]
        forks = {*load_schema().names["LayerParameter"].DESCRIPTOR.fields_by_name}
        forks.update(itertools.chain.from_iterable(table.values() for table in tables))
        forks -= {item.name for item in caffes}
        self._forks = forks
        self._names_only = forks - {*load_schema().names["LayerParameter"].DESCRIPTOR.fields_by_name} - _OF_ANY_TYPE
        clashing = {item.name for item in caffes if item.number >= _FIRST_CLASHING_NUMBER} | forks
        self._checked = {name for name in clashing if name.endswith("_param")}
        self._forks_types = {_bare(name) for name in forks if name.endswith("_param")} | {
            kind.lower() for kind, own in _OWN_FIELDS.items() if own & forks
        }
        self._typed = {_bare(name) for name in {*forks, *(item.name for item in caffes)} if name.endswith("_param")}

    def own(self, kind: str, names: Collection[str]) -> bool:
        """Whether one of a layer's fields is a fork's, and for this type."""
        current = v1.TYPES.get(kind, kind)
        return any(name in self._forks and _bare(name) == current.lower() for name in names)

    def strange(self, kind: str, names: Collection[str]) -> list[str]:
        """Those of a layer's fields that its type does not have, and what it lacks; ``kind``: the type, or a V1 one."""
        needed = _NEEDED.get(kind)
        missing = [f"without {needed}"] if needed is not None and needed not in names else []
        current = v1.TYPES.get(kind, kind)
        own, bare = _OWN_FIELDS.get(current, set()), current.lower()
        if bare not in self._forks_types:
            own = own | _OF_ANY_TYPE
        if current not in _OWN_FIELDS and bare not in self._typed:
            # A type that nobody knows may have any; but of some only name and number are known.
            return missing + [name for name in names if name in self._names_only]
        return missing + [name for name in names if name in self._checked and name not in own and _bare(name) != bare]


def _bare(field: str) -> str:
    return field.removesuffix("_param").replace("_", "").lower()


def net_writer(net: caffe_pb2.NetParameter, place: str) -> Numbers:
    """Turns encoded parts of ``net`` (with their descriptors) into the numbers that its file ``place`` is to have.

    A net of Caffe 1.0 keeps its own.  One with fields of forks is written as the first fork that has them all does it,
    the user's own (``--schema``) before those known here.  Where none has them all, a warning says so, and the numbers
    are ours.
    """
    numbering = _numbering_for(net, place)
    return lambda data, kind: (write_numbers(data, kind, numbering) if numbering else None) or data


def _numbering_for(net: caffe_pb2.NetParameter, place: str) -> Numbering | None:
    if not added_fields(net):
        return None
    data = net.SerializePartialToString()
    numberings: tuple[Numbering, ...] = (*caffe_pb2.current_schema().numberings, *built_in())
    for numbering in numberings:
        written = write_numbers(data, net.DESCRIPTOR, numbering)
        if written is not None and numbering is not OURS and _reads_back(written, net):
            return numbering
    _warn(
        f"{place}: written with numbers that only caffe_compat reads, as no single fork of Caffe has all these fields, "
        f"or several have others under the same numbers: {_some(added_fields(net))}"
    )
    return None


def _reads_back(written: bytes, net: caffe_pb2.NetParameter) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            translated = translate_net(written, "")
        except ProtoError:
            return False
    again = type(net)()
    again.MergeFromString(translated)
    return bool(again == net)
