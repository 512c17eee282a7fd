"""Blobs of a file that leaves none of them out."""

import numpy as np

from caffe_compat.proto.caffemodel import LayerWeights


def arrays(layer: LayerWeights) -> list[np.ndarray]:
    found = [blob for blob in layer.blobs if blob is not None]
    assert len(found) == len(layer.blobs)
    return found
