"""How networks are computed; here so that the main process needs no PyTorch to say it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """How networks are computed: CPU threads, and the solver's ``fast`` and ``precision``."""

    threads: int = 1
    fast: bool = False
    precision: str = "fp32"
