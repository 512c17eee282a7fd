"""V0 nets to V1."""

import pytest
from google.protobuf import text_format

from caffe_compat.errors import ProtoError
from caffe_compat.proto import caffe_pb2, parse_net
from tests.proto.upgrade.v0_text import V0_DATA, v0_layer


def test_padding_is_folded_into_pooling() -> None:
    padding = v0_layer('type: "padding" name: "pad" pad: 3', top="p")
    net = parse_net(V0_DATA + padding + v0_layer('type: "pool" name: "pool" kernelsize: 2 pool: STOCHASTIC', "p"))
    assert [layer.name for layer in net.layer] == ["input", "pool"]
    pool = net.layer[1]
    assert list(pool.bottom) == ["data"]
    assert pool.pooling_param.pad == 3
    assert pool.pooling_param.pool == caffe_pb2.PoolingParameter.STOCHASTIC


def test_padding_in_place() -> None:
    layers = (
        v0_layer('type: "conv" name: "c1"')
        + v0_layer('type: "padding" pad: 3', "x")
        + v0_layer('type: "conv" name: "c2"', "x", "y")
    )
    net = parse_net(V0_DATA + layers)
    assert [list(layer.convolution_param.pad) for layer in net.layer[1:]] == [[], [3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (v0_layer('type: "frob" name: "f"'), ':2: layer "f": unknown V0 layer type "frob"; expected one of accuracy'),
        (v0_layer('type: "relu" name: "r"', "q"), ':2: layer "r": bottom "q" is the top of no earlier layer'),
        (v0_layer('type: "padding"', top="p") + v0_layer('type: "relu" name: "r"', "p"), ':3: layer "r": of type '
         '"relu" follows a padding layer; only conv and pool may'),
        (v0_layer('type: "padding"', top="p") +
         'layers { layer { type: "conv" name: "c" } bottom: "p" bottom: "data" }',
         ':3: layer "c": has 2 bottoms; behind a padding layer it takes one'),
        ('layers { layer { type: "padding" name: "p" } top: "p" }\n' + v0_layer('type: "conv"', "p"),
         ':2: layer "p": is a padding layer; expected one bottom and one top'),
        (v0_layer('type: "relu"') + 'layers { type: RELU name: "v1" }', ':3: layer "v1": is a V1 layer in a net with '
         "V0 layers; write all layers in one form"),
        (v0_layer('type: "conv" name: "c" pad: 1 conv_param { num_output: 2 }'),
         ':2: layer "c": has conv_param and fields of V0 that belong in it; write all of them in it'),
        (v0_layer('type: "relu"') + "layer { }", ": has both old 'layers' and new 'layer' blocks"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*dropped")
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ProtoError) as caught:
        parse_net(V0_DATA + text, "net.prototxt")
    assert str(caught.value).startswith(f"net.prototxt{message}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            'type: "conv" name: "c" num_output: 4 kernelsize: 3 stride: 2 pad: 1 group: 2 biasterm: false',
            'type: "Convolution" name: "c" convolution_param '
            "{ num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2 bias_term: false }",
        ),
        (
            'type: "lrn" name: "n" local_size: 3 alpha: 0.5 beta: 0.25',
            'type: "LRN" name: "n" lrn_param { local_size: 3 alpha: 0.5 beta: 0.25 }',
        ),
        (
            'type: "dropout" name: "d" dropout_ratio: 0.75 blobs_lr: 2 weight_decay: 0',
            'type: "Dropout" name: "d" dropout_param { dropout_ratio: 0.75 } param { lr_mult: 2 decay_mult: 0 }',
        ),
        ('type: "softmax_loss" name: "s"', 'type: "SoftmaxWithLoss" name: "s"'),
        # SPP-net
        (
            'type: "inner_product" name: "i" inner_product_param { num_output: 4 } blobs_lr: 2 weight_decay: 0',
            'type: "InnerProduct" name: "i" inner_product_param { num_output: 4 } param { lr_mult: 2 decay_mult: 0 }',
        ),
        (
            'type: "conv" name: "c" conv_param { num_output: 4 kernel_size: 3 pad: 1 }',
            'type: "Convolution" name: "c" convolution_param { num_output: 4 kernel_size: 3 pad: 1 }',
        ),
        (
            'type: "pool" name: "p" pool_param { pool: MAX kernel_size: 3 stride: 2 }',
            'type: "Pooling" name: "p" pooling_param { pool: MAX kernel_size: 3 stride: 2 }',
        ),
        (
            'type: "lrn" name: "n" lrn_param { norm_region: WITHIN_CHANNEL }',
            'type: "LRN" name: "n" lrn_param { norm_region: WITHIN_CHANNEL }',
        ),
        (
            'type: "concat" name: "c" concat_param { concat_dim: 1 }',
            'type: "Concat" name: "c" concat_param { concat_dim: 1 }',
        ),
        (
            'type: "dropout" name: "d" dropout_param { dropout_ratio: 0.75 }',
            'type: "Dropout" name: "d" dropout_param { dropout_ratio: 0.75 }',
        ),
    ],
)
def test_flat_fields_go_to_their_types_message(old: str, new: str) -> None:
    (_, layer) = parse_net(V0_DATA + v0_layer(old)).layer
    assert layer == text_format.Parse(new + 'bottom: "data" top: "x"', caffe_pb2.LayerParameter())


def test_data_layers_get_a_transform() -> None:
    fields = 'type: "data" name: "d" source: "s" batchsize: 2 scale: 0.5 cropsize: 7 mirror: true'
    (layer,) = parse_net(f'layers {{ layer {{ {fields} }} top: "x" }}').layer
    assert (layer.data_param.source, layer.data_param.batch_size) == ("s", 2)
    assert (layer.transform_param.scale, layer.transform_param.crop_size, layer.transform_param.mirror) == (
        0.5,
        7,
        True,
    )
