"""Parameters in and out of a net, by Caffe's rules."""

import re
import warnings
from pathlib import Path

import h5py
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
    with pytest.warns(UserWarning, match="wholly") as said:
        report = renamed.copy_from(tmp_path / "w.caffemodel")
    assert [str(warning.message) for warning in said] == [
        f'{tmp_path}/w.caffemodel: does not fit <message> wholly: ignored, as the net has no such layer: "fc"; '
        'left as they were, as no blobs came for them: "fc-new"'
    ]
    assert "fc" in report.ignored
    assert report.unused == ["fc"]
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
    given = message(("z", [WEIGHT]), ("b", [WEIGHT, BIAS]), ("no_blobs", []), ("a", [WEIGHT, BIAS]))
    with pytest.warns(UserWarning, match=r'<message>: does not fit .*: ignored, as the net has no such layer: "z"$'):
        report = n.copy_from(given)
    assert values(n) == {"a": COPIED, "b": COPIED}
    assert report == CopyReport(copied=["b", "a"], ignored=["z", "no_blobs"], missing=[])


def test_layers_that_the_source_lacks_stay_as_they_were() -> None:
    n = net(product("a", 3, 2) + product("b", 3, 2, bottom="y", more='weight_filler { type: "constant" value: 9 }'))
    with pytest.warns(UserWarning, match=r'wholly: left as they were, as no blobs came for them: "b"$'):
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


SHARED, SHARED_BIAS = 'param { name: "w" }', 'param { name: "v" }'


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
    n.copy_from(message(("a", [WEIGHT, BIAS])), warn=False)
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
    train.copy_from(message(("a", [WEIGHT, BIAS])), warn=False)
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


# -- what does not fit is said ----------------------------------------------------------


def test_layers_without_blobs_are_no_difference() -> None:
    """A train net's data, Split and loss layers are not in a deploy net, and nobody misses them."""
    n = net(product("a", 3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = n.copy_from(message(("data", []), ("a", [WEIGHT, BIAS]), ("loss", [])))
    assert report == CopyReport(copied=["a"], ignored=["data", "loss"])
    assert report.differences() == ""


def test_a_layer_that_has_all_from_a_copied_one_is_not_missing() -> None:
    n = net(product("a", 3, 2, param=SHARED + SHARED_BIAS) + product("b", 3, 2, bottom="y", param=SHARED + SHARED_BIAS))
    assert n.copy_from(message(("a", [WEIGHT, BIAS])), strict=True).missing == []
    assert values(n) == {"a": COPIED, "b": COPIED}


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (message(("z", [WEIGHT]), ("y", [WEIGHT, BIAS]), ("data", [])), '"z", "y"'),
        (message(("a", [])), "none"),
        (message(*((f"l{i}", [BIAS]) for i in range(22))), ", ".join(f'"l{i}"' for i in range(20)) + " and 2 more"),
    ],
)
def test_weights_of_which_nothing_fits_are_refused(given: caffe_pb2.NetParameter, held: str) -> None:
    n = net(product("b", 3, 2))
    if held == "none":
        n = net(product("c", 3, 2))
    expected = (
        f"<message>: nothing fits <message>: the file has blobs for the layers {held}, the net's layers with "
        f'parameters are "{next(iter(n.params))}"; weights are copied by layer name, so give the right file, or the '
        "layers the names of the file"
    )
    with pytest.raises(NetError, match=f"^{re.escape(expected)}$"):
        n.copy_from(given)


def test_a_net_without_parameters_takes_any_file() -> None:
    n = net('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    with pytest.warns(UserWarning, match='ignored, as the net has no such layer: "a"'):
        assert n.copy_from(message(("a", [WEIGHT]))).unused == ["a"]


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([("a", [WEIGHT, BIAS])], 'left as they were, as no blobs came for them: "b"'),
        (
            [("a", [WEIGHT, BIAS]), ("b", [WEIGHT, BIAS]), ("z", [BIAS])],
            'ignored, as the net has no such layer: "z"',
        ),
    ],
)
def test_strict_is_all_or_nothing(layers: list[tuple[str, list[str]]], text: str, tmp_path: Path) -> None:
    model = product("a", 3, 2) + product("b", 3, 2, bottom="y")
    n = net(model)
    before = values(n)
    with pytest.raises(NetError) as caught:
        n.copy_from(message(*layers), strict=True)
    assert str(caught.value) == f"<message>: does not fit <message> wholly, and nothing is copied: {text}"
    assert values(n) == before
    (tmp_path / "w.caffemodel").write_bytes(message(*layers).SerializeToString())
    with pytest.raises(NetError, match=r"w\.caffemodel: does not fit .* wholly"):
        Net(parse_net(model), tmp_path / "w.caffemodel", strict=True)
    with pytest.warns(UserWarning, match=r"w\.caffemodel: does not fit .* wholly"):
        Net(parse_net(model), tmp_path / "w.caffemodel")


