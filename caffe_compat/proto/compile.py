"""Compile caffe.proto into caffe.desc: ``python -m caffe_compat.proto.compile`` (needs grpcio-tools)."""

import sys
import tempfile
from pathlib import Path

from caffe_compat.atomic_file import write_bytes
from caffe_compat.errors import ProtoError

FOLDER = Path(__file__).parent


def compile_schema(proto: Path = FOLDER / "caffe.proto") -> bytes:
    """The serialized FileDescriptorSet of one .proto file without imports."""
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.desc"
        status = protoc.main(["protoc", f"-I{proto.parent}", f"--descriptor_set_out={output}", str(proto)])
        if status != 0:
            raise ProtoError(f"{proto}: protoc failed with status {status}; its message is above")
        files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    # JSON names follow from the field names; without them the file is a third smaller.
    for file in files.file:
        for message in file.message_type:
            for field in message.field:
                field.ClearField("json_name")
    return files.SerializeToString(deterministic=True)


def main() -> int:
    """Rewrite caffe.desc beside caffe.proto."""
    write_bytes(FOLDER / "caffe.desc", compile_schema())
    return 0


if __name__ == "__main__":
    sys.exit(main())
