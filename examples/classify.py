"""Classify images with a caffemodel: Caffe's first tutorial (00-classification).

python examples/classify.py --out examples_out
"""

import numpy as np
from digits import CLASSES, folder_argument, images, to_rgb, train
from matplotlib.figure import Figure

import caffe_compat.pycaffe as caffe

SHOWN = 6


def main() -> None:
    out = folder_argument(__doc__)
    model, weights = train(out)

    # Classifier takes images as caffe.io.load_image gives them: height x width x RGB, from 0 to 1. The net was trained
    # on BGR, so the channels are swapped. Caffe's ImageNet nets want raw_scale=255 and a mean besides.
    classifier = caffe.Classifier(model, weights, channel_swap=(2, 1, 0))
    pixels, labels = images(per_class=20, seed=2)
    inputs = list(to_rgb(pixels) / np.float32(256))
    # oversample=True would average ten crops; these images are as large as the net's input, so that one is enough.
    probabilities = classifier.predict(inputs, oversample=False)

    found = probabilities.argmax(1)
    print(f"{len(labels)} images the net has not seen: accuracy {np.mean(found == labels):.3f}")
    five = np.argsort(-probabilities[0])[:5]
    print("the first image's classes: " + ", ".join(f"{CLASSES[c]} {probabilities[0, c]:.3f}" for c in five))

    figure = Figure(layout="constrained", figsize=(2 * SHOWN, 4))
    axes = figure.subplots(2, SHOWN)
    for i, (image_axes, bar_axes) in enumerate(axes.T):
        image_axes.imshow(inputs[i])
        image_axes.set_title(f"is {CLASSES[labels[i]]}, found {CLASSES[found[i]]}")
        image_axes.axis("off")
        bar_axes.bar(list(CLASSES), probabilities[i])
        bar_axes.set_ylim(0, 1)
    figure.savefig(out / "classify.png")
    print(f"picture: {out / 'classify.png'}")


if __name__ == "__main__":
    main()
