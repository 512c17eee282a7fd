"""Run folders say what the authors' did: what is frozen, what is new, where it starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, read_message, read_net, read_solver
from reproduce.network import Network
from reproduce.plan import paper_networks
from reproduce.run_folder import PROTOTXT, RunSettings, _net, _solver, cut_names, write_run_folder
from reproduce.treatments import NETBASE, RANDOM, REDUCED, base_half, transfer
from tests.reproduce.authors_folders import GOLDEN, NONE, WITHOUT_MEAN, digests, images_of
from tests.reproduce.test_learned_layers import TOWERS

#: CaffeNet's eight learned layers, from the input
LEARNED = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def layers_of(network: Network, folder: Path, phase: str = "train") -> dict[str, Any]:
    path = write_run_folder(network, RunSettings(), folder) / f"{phase}.prototxt"
    return {layer.name: layer for layer in read_net(path).layer}


@pytest.mark.parametrize("n", [1, 4, 7])
def test_frozen_layers_keep_their_names_and_the_rest_is_new(tmp_path: Path, n: int) -> None:
    layers = layers_of(transfer("0", "A", "B", n), tmp_path)
    for number, name in enumerate(LEARNED, 1):
        layer = layers[name if number <= n else f"{name}-new"]
        frozen = [(0, 0), (0, 0)] if number <= n else [(1, 1), (2, 0)]
        assert [(spec.lr_mult, spec.decay_mult) for spec in layer.param] == frozen
    assert list(layers["loss"].bottom) == ["fc8-new", "label"]


def test_new_blobs_are_renamed_wherever_they_go(tmp_path: Path) -> None:
    layers = layers_of(transfer("0", "A", "B", 4), tmp_path, "val")
    assert list(layers["relu5"].bottom) == list(layers["relu5"].top) == ["conv5-new"]
    assert list(layers["pool5"].bottom) == ["conv5-new"]
    assert list(layers["pool5"].top) == ["pool5"]
    assert list(layers["conv5-new"].bottom) == ["conv4"]


def test_fine_tuned_networks_only_rename(tmp_path: Path) -> None:
    layers = layers_of(transfer("0", "A", "A", 3, fine_tuned=True), tmp_path)
    assert "conv3" in layers
    assert "conv4-new" in layers
    assert all([spec.lr_mult for spec in layer.param] in ([], [1, 2]) for layer in layers.values())


def test_random_features_are_frozen_under_their_own_names(tmp_path: Path) -> None:
    layers = layers_of(RANDOM.network(2), tmp_path)
    assert [spec.lr_mult for spec in layers["conv2"].param] == [0, 0]
    assert [spec.lr_mult for spec in layers["conv3"].param] == [1, 2]


def test_a_transfer_starts_from_its_base_and_trains_on_its_target(tmp_path: Path) -> None:
    folder = write_run_folder(transfer("natman", "A", "B", 5), RunSettings(), tmp_path)
    assert folder.name == "transfernatmanAB_1_5"
    solver = read_solver(folder / "solver.prototxt")
    assert list(solver.weights) == ["../halfnatmanA/caffe_train_iter_450000.caffemodel"]
    data = read_net(folder / "train.prototxt").layer[0]
    assert data.data_param.source == "../data/halfnatmanB_train_lmdb"
    assert data.transform_param.mean_file == "../data/halfnatmanA_mean.binaryproto"


def test_mean_images_are_those_of_the_base_networks_data(tmp_path: Path) -> None:
    """As the checksums of the authors' mean files say: a transfer network, frozen or not, subtracts its base half's."""
    cases = {
        base_half("0", "B"): "half0B",
        transfer("0", "A", "B", 4): "half0A",
        transfer("0", "B", "A", 4, fine_tuned=True): "half0B",
        transfer("1", "A", "A", 2): "half1A",
        RANDOM.network(3): "whole",
        NETBASE.network(): "whole",
    }
    for network, name in cases.items():
        for phase in ("train", "val"):
            data = layers_of(network, tmp_path, phase)["data"]
            assert data.transform_param.mean_file == f"../data/{name}_mean.binaryproto"


def test_solvers_are_the_papers(tmp_path: Path) -> None:
    names = ("base_lr", "stepsize", "max_iter", "test_interval", "snapshot", "display")
    expected = {
        "transfer": (0.01, 100000, 450000, 1000, 10000, 20),
        "reduced": (0.0125, 64000, 200000, 1000, 10000, 20),
    }
    for network in (transfer("0", "A", "B", 1), REDUCED.network(10)):
        solver = read_solver(write_run_folder(network, RunSettings(), tmp_path) / "solver.prototxt")
        values = tuple(getattr(solver, name) for name in names)
        assert values == pytest.approx(expected[network.family])
        assert (solver.momentum, solver.weight_decay, solver.gamma) == pytest.approx((0.9, 0.0005, 0.1))
        assert list(solver.test_iter) == [1000]


def test_the_reference_network_is_written_with_padding_layers(tmp_path: Path) -> None:
    folder = write_run_folder(NETBASE.network(), RunSettings(), tmp_path)
    written = read_message(folder / "train.prototxt", caffe_pb2.NetParameter())
    assert [c.layer.pad for c in written.layers if c.layer.type == "padding"] == [2, 1, 1, 1]
    upgraded = {layer.name: layer for layer in read_net(folder / "train.prototxt").layer}
    assert list(upgraded["conv2"].convolution_param.pad) == [2]


def test_reduced_sets_are_tested_on_all_classes(tmp_path: Path) -> None:
    layers = layers_of(REDUCED.network(25), tmp_path, "val")
    assert layers["data"].data_param.source == "../data/whole_valid_lmdb"
    assert layers["data"].transform_param.mean_file == "../data/reduced-0025_mean.binaryproto"


def test_scale_shrinks_the_whole_schedule(tmp_path: Path) -> None:
    settings = RunSettings(scale=0.001, outputs=7, seed=3, test_images=(("half0A", 101),))
    folder = write_run_folder(transfer("0", "B", "A", 1), settings, tmp_path)
    solver = read_solver(folder / "solver.prototxt")
    assert (solver.max_iter, solver.stepsize, solver.test_interval, solver.snapshot) == (450, 100, 1, 10)
    assert list(solver.test_iter) == [3]  # batches of 50
    assert list(solver.weights) == ["../half0B/caffe_train_iter_450.caffemodel"]
    assert read_net(folder / "train.prototxt").layer[-2].inner_product_param.num_output == 7


@pytest.mark.parametrize(
    ("images", "batches"),
    [(25000, 500), (50000, 1000), (100, 2), (22450, 1000), (25001, 1000), (49, 1000)],
)
def test_a_test_is_one_pass_where_its_numbers_stay_the_same(tmp_path: Path, images: int, batches: int) -> None:
    """The paper's 1000 batches of 50 are two passes over a half's 25,000 images, but 2.2 over a natural half's."""
    settings = RunSettings(test_images=(("half0A", images),), same_numbers=True)
    folder = write_run_folder(base_half("0", "A"), settings, tmp_path)
    assert list(read_solver(folder / "solver.prototxt").test_iter) == [batches]


