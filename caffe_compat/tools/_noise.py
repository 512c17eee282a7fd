"""Inputs to try a net on when the user gives none."""

import numpy as np

from caffe_compat.net import Net


def noise_inputs(net: Net, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal float32 values for every Input blob; zeros for those read as labels or indices."""
    generator = np.random.default_rng(seed)
    labels = _label_blobs(net)
    return {
        name: np.zeros(net.blob_shapes[name], np.float32)
        if name in labels
        else generator.standard_normal(net.blob_shapes[name]).astype(np.float32)
        for name in net.inputs
    }


def _label_blobs(net: Net) -> set[str]:
    """Blobs whose readers take no gradient from them, also through Splits."""
    marked: set[int] = set()
    for step in reversed(net.steps):
        marked.update(step.bottoms[j] for j in step.layer.no_gradient_bottoms if j < len(step.bottoms))
        if step.layer.type == "Split" and marked.issuperset(step.tops):
            marked.update(step.bottoms)
    return {net.blob_names[i] for i in marked}
