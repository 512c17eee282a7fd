"""Compile caffe.proto: ``python -m caffe_compat.proto.compile`` (needs grpcio-tools).

Rewrites caffe.desc, from which the message classes are made, and caffe_pb2.pyi, which tells type checkers of them.
"""

import sys
import tempfile
from pathlib import Path

from caffe_compat.atomic_file import write_bytes, write_text
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


#: what caffe_pb2.py has besides the messages, and the head of the file
STUB_HEAD = """# Made from caffe.proto by `python -m caffe_compat.proto.compile`.
from caffe_compat.proto.schema import Schema

def current_schema() -> Schema: ...
def use_schema(schema: Schema) -> None: ...

"""


def make_stub(proto: Path = FOLDER / "caffe.proto") -> str:
    """The text of caffe_pb2.pyi."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(["protoc", f"-I{proto.parent}", f"--pyi_out={folder}", str(proto)])
        if status != 0:
            raise ProtoError(f"{proto}: protoc failed with status {status}; its message is above")
        stub = (Path(folder) / f"{proto.stem}_pb2.pyi").read_text()
        # protoc leaves open what a mapping in a message's place holds; strict type checkers want it said.
        return STUB_HEAD + stub.replace("_Mapping]", "_Mapping[str, object]]")


def main() -> int:
    """Rewrite both files beside caffe.proto."""
    write_bytes(FOLDER / "caffe.desc", compile_schema())
    write_text(FOLDER / "caffe_pb2.pyi", make_stub())
    return 0


if __name__ == "__main__":
    sys.exit(main())