def test_each_network_has_a_seed_of_its_own(tmp_path: Path) -> None:
    seeds = set()
    for seed in (0, 1):
        for network in paper_networks()[:6]:
            folder = write_run_folder(network, RunSettings(seed=seed), tmp_path / str(seed))
            seeds.add(read_solver(folder / "solver.prototxt").random_seed)
    assert len(seeds) == 12


def test_networks_of_one_data_set_see_the_same_crops_where_that_is_wanted(tmp_path: Path) -> None:
    """With a field of NVCaffe's, which is not in the files for Caffe 1.0."""
    settings = RunSettings(seed=3, same_crops=True)
    half = base_half("0", "B")
    networks = [half, transfer("0", "B", "B", 1), transfer("0", "A", "B", 7), transfer("0", "A", "B", 7, True)]
    others = [base_half("0", "A"), half.with_seed(4)]
    seeds = []
    for network in networks + others:
        folder = write_run_folder(network, settings, tmp_path)
        train = read_net(folder / "train.prototxt")
        seeds.append(train.layer[0].transform_param.random_seed)
        train.layer[0].transform_param.ClearField("random_seed")
        assert train == read_net(folder / "caffe1_train.prototxt")
        assert not read_net(folder / "val.prototxt").layer[0].transform_param.HasField("random_seed")
    assert len(set(seeds[:4])) == 1
    assert len(set(seeds)) == 3
    alone = write_run_folder(half, RunSettings(seed=4, same_crops=True), tmp_path / "alone")
    assert read_net(alone / "train.prototxt").layer[0].transform_param.random_seed == seeds[-1]
    plain = write_run_folder(half, RunSettings(seed=3), tmp_path / "plain")
    assert not read_net(plain / "train.prototxt").layer[0].transform_param.HasField("random_seed")


