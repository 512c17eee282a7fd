"""docs/trust.md is true: what runs code is named in it, and no other file that a tool or layer is given runs any."""

import ast
import io
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_compat.pycaffe as caffe
from caffe_compat import Net, Solver
from caffe_compat.cli import main
from caffe_compat.errors import CaffeCompatError, NetError
from caffe_compat.solver import Log

ROOT = Path(__file__).parent.parent

# -- Python layers ----------------------------------------------------------------------

MODULE = """
open("ran", "w").close()
class Double:
    def __init__(self, param):
        pass
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * top[0].diff
"""
PYTHON_NET = """
layer { name: "data" type: "DummyData" top: "data"
        dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: "constant" value: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 1 weight_filler { type: "constant" value: 1 } } }
layer { name: "p" type: "Python" bottom: "fc" top: "p" loss_weight: 1
        python_param { module: "users_module" layer: "Double" } }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "snap" solver_mode: CPU'
#: every command that builds a net
BUILDERS = [
    "train --solver=solver.prototxt",
    "test --model=net.prototxt --weights=w.caffemodel --iterations=1",
    "time --model=net.prototxt --iterations=1",
    "extract_features w.caffemodel net.prototxt p features 1 lmdb",
    "summary net.prototxt",
    "compare net.prototxt net.prototxt",
    "convert net.prototxt w.caffemodel w.pt",
]
REFUSAL = (
    r'net.prototxt:6: layer "p" \(Python\): would import module "users_module" and run its "Double", .*; where you'
    r" trust them, say --allow-python-layers or allow_python_layers=True"
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("users_module", None)


@pytest.fixture
def _python_net() -> None:
    Path("users_module.py").write_text(MODULE)
    Path("net.prototxt").write_text(PYTHON_NET)
    Path("solver.prototxt").write_text(SOLVER)
    Net("net.prototxt", allow_python_layers=True).save("w.caffemodel")
    sys.modules.pop("users_module")
    Path("ran").unlink()


@pytest.mark.usefixtures("_python_net")
@pytest.mark.parametrize("command", BUILDERS)
def test_no_command_runs_a_python_layer_unless_allowed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 1
    assert re.fullmatch(rf"caffe-compat \w+: {REFUSAL}", capsys.readouterr().err.splitlines()[-1])
    assert not Path("ran").exists()
    assert main([*command.split(), "--allow-python-layers"]) == 0
    assert Path("ran").exists()


@pytest.mark.usefixtures("_python_net")
def test_net_and_solver_run_a_python_layer_when_allowed() -> None:
    for refused in (Net, lambda path: Solver(Path(path).with_name("solver.prototxt"), log=Log(enabled=False))):
        with pytest.raises(NetError, match=f"^{REFUSAL}$"):
            refused("net.prototxt")
    assert not Path("ran").exists()
    assert Net("net.prototxt", allow_python_layers=True)()["p"].tolist() == [[18], [18]]
    solver = Solver("solver.prototxt", log=Log(enabled=False), allow_python_layers=True)
    assert solver.net()["p"].tolist() == [[18], [18]]
    solver.close()


@pytest.mark.usefixtures("_python_net")
def test_pycaffe_runs_python_layers_as_caffe_does() -> None:
    assert caffe.Net("net.prototxt", caffe.TEST).forward()["p"].tolist() == [[18], [18]]
    assert caffe.SGDSolver("solver.prototxt").net.forward()["p"].tolist() == [[18], [18]]


# -- files ------------------------------------------------------------------------------


class Payload:
    """Its pickle writes a file when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("ran", "w"))


def payloads() -> dict[str, bytes]:
    """A payload in each form in which a library would find a pickle."""
    array, arrays, archive, old = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    objects = np.array([Payload()], object)
    np.save(array, objects)
    np.savez(arrays, data=objects, label=objects)
    torch.save({"fc.weight": Payload()}, archive)
    torch.save({"fc.weight": Payload()}, old, _use_new_zipfile_serialization=False)
    return {
        "pickle": pickle.dumps(Payload()),
        "npy": array.getvalue(),
        "npz": arrays.getvalue(),
        "torch": archive.getvalue(),
        "old_torch": old.getvalue(),
    }


NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 1 } }
"""
#: {file}: the payload; every place where a tool takes a file
PLACES = [
    "train --solver={file}",
    "train --solver=solver.prototxt --weights={file}",
    "train --solver=solver.prototxt --snapshot={file}",
    "test --model={file} --weights={file} --iterations=1",
    "test --model=net.prototxt --weights={file} --iterations=1",
    "time --model={file} --iterations=1",
    "time --model=net.prototxt --weights={file} --iterations=1",
    "extract_features {file} net.prototxt fc features 1 lmdb",
    "summary {file}",
    "summary net.prototxt --schema={file}",
    "draw {file} net.dot",
    "compare {file} net.prototxt",
    "compare net.prototxt {file}",
    "compare net.prototxt net.prototxt --weights={file}",
    "compare net.prototxt net.prototxt --inputs={file}",
    "convert {file} w.caffemodel out.pt",
    "convert net.prototxt {file} out.pt",
    "compute_image_mean {file} mean.binaryproto",
    "inspect_db {file}",
    "convert_imageset / {file} db",
    "upgrade_net_proto_text {file} out.prototxt",
    "upgrade_net_proto_binary {file} out.caffemodel",
    "upgrade_solver_proto_text {file} out.prototxt",
    "fidelity --cases={file}",
]
ENDINGS = ["", ".pt", ".pt2", ".npz", ".npy", ".safetensors", ".caffemodel", ".h5", ".solverstate", ".onnx", ".mdb"]


def refused(words: list[str]) -> None:
    """An error of ours (anything else comes through), and nothing has run."""
    assert main(words) in (1, 2)
    assert not Path("ran").exists(), " ".join(words)


@pytest.mark.parametrize("place", PLACES)
def test_no_file_of_a_tool_runs_code(place: str) -> None:
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    Net("net.prototxt").save("w.caffemodel")
    for content in payloads().values():
        for ending in ENDINGS:
            file = Path(f"evil{ending}")
            file.write_bytes(content)
            refused(place.format(file=file).split())


#: {file}: the payload; every field of a prototxt that names a file
FIELDS = [
    'type: "Data" data_param {{ source: "{file}" batch_size: 1 backend: LMDB }}',
    'type: "Data" data_param {{ source: "{file}" batch_size: 1 backend: LEVELDB }}',
    'type: "ImageData" image_data_param {{ source: "{file}" batch_size: 1 }}',
    'type: "ImageData" image_data_param {{ source: "list" batch_size: 1 }}',
    'type: "HDF5Data" hdf5_data_param {{ source: "{file}" batch_size: 1 }}',
    'type: "HDF5Data" hdf5_data_param {{ source: "list" batch_size: 1 }}',
    'type: "WindowData" window_data_param {{ source: "{file}" batch_size: 1 }} transform_param {{ crop_size: 2 }}',
    'type: "MemoryData" memory_data_param {{ batch_size: 1 channels: 3 height: 2 width: 2 }} '
    'transform_param {{ mean_file: "{file}" }}',
]


@pytest.mark.filterwarnings("ignore")  # of labels and backends in what is no list and no database
@pytest.mark.parametrize("fields", FIELDS)
def test_no_file_of_a_prototxt_runs_code(fields: str) -> None:
    for content in payloads().values():
        for ending in ENDINGS:
            file = Path(f"evil{ending}")
            file.write_bytes(content)
            Path("list").write_text(f"{file}\n" if "HDF5" in fields else f"{file} 0\n")
            layer = f'layer {{ name: "d" top: "data" top: "label" {fields.format(file=file)} }}'
            Path("net.prototxt").write_text(layer)
            with pytest.raises(CaffeCompatError, match=rf"^(net.prototxt:1|{file}): "):
                Net("net.prototxt", phase="TEST").next_batch()
            assert not Path("ran").exists(), str(file)


# -- source -----------------------------------------------------------------------------

#: calls that can run what a file holds, or another program: {file: what it is there for}
RUNS = {
    "caffe_compat/__init__.py": {"import_module"},  # own modules, on first use
    "caffe_compat/cli.py": {"importlib.import_module"},  # own tools, and entry points of installed packages
    "caffe_compat/extension.py": {"import_module"},  # torch and our own extension
    "caffe_compat/layers/python.py": {"import_module"},  # with allow_python_layers only
    "caffe_compat/lazy.py": {"import_module"},  # own modules, for names of packages
    "caffe_compat/memory.py": {"ctypes.CDLL"},  # the C library of this process
    "caffe_compat/net/layer_types.py": {"import_module"},  # own layers
    "caffe_compat/pycaffe/__main__.py": {"runpy.run_module", "runpy.run_path"},  # the script that the user names
    "caffe_compat/pycaffe/detector.py": {"import_module"},  # one package, by its name
    "caffe_compat/pycaffe/draw.py": {"subprocess.run"},  # Graphviz's dot, by its name on the path
    "caffe_compat/pycaffe/installing.py": {"import_module"},  # own modules, as caffe's
    "caffe_compat/solver/rules/__init__.py": {"import_module"},  # own rules
    "caffe_compat/tools/_checkers.py": {"subprocess.run"},  # our own text, on a file that we have just written
    "caffe_compat/tools/_exported.py": {"torch.export.load", "subprocess.run"},  # with --trust; our own file
    "caffe_compat/tools/_extensions.py": {"importlib.import_module", "spec.loader.exec_module"},  # --import
    "caffe_compat/tools/draw.py": {"subprocess.run"},  # Graphviz's dot, by its name on the path
    "reproduce/dataset.py": {"import_module"},  # own data sets
    "reproduce/measure.py": {"subprocess.run"},  # our own file
    "reproduce/provenance.py": {"subprocess.run"},  # git, by its name on the path: which commit this is
    "reproduce/datasets/cifar100.py": {"Unpickler"},  # lists, bytes and NumPy's arrays only
}
DANGEROUS = re.compile(
    r"((\w+\.)*(import_module|exec_module|run_module|run_path|CDLL|LoadLibrary|load_library|load_inline|popen|Popen)"
    r"|__import__|eval|exec|compile|os\.(system|spawn\w*|exec\w*)"
    r"|subprocess\.\w+|(\w+\.)*(export|pickle|marshal|shelve|dill|joblib|yaml|jit|hub)\.(loads?|open|unsafe_load))"
)
#: {loader: the argument without which it takes pickles}
SAFE_WITH = {"torch.load": ("weights_only", "True"), "np.load": ("allow_pickle", "False")}


def calls(path: Path) -> set[str]:
    """The calls in a source that can run foreign code, by name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            found |= {"Unpickler" for base in node.bases if ast.unparse(base).endswith("Unpickler")}
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        if function in SAFE_WITH:
            given = [(word.arg, ast.unparse(word.value)) for word in node.keywords]
            found |= {function} - ({function} if SAFE_WITH[function] in given else set())
        elif DANGEROUS.fullmatch(function):
            found.add(function)
    return found


@pytest.mark.parametrize("package", ["caffe_compat", "reproduce"])
def test_code_runs_nowhere_else(package: str) -> None:
    found = {str(path.relative_to(ROOT)): calls(path) for path in sorted((ROOT / package).rglob("*.py"))}
    expected = {file: names for file, names in RUNS.items() if file.startswith(package)}
    assert {file: names for file, names in found.items() if names} == expected
