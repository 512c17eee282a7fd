"""BatchNorm with three params."""

import pytest

from caffe_compat.proto import parse_net


@pytest.mark.parametrize(("count", "multipliers"), [(2, [1]), (3, [0]), (4, [1])])
def test_only_batch_norm_with_three_params_is_frozen(count: int, multipliers: list[int]) -> None:
    net = parse_net('layer { type: "BatchNorm" ' + "param { name: 'p' } " * count + "}")
    assert [spec.lr_mult for spec in net.layer[0].param] == multipliers * count
    assert [spec.decay_mult for spec in net.layer[0].param] == multipliers * count
    assert [spec.name for spec in net.layer[0].param] == ["p"] * count


def test_factors_given_are_overwritten_and_other_layers_left() -> None:
    net = parse_net(
        'layer { type: "BatchNorm" param { lr_mult: 3 } param { } param { decay_mult: 2 } }'
        'layer { type: "Scale" param { lr_mult: 3 } param { } param { } }'
    )
    assert [(spec.lr_mult, spec.decay_mult) for spec in net.layer[0].param] == [(0, 0)] * 3
    assert [spec.lr_mult for spec in net.layer[1].param] == [3, 1, 1]
