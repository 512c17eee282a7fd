"""A line for each network: where it is."""

import io
import json
from pathlib import Path

from rich.console import Console

from reproduce.lease import Lease
from reproduce.status import show_status
from reproduce.treatments import base_half, transfer
from tests.reproduce.test_publish import put


def test_where_each_network_is(tmp_path: Path) -> None:
    put(base_half("0", "A"), tmp_path, 0.5)
    put(base_half("0", "B"), tmp_path, failed="2026-11-26 half0B: no space left")
    for base, target in (("A", "A"), ("A", "B"), ("B", "A")):
        put(transfer("0", base, target, 1), tmp_path)
    display = {"event": "train", "iteration": 20, "time": 1.0, "loss": 1.5, "iterations_per_s": 9.0, "outputs": {}}
    (tmp_path / "transfer0A0B_1_1" / "train.jsonl").write_text(json.dumps(display) + "\n")
    stream = io.StringIO()
    with Lease(tmp_path / "transfer0A0B_1_1"):
        show_status(tmp_path, Console(file=stream, soft_wrap=True))
    assert [line.split(maxsplit=2) for line in stream.getvalue().splitlines()] == [
        ["half0A", "done", "accuracy 0.500"],
        ["half0B", "failed", "2026-11-26 half0B: no space left"],
        ["transfer0A0A_1_1", "ready", "0 of 40"],
        ["transfer0A0B_1_1", "training", "iteration 20, loss 1.500, of 40"],
        ["transfer0B0A_1_1", "waiting", "waits for half0B"],
        [f"{tmp_path}:", "5", "networks: 1 done, 1 training, 1 failed, 1 ready, 1 waiting"],
    ]
