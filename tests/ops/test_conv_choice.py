"""Which path computes a convolution on CUDA."""

import json
import logging
from collections.abc import Iterator
from logging.handlers import BufferingHandler
from pathlib import Path

import pytest
import torch

from caffe_compat.errors import CaffeCompatError
from caffe_compat.ops import ConvWindow, conv_choice

WINDOW = ConvWindow((1, 1), (2, 2), (1, 1), 2)
CONV2 = ((256, 96, 27, 27), (256, 48, 5, 5))  # input and weight of CaffeNet's conv2
KEY = "output bf16 NHWC 256x96x27x27 256x48x5x5 s1x1 p2x2 d1x1 g2"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No table but what a test writes, and no choice remembered."""
    monkeypatch.delenv(conv_choice.TABLE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    conv_choice.forget_choices()
    yield
    conv_choice.forget_choices()


@pytest.mark.parametrize(
    ("precision", "groups", "weight", "paths"),
    [
        ("bf16", 2, (256, 48, 5, 5), ["cudnn_split"] * 3),
        ("tf32", 2, (256, 48, 5, 5), ["cudnn_split"] * 3),
        ("fp32", 2, (256, 48, 5, 5), ["cudnn_split"] * 3),
        ("fp32", 2, (8, 4, 3, 3), ["cudnn_split"] * 3),
        ("fp64", 2, (256, 48, 5, 5), ["cudnn"] * 3),
        ("bf16", 1, (384, 256, 3, 3), ["cudnn"] * 3),
        ("fp32", 1, (384, 256, 3, 3), ["split_tf32", "split_tf32", "cudnn"]),
        ("fp32", 1, (96, 3, 3, 3), ["cudnn"] * 3),  # three channels
        ("fp32", 1, (256, 96, 5, 5), ["cudnn"] * 3),
    ],
)
def test_rule_of_thumb(precision: str, groups: int, weight: tuple[int, ...], paths: list[str]) -> None:
    found = [
        conv_choice.rule_of_thumb(operation, precision, channels_last=True, weight=weight, groups=groups)
        for operation in conv_choice.OPERATIONS
    ]
    assert found == paths
    in_nchw = conv_choice.rule_of_thumb("output", "fp32", channels_last=False, weight=(384, 256, 3, 3), groups=1)
    assert in_nchw == "cudnn"


def choose(device: str = "GPU") -> str:
    return conv_choice.choose(
        device, "output", "bf16", channels_last=True, input=CONV2[0], weight=CONV2[1], window=WINDOW
    )


def write_table(path: Path, name: str = "cudnn") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"devices": {"GPU": {KEY: {"path": name}}}, "versions": {"GPU": conv_choice.versions()}}
    path.write_text(json.dumps(table))


def test_the_table_decides_and_each_choice_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose() == "cudnn_split"
    write_table(conv_choice.table_path())
    assert choose() == "cudnn_split"  # read once
    conv_choice.forget_choices()
    heard = BufferingHandler(100)
    monkeypatch.setattr(logging.getLogger("caffe_compat.ops.conv_choice"), "handlers", [heard])
    with caplog.at_level(logging.DEBUG, "caffe_compat"):
        assert [choose() for _ in range(3)] == ["cudnn"] * 3
    assert [record.getMessage() for record in heard.buffer] == [f"convolution {KEY}: cudnn (measured)"]
    assert choose("another GPU") == "cudnn_split"


def test_the_key_names_every_size() -> None:
    assert (
        conv_choice.table_key("output", "bf16", channels_last=True, input=CONV2[0], weight=CONV2[1], window=WINDOW)
        == KEY
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "not a convolution table"),
        ("{}", "not a convolution table"),
        ('{"devices": {"GPU": {"k": {"path": "x"}}}}', "GPU, k: path is 'x'; expected one of ours_nchw"),
    ],
)
def test_a_broken_table_is_refused(content: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.json"
    monkeypatch.setenv(conv_choice.TABLE_VARIABLE, str(path))
    path.write_text(content)
    with pytest.raises(CaffeCompatError, match=text):
        choose()


def test_what_a_log_says_of_the_table(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    monkeypatch.setattr(logging.getLogger("caffe_compat"), "propagate", True)
    device, path = torch.device("cuda"), conv_choice.table_path()
    assert choose() == "cudnn_split"
    tail = "; `caffe-compat tune` measures them on this GPU"
    assert conv_choice.describe(device) == f"Convolutions take their paths by rule of thumb (no {path}){tail}"
    assert not caplog.text  # each process asks
    write_table(path)
    conv_choice.forget_choices()
    assert conv_choice.describe(device) == (
        f"Convolutions take the paths of {path}, 1 of them tuned, else by rule of thumb"
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another GPU")
    assert conv_choice.describe(device) == f"Convolutions take their paths by rule of thumb{tail}"


def pick(operation: str, first: torch.Tensor, second: torch.Tensor, input: torch.Size, weight: torch.Size) -> str:
    return conv_choice.pick(operation, first, second, input=input, weight=weight, window=WINDOW)


def test_exact_takes_caffes_own_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_COMPAT_EXACT", "1")
    x, weight = torch.zeros(CONV2[0], device="meta"), torch.zeros(CONV2[1], device="meta")
    assert pick("output", x, weight, x.shape, weight.shape) == "caffe"


def test_arguments_that_do_not_fit_go_to_the_checks_of_our_kernels() -> None:
    x, weight = torch.zeros(CONV2[0], device="meta"), torch.zeros(CONV2[1], device="meta")
    for wrong in (weight.half(), weight[:, :5], weight[0], weight[:, :, :, :0]):
        assert pick("output", x, wrong, x.shape, wrong.shape) == "ours_nchw"
    assert pick("input_grad", x, weight, x.shape, weight.shape) == "ours_nchw"  # not a grad


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(ValueError, match="use_path: 'fast'; expected one of ours_nchw"), conv_choice.use_path("fast"):
        pass


def test_a_compiled_function_asks_once_whether_the_device_is_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after torch.compiler.assume_constant_result, which would import torch._dynamo with this package."""
    asked = []

    def name(device: torch.device) -> str:
        asked.append(device)
        return "GPU"

    write_table(conv_choice.table_path())
    monkeypatch.setattr(torch.cuda, "get_device_name", name)

    def double_where_tuned(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if conv_choice.is_tuned(torch.device("cuda")) else x

    compiled = torch.compile(double_where_tuned, fullgraph=True, backend="eager")
    assert [compiled(torch.ones(())).item() for _ in range(2)] == [2, 2]
    assert len(asked) == 1
    marked = torch.compiler.assume_constant_result(lambda: None)
    assert vars(marked).items() <= vars(conv_choice.is_tuned).items()
