import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat import Net
from caffe_compat.errors import NetError
from caffe_compat.layers.python import Python, PythonBlob
from caffe_compat.proto import parse_net
from caffe_compat.tools._onnx import to_onnx
from tests.layers.harness import make_layer, noise, on_devices, run
from tests.onnx_harness import run_model

MODULE = '''
import json
import numpy as np
from caffe_compat.layers.python import UserLayer

class Settings(UserLayer):
    """Reads its settings as py-faster-rcnn's layers do: by the word for the phase and an old name of param_str."""

    def setup(self, bottom, top):
        self.number = {"TRAIN": 12000, "TEST": 6000}[str(self.phase)] + int(self.param_str_)

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[...] = self.number + 0.25 * self.phase

class Power(UserLayer):
    """y = weight * x ** n; the weight is a parameter, n comes with param_str."""
    def setup(self, bottom, top):
        if len(bottom) != 1:
            raise ValueError("one bottom, please")
        self.n = json.loads(self.param_str)["n"]
        self.blobs.add_blob(bottom[0].shape[1])
        self.blobs[0].data[...] = 1
        self.seen = (self.phase, bottom[0].num, bottom[0].channels, bottom[0].height, bottom[0].count, self.type)
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data * bottom[0].data ** self.n
    def backward(self, top, propagate_down, bottom):
        self.propagate_down = propagate_down
        x = bottom[0].data
        self.blobs[0].diff[...] += (top[0].diff * x ** self.n).sum(0)
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data * self.n * x ** (self.n - 1)

class Half:  # no base class, and in place
    def __init__(self, param):
        self.name = param.name
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        pass
    def forward(self, bottom, top):
        top[0].data[...] *= 0.5
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 0.5 * top[0].diff

class Writes(Half):
    def reshape(self, bottom, top):
        top[0].reshape(1)
    def forward(self, bottom, top):
        bottom[0].data[...] = 0

class Shifts(Half):
    """Half's like, with a form in ONNX."""
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + 3
    def to_onnx(self, graph, step):
        return [graph.shift(step.bottoms[0], 3.0)]

class Counter(UserLayer):
    """A source: batches of growing size."""
    def setup(self, bottom, top):
        self.batch = 1
        top[0].reshape(1, 2)
    def reshape(self, bottom, top):
        top[0].reshape(self.batch, 2)
        top[1].reshape(self.batch)
    def forward(self, bottom, top):
        top[0].data[...] = self.batch
        top[1].data[...] = np.arange(self.batch)
        self.batch += 1
'''


@pytest.fixture(autouse=True)
def _users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_layers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "users_layers", raising=False)


def make_python(
    name: str, *shapes: tuple[int, ...], extra: str = "", text: str = "", phase: str = "TEST", device: str = "cpu"
) -> Python:
    fields = f'{text} python_param {{ module: "users_layers" layer: "{name}" {extra} }}'
    return make_layer(Python, fields, *shapes, phase=phase, device=device, allow_python_layers=True)


def make_power(device: str = "cpu", phase: str = "TEST") -> Python:
    return make_python("Power", (4, 3), extra="param_str: '{\"n\": 3}'", phase=phase, device=device)


@on_devices
def test_values_and_gradients(device: str) -> None:
    layer, bottom = make_power(device), noise(4, 3, device=device)
    layer.blob(0).data.mul_(2)
    (top,) = run(layer, bottom)
    torch.testing.assert_close(top, 2 * bottom**3)
    assert top.device == bottom.device
    assert torch.autograd.gradcheck(lambda x, w: run(layer, x)[0], (bottom, layer.blobs[0]))
    assert layer.user.propagate_down == [True]


def test_propagate_down_is_false_for_a_constant_bottom() -> None:
    layer = make_power()
    run(layer, noise(4, 3).detach())[0].sum().backward()
    assert layer.user.propagate_down == [False]
    assert layer.blobs[0].grad is not None


