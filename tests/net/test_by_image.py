"""First layers that run image by image: which ones, and that the numbers stay."""

import pytest

from caffe_compat.net.by_image import FEWEST_NUMBERS, MOST_IMAGES, count_leading
from caffe_compat.net.folding import fold
from tests.net.test_inference import TOLERANCE, assert_same, conv, layer, make, random_inputs, relu
from tests.net.test_inference_program import needs_kernels

SIDE, CHANNELS, BATCH = 128, 16, 3
INPUT = (
    'layer { name: "in" type: "Input" top: "x" input_param { shape { '
    f"dim: {BATCH} dim: 3 dim: {SIDE} dim: {SIDE} }} }} }}\n"
)
POOL = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
A = conv("a", "x", outputs=CHANNELS)
B = conv("b", "a", "kernel_size: 1", CHANNELS)
SMALL = layer("p", "Pooling", "b", POOL)


def leading(text: str) -> int:
    net = make(text)
    folded = fold(net.graph)
    shapes = folded.shapes(
        {value: net.blob_shapes[name] for name, value in zip(net.inputs, folded.sources.values(), strict=True)}
    )
    return count_leading(folded.nodes, shapes, list(folded.outputs.values()))


def test_a_chain_with_large_blobs() -> None:
    assert SIDE * SIDE * CHANNELS == FEWEST_NUMBERS
    assert leading(INPUT + A + relu("a") + B + SMALL) == 2


APART = {
    "one image": INPUT.replace(f"dim: {BATCH}", "dim: 1", 1) + A + B,
    "many images": INPUT.replace(f"dim: {BATCH}", f"dim: {MOST_IMAGES + 1}", 1) + A + B,
    "small blobs": INPUT.replace(f"dim: {SIDE}", f"dim: {SIDE - 1}", 1) + A + B,
    "another reads the blob between": INPUT + A + B + conv("c", "a"),
    "nothing between": INPUT + A + SMALL.replace('"b"', '"a"'),
    "many weights": INPUT + A + conv("b", "a", "kernel_size: 17 pad: 8", CHANNELS),
    "a layer of another kind": INPUT + layer("s", "Sigmoid", "x") + A.replace('"x"', '"s"') + B,
}


@pytest.mark.parametrize("why", APART)
def test_others_run_as_a_batch(why: str) -> None:
    assert leading(APART[why]) == 0


@needs_kernels
@pytest.mark.parametrize("more", [False, True])
def test_numbers_of_the_plain_net(more: bool) -> None:
    """``more``: another layer reads the input later, and memory of the blobs between is used again."""
    depthwise = conv("a2", "a", f"kernel_size: 3 pad: 1 group: {CHANNELS}", CHANNELS)
    text = INPUT + A + relu("a") + depthwise + relu("a2") + B.replace('"a"', '"a2"')
    if more:
        text += SMALL + conv("c", "x", "kernel_size: 2 stride: 2", CHANNELS) + layer("sum", "Eltwise", "p c")
    net = make(text)
    inputs = random_inputs(net)
    assert_same(net, inputs, TOLERANCE)
    fast = net.for_inference()
    lines = [what for what, _ in fast.profile(inputs, rounds=1)]
    assert sum("image 2" in line for line in lines) == 3
