"""Parameters in and out of a net, by Caffe's rules."""

from pathlib import Path

import pytest
import torch
from google.protobuf import text_format

from caffe_compat import Net, NetError
from caffe_compat.net import CopyReport
from caffe_compat.proto import caffe_pb2, is_hdf5, parse_net, read_caffemodel, read_hdf5_weights
from tests.net.prototxt import SMALL, net


def test_weights_round_trip(tmp_path: Path) -> None:
    n, other = net(SMALL), Net(parse_net(SMALL))
    for name in ("w.caffemodel", "w.caffemodel.h5"):
        n.save(tmp_path / name)
        for p in other.parameters():
            p.data.zero_()
        report = other.copy_from(tmp_path / name)
        assert report.copied == ["c1", "fc"]
        assert report.missing == []
        assert all(torch.equal(a, b) for a, b in zip(n.parameters(), other.parameters(), strict=True))


def test_copy_ignores_unknown_layers_and_refuses_other_shapes(tmp_path: Path) -> None:
    n = net(SMALL)
    n.save(tmp_path / "w.caffemodel")
    renamed = net(SMALL.replace('"fc"', '"fc-new"'))
    report = renamed.copy_from(tmp_path / "w.caffemodel")
    assert "fc" in report.ignored
    assert report.missing == ["fc-new"]
    wider = net(SMALL.replace("num_output: 5", "num_output: 6"))
    before = wider.layers["c1"].blobs[0].clone()
    with pytest.raises(NetError, match=r"param 0 has shape \(5, 144\) in the file and \(6, 144\) in the net"):
        wider.copy_from(tmp_path / "w.caffemodel")
    assert torch.equal(before, wider.layers["c1"].blobs[0]), "nothing is copied when one layer does not fit"


def values(n: Net) -> dict[str, list[object]]:
    """All parameters by layer."""
    return {name: [blob.tolist() for blob in blobs] for name, blobs in n.params.items()}


def product(name: str, inputs: int, outputs: int, *, bottom: str = "x", param: str = "", more: str = "") -> str:
    """An InnerProduct with its own Input of ``inputs`` values."""
    shape = f"shape {{ dim: 1 dim: {inputs} }}"
    return (
        f'layer {{ name: "{bottom}" type: "Input" top: "{bottom}" input_param {{ {shape} }} }}\n'
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {param} '
        f"inner_product_param {{ num_output: {outputs} {more} }} }}\n"
    )


def message(*layers: tuple[str, list[str]]) -> caffe_pb2.NetParameter:
    """A NetParameter of layers with blobs, each in prototxt text."""
    blocks = (f'layer {{ name: "{name}" {" ".join(f"blobs {{ {b} }}" for b in blobs)} }}' for name, blobs in layers)
    return text_format.Parse(" ".join(blocks), caffe_pb2.NetParameter())


WEIGHT, BIAS = "shape { dim: 2 dim: 3 } data: [1, 2, 3, 4, 5, 6]", "shape { dim: 2 } data: [7, 8]"
COPIED = [[[1, 2, 3], [4, 5, 6]], [7, 8]]


def test_copy_goes_by_name_not_by_order() -> None:
    n = net(product("a", 3, 2) + product("b", 3, 2, bottom="y"))
    report = n.copy_from(message(("z", [WEIGHT]), ("b", [WEIGHT, BIAS]), ("no_blobs", []), ("a", [WEIGHT, BIAS])))
    assert values(n) == {"a": COPIED, "b": COPIED}
    assert report == CopyReport(copied=["b", "a"], ignored=["z", "no_blobs"], missing=[])


def test_layers_that_the_source_lacks_stay_as_they_were() -> None:
    n = net(product("a", 3, 2) + product("b", 3, 2, bottom="y", more='weight_filler { type: "constant" value: 9 }'))
    report = n.copy_from(message(("a", [WEIGHT, BIAS])))
    assert report.missing == ["b"]
    assert values(n) == {"a": COPIED, "b": [[[9.0] * 3] * 2, [0, 0]]}


@pytest.mark.parametrize(
    ("inputs", "outputs", "blob", "fits"),
    [
        (3, 2, "num: 1 channels: 1 height: 2 width: 3", True),
        (3, 2, "num: 2 channels: 3 height: 1 width: 1", False),  # ones stand in front only
        (6, 1, "num: 1 channels: 1 height: 1 width: 6", True),
        (3, 2, "shape { dim: 1 dim: 1 dim: 2 dim: 3 }", False),  # no old form, so all axes count
    ],
)
def test_old_files_have_four_axes(inputs: int, outputs: int, blob: str, fits: bool) -> None:
    n = net(product("a", inputs, outputs, more="bias_term: false"))
    given = message(("a", [f"{blob} data: [1, 2, 3, 4, 5, 6]"]))
    if fits:
        n.copy_from(given)
        assert n.params["a"][0].flatten().tolist() == [1, 2, 3, 4, 5, 6]
        return
    before = values(n)
    with pytest.raises(NetError, match=r'<message>: layer "a": param 0 has shape \(.*\) in the file and \(2, 3\)'):
        n.copy_from(given)
    assert values(n) == before