@pytest.mark.parametrize(("phase", "number"), [("TRAIN", 0), ("TEST", 1)])
def test_what_setup_sees(phase: str, number: int) -> None:
    assert make_power(phase=phase).user.seen == (number, 4, 3, 1, 12, "Python")


def test_shapes_follow_the_bottom() -> None:
    layer = make_power()
    assert layer.infer_shapes((7, 3)) == [(7, 3)]
    assert run(layer, noise(9, 3))[0].shape == (9, 3)


def test_float32() -> None:
    layer = make_power().float()
    (top,) = run(layer, noise(4, 3).float())
    assert top.dtype == torch.float32


def test_any_class_and_in_place() -> None:
    layer = make_python("Half", (2, 2), text='bottom: "x" top: "x"')
    bottom = noise(2, 2)
    before = bottom.detach().clone()
    (top,) = run(layer, bottom)
    assert layer.user.name == "it"
    torch.testing.assert_close(top, bottom / 2)
    assert torch.equal(bottom, before)
    assert torch.autograd.grad(top.sum(), bottom)[0].tolist() == [[0.5, 0.5]] * 2


def test_a_bottom_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        run(make_python("Writes", (2, 2)), noise(2, 2))


def test_a_layer_without_bottoms_is_a_source() -> None:
    layer = make_python("Counter", text='top: "data" top: "label"')
    assert layer.is_source
    assert layer.infer_shapes() == [(1, 2), (1,)]
    layer.next_batch()
    data, label = layer.next_batch()
    assert data.tolist() == [[2, 2], [2, 2]]
    assert label.tolist() == [0, 1]
    assert data.dtype == torch.float64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('module: "users_layers" layer: "Nope"', 'module "users_layers" has no class "Nope"'),
        ('module: "no_such_module" layer: "L"', 'python_param.module "no_such_module" cannot be imported'),
        ('module: "" layer: "L"', 'python_param.module "" cannot be imported: ValueError: Empty module name'),
        ('module: ".x" layer: "L"', 'python_param.module ".x" cannot be imported: TypeError: '),
        ('module: "broken" layer: "L"', 'python_param.module "broken" cannot be imported: ZeroDivisionError: '),
        ('module: "os" layer: "system"', 'module "os" has no class "system"'),
        ('module: "users_layers" layer: "np.ndarray"', 'module "users_layers" has no class "np.ndarray"'),
        (
            'module: "subprocess" layer: "Popen"',
            '"Popen" of module "subprocess" is no layer: it lacks setup, reshape, forward; expected a class with ',
        ),
        ('module: "users_layers" layer: "UserLayer"', "is no layer: it lacks forward; "),
    ],
)
def test_refusals(fields: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(NetError, match=rf'layer "it" \(Python\): .*{message}') as caught:
        make_layer(Python, f"python_param {{ {fields} }}", (1,), allow_python_layers=True)
    assert "\n" not in str(caught.value)


def test_nothing_of_a_module_runs_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "users_layers.py").write_text("open('ran', 'w')")
    fields = 'python_param { module: "users_layers" layer: "Half" }'
    refusal = (
        'net.prototxt: layer "it" (Python): would import module "users_layers" and run its "Half", which can do '
        "whatever you can; where you trust them, say --allow-python-layers or allow_python_layers=True"
    )
    with pytest.raises(NetError) as caught:
        make_layer(Python, fields, (1,))
    assert str(caught.value) == refusal
    assert "users_layers" not in sys.modules


def test_the_users_own_errors_come_through() -> None:
    with pytest.raises(ValueError, match="one bottom, please"):
        make_python("Power", (4, 3), (4, 3))


def test_warns_about_sharing() -> None:
    with pytest.warns(UserWarning, match="share_in_parallel has no effect"):
        make_python("Half", (2, 2), extra="share_in_parallel: true", text='bottom: "x" top: "x"')


def test_blob_beyond_four_axes_has_no_legacy_axes() -> None:
    blob = PythonBlob((1, 2, 3, 4, 5))
    assert (blob.count, blob.data.dtype) == (120, np.dtype(np.float32))
    with pytest.raises(ValueError, match="use shape beyond 4 axes"):
        _ = blob.num


