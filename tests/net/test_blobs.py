"""Memory of blobs: kept while it fits, shared, and copied to the host only when somebody asks."""

import pytest
import torch

from caffe_compat import Net, NetError
from caffe_compat.net.blobs import Memory, ParamBlob, Place, TensorBlob
from caffe_compat.proto import parse_net


def place(*, apart: bool = False, dtype: torch.dtype = torch.float32) -> Place:
    return Place(torch.device("cpu"), dtype, apart)


def param_blob(values: list[list[float]], *, apart: bool = False) -> ParamBlob:
    layer = Net(
        parse_net(
            'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } } layer { name: "f" '
            'type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 bias_term: false } }'
        )
    ).layers["f"]
    layer.blobs[0].data.copy_(torch.tensor(values))
    return ParamBlob(layer, 0, place(apart=apart))


def test_a_blob_keeps_its_memory_while_it_fits() -> None:
    blob = TensorBlob((2, 3), place())
    blob.data.copy_(torch.arange(6.0).view(2, 3))
    blob.diff.fill_(3)
    before = blob.data.data_ptr()
    blob.reshape((4,))
    assert blob.data.tolist() == [0, 1, 2, 3]
    blob.reshape((3, 2))
    assert blob.data.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert blob.data.data_ptr() == before
    blob.reshape((7,))
    assert blob.data.tolist() == [0.0] * 7, "new memory holds zeros"
    assert blob.diff.tolist() == [0.0] * 7
    assert blob.count == 7
    with pytest.raises(NetError, match=r"cannot have the shape \(2, -1\); sizes are 0 or more"):
        blob.reshape((2, -1))


def test_sharing_lasts_until_a_blob_outgrows_what_it_had() -> None:
    owner, view = TensorBlob((2, 2), place()), TensorBlob((4,), place())
    view.share_data(owner)
    view.data[3] = 5
    view.diff[0] = 7
    assert owner.data.tolist() == [[0, 0], [0, 5]]
    assert owner.diff.tolist() == [[0, 0], [0, 0]]
    view.share_diff(owner)
    owner.diff[0, 1] = 9
    assert view.diff.tolist() == [0, 9, 0, 0]
    owner.reshape((5,))
    assert view.data.tolist() == [0, 0, 0, 5], "the view keeps what it has"
    owner.data.fill_(1)
    assert view.data.tolist() == [0, 0, 0, 5]


def test_memory_that_is_too_small_is_told() -> None:
    small, large = TensorBlob((2,), place()), TensorBlob((4,), place())
    large.share_data(small)
    with pytest.raises(NetError, match=r"shape \(4,\) shares memory of 2 values; run the net's reshape"):
        _ = large.data


def test_a_fresh_value_becomes_the_memory_unless_a_caller_has_an_array_over_it() -> None:
    memory = Memory(place(), 2)
    value = torch.tensor([1.0, 2.0])
    memory.put(value, fresh=True)
    assert memory.read().data_ptr() == value.data_ptr()
    memory.put(torch.tensor([3.0, 4.0]), fresh=False)
    array = memory.host().numpy()
    value = torch.tensor([5.0, 6.0])
    memory.put(value, fresh=True)
    assert memory.read().data_ptr() != value.data_ptr()
    assert array.tolist() == [5, 6], "an array shows what comes later"


def test_the_host_has_copies_where_it_cannot_reach_the_memory() -> None:
    where = place(apart=True)
    blob = TensorBlob((2,), where)
    blob.data.fill_(1)
    array = blob.host_data()
    assert (array.tolist(), where.copies_to_host, where.copies_to_device) == ([1, 1], 1, 0)
    array[0] = 7
    assert blob.host_data().tolist() == [7, 1], "nothing is copied over what was written"
    assert where.copies_to_host == 1
    assert blob.read_data().tolist() == [7, 1]
    assert blob.read_data().tolist() == [7, 1]
    assert where.copies_to_device == 1, "once, and then both have it"
    blob.data_memory.put(torch.tensor([8.0, 9.0]), fresh=True)
    assert array.tolist() == [7, 1], "a copy: new values come when it is asked for again"
    assert blob.host_data() is not array
    assert array.tolist() == [8, 9]
    blob.data_memory.put(torch.tensor([1.0, 2.0]), fresh=False)
    assert where.copies_to_device == 1, "what is overwritten as a whole is not brought over first"


def test_a_parameters_diff_is_its_grad() -> None:
    blob = param_blob([[1, 2, 3], [4, 5, 6]])
    assert blob.data.tolist() == [[1, 2, 3], [4, 5, 6]]
    blob.diff[1] = 4
    assert blob.parameter.grad is not None
    assert blob.parameter.grad.tolist() == [[0, 0, 0], [4, 4, 4]]
    blob.host_data()[0, 0] = 9
    assert blob.parameter[0, 0] == 9


def test_a_parameter_on_another_device() -> None:
    blob = param_blob([[1, 2, 3], [4, 5, 6]], apart=True)
    blob.host_data()[0] = 0
    assert blob.parameter.tolist() == [[1, 2, 3], [4, 5, 6]]
    blob.flush()
    assert blob.parameter.tolist() == [[0, 0, 0], [4, 5, 6]]
    blob.parameter.data.fill_(8)
    assert blob.host_data().tolist() == [[8] * 3] * 2


def test_a_parameter_can_be_reshaped() -> None:
    blob = param_blob([[1, 2, 3], [4, 5, 6]])
    blob.reshape((3, 2))
    assert blob.data.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert tuple(blob.parameter.shape) == (2, 3), "the layer's own shape stays while the count does"
    blob.reshape((2, 2))
    assert blob.parameter.tolist() == [[1, 2], [3, 4]]
    blob.reshape((5,))
    assert blob.data.tolist() == [1, 2, 3, 4, 0]
