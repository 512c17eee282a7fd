import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.ctc_greedy_decoder import CTCGreedyDecoder
from tests.layers.harness import make_layer, on_devices, run
from tests.layers.onnx_form import check_onnx

STEPS, ITEMS, CLASSES = 7, 5, 3
SHAPES = ((STEPS, ITEMS, CLASSES), (STEPS, ITEMS))


def by_definition(
    scores: np.ndarray, indicators: np.ndarray, blank: int, merge: bool
) -> tuple[list[list[float]], list[float]]:
    """The decoder's loop, item by item."""
    sequences, totals = [], []
    for item in range(scores.shape[1]):
        labels, total, before = [], 0.0, -1
        for step in range(len(scores)):
            if step and indicators[step, item] == 0:
                break
            best = int(scores[step, item].argmax())  # the first of equal ones
            total -= scores[step, item, best]
            if best != blank and not (merge and best == before):
                labels.append(float(best))
            before = best
        sequences.append(labels + [-1.0] * (len(scores) - len(labels)))
        totals.append(total)
    return sequences, totals


@on_devices
@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(("index", "blank"), [(-1, 2), (0, 0)])
def test_equals_the_definition(device: str, merge: bool, index: int, blank: int) -> None:
    fields = f"blank_index: {index} ctc_merge_repeated: {str(merge).lower()}"
    layer = make_layer(CTCGreedyDecoder, f'top: "s" top: "p" ctc_decoder_param {{ {fields} }}', *SHAPES, device=device)
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, SHAPES[0]) / 4  # many equal ones
    indicators = rng.integers(0, 4, SHAPES[1]).clip(0, 1).astype(float)
    indicators[:, 0] = 1
    given = (torch.from_numpy(array).to(device) for array in (scores, indicators))
    sequences, totals = (top.cpu().numpy() for top in run(layer, *given))
    expected = by_definition(scores, indicators, blank, merge)
    assert sequences.shape == (ITEMS, STEPS, 1, 1)
    assert sequences[:, :, 0, 0].tolist() == expected[0]
    np.testing.assert_allclose(totals[:, 0, 0, 0], expected[1], rtol=1e-12)


def test_repeated_labels_with_a_blank_between_them_stay() -> None:
    layer = make_layer(CTCGreedyDecoder, "", (5, 1, 3), (5, 1))
    path = torch.eye(3, dtype=torch.float64)[torch.tensor([1, 1, 2, 1, 0])].unsqueeze(1)
    assert run(layer, path, torch.ones(5, 1))[0].flatten().tolist() == [1, 1, 0, -1, -1]


def test_onnx() -> None:
    rng = np.random.default_rng(0)
    indicators = rng.integers(0, 4, SHAPES[1]).clip(0, 1)
    fields = 'type: "CTCGreedyDecoder" ctc_decoder_param { ctc_merge_repeated: true }'
    check_onnx(fields, rng.integers(0, 4, SHAPES[0]) / 4, indicators, tops=2)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((4, 3), (4, 3)), r"expected \(T, N, C\) and \(T, N\)"), (((4, 3, 2), (5, 3)), "expected the same T")],
)
def test_refusals(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(CTCGreedyDecoder, "", *shapes)
