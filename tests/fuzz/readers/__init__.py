"""Everything that reads a file of strangers: how it is called, and good inputs to begin with.

A module for each theme; each writes its readers into ``READERS``.
"""

from tests.fuzz.readers import cases_only, databases, experiment, nets, training
from tests.fuzz.readers.registry import READERS, Reader

__all__ = ["READERS", "Reader", "cases_only", "databases", "experiment", "nets", "training"]