def test_the_caller_may_say_it_himself() -> None:
    n = net(product("a", 3, 2) + product("b", 3, 2, bottom="y"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert n.copy_from(message(("a", [WEIGHT, BIAS])), warn=False).missing == ["b"]


CONV = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 1 dim: 1 } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 2 kernel_size: 1 } }
"""


@pytest.mark.parametrize(
    "blobs", [[WEIGHT, BIAS], ["shape { dim: 2 dim: 3 dim: 1 dim: 1 } data: [1, 2, 3, 4, 5, 6]",
                               "shape { dim: 1 dim: 2 dim: 1 dim: 1 } data: [7, 8]"]]
)  # fmt: skip
def test_as_many_values_in_another_shape(blobs: list[str]) -> None:
    """An InnerProduct's weights in a Convolution; a bias as 1 x C x 1 x 1."""
    n = net(CONV)
    i, theirs, ours, size = (0, "(2, 3)", "(2, 3, 1, 1)", 6) if blobs[0] == WEIGHT else (1, "(1, 2, 1, 1)", "(2,)", 2)
    with pytest.raises(NetError) as caught:
        n.copy_from(message(("a", blobs)))
    assert str(caught.value) == (
        f'<message>: layer "a": param {i} has shape {theirs} in the file and {ours} in the net (<message>); both hold '
        f"{size} values: if their order is the same, as it is in an InnerProduct and the Convolution over its whole "
        'bottom, take them with copy_from(..., reshape=["a"]) or --reshape=a; else rename the layer to train it from '
        "scratch"
    )
    n.copy_from(message(("a", blobs)), reshape=["a"])
    assert values(n) == {"a": [[[[[1]], [[2]], [[3]]], [[[4]], [[5]], [[6]]]], [7, 8]]}


def test_reshape_goes_no_further_than_the_counts() -> None:
    n = net(CONV)
    before = values(n)
    wide = "shape { dim: 2 dim: 4 } data: [1, 2, 3, 4, 5, 6, 7, 8]"
    with pytest.raises(NetError, match=r"param 0 has shape \(2, 4\) in the file .*; rename the layer to train it from"):
        n.copy_from(message(("a", [wide, BIAS])), reshape=["a"])
    with pytest.raises(NetError, match=r'has no layer "fc" whose blobs could be reshaped; its layers .* are "a"$'):
        n.copy_from(message(("a", [WEIGHT, BIAS])), reshape=["fc"])
    assert values(n) == before


# -- names that repeat ------------------------------------------------------------------

DUPLICATE_NAMES = Path(__file__).parents[1] / "golden" / "duplicate_names"


def test_layers_of_one_name_are_saved_as_caffe_saves_them(tmp_path: Path) -> None:
    n = Net(DUPLICATE_NAMES / "net.prototxt", phase="TEST")
    for step, constants in ((n.steps[1], (1, 2)), (n.steps[2], (3, 4))):
        for blob, constant in zip(step.layer.blobs, constants, strict=True):
            blob.data.fill_(constant)
    with pytest.warns(UserWarning, match=r'share the name "c"; .* cannot be restored; give each layer a name'):
        n.save(tmp_path / "w.caffemodel")
    assert (tmp_path / "w.caffemodel").read_bytes() == (DUPLICATE_NAMES / "written_by_caffe.caffemodel").read_bytes()


def test_layers_of_one_name_are_copied_as_caffe_copies_them() -> None:
    """All to the first; the second stays as it was, which strict refuses."""
    n = Net(DUPLICATE_NAMES / "net.prototxt")
    for blob in n.parameters():
        blob.data.fill_(9)
    with pytest.raises(NetError, match=r'nothing is copied: left as .* "c"; several layers have the name "c",'):
        n.copy_from(DUPLICATE_NAMES / "written_by_caffe.caffemodel", strict=True)
    with pytest.warns(UserWarning, match='left as they were, as no blobs came for them: "c"'):
        report = n.copy_from(DUPLICATE_NAMES / "written_by_caffe.caffemodel")
    assert (report.copied, report.missing) == (["c", "c"], ["c"])
    assert [blob.unique().tolist() for step in n.steps for blob in step.layer.blobs] == [[3], [4], [9], [9]]