@pytest.mark.parametrize(
    ("blobs", "message_text"),
    [
        ([WEIGHT], r"has 1 parameter blob\(s\), the net's layer \(.*\) has 2; rename the layer"),
        ([WEIGHT, BIAS, BIAS], r"has 3 parameter blob\(s\), the net's layer"),
        ([WEIGHT, WEIGHT], r"param 1 has shape \(2, 3\) in the file and \(2,\) in the net"),
    ],
)
def test_refused_weights_leave_everything_as_it_was(blobs: list[str], message_text: str) -> None:
    n = net(product("a", 3, 2) + product("b", 3, 2, bottom="y"))
    before = values(n)
    with pytest.raises(NetError, match=message_text):
        n.copy_from(message(("a", [WEIGHT, BIAS]), ("b", blobs)))
    assert values(n) == before


SHARED = 'param { name: "w" }'


def test_hdf5_leaves_out_shared_parameters(tmp_path: Path) -> None:
    text = product("a", 3, 2, param=SHARED) + product("b", 3, 2, bottom="y", param=SHARED)
    n = net(text)
    n.copy_from(message(("a", [WEIGHT, BIAS]), ("b", [WEIGHT, "shape { dim: 2 } data: [0, 1]"])))
    n.save(tmp_path / "w.caffemodel.h5")
    stored = {w.name: [b is not None for b in w.blobs] for w in read_hdf5_weights(tmp_path / "w.caffemodel.h5")}
    assert stored["a"] == [True, True]
    assert stored["b"] == [False, True]
    other = net(text)
    assert other.copy_from(tmp_path / "w.caffemodel.h5").copied == ["a", "b"]
    assert values(other) == {"a": COPIED, "b": [COPIED[0], [0, 1]]}
    # A net that does not share needs what the file leaves out.
    apart = net(text.replace(SHARED, ""))
    before = values(apart)
    with pytest.raises(NetError, match=r'layer "b": has 1 parameter blob\(s\), the net\'s layer .* has 2'):
        apart.copy_from(tmp_path / "w.caffemodel.h5")
    assert values(apart) == before


def test_binary_files_hold_shared_parameters_for_each_layer(tmp_path: Path) -> None:
    text = product("a", 3, 2, param=SHARED) + product("b", 3, 2, bottom="y", param=SHARED)
    n = net(text)
    n.copy_from(message(("a", [WEIGHT, BIAS])))
    n.save(tmp_path / "w.caffemodel")
    assert [
        (w.name, [b.tolist() for b in w.blobs if b is not None]) for w in read_caffemodel(tmp_path / "w.caffemodel")
    ] == [
        ("x", []),
        ("a", COPIED),
        ("y", []),
        ("b", [COPIED[0], [0, 0]]),
    ]


def test_the_ending_chooses_the_form(tmp_path: Path) -> None:
    n = net(product("a", 3, 2))
    for name, hdf5, found in (("w.h5", None, True), ("w", None, False), ("v", True, True), ("v.h5", False, False)):
        n.save(tmp_path / name, hdf5=hdf5)
        assert is_hdf5(tmp_path / name) == found


def test_sharing_with_another_net() -> None:
    train = net(product("a", 3, 2) + product("only_here", 3, 1, bottom="y"))
    test = net(product("a", 3, 2) + product("only_there", 3, 1, bottom="z"))
    test.share_with(train)
    assert test.params["a"][0] is train.params["a"][0]
    assert test.params["a"][1] is train.params["a"][1]
    train.copy_from(message(("a", [WEIGHT, BIAS])))
    assert test(x=torch.tensor([[1.0, 0, 0]]))["a"].tolist() == [[8, 12]]


@pytest.mark.parametrize(
    ("other", "message_text"),
    [
        (
            product("b", 4, 2, bottom="y"),
            r'"b".*cannot share param 0: its shape is \(2, 3\), the other net\'s \(2, 4\)',
        ),
        (product("b", 3, 2, bottom="y", more="bias_term: false"), r"has 2 parameter blob\(s\), the layer .* has 1"),
    ],
)
def test_sharing_that_does_not_fit_changes_nothing(other: str, message_text: str) -> None:
    train, test = net(product("a", 3, 2) + other), net(product("a", 3, 2) + product("b", 3, 2, bottom="y"))
    with pytest.raises(NetError, match=message_text):
        test.share_with(train)
    assert test.params["a"][0] is not train.params["a"][0]
