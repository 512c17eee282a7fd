from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
import torch

from caffe_compat.errors import DataError, NetError
from caffe_compat.net.layer_types import layer_types
from caffe_compat.proto import parse_net


def test_hdf5_output_writes_all_passes(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    text = f"layer {{ name: 'o' type: 'HDF5Output' hdf5_output_param {{ file_name: '{path}' }} }}"
    layer = layer_types()["HDF5Output"](parse_net(text).layer[0])
    layer.setup((2, 3), (2,))
    assert layer.infer_shapes((2, 3), (2,)) == []
    layer(torch.arange(6.0).view(2, 3), torch.tensor([1.0, 2.0]))
    layer(torch.ones(2, 3), torch.tensor([3.0, 4.0]))
    layer.close()
    with h5py.File(path) as file:
        assert file["data"].shape == (4, 3, 1, 1)
        assert file["label"][:].reshape(-1).tolist() == [1, 2, 3, 4]
    with pytest.raises(NetError, match=r"same number of rows"):
        layer.infer_shapes((2, 3), (3,))


def test_set_up_makes_no_file_but_says_where_none_can_be_made(tmp_path: Path) -> None:
    def setup(path: Path) -> None:
        text = f"layer {{ name: 'o' type: 'HDF5Output' hdf5_output_param {{ file_name: '{path}' }} }}"
        layer_types()["HDF5Output"](parse_net(text).layer[0]).setup((2, 3), (2,))

    setup(tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()
    with pytest.raises(DataError, match=r'layer "o" .*absent/out.h5: cannot be created; make sure that the folder'):
        setup(tmp_path / "absent" / "out.h5")


def test_a_full_disk_is_found_before_the_library_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 would end the process at a flush or close after it."""
    path = tmp_path / "out.h5"
    text = f"layer {{ name: 'o' type: 'HDF5Output' hdf5_output_param {{ file_name: '{path}' }} }}"
    layer = layer_types()["HDF5Output"](parse_net(text).layer[0])
    layer.setup((2, 3), (2,))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10000))
    with pytest.raises(DataError, match=r'layer "o" .*out.h5: cannot be written: no space left on the disk'):
        layer(torch.ones(2, 3), torch.ones(2))
    layer.close()