def test_hdf5_holds_one_layer_of_a_name(tmp_path: Path) -> None:
    n = Net(DUPLICATE_NAMES / "net.prototxt")
    with pytest.raises(NetError, match=r'w\.h5: HDF5 files know a layer by its name, and "c" is no'):
        n.save(tmp_path / "w.h5")
    assert list(tmp_path.iterdir()) == []
    # Caffe looks layers of HDF5 files up in another index, where the last of a name counts.
    one = net(product("c", 3, 2))
    one.copy_from(message(("c", [WEIGHT, BIAS])))
    one.save(tmp_path / "w.h5")
    two = net(product("c", 3, 2) + product("c", 3, 2, bottom="y").replace('top: "c"', 'top: "c2"'))
    with pytest.warns(UserWarning, match='left as they were, .* "c"'):
        two.copy_from(tmp_path / "w.h5")
    assert [[b.tolist() for b in step.layer.blobs] == COPIED for step in two.steps if step.layer.blobs] == [False, True]


UNNAMED = "".join(
    f'layer {{ type: "InnerProduct" bottom: "{bottom}" top: "{top}" inner_product_param {{ num_output: 2 '
    f'weight_filler {{ type: "constant" value: {value} }} bias_term: false }} }}\n'
    for bottom, top, value in (("x", "h", 3), ("h", "o", 4))
)
INPUT = 'layer { type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }\n'


def test_unnamed_layers_are_saved_each_with_its_own(tmp_path: Path) -> None:
    n = net(INPUT + UNNAMED)
    with pytest.warns(UserWarning, match='share the name ""'):
        n.save(tmp_path / "w.caffemodel")
    saved = read_caffemodel(tmp_path / "w.caffemodel")
    assert [(w.type, [b.tolist() for b in w.blobs if b is not None]) for w in saved] == [
        ("Input", []),
        ("InnerProduct", [[[3, 3], [3, 3]]]),
        ("InnerProduct", [[[4, 4], [4, 4]]]),
    ]
    with pytest.raises(NetError) as caught:
        n.copy_from(tmp_path / "w.caffemodel")
    assert str(caught.value) == (
        f'{tmp_path}/w.caffemodel: layer "": has 1 parameter blob(s), the net\'s layer (<message>) has 0; the net has '
        "several layers of this name; give each a name of its own, in the file's net, too"
    )


def test_hdf5_leaves_out_unnamed_layers_that_have_nothing(tmp_path: Path) -> None:
    n = net(INPUT + product("a", 3, 2, bottom="y"))
    n.save(tmp_path / "w.h5")
    assert [w.name for w in read_hdf5_weights(tmp_path / "w.h5")] == ["a", "y"]


@pytest.mark.parametrize("name", ["w.caffemodel", "w.caffemodel.h5"])
def test_gradients_are_saved_where_asked_for(name: str, tmp_path: Path) -> None:
    n = net(product("a", 3, 2))
    n.params["a"][1].grad = torch.tensor([5.0, 6.0])
    n.save(tmp_path / name, diffs=True)
    if name.endswith(".h5"):
        with h5py.File(tmp_path / name) as file:
            diffs = [file[f"diff/a/{i}"][()].tolist() for i in range(2)]
    else:
        saved = next(w for w in read_caffemodel(tmp_path / name) if w.name == "a")
        diffs = [d.tolist() for d in saved.diffs if d is not None]
    assert diffs == [[[0, 0, 0], [0, 0, 0]], [5, 6]]


def test_sharing_names_the_layers_that_find_no_fellow() -> None:
    train, test = net(product("a", 3, 2)), net(product("a", 3, 2) + product("b", 3, 2, bottom="y"))
    assert test.share_with(train) == ["b"]


def test_gradients_have_the_shape_of_their_layer(tmp_path: Path) -> None:
    """Also where it shares a parameter that is stored in another shape."""
    permissive = 'param { name: "w" share_mode: PERMISSIVE }'
    n = net(product("a", 3, 2, param=permissive) + product("b", 2, 3, bottom="y", param=permissive))
    n.params["a"][0].grad = torch.arange(6.0).view(2, 3)
    n.save(tmp_path / "w", diffs=True)
    saved = next(w for w in read_caffemodel(tmp_path / "w") if w.name == "b")
    assert saved.diffs[0] is not None
    assert saved.diffs[0].tolist() == [[0, 1], [2, 3], [4, 5]]
