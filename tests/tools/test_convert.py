import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from caffe_compat import Net, extension, random
from caffe_compat.cli import main
from caffe_compat.tools import _checkers, convert
from caffe_compat.tools._exported import run_exported
from caffe_compat.tools._noise import noise_inputs

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 16 dim: 16 } } }
layer { name: "inception/conv" type: "Convolution" bottom: "data" top: "conv" param { name: "shared" }
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "again" type: "Convolution" bottom: "conv" top: "again" param { name: "shared" }
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "again" top: "again" }
layer { name: "pool" type: "Pooling" bottom: "again" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""  # noqa: E501


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """net.prototxt with net.caffemodel beside it."""
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    random.set_seed(1)
    Net(path, phase="TEST").save(tmp_path / "net.caffemodel")
    return path


def run(model: Path, out: Path, weights: Path | None = None) -> int:
    return main(["convert", str(model), str(weights or model.with_suffix(".caffemodel")), str(out)])


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_state_dict(model: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"out{ending}"
    assert run(model, out) == 0
    assert "written; 6 tensors equal the source net's" in capsys.readouterr().out
    state = load_file(out) if ending == ".safetensors" else torch.load(out, weights_only=True)
    source = Net(model, model.with_suffix(".caffemodel"), phase="TEST")
    assert torch.equal(state["ip.weight"], source.params["ip"][0])
    # and back
    assert run(model, tmp_path / f"again{ending}", weights=out) == 0


def test_exported_program(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pt2"
    assert run(model, out) == 0
    data = torch.randn(2, 3, 16, 16)
    source = Net(model, model.with_suffix(".caffemodel"), phase="TEST")
    torch.testing.assert_close(torch.export.load(out).module()(data=data)["prob"], source(data=data)["prob"])


def test_onnx(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "out.onnx"
    assert run(model, out) == 0
    session = onnxruntime.InferenceSession(out)
    assert [value.name for value in session.get_inputs()] == ["data"]
    assert [value.name for value in session.get_outputs()] == ["prob"]


def test_onnx_says_who_ran_it(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    assert main(["convert", str(model), str(model.with_suffix(".caffemodel")), str(out), "--dynamic", "batch"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"1 output\(s\) equal the source net's at 3 sizes of inputs; onnxruntime [\d.]+: largest", said)
    assert re.search(r"; OpenCV [\d.]+: largest error", said)


def test_onnx_says_what_opencv_4_computed_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "net.prototxt"
    layers = "".join(
        f'layer {{ name: "n{k}" type: "LRN" bottom: "x" top: "y{k}" lrn_param {{ k: {k} }} }}' for k in (1, 2)
    )
    layers += 'layer { name: "m" type: "LRN" bottom: "x" top: "z" lrn_param { k: 2 } }'
    model.write_text(f'input: "x" input_shape {{ dim: 1 dim: 5 dim: 2 dim: 2 }} {layers}')
    Net(model, phase="TEST").save(model.with_suffix(".caffemodel"))
    assert run(model, tmp_path / "net.onnx") == 0
    said = capsys.readouterr().out.splitlines()[1]
    assert said.endswith(
        'for programs that came from OpenCV 4: "n2" (LRN), "m" (LRN): k is 2, which OpenCV 4 took for 1'
    )


def test_a_file_that_one_program_doubts_has_a_status_of_its_own(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.onnx"
    wrong = _checkers.Checker("Other", "numpy", "version, results = '2', [[b['data'] * 0] for b in batches]\n")
    monkeypatch.setattr(_checkers, "CHECKERS", (_checkers.CHECKERS[0], wrong))
    assert run(model, out) == convert.DOUBTED == 3
    assert "run it with onnxruntime, not with Other of this version" in capsys.readouterr().out
    assert onnx.load(out).graph.node


def test_float16_onnx_is_half_the_size(model: Path, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.onnx", tmp_path / "half.onnx"
    words = ["convert", str(model), str(model.with_suffix(".caffemodel"))]
    assert main([*words, str(whole)]) == 0
    assert main([*words, str(half), "--fp16"]) == 0
    sizes = [
        sum(len(c.raw_data) for c in onnx.load(path).graph.initializer if c.name[-2:] != "es") for path in (whole, half)
    ]
    assert 1.8 < sizes[0] / sizes[1] < 2.1


def test_float16_compares_what_is_chosen_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, weights, out = tmp_path / "net.prototxt", tmp_path / "net.pt", tmp_path / "net.onnx"
    model.write_text(NET + 'layer { name: "best" type: "ArgMax" bottom: "prob" top: "best" argmax_param { axis: 1 } }')
    torch.save(Net(model, phase="TEST").state_dict(), weights)
    assert main(["convert", str(model), str(weights), str(out), "--fp16"]) == 0
    assert "; so are the 1 blob(s) that layers choose from" in capsys.readouterr().out
    assert [value.name for value in onnx.load(out).graph.output] == ["best"]


TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 16 }
        data_param { source: "nowhere" batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""


@pytest.mark.parametrize("ending", [".prototxt", ".onnx", ".pt2", ".safetensors"])
def test_deploy(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, weights, out = tmp_path / "train.prototxt", tmp_path / "net.safetensors", tmp_path / f"out{ending}"
    model.write_text(TRAIN_VAL)
    weight, bias = torch.rand(5, 768) / 768, torch.rand(5)
    save_file({"ip.weight": weight, "ip.bias": bias}, weights)
    words = ["convert", str(model), str(weights), str(out), "--deploy", "--shape", "data=2x3x16x16"]
    assert main(words) == 1
    assert "give its shape" in capsys.readouterr().err
    assert main([*words, "--shape", "label=2"]) == 0
    assert (
        "deployed: data (Data) is an Input, data 2x3x16x16; data (Data) has no label; loss (SoftmaxWithLoss) is prob "
        "(Softmax); accuracy (Accuracy) is dropped"
    ) in capsys.readouterr().out
    data = torch.rand(2, 3, 16, 16)
    if ending == ".prototxt":
        net = Net(out, phase="TEST")
        net.load_state_dict(load_file(weights))
        found = net(data=data)["prob"]
        assert "state" not in out.read_text()
    elif ending == ".safetensors":
        assert torch.equal(load_file(out)["ip.weight"], weight)
        return
    else:
        found = torch.from_numpy(run_exported(out, {"data": data.numpy()}, trust=True)["prob"])
    torch.testing.assert_close(found, torch.softmax(data.flatten(1) @ weight.T + bias, 1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out.pt", "--dynamic", "batch"], "out.pt: --dynamic is for .onnx; leave it out"),
        (["out.pt2", "--fp16"], "out.pt2: --fp16 is for .onnx; leave it out"),
        (["out.prototxt"], "out.prototxt: a prototxt is for --deploy"),
        (["out.onnx", "--shape", "data=1x2"], "--shape is for the data layers that --deploy replaces"),
        (["out.onnx", "--dynamic", "height"], "it needs a fixed size"),
    ],
)
def test_options_that_do_not_fit(
    words: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    assert main(["convert", "net.prototxt", "net.caffemodel", *words]) == 1
    assert message in capsys.readouterr().err
    assert not Path(words[0]).exists()


def test_unknown_ending(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, Path("out.tflite")) == 1
    assert "end the name in .pt, .safetensors, .pt2, .onnx, .prototxt" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_weights_of_another_net(model: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / f"weights{ending}"
    if ending == ".pt":
        torch.save({"other.weight": torch.zeros(1)}, weights)
    else:
        weights.write_bytes(b"no safetensors")
    assert run(model, tmp_path / "out.pt", weights) == 1
    assert f"{weights}: " in capsys.readouterr().err


def test_numbers_do_not_depend_on_the_callers_state(model: Path) -> None:
    net = Net(model, phase="TEST")
    first, second = noise_inputs(net), noise_inputs(net)
    assert np.array_equal(first["data"], second["data"])


MIXED = """
layer { name: "in" type: "Input" top: "BLOB" input_param { shape { dim: 2 dim: 6 dim: 16 dim: 16 } } }
layer { name: "conv" type: "Convolution" bottom: "BLOB" top: "conv"
        convolution_param { engine: CAFFE group: 2 num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "across" type: "LRN" bottom: "pool" top: "across" lrn_param { local_size: 3 alpha: 0.5 k: 2 } }
layer { name: "within" type: "LRN" bottom: "across" top: "within"
        lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL } }
layer { name: "NAME" type: "InnerProduct" bottom: "within" top: "out.1"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "out.1" top: "out.1" }
"""

#: what a stranger does with a .pt2: path, argument's name
STRANGER = """
import sys
sys.modules["caffe_compat"] = None
import torch
print(torch.export.load(sys.argv[1]).module()(**{sys.argv[2]: torch.ones(2, 6, 16, 16)})["out.1"].tolist())
"""


def write_net(path: Path, text: str) -> Path:
    path.write_text(text)
    random.set_seed(1)
    Net(path, phase="TEST").save(path.with_suffix(".caffemodel"))
    return path


@pytest.mark.parametrize(
    ("layer", "blob", "argument"),
    [("fc", "data", "data"), ("param", "input.1", "input_1"), ("forward", "self", "self_"), ("1", "data:0", "data_0")],
)
def test_plain_pytorch_opens_a_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layer: str, blob: str, argument: str
) -> None:
    model = write_net(tmp_path / "net.prototxt", MIXED.replace("NAME", layer).replace("BLOB", blob))
    out = tmp_path / "net.pt2"
    assert run(model, out) == 0
    said = f'; input "{blob}" is the argument {argument}' if blob != argument else "(blob out.1)"
    assert capsys.readouterr().out.endswith(f"{said}\n")
    command = [sys.executable, "-c", STRANGER, str(out), argument]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    source = Net(model, model.with_suffix(".caffemodel"), phase="TEST")
    expected = source({blob: torch.ones(2, 6, 16, 16)})["out.1"]
    torch.testing.assert_close(torch.tensor(json.loads(printed)), expected, rtol=1e-4, atol=1e-6)
    # and within this package, by the blob's own name
    found = run_exported(out, {blob: np.ones((2, 6, 16, 16), np.float32)}, trust=True)
    torch.testing.assert_close(torch.from_numpy(found["out.1"]), expected, rtol=1e-4, atol=1e-6)


def test_operators_are_kept_when_asked(tmp_path: Path) -> None:
    model = write_net(tmp_path / "net.prototxt", MIXED.replace("NAME", "fc").replace("BLOB", "data"))
    out = tmp_path / "net.pt2"
    arguments = ["convert", str(model), str(model.with_suffix(".caffemodel")), str(out)]
    for keep in (False, True):
        assert main([*arguments, *["--keep-operators"] * keep]) == 0
        code = torch.export.load(out).graph_module.code
        assert {name: f"caffe_compat.{name}" in code for name in ("conv", "max_pool", "lrn")} == dict.fromkeys(
            ("conv", "max_pool", "lrn"), keep and extension.load() is not None
        )


def test_a_program_that_pytorch_alone_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extension.require("this test")
    monkeypatch.setattr(extension, "plain_twins", dict)
    model = write_net(tmp_path / "net.prototxt", MIXED.replace("NAME", "fc").replace("BLOB", "data"))
    assert run(model, tmp_path / "net.pt2") == 1
    assert "net.pt2: not written; PyTorch alone cannot run it: " in capsys.readouterr().err
    assert not (tmp_path / "net.pt2").exists()


NORM = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "norm" type: "BatchNorm" bottom: "data" top: "norm" batch_norm_param { eps: 0.001 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "norm" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "norm" bottom: "label" top: "accuracy" }
"""


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_running_averages(tmp_path: Path, ending: str) -> None:
    label = 'layer { name: "l" type: "Input" top: "label" input_param { shape { dim: 4 } } }'
    model = tmp_path / "net.prototxt"
    model.write_text(label + NORM)
    net = Net(model, phase="TEST")
    for blob, values in zip(net.params["norm"], ([2.0, 4.0, 6.0], [8.0, 4.0, 2.0], [2.0]), strict=True):
        blob.copy_(torch.tensor(values))
    net.save(model.with_suffix(".caffemodel"))
    out, again = tmp_path / f"net{ending}", tmp_path / f"again{ending}"
    arguments = ["convert", str(model), str(model.with_suffix(".caffemodel")), str(out)]
    assert main([*arguments, "--batchnorm", "running"]) == 0
    state = load_file(out) if ending == ".safetensors" else torch.load(out, weights_only=True)
    assert {name: value.tolist() for name, value in state.items()} == {
        "norm.running_mean": [1, 2, 3],
        "norm.running_var": [4, 2, 1],
    }
    twin = torch.nn.BatchNorm1d(3, eps=0.001, affine=False)
    twin.load_state_dict({name.removeprefix("norm."): value for name, value in state.items()}, strict=False)
    x = torch.randn(4, 3)
    expected = net.extract(["norm"], data=x, label=torch.zeros(4))["norm"]
    torch.testing.assert_close(twin.eval()(x), expected)
    # and back
    assert run(model, again, weights=out) == 0
    state = load_file(again) if ending == ".safetensors" else torch.load(again, weights_only=True)
    assert {name: value.tolist() for name, value in state.items()} == {
        "norm.mean": [1, 2, 3],
        "norm.variance": [4, 2, 1],
        "norm.factor": [1],
    }


def test_a_batch_norm_with_scale_and_bias_becomes_an_affine_one(tmp_path: Path) -> None:
    text = (NORM.split('layer { name: "loss"')[0]).replace("eps: 0.001", "eps: 0.001 scale_bias: true")
    model, out = tmp_path / "net.prototxt", tmp_path / "net.pt"
    model.write_text(text)
    net = Net(model, phase="TEST")
    values = ([2.0, 4.0, 6.0], [8.0, 4.0, 2.0], [2.0], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    with torch.no_grad():
        for blob, numbers in zip(net.params["norm"], values, strict=True):
            blob.copy_(torch.tensor(numbers))
    net.save(model.with_suffix(".caffemodel"))
    weights = str(model.with_suffix(".caffemodel"))
    assert main(["convert", str(model), weights, str(out), "--batchnorm", "running"]) == 0
    twin = torch.nn.BatchNorm1d(3, eps=0.001)
    state = torch.load(out, weights_only=True)
    twin.load_state_dict({name.removeprefix("norm."): value for name, value in state.items()}, strict=False)
    x = torch.randn(4, 3)
    torch.testing.assert_close(twin.eval()(x), net(data=x)["norm"])


@pytest.mark.parametrize(
    ("out", "option", "message"),
    [
        ("out.onnx", ["--batchnorm", "running"], "out.onnx: --batchnorm is for .pt, .safetensors; leave it out"),
        ("out.pt", ["--keep-operators"], "out.pt: --keep-operators is for .pt2; leave it out"),
    ],
)
def test_options_of_other_targets(
    out: str, option: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "net.prototxt", "net.caffemodel", out, *option]) == 1
    assert message in capsys.readouterr().err


def test_a_state_dict_needs_no_run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Net, "forward", None)
    assert run(model, tmp_path / "out.pt") == 0


def test_weights_that_do_not_fit_are_said(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.prototxt"
    other.write_text(NET.replace('"ip"', '"ip_new"'))
    words = ["convert", str(other), str(model.with_suffix(".caffemodel")), str(tmp_path / "out.pt")]
    differences = (
        f"{model.with_suffix('.caffemodel')}: does not fit {other} wholly{{}}: ignored, as the net has no such layer: "
        '"ip"; left as they were, as no blobs came for them: "ip_new"\n'
    )
    assert main(words) == 0
    assert capsys.readouterr().err == f"warning: {differences.format('')}"
    (tmp_path / "out.pt").unlink()
    assert main([*words, "--strict"]) == 1
    assert capsys.readouterr().err == f"caffe-compat convert: {differences.format(', and nothing is copied')}"
    other.write_text(NET.replace('"ip"', '"ip_new"').replace('"again"', '"x"').replace('"inception/conv"', '"y"'))
    assert main(words) == 1
    assert "net.caffemodel: nothing fits" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()


def test_an_inner_product_as_a_convolution(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conv = tmp_path / "conv.prototxt"
    as_conv = "convolution_param { kernel_size: 9 "
    conv.write_text(NET.replace("InnerProduct", "Convolution").replace("inner_product_param {", as_conv))
    words = ["convert", str(conv), str(model.with_suffix(".caffemodel")), str(tmp_path / "out.pt")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "param 0 has shape (5, 243) in the file and (5, 3, 9, 9) in the net" in said
    assert "or --reshape=ip" in said
    assert main([*words, "--reshape=ip"]) == 0
    source = Net(model, model.with_suffix(".caffemodel"), phase="TEST")
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(state["ip.weight"], source.params["ip"][0].view(5, 3, 9, 9))


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".pt2", ".onnx"])
def test_a_full_disk_is_one_line(model: Path, tmp_path: Path, ending: str) -> None:
    """A limit of the file's size stands for the disk; PyTorch's own writing to a file would end the process."""
    out = tmp_path / f"out{ending}"
    script = f"""
import resource, sys
from caffe_compat.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
sys.exit(main(["convert", {str(model)!r}, {str(model.with_suffix(".caffemodel"))!r}, {str(out)!r}]))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"caffe-compat convert: {out}: File too large\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]
