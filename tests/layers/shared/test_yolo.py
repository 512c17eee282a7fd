import torch

from caffe_compat.layers.shared.yolo import cells, centers, detections, pairs


def test_detections() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])
    scores, labels = torch.tensor([0.25, 0.75, 0.5]), torch.tensor([0, 1, 2])
    # The last covers half of the first, which is worse: 0.5 or more is too much.
    rows = detections(boxes, scores, labels, 0.5, 1)[0, 0]
    expected = [[0, 2, 0.75, 0.1, 0.1, 0.3, 0.3], [0, 3, 0.5, 0.4, 0.4, 0.6, 0.6]]
    torch.testing.assert_close(rows, torch.tensor(expected))
    assert len(detections(boxes, scores, labels, 0.51, 1)[0, 0]) == 3


def test_without_a_detection() -> None:
    none = torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.long)
    assert detections(*none, 0.5, 2)[0, 0].tolist() == [[0, -1, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1, -1]]


def test_cells_and_centers() -> None:
    maps = torch.arange(2 * 7 * 2.0 * 3).view(1, 14, 2, 3)
    values = cells(maps, 2)
    assert values.shape == (1, 2, 3, 2, 7)
    for anchor, number in ((0, 0), (1, 6)):
        assert values[0, 1, 2, anchor, number] == maps[0, 7 * anchor + number, 1, 2]
    found = centers(torch.zeros(1, 2, 3, 1, 7))
    torch.testing.assert_close(found[0, 1, 2, 0], torch.tensor([2.5 / 3, 1.5 / 2]))


def test_pairs() -> None:
    assert pairs([1, 2, 3, 4]).tolist() == [[1, 2], [3, 4]]