def test_files_for_caffe_1_say_the_same_and_name_the_backend(tmp_path: Path) -> None:
    folder = write_run_folder(transfer("0", "A", "B", 4), RunSettings(), tmp_path)
    for phase in ("train", "val"):
        ours, theirs = read_net(folder / f"{phase}.prototxt"), read_net(folder / f"caffe1_{phase}.prototxt")
        assert theirs.layer[0].data_param.backend == caffe_pb2.DataParameter.LMDB
        ours.layer[0].data_param.backend = caffe_pb2.DataParameter.LMDB
        assert ours == theirs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layers { layer { name: "x" kernel: 3 } }', r"train.prototxt:1.*kernel"),
        (
            'layer { name: "data" type: "Input" top: "data" }',
            "train.prototxt: the first layer is no Data layer with tops",
        ),
        ('layer { name: "data" type: "Data" top: "d" top: "l" data_param {} }', "no layer takes the labels"),
    ],
)
def test_wrong_base_prototxts_are_named(tmp_path: Path, text: str, message: str) -> None:
    base = tmp_path / "nets" / "base"
    base.mkdir(parents=True)
    (base / "train.prototxt").write_text(text)
    with pytest.raises(ProtoError, match=message):
        write_run_folder(transfer("0", "A", "B", 1), RunSettings(prototxt=base.parent), tmp_path)


def test_miniatures_exist_for_all_data() -> None:
    for name in ("glyphs", "glyphs-large", "photos", "fashion-mnist"):
        assert (PROTOTXT / "miniature" / name / "base" / "solver.prototxt").is_file()


SOLVER = """
net: "mine.prototxt" test_iter: 3 test_interval: 100 base_lr: 0.1 lr_policy: "multistep" gamma: 0.1
stepvalue: 500 stepvalue: 800 max_iter: 1000 display: 20 snapshot_prefix: "mine" type: "Nesterov"
"""


@pytest.fixture
def other_net(tmp_path: Path) -> RunSettings:
    """A net in today's form, of other names than CaffeNet's, with its own solver for transfer networks."""
    for family, solver in (("base", SOLVER), ("transfer", SOLVER.replace("max_iter: 1000", "max_iter: 600"))):
        folder = tmp_path / "nets" / family
        folder.mkdir(parents=True)
        (folder / "solver.prototxt").write_text(solver)
    for phase in ("train", "val"):
        (tmp_path / "nets" / "base" / f"{phase}.prototxt").write_text(TOWERS)
    return RunSettings(tmp_path / "nets", outputs=7, scale=0.1, channels=3, size_px=16)


def test_another_net_is_cut_at_its_own_layers(tmp_path: Path, other_net: RunSettings) -> None:
    assert cut_names(other_net) == ("first", "left", "right")
    folder = write_run_folder(transfer("0", "A", "B", 2), other_net, tmp_path / "out")
    layers = {layer.name: layer for layer in read_net(folder / "train.prototxt").layer}
    learned = ["first", "norm", "stretch", "left", "bend", "aside-new", "right-new", "last-new", "gain-new"]
    assert [name for name in layers if name in learned] == learned
    frozen = {name: [(spec.lr_mult, spec.decay_mult) for spec in layers[name].param] for name in learned}
    counts = {"first": 2, "norm": 3, "stretch": 2, "left": 1, "bend": 1}
    assert frozen == {name: [(0, 0)] * counts.get(name, 0) for name in learned}
    assert layers["last-new"].convolution_param.num_output == layers["aside-new"].inner_product_param.num_output == 7
    assert layers["first"].convolution_param.num_output == 4
    data = layers["data"]
    assert (data.data_param.source, data.data_param.batch_size) == ("../data/half0B_train_lmdb", 2)
    assert data.data_param.backend == caffe_pb2.DataParameter.LMDB
    assert data.transform_param.mean_file == "../data/half0A_mean.binaryproto"
    test = {layer.name: layer for layer in read_net(folder / "val.prototxt").layer}
    assert test["data"].data_param.source == "../data/half0B_valid_lmdb"
    assert "early_loss" not in test
    assert "right_ones" not in layers
    assert "last-new" in test


def test_random_features_of_another_net(tmp_path: Path, other_net: RunSettings) -> None:
    folder = write_run_folder(RANDOM.network(1), other_net, tmp_path / "out")
    layers = {layer.name: layer for layer in read_net(folder / "train.prototxt").layer}
    assert [spec.lr_mult for spec in layers["stretch"].param] == [0, 0]
    assert not layers["left"].param
    assert "last" in layers


