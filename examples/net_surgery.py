"""Turn a classifier's InnerProduct layers into convolutions: a map of classes over a larger image (net_surgery).

python examples/net_surgery.py --out examples_out
"""

from pathlib import Path

import numpy as np
from digits import CLASSES, SCALE, SIZE_PX, folder_argument, images, to_rgb, train
from matplotlib.figure import Figure

import caffe_compat.pycaffe as caffe
from caffe_compat.proto import read_net

ROWS, COLUMNS = 3, 6  # digits in the large image
KERNELS = {"fc1": 5, "score": 1}  # a kernel covers all that the layer saw: 5 x 5 under fc1, 1 x 1 under score


def write_convolutional(model: Path, target: Path) -> None:
    """The deploy net with fc1 and score as convolutions of the same names with ``_conv`` behind: weights of another
    shape would not fit under the old name."""
    net = read_net(model)
    for layer in net.layer:
        if layer.name in KERNELS:
            layer.convolution_param.num_output = layer.inner_product_param.num_output
            layer.convolution_param.kernel_size.append(KERNELS[layer.name])
            layer.ClearField("inner_product_param")
            layer.type = "Convolution"
            layer.name += "_conv"
    target.write_text(str(net))


def main() -> None:
    out = folder_argument(__doc__)
    model, weights = train(out)
    fc_net = caffe.Net(str(model), str(weights), caffe.TEST)

    write_convolutional(model, out / "convolutional.prototxt")
    # conv1 and conv2 get their weights by name; a warning says that fc1 and score have not, which the loop mends.
    conv_net = caffe.Net(str(out / "convolutional.prototxt"), str(weights), caffe.TEST)
    for name in KERNELS:
        matrix, bias = fc_net.params[name]
        kernel, conv_bias = conv_net.params[f"{name}_conv"]
        # The same numbers in the same order: (64, 800) is (64, 32, 5, 5).
        kernel.data[...] = matrix.data.reshape(kernel.data.shape)
        conv_bias.data[...] = bias.data
    conv_net.save(out / "convolutional.caffemodel")

    # A larger image: digits in rows, then one pass of the convolutional net over the whole.
    pixels, labels = images(per_class=2, seed=3)
    tiles, labels = pixels[: ROWS * COLUMNS], labels[: ROWS * COLUMNS].reshape(ROWS, COLUMNS)
    large = tiles.reshape(ROWS, COLUMNS, 3, SIZE_PX, SIZE_PX).transpose(2, 0, 3, 1, 4)
    large = large.reshape(3, ROWS * SIZE_PX, COLUMNS * SIZE_PX)
    conv_net.blobs["data"].reshape(1, *large.shape)
    conv_net.blobs["data"].data[0] = large * SCALE
    prob = conv_net.forward()["prob"][0]  # (10, places down, places across), 4 pixels between two places
    print(f"image of {large.shape[1]} x {large.shape[2]}: a map of {prob.shape[1]} x {prob.shape[2]} places")

    # Each 8th place lies over one digit; there both nets have seen the same pixels.
    stride = SIZE_PX // 4
    fc_net.blobs["data"].reshape(len(tiles), 3, SIZE_PX, SIZE_PX)
    fc_prob = fc_net.forward(data=tiles * np.float32(SCALE))["prob"].T.reshape(10, ROWS, COLUMNS)
    on_digits = prob[:, ::stride, ::stride]
    print(f"greatest difference of InnerProduct and convolution: {np.abs(on_digits - fc_prob).max():.2e}")
    print(f"digits read right in the map: {np.sum(on_digits.argmax(0) == labels)} of {labels.size}")

    figure = Figure(layout="constrained", figsize=(8, 8))
    above, below = figure.subplots(2, 1)
    above.imshow(to_rgb(large))
    # Pale where no class is likely, as between two digits.
    shown = below.imshow(prob.argmax(0), cmap="tab10", vmin=-0.5, vmax=9.5, alpha=prob.max(0) ** 2)
    figure.colorbar(shown, ax=below, ticks=range(10), label="class").ax.set_yticklabels(list(CLASSES))
    figure.savefig(out / "net_surgery.png")
    print(f"picture: {out / 'net_surgery.png'}")


if __name__ == "__main__":
    main()
