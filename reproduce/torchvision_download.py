"""Data sets that torchvision can fetch."""

from pathlib import Path

from caffe_compat.errors import DataError


def download_data_set(name: str, root: Path) -> None:
    """Fetch ``torchvision.datasets.<name>`` into ``root`` unless it is there; DataError when that fails."""
    import torchvision

    try:
        getattr(torchvision.datasets, name)(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{root}: {name} cannot be downloaded: {error}") from None