def test_a_family_may_have_a_solver_of_its_own(tmp_path: Path, other_net: RunSettings) -> None:
    """Its length is its own; it starts from the last snapshot of its base network, whose length is another."""
    base = read_solver(write_run_folder(base_half("0", "A"), other_net, tmp_path / "out") / "solver.prototxt")
    frozen = read_solver(write_run_folder(transfer("0", "A", "B", 2), other_net, tmp_path / "out") / "solver.prototxt")
    assert (base.max_iter, frozen.max_iter) == (100, 60)
    assert list(frozen.weights) == ["../half0A/mine_iter_100.caffemodel"]
    assert list(frozen.stepvalue) == [50, 80]
    assert (frozen.train_net, list(frozen.test_net), frozen.HasField("net")) == (
        "train.prototxt",
        ["val.prototxt"],
        False,
    )
    assert (frozen.snapshot, frozen.test_interval, frozen.display, list(frozen.test_iter)) == (0, 10, 2, [3])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"mine"', '"snapshots/mine"', 'snapshot_prefix is "snapshots/mine"; expected a plain name, as "caffe_train"'),
        ("test_interval: 100", "", "test_interval is 0; expected at least 1: results come from tests"),
        (
            "max_iter: 1000",
            "max_iter: 1000 snapshot_after_train: false",
            "snapshot_after_train is false; expected true",
        ),
        ("stepvalue: 800", "stepvalue: 2147483647", "stepvalue would be 21474836470 by --scale or --iters"),
    ],
)
def test_solvers_that_leave_no_results_are_refused(
    tmp_path: Path, other_net: RunSettings, old: str, new: str, message: str
) -> None:
    file = other_net.prototxt / "base" / "solver.prototxt"
    file.write_text(file.read_text().replace(old, new))
    settings = replace(other_net, scale=10.0) if "stepvalue" in message else other_net
    with pytest.raises(ProtoError, match=rf"base/solver\.prototxt: {message}"):
        write_run_folder(base_half("0", "A"), settings, tmp_path / "out")


def test_a_test_net_without_accuracy_is_refused_before_anything_is_trained(
    tmp_path: Path, other_net: RunSettings
) -> None:
    file = other_net.prototxt / "base" / "val.prototxt"
    file.write_text(TOWERS.replace('top: "accuracy"', 'top: "top1"'))
    with pytest.raises(ProtoError, match=r"base/val\.prototxt: no output accuracy of one number"):
        write_run_folder(base_half("0", "A"), other_net, tmp_path / "out")


def test_a_run_has_the_same_random_seeds_whether_its_seed_stands_alone_or_among_others(tmp_path: Path) -> None:
    among = write_run_folder(transfer("0", "A", "B", 1).with_seed(5), RunSettings(seed=0), tmp_path)
    alone = write_run_folder(transfer("0", "A", "B", 1), RunSettings(seed=5), tmp_path)
    among_solver, alone_solver = read_solver(among / "solver.prototxt"), read_solver(alone / "solver.prototxt")
    assert among_solver.random_seed == alone_solver.random_seed
    assert list(among_solver.weights) == ["../half0A-seed5/caffe_train_iter_450000.caffemodel"]


def test_the_170_folders_equal_the_authors_field_by_field() -> None:
    """But for paths and what prototxt/paper/README.md lists; the images and the mean files are the same, too."""
    theirs = {line.split()[0]: line.split()[1:] for line in GOLDEN.read_text().splitlines() if line[0] != "#"}
    networks = {network.name: network for network in paper_networks()}
    assert len(theirs) == 170
    assert theirs.keys() == networks.keys()
    without_mean = []
    for name, (base, mean, train_images, test_images, *files) in theirs.items():
        network, settings = networks[name], RunSettings()
        train, val = _net(network, settings, "train"), _net(network, settings, "val")
        assert digests(train, val, _solver(network, settings, val)) == files
        assert network.base_network == (base if base != NONE else "")
        sources = [images_of(net.layers[0].layer.source) for net in (train, val)]
        if name == "reduced-1300":  # all images of each class
            sources[0] = "whole_train"
        assert sources == [train_images, test_images]
        if network.split:
            files_of_means = {net.layers[0].layer.meanfile for net in (train, val)}
            assert files_of_means == {f"../data/{network.mean_data}_mean.binaryproto"}
            if mean == NONE:
                without_mean.append(name)
            else:
                assert network.mean_data == mean
        else:
            assert mean == NONE
    assert without_mean == [WITHOUT_MEAN]  # of all others they published the mean file
