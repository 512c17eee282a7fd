"""How networks are computed: for the main process to say to the others, so it does without PyTorch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """How networks are computed: CPU threads, and the solver's ``fast`` and ``precision``."""

    threads: int = 1
    fast: bool = False
    precision: str = "fp32"
