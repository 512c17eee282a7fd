"""Programs: where blobs lie, which kernels run, what the compiled part refuses.  Numbers are in test_inference.py."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from caffe_compat.net.folding import Folded, fold
from caffe_compat.net.inference_program import Blob, Program, has_kernels
from tests.net.test_inference import INPUT, PATTERNS, conv, layer, make, relu
from tests.ops.test_conv_fast import BUILD, LEVELS, ROOT

needs_kernels = pytest.mark.skipif(not has_kernels(), reason="needs the extension, and AVX2 or AVX-512")

WINDOW = [3, 3, 1, 1, 1, 1, 1, 1]


def program(text: str) -> tuple[Program, Folded]:
    folded = fold(make(INPUT + text).graph)
    shapes = folded.shapes(dict.fromkeys(folded.sources.values(), (2, 19, 9, 11)))
    return Program(folded.nodes, shapes, list(folded.outputs.values())), folded


def test_a_blob_as_a_view() -> None:
    arena = torch.arange(100.0)
    view = Blob((1, 2, 2, 3), 5, 4).view(arena)
    assert view.tolist() == [[[[5, 9, 13], [17, 21, 25]], [[6, 10, 14], [18, 22, 26]]]]
    assert Blob((3, 2), 1, 2).view(arena).tolist() == [[1, 2], [3, 4], [5, 6]]


@needs_kernels
def test_memory_is_used_again_but_not_while_needed() -> None:
    chain = conv("c0", "x", outputs=16)
    for i in range(8):
        chain += relu(f"c{i}") + conv(f"c{i + 1}", f"c{i}", outputs=16)
    made, _ = program(chain)
    one = 2 * 16 * 9 * 11
    assert made.arena.numel() <= 2 * 19 * 9 * 11 + 2 * one + 64
    apart, _ = program(chain + layer("sum", "Eltwise", "c0 c8"))
    assert apart.arena.numel() > made.arena.numel()


@needs_kernels
@pytest.mark.parametrize("pattern", PATTERNS)
def test_blobs_that_live_together_lie_apart(pattern: str) -> None:
    made, folded = program(PATTERNS[pattern])
    places = made.places
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for time, (node, native) in enumerate(zip(folded.nodes, made.native, strict=True)):
        for value in (*node.inputs, *node.outputs) if native else ():
            first.setdefault(value, time)
            last[value] = time
    last.update(dict.fromkeys(made.seen, len(folded.nodes)))
    for one, two in itertools.combinations(first, 2):
        if first[one] <= last[two] and first[two] <= last[one]:
            assert not (numbers_of(places[one]) & numbers_of(places[two])) or inside(one, two, folded), (one, two)


def numbers_of(place: Blob) -> set[int]:
    n, c, h, w = place.sizes
    return {place.offset + pixel * place.stride + i for pixel in range(n * h * w) for i in range(c)}


def inside(one: int, two: int, folded: Folded) -> bool:
    """Whether one is concatenated into the other."""
    for node in folded.nodes:
        if type(node).__name__ == "ConcatNode":
            for small, large in ((one, two), (two, one)):
                if node.output == large and (
                    small in node.inputs or any(inside(small, i, folded) for i in node.inputs if i != small)
                ):
                    return True
    return False


@needs_kernels
def test_concatenated_blobs_lie_in_the_concatenation() -> None:
    made, folded = program(PATTERNS["Concat in place"])
    joined = next(node for node in folded.nodes if type(node).__name__ == "ConcatNode")
    places = [made.places[value] for value in joined.inputs]
    top = made.places[joined.output]
    assert [place.stride for place in places] == [top.stride] * 2
    assert [place.offset - top.offset for place in places] == [0, 5]


def native(size: int = 4000) -> Any:
    return torch.classes.caffe_compat.InferenceProgram(torch.zeros(size))


@needs_kernels
@pytest.mark.parametrize(("tile", "kernel"), [(0, 3), (2, 3), (4, 3), (2, 5), (0, 5)])
@pytest.mark.parametrize("channels", [(8, 8), (19, 33), (48, 64), (130, 128)])  # the last: weights that fill a cache
def test_each_kernel(tile: int, kernel: int, channels: tuple[int, int]) -> None:
    inputs, outputs = channels
    torch.manual_seed(0)
    x, weight = torch.randn(2, inputs, 10, 7), torch.randn(outputs, inputs, kernel, kernel)
    bias, slopes, add = torch.randn(outputs), torch.randn(outputs), torch.randn(2, outputs, 10, 7)
    places = [Blob((2, inputs, 10, 7), 0, inputs + 3), Blob((2, outputs, 10, 7), 30000, outputs + 5)]
    more = Blob((2, outputs, 10, 7), 60000, outputs)
    arena = torch.zeros(90000)
    made = torch.classes.caffe_compat.InferenceProgram(arena)
    made.load(0, places[0].numbers)
    made.load(1, more.numbers)
    window = [kernel, kernel, 1, 1, kernel // 2, kernel // 2, 1, 1]
    made.convolve(places[0].numbers, places[1].numbers, weight, window, 1, bias, more.numbers, slopes, -1.0, 2.0, tile)
    assert made.choose([x, add]) == [tile]
    made.run([x, add])
    y = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=kernel // 2) + add
    expected = torch.where(y < 0, y * slopes[:, None, None], y)
    found = places[1].view(arena)
    assert float((found - expected.clamp(-1, 2)).abs().max() / y.abs().max()) < 1e-5
    # What lies between the pixels belongs to somebody else.
    between = arena[30000 : 30000 + 2 * 10 * 7 * (outputs + 5)].view(-1, outputs + 5)[:, outputs:]
    assert not between.any()


@needs_kernels
def test_the_fastest_kernel_is_taken_and_any_is_right() -> None:
    """Before and after the choice, of layers that have several kernels and one that has one."""
    torch.manual_seed(0)
    x, weight, depthwise = torch.randn(1, 16, 8, 8), torch.randn(16, 16, 3, 3), torch.randn(16, 1, 3, 3)
    arena = torch.zeros(4000)
    made = torch.classes.caffe_compat.InferenceProgram(arena)
    places = [Blob((1, 16, 8, 8), offset, 16) for offset in (0, 1024, 2048)]
    made.load(0, places[0].numbers)
    rest = (None, None, None, -1e30, 1e30, -1)
    made.convolve(places[0].numbers, places[1].numbers, weight, WINDOW, 1, *rest)
    made.convolve(places[1].numbers, places[2].numbers, depthwise, WINDOW, 16, *rest)
    y = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)
    expected = torch.nn.functional.conv2d(y, depthwise.double(), padding=1, groups=16)

    def error() -> float:
        arena.zero_()
        made.run([x])
        return float((places[2].view(arena) - expected).abs().max() / expected.abs().max())

    assert error() < 1e-5
    first, second = made.choose([x])
    assert (first in (0, 1, 2, 4), second) == (True, 0)
    assert error() < 1e-5
    assert made.choose([x]) == [first, second]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ and its sanitizers")
def test_kernels_under_sanitizers(tmp_path: Path) -> None:
    """The kernels alone, with every number outside their buffers guarded, against their definitions."""
    sources = [ROOT / "csrc/inference" / f"inference_{level}.cpp" for level in LEVELS]
    program = tmp_path / "inference"
    main = ROOT / "tests/ops/host_simd/inference.cpp"
    built = subprocess.run([*BUILD, str(main), *map(str, sources), "-o", str(program)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    result = subprocess.run([str(program)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


@needs_kernels
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.load(0, [0, 1, 1, 1, 5000, 5000]), "to does not lie in the arena"),
        (lambda p: p.load(0, [3999, 1, 1, 2, 1, 1]), "to does not lie in the arena"),
        (lambda p: p.load(0, [0, 1, 1]), "to has 3 numbers; expected 6"),
        (
            lambda p: p.convolve(
                [0, 1, 4, 4, 8, 8],
                [200, 1, 5, 4, 8, 8],
                torch.zeros(8, 8, 3, 3),
                WINDOW,
                1,
                None,
                None,
                None,
                0.0,
                1.0,
                0,
            ),
            "sizes of a convolution do not fit each other",
        ),
        (
            lambda p: p.convolve(
                [0, 1, 4, 4, 8, 8],
                [200, 1, 4, 4, 8, 8],
                torch.zeros(8, 7, 3, 3),
                WINDOW,
                1,
                None,
                None,
                None,
                0.0,
                1.0,
                0,
            ),
            r"weight is .*; expected float32 for 8 outputs of 72 numbers",
        ),
        (
            lambda p: p.convolve(
                [0, 1, 4, 4, 8, 8],
                [200, 1, 4, 4, 8, 8],
                torch.zeros(8, 8, 1, 1),
                [1, 1, 1, 1, 0, 0, 1, 1],
                1,
                None,
                None,
                None,
                0.0,
                1.0,
                4,
            ),
            "way is 4; this convolution has no such kernel",
        ),
        (
            lambda p: p.pool([0, 1, 4, 4, 8, 8], [200, 1, 9, 4, 8, 8], [2, 2, 1, 1, 0, 0, 1, 1], False),
            "sizes of a pooling do not fit",
        ),
        (lambda p: p.lrn([0, 1, 4, 4, 8, 9], [200, 1, 4, 4, 8, 8], 5, 1.0, 0.75, 1.0), "LRN takes dense blobs"),
        (
            lambda p: p.multiply([0, 1, 1, 1, 8, 8], [200, 1, 1, 1, 8, 8], torch.zeros(8, 9), None, None, 0.0, 1.0),
            "weight of an inner product is",
        ),
        (
            lambda p: p.pointwise([0, 1, 1, 1, 8, 8], None, 1.0, 1.0, None, None, None, 0.0, 1.0, [200, 1, 1, 1, 9, 9]),
            "blobs of a pointwise layer have other sizes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(native())


@needs_kernels
def test_inputs_that_do_not_fit_are_refused() -> None:
    made = native()
    made.load(0, [0, 1, 2, 2, 3, 3])
    for wrong in (torch.zeros(1, 3, 2, 1), torch.zeros(3, 2, 2), torch.zeros(1, 3, 2, 2).double()):
        with pytest.raises(ValueError, match=r"input 0 is .*; expected float32 of the shape"):
            made.run([wrong])


@needs_kernels
@pytest.mark.parametrize("level", ["avx2", "none"])
def test_smaller_vector_sets(level: str) -> None:
    """The same patterns, in a process of its own, where the machine is told to have less."""
    code = (
        "import tests.net.test_inference as t\n"
        "from caffe_compat.net.inference_program import has_kernels\n"
        f"assert has_kernels() == {level == 'avx2'}\n"
        "for pattern in ('sum read twice', 'depthwise', 'Concat in place', \"Winograd's kernels\", 'pooling'):\n"
        "    net = t.make(t.INPUT + t.PATTERNS[pattern])\n"
        "    t.assert_same(net, t.random_inputs(net), t.TOLERANCE)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "CAFFE_COMPAT_SIMD": level})
