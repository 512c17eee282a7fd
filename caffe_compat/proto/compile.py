"""Compile caffe.proto and forks.proto: ``python -m caffe_compat.proto.compile`` (needs grpcio-tools).

Rewrites caffe.desc (Caffe 1.0 alone) and forks.desc (with what its forks added), from which the message classes are
made, and caffe_pb2.pyi, which tells type checkers of them.
"""

import sys
import tempfile
from pathlib import Path

from caffe_compat.atomic_file import write_bytes, write_text
from caffe_compat.errors import ProtoError
from caffe_compat.proto.extend import merge_schema
from caffe_compat.proto.schema import load_caffe_schema

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


def compile_forks() -> bytes:
    """The serialized FileDescriptorSet of caffe.desc with the fields of forks.proto."""
    from google.protobuf import descriptor_pb2

    forks = FOLDER / "forks.proto"
    merged, differences = merge_schema(load_caffe_schema().file, forks.read_text(), forks.name)
    if differences:
        raise ProtoError(f"{forks}: contradicts caffe.proto: {'; '.join(differences)}")
    return descriptor_pb2.FileDescriptorSet(file=[merged]).SerializeToString(deterministic=True)


#: what caffe_pb2.py has besides the messages, and the head of the file
STUB_HEAD = """# Made from caffe.proto and forks.proto by `python -m caffe_compat.proto.compile`.
from caffe_compat.proto.schema import Schema

def current_schema() -> Schema: ...
def use_schema(schema: Schema) -> None: ...

"""


def make_stub(descriptor: Path = FOLDER / "forks.desc") -> str:
    """The text of caffe_pb2.pyi."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(["protoc", f"--descriptor_set_in={descriptor}", f"--pyi_out={folder}", "caffe.proto"])
        if status != 0:
            raise ProtoError(f"{descriptor}: protoc failed with status {status}; its message is above")
        stub = (Path(folder) / "caffe_pb2.pyi").read_text()
        # protoc leaves open what a mapping in a message's place holds, and fields whose name Python keeps for itself
        # (lambda); strict type checkers want it said.
        return STUB_HEAD + stub.replace("_Mapping]", "_Mapping[str, object]]").replace("**kwargs)", "**kwargs: object)")


def main() -> int:
    """Rewrite the three files beside caffe.proto."""
    write_bytes(FOLDER / "caffe.desc", compile_schema())
    write_bytes(FOLDER / "forks.desc", compile_forks())
    write_text(FOLDER / "caffe_pb2.pyi", make_stub())
    return 0


if __name__ == "__main__":
    sys.exit(main())
