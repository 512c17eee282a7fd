"""A failed download is one line that names the folder."""

from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from reproduce.torchvision_download import download_data_set


def test_what_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    calls = []

    def fetch(root: Path, download: bool) -> None:
        calls.append((root, download))
        raise OSError("no network")

    monkeypatch.setattr(datasets, "CIFAR100", fetch)
    with pytest.raises(DataError, match=f"{tmp_path}: CIFAR100 cannot be downloaded: no network"):
        download_data_set("CIFAR100", tmp_path)
    assert calls == [(tmp_path, True)]
