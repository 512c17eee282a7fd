"""Look into a net: its filters, what each layer makes of an image, and which pixels matter (visualize, deconvolution).

python examples/filters.py --out examples_out
"""

import cv2
import numpy as np
from digits import CLASSES, SCALE, folder_argument, images, to_rgb, train
from matplotlib.figure import Figure

import caffe_compat.pycaffe as caffe
from caffe_compat.cli import main as caffe_compat

DIGIT = 4  # the image that is looked at


def main() -> None:
    out = folder_argument(__doc__)
    model, weights = train(out)
    pixels, labels = images(per_class=1, seed=7)
    image = pixels[DIGIT]
    cv2.imwrite(str(out / "digit.png"), image.transpose(1, 2, 0))

    # The same as on the command line: caffe-compat visualize deploy.prototxt digits.caffemodel --layer conv1 ...
    # --raw_scale: the net takes pixels from 0 to 1, less a hair (255 / 256).
    command = ["visualize", str(model), str(weights), "--layer"]
    scale = ["--raw_scale", str(255 * SCALE), "--image", str(out / "digit.png")]
    caffe_compat([*command, "conv1", "--out", str(out / "conv1_filters.png")])
    caffe_compat([*command, "conv1", "--out", str(out / "conv1_features.png"), *scale])
    caffe_compat([*command, "conv2", "--out", str(out / "conv2_features.png"), *scale])

    # In Python: blobs hold the activations after forward, params the filters.
    net = caffe.Net(str(model), str(weights), caffe.TEST)
    prob = net.forward(data=image[None] * np.float32(SCALE))["prob"][0]
    print(f"a {CLASSES[labels[DIGIT]]}, found {CLASSES[prob.argmax()]} with probability {prob.max():.3f}")
    for name, (filters, _) in net.params.items():
        active = np.mean(net.blobs[name].data > 0)
        print(f"{name}: weights {filters.data.shape}, blob {net.blobs[name].data.shape}, {active:.0%} above zero")

    # Which pixels decide on the class: the gradient of its score with respect to the image.
    net.blobs["score"].diff[0] = np.arange(len(CLASSES)) == prob.argmax()
    gradient = net.backward(start="score")["data"][0]
    pixel_weight = np.abs(gradient).max(0)
    ink = image.mean(0) > (image.mean(0).min() + image.mean(0).max()) / 2
    print(f"mean gradient on the ink {pixel_weight[ink].mean():.4f}, beside it {pixel_weight[~ink].mean():.4f}")

    figure = Figure(layout="constrained", figsize=(15, 3.6))
    titles = ("conv1_filters", "digit", "conv1_features", "conv2_features")
    axes = figure.subplots(1, len(titles) + 1)
    for one, title in zip(axes, titles, strict=False):
        one.imshow(caffe.io.load_image(out / f"{title}.png"))
        one.set_title(title.replace("_", ": "))
    axes[1].imshow(to_rgb(image))
    axes[-1].imshow(pixel_weight, cmap="hot")
    axes[-1].set_title("gradient of the score")
    for one in axes:
        one.axis("off")
    figure.savefig(out / "filters.png")
    print(f"picture: {out / 'filters.png'}")


if __name__ == "__main__":
    main()
