"""What training leaves: snapshots, logs, events, settings."""

import functools
import gzip
import io
import json
import shutil
from pathlib import Path

from rich.console import Console

from caffe_compat import random
from caffe_compat.data import write_lmdb
from caffe_compat.solver import Log, Solver, resume
from caffe_compat.solver.events import read_events
from caffe_compat.solver.log_reader import read_log
from reproduce import experiment
from reproduce.curves import course_of
from reproduce.folder_networks import read_network, write_network
from reproduce.options import Options
from reproduce.plan import paper_networks
from reproduce.provenance import CALLS, dates, note_call, noted_calls
from reproduce.results import read_log as read_network_log
from reproduce.results import read_result
from reproduce.settings import note_settings, noted_mode
from tests.fuzz.readers.databases import lmdb_records
from tests.fuzz.readers.registry import reader, stored

TRAINED_NET = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 4 mirror: true }
  data_param { source: "db" batch_size: 2 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" max_iter: 2 display: 1 average_loss: 3
snapshot_prefix: "input" solver_mode: CPU random_seed: 7
"""


def trained(folder: Path) -> list[bytes]:
    """A training run's files; the .resume of its snapshot."""
    write_lmdb(folder / "db", lmdb_records())
    (folder / "net.prototxt").write_text(TRAINED_NET)
    (folder / "solver.prototxt").write_text(SOLVER)
    with random.scope():
        solver = Solver("solver.prototxt", log=Log(io.StringIO()))
        solver.solve()
        solver.close()
    (folder / "input.resume").write_bytes((folder / "input_iter_2.resume").read_bytes())
    shutil.copy(folder / "input_iter_2.solverstate", folder / "input.solverstate")
    return [(folder / "input.resume").read_bytes()]


@reader("resume", trained, "json", ".resume")
def _resume(path: Path) -> None:
    resume.misfit(resume.read_resume(path), {"weights": ""})


@functools.cache
def trained_solver() -> Solver:
    """The solver of the run in the working directory."""
    return Solver("solver.prototxt", log=Log(io.StringIO()))


@reader("restore", trained, "resume", ".resume")
def _restore(path: Path) -> None:
    trained_solver().restore(path.with_suffix(".solverstate"))


@reader("log", lambda _: stored("log/*/log.txt"), "text", ".log")
@reader("log_gz", lambda _: [gzip.compress(text) for text in stored("log/*/log.txt")], "gzip", ".log.gz")
def _log(path: Path) -> None:
    read_log(path)


EVENTS = b"""{"event": "start", "iteration": 0, "time": 1.5}
{"event": "train", "iteration": 1, "time": 2.5, "loss": 0.5, "iterations_per_s": "inf", "outputs": {"loss": [1, 2]}}
{"event": "lr", "iteration": 1, "time": 2.5, "lr": 0.01}
{"event": "test", "iteration": 1, "time": 2.5, "net": 0, "loss": null, "outputs": {"accuracy": 0.5, "loss": "nan"}}
{"event": "snapshot", "iteration": 1, "time": 2.5, "model": "a.caffemodel", "state": "a.solverstate"}
{"event": "final", "iteration": 2, "time": 2.5, "loss": 0.25}
{"event": "done", "iteration": 2, "time": 3.5}
"""


@reader("events", lambda _: [EVENTS], "json lines", "train.jsonl")
def _events(path: Path) -> None:
    for event in read_events(path):
        event.numbers()


@reader("result", lambda _: [EVENTS], "json lines", "train.jsonl", names_file=False)
def _result(path: Path) -> None:
    network = paper_networks()[0]
    folder = path.parent / "out" / network.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    read_result(network, path.parent / "out")


def run_settings(folder: Path) -> list[bytes]:
    note_settings(Options(out=folder), 1)
    return [(folder / "settings.json").read_bytes()]


@reader("settings", run_settings, "json", "settings.json", names_file=False)
def _settings(path: Path) -> None:
    note_settings(Options(out=path.parent), 1)
    noted_mode(path.parent)


def run_network(folder: Path) -> list[bytes]:
    write_network(paper_networks()[20], folder)
    return [(folder / "network.json").read_bytes()]


@reader("network", run_network, "json", "network.json", names_file=False)
def _network(path: Path) -> None:
    folder = path.parent / "out" / paper_networks()[20].name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    read_network(folder)


@reader("course", lambda _: [EVENTS], "json lines", "train.jsonl", names_file=False)
def _course(path: Path) -> None:
    network = paper_networks()[0]
    folder = path.parent / "out" / network.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    dates([course_of(network, read_network_log(network, path.parent / "out"))])


def noted_call(folder: Path) -> list[bytes]:
    note_call(Options(out=folder))
    return [file.read_bytes() for file in (folder / CALLS).iterdir()]


@reader("call", noted_call, "json", "call.json", names_file=False)
def _call(path: Path) -> None:
    folder = path.parent / "out" / CALLS
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    noted_calls(path.parent / "out")


PREPARED = {
    "made": sorted({n.data for n in paper_networks()}),
    "classes": 3,
    "size": 16,
    "test_images": {"x": 4},
    "same_numbers": True,
    "checks": {"list": "equals"},
}


@reader("prepared", lambda _: [json.dumps(PREPARED).encode()], "json", "images.json")
def _prepared(path: Path) -> None:
    folder = path.parent / "out" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)
    experiment._prepare_data(Options(out=folder.parent, data="folder:/nowhere"), [], Console(quiet=True))  # noqa: SLF001