def test_train_and_eval_set_the_phase() -> None:
    layer = make_power()
    seen = [layer.user.phase]
    for mode in (True, False):
        layer.train(mode)
        seen.append(layer.user.phase)
    assert seen == [1, 0, 1]


def test_names_that_py_faster_rcnn_uses() -> None:
    layer = make_python("Settings", (2,), extra="param_str: '7'")
    (top,) = run(layer, torch.zeros(2))
    assert top.tolist() == [6007.25]
    layer.train()
    assert (str(layer.user.phase), layer.user.phase == 0) == ("TRAIN", True)


PROPOSALS = """
    input: "scores" input_shape { dim: 1 dim: 18 dim: 3 dim: 4 }
    input: "offsets" input_shape { dim: 1 dim: 36 dim: 3 dim: 4 }
    input: "im_info" input_shape { dim: 1 dim: 3 }
    layer { name: "proposal" type: "Python" bottom: "scores" bottom: "offsets" bottom: "im_info" top: "rois" top: "best"
      python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 16" } }
"""


def proposal_bottoms() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "scores": torch.rand(1, 18, 3, 4, generator=generator),
        "offsets": torch.randn(1, 36, 3, 4, generator=generator) / 4,
        "im_info": torch.tensor([[48.0, 64.0, 1.0]]),
    }


def test_the_proposal_layer_of_faster_rcnn_is_built_in() -> None:
    """It finds what our Proposal layer finds with the same anchors, where nothing is too small."""
    net = Net(parse_net(PROPOSALS), phase="TEST")
    found = net(proposal_bottoms())
    fields = "ratio: 0.5 ratio: 1 ratio: 2 scale: 8 scale: 16 scale: 32 min_size: 16"
    text = f'{PROPOSALS.split("layer {")[0]} layer {{ name: "p" type: "Proposal" bottom: "scores" bottom: "offsets" '
    ours = Net(
        parse_net(f'{text} bottom: "im_info" top: "rois" top: "best" proposal_param {{ {fields} }} }}'), phase="TEST"
    )
    expected = ours(proposal_bottoms())
    kept = expected["best"] > 0  # the C++ layer keeps those that are too small, with score 0
    assert torch.equal(found["rois"], expected["rois"][kept])
    assert torch.equal(found["best"][:, 0], expected["best"][kept])


def test_the_users_own_proposal_layer_comes_first_where_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rpn").mkdir()
    (tmp_path / "rpn" / "__init__.py").write_text("")
    (tmp_path / "rpn" / "proposal_layer.py").write_text(
        "class ProposalLayer:\n"
        "    def __init__(self, param): pass\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): [blob.reshape(1, 5) for blob in top]\n"
        "    def forward(self, bottom, top): top[0].data[...] = 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert (Net(parse_net(PROPOSALS), phase="TEST", allow_python_layers=True)(proposal_bottoms())["rois"] == 7).all()
    assert (Net(parse_net(PROPOSALS), phase="TEST")(proposal_bottoms())["rois"][:, 0] == 0).all()
    for name in ("rpn", "rpn.proposal_layer"):
        monkeypatch.delitem(sys.modules, name)


def test_a_users_class_may_say_its_onnx_form() -> None:
    def net(layer: str) -> Net:
        fields = f'python_param {{ module: "users_layers" layer: "{layer}" }}'
        text = f'layer {{ name: "p" type: "Python" bottom: "x" top: "y" {fields} }}'
        return Net(parse_net(f'input: "x" input_shape {{ dim: 2 }} {text}'), phase="TEST", allow_python_layers=True)

    assert run_model(to_onnx(net("Shifts")), {"x": np.array([1, 2], np.float32)})["y"].tolist() == [4, 5]
    with pytest.raises(NetError, match=r'"p" \(Python: it is code of yours; give its class a method to_onnx'):
        to_onnx(net("Writes"))
