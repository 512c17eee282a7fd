"""The prototxts of --model, and what becomes of its blocks in the experiment's networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat import Net, Solver
from caffe_compat.data.datum import encode_datum
from caffe_compat.data.lmdb import write_lmdb
from caffe_compat.data.mean import write_mean
from caffe_compat.errors import DataError
from caffe_compat.proto import read_net
from caffe_compat.solver import Log
from reproduce.model_nets import model_prototxts, split_model
from reproduce.run_folder import PROTOTXT, RunSettings, write_run_folder
from reproduce.treatments import base_half, transfer

GLYPHS = PROTOTXT / "miniature" / "glyphs"


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "valid"):
        images = rng.integers(0, 256, (8, 3, 32, 32), np.uint8)
        write_lmdb(
            folder / f"half0A_{part}_lmdb",
            [(f"{i:02d}", encode_datum(image, i % 2)) for i, image in enumerate(images)],
        )
    write_mean(folder / "half0A_mean.binaryproto", np.full((3, 32, 32), 128, np.float32))


def copied(net: Net) -> dict[str, list[Tensor]]:
    return {name: [blob.detach().clone() for blob in blobs] for name, blobs in net.params.items()}


def test_kept_blocks_stay_and_new_ones_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BnB cut at the second block of a RegNet: weights and running averages below stay as copied, bit for bit."""
    (tmp_path / "data").mkdir()
    write_images(tmp_path / "data")
    prototxt = model_prototxts("regnet_y_400mf", GLYPHS, 3)
    for part in ("train", "val"):
        file = prototxt / "base" / f"{part}.prototxt"
        file.write_text(
            file.read_text().replace("batch_size: 48", "batch_size: 4").replace("batch_size: 155", "batch_size: 8")
        )
    settings = RunSettings(
        prototxt, outputs=2, scale=3 / 700, seed=0, test_images=(("half0A", 8),), solver_mode="CPU", size_px=32
    )
    nets = []
    for network in (base_half("0", "A"), transfer("0", "A", "A", 2)):
        monkeypatch.chdir(write_run_folder(network, settings, tmp_path))
        solver = Solver("solver.prototxt", log=Log(enabled=False))
        for weights in solver.param.weights:
            solver.net.copy_from(weights, warn=False)
        started = copied(solver.net)
        solver.solve()
        nets.append(copied(solver.net))
        solver.close()
    base, kept = nets
    names = list(base)
    assert names == ["stem", *(f"trunk_output.block{i}" for i in range(1, 5)), "fc"]
    assert list(kept) == [*names[:2], *(f"{name}-new" for name in names[2:])]
    for name in names[:2]:
        assert all(torch.equal(a, b) for a, b in zip(started[name], kept[name], strict=True))
        assert torch.equal(base[name][0], kept[name][0])
    above = names[2]
    assert not torch.equal(started[f"{above}-new"][0], base[above][0])  # drawn anew
    assert not any(torch.equal(a, b) for a, b in zip(started[f"{above}-new"], kept[f"{above}-new"], strict=True))
    assert base["fc"][0].shape == (2, 440)


def test_grey_images_and_other_sizes() -> None:
    net = read_net(
        model_prototxts("resnet18:64", PROTOTXT / "miniature" / "fashion-mnist", 1) / "base" / "val.prototxt"
    )
    assert [layer.type for layer in net.layer[:4]] == ["Data", "Tile", "Interp", "TorchvisionBlock"]
    assert (net.layer[1].tile_param.tiles, net.layer[2].interp_param.height) == (3, 64)
    assert [layer.name for layer in net.layer[-3:]] == ["fc", "accuracy", "loss"]
    product = net.layer[-3].inner_product_param
    assert product.weight_filler.max == pytest.approx(512**-0.5)
    assert net.layer[0].transform_param.scale == pytest.approx(1 / 57)


def test_what_model_can_say() -> None:
    assert split_model("resnet18") == ("resnet18", 0)
    assert split_model("vgg11:64") == ("vgg11", 64)
    for text in ("resnet18:", "vgg11:0", "a b", "vgg11:64:2"):
        with pytest.raises(DataError, match=f"--model {text}: expected a name of torchvision's, resnet18, or with"):
            split_model(text)
