"""Loads the compiled part of the package, which registers ``torch.ops.caffe_compat``."""

from importlib import import_module

from caffe_compat.errors import CaffeCompatError


def load() -> None:
    """Import ``caffe_compat._C``; CaffeCompatError when it was never built or fits another torch."""
    try:
        import_module("caffe_compat._C")
    except ImportError as error:
        raise CaffeCompatError(
            f"caffe_compat._C: {error}; build it with `pip install --no-build-isolation -e .` "
            "(again after torch was changed)"
        ) from error


def has_cuda() -> bool:
    """Whether the extension was built with its CUDA kernels."""
    return bool(import_module("caffe_compat._C").has_cuda)
