"""Pictures of a layer: its filters, and with --image its features, the values of its first top.

caffe-compat visualize deploy.prototxt net.caffemodel --layer conv1
caffe-compat visualize deploy.prototxt net.caffemodel --layer conv1 --image cat.jpg --out conv1.png
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_compat.atomic_file import atomic_path
from caffe_compat.errors import CaffeCompatError
from caffe_compat.tools._net_arguments import add_python_layers_argument

if TYPE_CHECKING:
    from caffe_compat.net import Net

MARGIN_PX = 1
LEAST_SIDE_PX = 500  # small tiles are enlarged until the picture is about this wide

Array = np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, weights, layer, and what to show."""
    parser.add_argument("model", help="the net's prototxt (deploy)")
    parser.add_argument("weights", help="a caffemodel")
    parser.add_argument("--layer", required=True, help="the layer's name")
    parser.add_argument("--out", type=Path, help="target; default LAYER_filters.png or LAYER_features.png")
    parser.add_argument("--image", type=Path, help="show what the layer makes of this image, in place of its filters")
    parser.add_argument("--raw_scale", type=float, default=255.0, help="the image's greatest value (default 255)")
    parser.add_argument("--mean", default="", metavar="B,G,R", help="subtract these values; default nothing")
    add_python_layers_argument(parser)
    parser.add_argument("--rgb", action="store_true", help="the net was trained on RGB; default BGR, as Caffe's nets")


def run(args: argparse.Namespace) -> int:
    """Write the picture; returns the exit status."""
    from caffe_compat.net import Net

    net = Net(args.model, args.weights, "TEST", allow_python_layers=args.allow_python_layers)
    if args.layer not in net.layers:
        raise CaffeCompatError(f"{args.model}: no layer named {args.layer!r}; there are {', '.join(net.layers)}")
    if args.image is None:
        tiles, kind = filters(net, args.layer, rgb=args.rgb), "filters"
    else:
        tiles, kind = features(net, args), "features"
    out = args.out or Path(f"{args.layer.replace('/', '_')}_{kind}.png")
    write_picture(out, tile(tiles))
    print(f"{out}: {len(tiles)} {kind} of {args.layer!r}, {tiles.shape[1]} x {tiles.shape[2]} each")
    return 0


def filters(net: "Net", layer: str, *, rgb: bool) -> Array:
    """(tiles, height, width, 3) from 0 to 1: filters with 3 channels in colour, others channel by channel in gray."""
    blobs = net.layers[layer].blobs
    if not blobs or blobs[0].dim() != 4:
        shape = tuple(blobs[0].shape) if blobs else "no blobs"
        raise CaffeCompatError(
            f"layer {layer!r}: its filters cannot be shown: {shape}; expected 4 axes, as a Convolution's"
        )
    return filter_tiles(blobs[0].detach().cpu().numpy(), rgb=rgb)


def filter_tiles(weights: Array, *, rgb: bool) -> Array:
    """The same of a convolution's weights (filters, channels, height, width)."""
    if weights.shape[1] == 3:
        values = weights.transpose(0, 2, 3, 1)
        return _unit(values if rgb else values[..., ::-1])
    return _gray(weights.reshape(-1, *weights.shape[2:]))


def features(net: "Net", args: argparse.Namespace) -> Array:
    """The same for the layer's first top, a tile for each channel."""
    import torch

    from caffe_compat.pycaffe.io import Transformer, load_image

    if len(net.inputs) != 1:
        raise CaffeCompatError(f"{args.model}: inputs {net.inputs}; expected one, of images (a deploy net)")
    (name,) = net.inputs
    shape = (1, *net.blob_shapes[name][1:])
    transformer = Transformer({name: shape})
    transformer.set_transpose(name, (2, 0, 1))
    transformer.set_raw_scale(name, args.raw_scale)
    if shape[1] == 3 and not args.rgb:
        transformer.set_channel_swap(name, (2, 1, 0))
    if args.mean:
        transformer.set_mean(name, _mean(args.mean))
    image = transformer.preprocess(name, load_image(args.image, color=shape[1] == 3))
    net.reshape(**{name: shape})
    step = next(step for step in net.steps if step.layer.name == args.layer)
    blob = net.blob_names[step.tops[0]]
    batch = torch.from_numpy(np.ascontiguousarray(image[None]))
    value = net.extract([blob], {name: batch})[blob][0].detach().cpu().numpy()
    return _gray(value if value.ndim == 3 else value.reshape(1, 1, -1))


def _mean(text: str) -> Array:
    try:
        return np.array([float(value) for value in text.split(",")])
    except ValueError:
        raise CaffeCompatError(f'--mean is "{text}"; expected numbers, as 104,117,123') from None


def _gray(values: Array) -> Array:
    return _unit(np.repeat(values[..., None], 3, axis=3))


def _unit(values: Array) -> Array:
    low, high = values.min(), values.max()
    result: Array = (values - low) / (high - low if high > low else 1)
    return result


def tile(tiles: Array) -> Array:
    """One picture, about square, of tiles (n, height, width, 3), with white between them."""
    count, height, width, _ = tiles.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    grid = np.ones((rows * (height + MARGIN_PX) - MARGIN_PX, columns * (width + MARGIN_PX) - MARGIN_PX, 3))
    for i, one in enumerate(tiles):
        y, x = i // columns * (height + MARGIN_PX), i % columns * (width + MARGIN_PX)
        grid[y : y + height, x : x + width] = one
    return grid


def write_picture(path: Path, picture: Array) -> None:
    """Write (height, width, 3), RGB from 0 to 1, in the format that the name's ending says."""
    import cv2

    factor = max(1, LEAST_SIDE_PX // max(picture.shape[:2]))
    pixels: Array = np.round(picture[..., ::-1] * 255).astype(np.uint8)
    pixels = pixels.repeat(factor, 0).repeat(factor, 1)
    try:
        done, encoded = cv2.imencode(path.suffix, pixels)
    except cv2.error:
        done = False
    if not done:
        raise CaffeCompatError(f"{path}: unknown kind of picture; end the name in .png or .jpg")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
