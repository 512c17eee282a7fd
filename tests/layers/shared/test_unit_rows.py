import torch

from caffe_compat.layers.shared.unit_rows import make_unit_rows


def test_rows_get_length_1_in_place() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    assert make_unit_rows(weight) is weight
    torch.testing.assert_close(weight.norm(dim=1) ** 2, torch.tensor([25 / (25 + 1e-6), 0], dtype=torch.float64))
