"""Inputs to try a net on when the user gives none."""

import numpy as np

from caffe_compat.net import Net


def noise_inputs(net: Net, seed: int = 0) -> dict[str, np.ndarray]:
    """float32 values for every Input blob: valid indices where a layer reads it as labels, rows or flags, zeros where
    it takes no gradient from it (targets), and normal numbers elsewhere."""
    generator = np.random.default_rng(seed)
    limits, targets = _index_limits(net), _targets(net)
    inputs: dict[str, np.ndarray] = {}
    for name in net.inputs:
        shape, index = net.blob_shapes[name], net.blob_names.index(name)
        if index in limits:
            inputs[name] = generator.integers(0, limits[index], shape).astype(np.float32)
        elif index in targets:
            inputs[name] = np.zeros(shape, np.float32)
        else:
            inputs[name] = generator.standard_normal(shape).astype(np.float32)
    return inputs


def _index_limits(net: Net) -> dict[int, int]:
    """Blobs that a layer reads as indices, also behind layers that pass values on: {blob: first number too large}."""
    limits: dict[int, int] = {}
    for step in reversed(net.steps):
        shapes = [net.blob_shapes_in_order[i] for i in step.bottoms]
        found = step.layer.index_limits(*shapes)
        if step.passes_on:
            found[0] = min((limits[top] for top in step.tops if top in limits), default=0)
        for bottom, limit in found.items():
            if limit:
                blob = step.bottoms[bottom]
                limits[blob] = min(limit, limits.get(blob, limit))
    return limits


def _targets(net: Net) -> set[int]:
    """Blobs whose readers take no gradient from them."""
    marked: set[int] = set()
    for step in reversed(net.steps):
        marked.update(step.bottoms[j] for j in step.layer.no_gradient_bottoms if j < len(step.bottoms))
        if step.passes_on and marked.issuperset(step.tops):
            marked.update(step.bottoms)
    return marked
