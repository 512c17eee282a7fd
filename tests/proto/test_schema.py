"""The schema: its facts against Caffe's."""

import csv
import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

import caffe_compat.proto as proto
from caffe_compat.proto.schema import load_caffe_schema, load_schema

FOLDER = Path(proto.__file__).parent
FACTS = Path(__file__).parents[1] / "golden" / "schema"


def read_facts(name: str) -> list[tuple[str, ...]]:
    lines = [line for line in (FACTS / name).read_text().splitlines() if not line.startswith("#")]
    return [tuple(row) for row in csv.reader(lines[1:], delimiter="\t")]


def describe(field: FieldDescriptorProto) -> tuple[str, ...]:
    """A field as a row of caffe_proto_fields.tsv."""
    kind = field.type_name.removeprefix(".caffe.") or type(field).Type.Name(field.type).removeprefix("TYPE_").lower()
    label = type(field).Label.Name(field.label).removeprefix("LABEL_").lower()
    return (str(field.number), field.name, label, kind, field.default_value, "packed" if field.options.packed else "")


def test_every_field_is_caffes() -> None:
    ours = {
        (message.name, *describe(field)) for message in load_caffe_schema().file.message_type for field in message.field
    }
    assert ours == set(read_facts("caffe_proto_fields.tsv"))


def test_every_enum_value_is_caffes() -> None:
    file = load_caffe_schema().file
    enums = [("", file.enum_type), *((f"{message.name}.", message.enum_type) for message in file.message_type)]
    ours = {(f"{scope}{e.name}", str(v.number), v.name) for scope, group in enums for e in group for v in e.value}
    assert ours == set(read_facts("caffe_proto_enums.tsv"))


#: of forks whose caffe.proto is nowhere whole: ShuffleNet's README, OpenCV's reader, Mask R-CNN's layers, the first
#: CRF-RNN's nets, Intel's model zoo, Caffe with CTC, SPP-net's nets, SeLu's README; and ours, for what a fork has in
#: its code or in a file beside the net
NOWHERE = {
    *(f"{kind}Parameter.pad_{side}" for kind in ("Convolution", "Pooling") for side in "lrtb"),
    *("LayerParameter.shuffle_channel_param", "ShuffleChannelParameter.group", "LayerParameter.roi_align_param"),
    *(f"ROIAlignParameter.{name}" for name in ("pooled_h", "pooled_w", "spatial_scale", "sampling_ratio")),
    *("ROIAlignParameter.roi_end_mode", "ROIAlignParameter.pad_ratio", "DetectionOutputParameter.normalized_bbox"),
    *(f"PriorBoxParameter.{name}" for name in ("offset_h", "offset_w", "additional_y_offset")),
    *("V1LayerParameter.multi_stage_meanfield_param", "InterpParameter.use_blob_size"),
    *(f"MultiStageMeanfieldParameter.{name}_filter_weight" for name in ("spatial", "bilateral")),
    *(f"DetectionOutputParameter.{name}" for name in ("input_width", "input_height", "normalized")),
    *("LayerParameter.ctc_decoder_param", "CTCDecoderParameter.blank_index", "CTCDecoderParameter.ctc_merge_repeated"),
    *("ProposalParameter.anchors", "PriorBoxParameter.dense_faces"),
    *(f"V0LayerParameter.{kind}_param" for kind in ("conv", "pool", "lrn", "concat", "inner_product", "dropout")),
    *("LayerParameter.selu_param", "SeLuParameter.lambda", "SeLuParameter.alpha"),
    *("LayerParameter.selu_dropout_param", "SeLuDropoutParameter.dropout_ratio", "SeLuDropoutParameter.alpha"),
    *(f"MultiStageMeanfieldParameter.forced_{name}_filter_weight" for name in ("spatial", "bilateral")),
}


def test_every_field_of_a_fork_is_as_a_fork_has_it() -> None:
    caffes = load_caffe_schema().classes
    forks = {row[:5] for row in read_facts("fork_fields.tsv")}
    for message in load_schema().file.message_type:
        known = caffes.get(f"caffe.{message.name}")
        for field in message.field:
            name = f"{message.name}.{field.name}"
            if (known is None or field.name not in known.DESCRIPTOR.fields_by_name) and name not in NOWHERE:
                _, _, label, kind, default, _ = describe(field)
                values = "repeated" if label == "repeated" else "one"
                assert (message.name, field.name, values, kind.rpartition(".")[2], default) in forks
                assert label != "required"


def test_no_field_of_a_fork_has_a_number_of_caffes() -> None:
    ours, caffes = load_schema().classes, load_caffe_schema().classes
    assert set(caffes) <= set(ours)
    for name, known in caffes.items():
        fields = ours[name].DESCRIPTOR.fields_by_number
        assert all(fields[item.number].name == item.name for item in known.DESCRIPTOR.fields)
        for enum in known.DESCRIPTOR.enum_types:
            values = ours[name].DESCRIPTOR.enum_types_by_name[enum.name].values_by_number
            assert all(values[value.number].name == value.name for value in enum.values)


def test_proto_needs_no_torch() -> None:
    script = "import sys, caffe_compat.proto; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(FOLDER.parents[1])}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == 0
