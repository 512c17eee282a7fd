"""The rows of ``diagnostics.csv``: one a measurement."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import DataError, reading
from reproduce.network import Network


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number of one network."""

    measure: str
    network: str  # whose
    split: str
    base: str
    target: str
    n: int
    treatment: str
    seed: str
    reference: str = ""  # the other network, where there are two
    layer: str = ""
    value: float

    @classmethod
    def of(
        cls, network: Network, *, measure: str, value: float, seed: str, reference: str = "", layer: str = ""
    ) -> Self:
        """One of ``network``, which was trained with ``seed``."""
        return cls(
            measure=measure,
            network=network.name,
            split=network.split,
            base=network.base,
            target=network.target,
            n=network.n,
            treatment=network.treatment,
            seed=seed,
            reference=reference,
            layer=layer,
            value=value,
        )


COLUMNS = tuple(field.name for field in fields(Measurement))


def write_measurements(rows: Iterable[Measurement], file: Path) -> None:
    """Write the table, whole or not at all; a value that is undefined is ``nan``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    write_text(file, text.getvalue())


def read_measurements(file: Path) -> list[Measurement]:
    """What ``write_measurements`` has written.  Raises DataError for another file."""
    cure = "write it anew with `run_paper.py diagnose`"
    with reading(file, f"a table of measurements; {cure}"):
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(file.read_text())))
    try:
        return [Measurement(**{**row, "n": int(row["n"]), "value": float(row["value"])}) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{file}: is no table with the columns {','.join(COLUMNS)}; {cure}") from None
