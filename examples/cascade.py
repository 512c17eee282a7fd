"""Find digits in a large image by a cascade of two nets, as MTCNN finds faces.

    python examples/cascade.py --out examples_out

A small net looks at each place of the image in several sizes: its input is reshaped for each. The second net looks at
the crops that are left: its input is reshaped to their number. It says which digit, or none.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from digits import CLASSES, SCALE, body, fit, folder_argument, write_deploy
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scenes import NONE, crops, overlap, samples, scene

import caffe_compat.pycaffe as caffe
from caffe_compat.pycaffe import layers as L
from caffe_compat.pycaffe import params as P

WINDOW_PX, STRIDE_PX = 16, 2  # of the first net
SIDES_PX = (34, 40, 47, 55, 64)  # sizes of digits that are looked for
FIRST_LEAST, SECOND_LEAST = 0.5, 0.8  # probabilities that let a box through
SCENES = 6
Array = np.ndarray


def first_layers(n: Any) -> Any:
    """Convolutions only, so that the net takes images of any size: a score for each place, 2 pixels apart."""
    weights = {"weight_filler": {"type": "xavier"}}
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=8, **weights)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.conv2 = L.Convolution(n.relu1, kernel_size=6, num_output=24, **weights)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.score = L.Convolution(n.relu2, kernel_size=1, num_output=2, **weights)
    return n.score


def second_layers(n: Any) -> Any:
    """The net for digits, with an eleventh class for none."""
    return body(n, classes=NONE + 1)


def best_only(boxes: Array, scores: Array, most: float) -> Array:
    """Places of the boxes that overlap no better one by more than ``most`` (non-maximum suppression)."""
    kept: list[int] = []
    for i in np.argsort(-scores):
        if not kept or overlap(boxes[i], boxes[kept]).max() <= most:
            kept.append(int(i))
    return np.array(kept, int)


def propose(net: caffe.Net, image: Array) -> Array:
    """The boxes that the first net lets through, of all sizes."""
    boxes, scores = [], []
    for side in SIDES_PX:
        factor = WINDOW_PX / side
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        net.blobs["data"].reshape(1, 3, *small.shape[:2])
        net.blobs["data"].data[0] = small.transpose(2, 0, 1) * SCALE
        prob = net.forward()["prob"][0, 1]
        down, right = np.nonzero(prob > FIRST_LEAST)
        place = np.column_stack([right, down]) * STRIDE_PX / factor
        boxes.append(np.hstack([place, np.full((len(place), 1), side)]))
        scores.append(prob[down, right])
    every: Array = np.vstack(boxes)
    return np.asarray(every[best_only(every, np.concatenate(scores), most=0.75)])


def classify(net: caffe.Net, image: Array, boxes: Array) -> tuple[Array, Array, Array]:
    """The boxes in which the second net sees a digit, the digits, and their probabilities."""
    net.blobs["data"].reshape(len(boxes), *net.blobs["data"].shape[1:])
    net.blobs["data"].data[...] = crops(image, boxes) * np.float32(SCALE)
    prob = net.forward()["prob"][:, :NONE]
    seen = np.nonzero(prob.max(1) > SECOND_LEAST)[0]
    seen = seen[best_only(boxes[seen], prob[seen].max(1), most=0.3)]
    return boxes[seen], prob[seen].argmax(1), prob[seen].max(1)


def train(out: Path) -> tuple[caffe.Net, caffe.Net]:
    """Both nets, the first trained on the crops at half their size, to tell digits from the rest."""
    pixels, labels = samples(np.random.default_rng(1), scenes=120)
    halved = pixels.reshape(*pixels.shape[:2], WINDOW_PX, 2, WINDOW_PX, 2).mean((3, 5))
    weights = fit(out, "first", halved, labels != NONE, iterations=200, layers=first_layers)
    first = caffe.Net(str(write_deploy(out / "first.prototxt", first_layers, WINDOW_PX)), str(weights), caffe.TEST)
    weights = fit(out, "second", pixels, labels, iterations=500, layers=second_layers)
    second = caffe.Net(str(write_deploy(out / "second.prototxt", second_layers)), str(weights), caffe.TEST)
    return first, second


def draw(path: Path, image: Array, stages: list[tuple[str, Array, list[str]]]) -> None:
    """The image beside itself, with the boxes and their texts of each stage."""
    figure = Figure(layout="constrained", figsize=(11, 4.4))
    for axes, (title, boxes, texts) in zip(figure.subplots(1, len(stages)), stages, strict=True):
        axes.imshow(image[..., ::-1])
        axes.set_title(title)
        axes.axis("off")
        for (x, y, side), text in zip(boxes, texts, strict=True):
            axes.add_patch(Rectangle((x, y), side, side, fill=False, color="lime"))
            axes.text(x + 1, y + 1, text, color="lime", va="top", size=8)
    figure.savefig(path)


def main() -> None:
    out = folder_argument(__doc__)
    first, second = train(out)
    right, boxes_beside, digits, overlaps = 0, 0, 0, []
    for seed in range(SCENES):
        image, truth, classes = scene(np.random.default_rng(100 + seed))
        proposals = propose(first, image)
        boxes, found, probabilities = classify(second, image, proposals)
        print(f"image {seed}: {len(proposals)} boxes after the first net, {len(boxes)} after the second")
        hits = [overlap(box, boxes) * (found == label) for box, label in zip(truth, classes, strict=True)]
        good = [hit.max() for hit in hits if hit.max(initial=0) > 0.5]
        right, digits, boxes_beside = right + len(good), digits + len(truth), boxes_beside + len(boxes) - len(good)
        overlaps += good
        if seed == 0:
            texts = [f"{CLASSES[c]} {p:.2f}" for c, p in zip(found, probabilities, strict=True)]
            stages = [("first net", proposals, [""] * len(proposals)), ("second net", boxes, texts)]
            draw(out / "cascade.png", image, stages)
    print(f"{right} of {digits} digits found and read right, mean overlap {np.mean(overlaps):.2f}")
    print(f"{boxes_beside} boxes beside")
    print(f"picture: {out / 'cascade.png'}")


if __name__ == "__main__":
    main()
