"""The main job: images, databases, run folders, training, table, figures, report."""

import fcntl
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from rich.console import Console

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import CaffeCompatError, DataError, reading
from caffe_compat.proto import caffe_pb2, read_message
from reproduce.dataset import Prepared, find_data_set
from reproduce.mode import Mode
from reproduce.network import DEPTHS, Network
from reproduce.options import Options
from reproduce.plan import paper_networks, split_networks
from reproduce.progress import Progress
from reproduce.results import Result, paper_results, read_result, write_results
from reproduce.run_folder import PROTOTXT, RunSettings, write_run_folder
from reproduce.runners import is_done, run_local
from reproduce.splits import SPLITS, check_split
from reproduce.treatments import TREATMENTS

#: in a run's folder: the options that decide the numbers
SETTINGS = "settings.json"
_INT_MAX = 2**31 - 1


def chosen_networks(options: Options) -> list[Network]:
    """The networks to train, in order.  Raises DataError for an option that names nothing."""
    check_split(options.split)
    for name in options.treatments:
        if name not in TREATMENTS:
            raise DataError(f"--treatments {name}: there is no such treatment; choose from {', '.join(TREATMENTS)}")
    for n in options.layers:
        if n not in DEPTHS:
            raise DataError(f"--layers {n}: expected numbers from {DEPTHS[0]} to {DEPTHS[-1]}")
    find_data_set(options.data)
    return split_networks(options.split, options.treatments, options.layers)


def show_plan(options: Options, console: Console) -> None:
    """Print the networks, their order and what they cost; nothing is written."""
    from reproduce.cost import training_flops  # loads torch, which --help does without

    networks = chosen_networks(options)
    data_set, _ = find_data_set(options.data)
    total = 0.0
    console.print(f"{'':4}{'network':24}{'treatment':10} {'starts from':14}{'trained on':14}{'TFLOP':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for number, network in enumerate(networks, 1):
            run_folder = write_run_folder(network, _settings(options, None), Path(folder))
            cost = training_flops(run_folder, data_set.channels) / 1e12
            total += cost
            console.print(
                f"{number:<4}{network.name:24}{network.treatment:10} {network.base_network or '-':14}{network.data:14}"
                f"{cost:9.3f}",
                highlight=False,
                markup=False,
            )
    console.print(f"{len(networks)} networks, {total:.2f} TFLOP of training; tests come on top")


def run(options: Options, console: Console) -> list[Result]:
    """Do the whole job, or what is left of it, in ``options.out``; returns the table.

    Raises CaffeCompatError for wrong input and OSError where the system refuses.
    """
    began = time.monotonic()
    networks = chosen_networks(options)
    _check_before_anything_is_written(options, networks)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        if not options.resume:
            _remove_run(out)
        begins = not (out / SETTINGS).exists()
        threads = _check_same_run(options)
        try:
            data = _prepare_data(options, networks, console)
        except CaffeCompatError:
            if begins and not any((out / "data").glob("*")):
                (out / SETTINGS).unlink()  # nothing was made with them, so that others may be chosen
            raise
        settings = _settings(options, data)
        for network in networks:
            write_run_folder(network, settings, out)
        results = _train(options, networks, threads, console)
        write_results(results, out / "results.csv")
        _show(options, results, time.monotonic() - began)
    console.print(
        f"{out / 'results.csv'}: {len(results)} networks; see {out / 'report.html'}", highlight=False, markup=False
    )
    return results


def _check_before_anything_is_written(options: Options, networks: Sequence[Network]) -> None:
    """DataError or ProtoError for devices, images or prototxts that are not there."""
    numbers = [int(device.removeprefix("cuda:")) for device in options.devices if device != "cpu"]
    if numbers:
        import torch  # loaded here: --dry-run and a wrong option need not wait for it

        count = torch.cuda.device_count()
        if max(numbers) >= count:
            raise DataError(
                f"--devices cuda:{max(numbers)}: there is no such GPU; PyTorch finds {count}; choose others, or leave "
                "--devices out to use the CPU"
            )
    data_set, path = find_data_set(options.data)
    data_set.check(path)
    with tempfile.TemporaryDirectory() as folder:
        for network in networks[:1]:
            write_run_folder(network, _settings(options, None), Path(folder))


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{out}: another run works in this folder; wait for it, or choose another --out") from None
        yield


def _remove_run(out: Path) -> None:
    """Remove what an earlier run left, and nothing else."""
    names = {network.name for network in paper_networks()}
    names |= {network.name for split in SPLITS for network in split_networks(split, TREATMENTS)}
    for name in [*names, "data", "figures"]:
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (SETTINGS, "results.csv", "report.html"):
        (out / name).unlink(missing_ok=True)


def _check_same_run(options: Options) -> int:
    """Note the options that decide the numbers; DataError when the folder was begun with others.

    Returns the threads of each network, which decide numbers too, as they order sums: those that the run was begun
    with, whatever --jobs and the machine are now.
    """
    file = options.out / SETTINGS
    ours = options.settings_that_decide()
    threads = max(1, _cores() // _jobs(options))
    if not file.exists():
        write_text(file, json.dumps({**ours, "threads": threads}, indent=1) + "\n")
        return threads
    theirs = _read_noted(file)
    begun_with = theirs.get("threads", threads)  # a folder of before they were noted
    if not isinstance(begun_with, int) or begun_with < 1:
        raise DataError(
            f"{file}: threads is {begun_with!r}; expected a number from 1; remove it, or choose another --out"
        )
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise DataError(
                f"{options.out}: was begun with --{name} {theirs.get(name)}, not {value}; "
                "choose another --out, or add --no-resume to start anew"
            )
    if "threads" not in theirs:
        write_text(file, json.dumps({**theirs, "threads": threads}, indent=1) + "\n")
    return begun_with


def _read_noted(file: Path) -> dict[str, Any]:
    """What an earlier run has noted in a JSON file."""
    with reading(file, "what an earlier run has noted; remove it, or choose another --out"):
        noted = json.loads(file.read_text())
    if not isinstance(noted, dict):
        raise DataError(f"{file}: is no JSON object; remove it, or choose another --out")
    return noted


def _tells_of_images(noted: dict[str, Any]) -> bool:
    made, counts = noted.get("made"), noted.get("test_images")
    numbers = [noted.get("classes"), noted.get("size"), *(counts.values() if isinstance(counts, dict) else [None])]
    return (
        isinstance(made, list)
        and all(isinstance(name, str) for name in made)
        and all(type(number) is int and 0 < number < _INT_MAX for number in numbers)
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _jobs(options: Options) -> int:
    return options.jobs or (_cores() if options.devices == ("cpu",) else len(options.devices))


def _prepare_data(options: Options, networks: Sequence[Network], console: Console) -> Prepared:
    """The databases of all networks: made, or found from an earlier run, which has noted them in ``images.json``."""
    folder = options.out / "data"
    file = folder / "images.json"
    needed = {network.data for network in networks} | {network.test_data for network in networks}
    known: dict[str, Any] = {"made": [], "classes": 0, "size": 0, "test_images": {}}
    if file.exists():
        known = _read_noted(file)
        if not _tells_of_images(known):
            raise DataError(f"{file}: is not what was noted of the images; remove {folder}, or choose another --out")
    if not needed <= set(known["made"]):
        console.print(f"images: {options.data}", highlight=False, markup=False)
        data_set, path = find_data_set(options.data)
        made = data_set.prepare(
            path,
            networks,
            folder,
            download=options.download,
            tell=lambda text: console.print(text, highlight=False, markup=False),
        )
        known["classes"], known["size"] = made.classes, made.size_px
        known["test_images"] |= made.test_images
        known["made"] = sorted({*known["made"], *needed})
        write_text(file, json.dumps(known, indent=1) + "\n")
    return Prepared(known["classes"], known["size"], known["test_images"])


def _settings(options: Options, data: Prepared | None) -> RunSettings:
    """``data`` None: before the images have been looked at, for the plan only."""
    data_set, _ = find_data_set(options.data)
    size_px = data.size_px if data else data_set.size_px
    prototxt = options.prototxt or PROTOTXT / data_set.prototxt_folder(size_px)
    scale = options.scale
    if options.iters is not None:
        file = prototxt / "base" / "solver.prototxt"
        scale = options.iters / read_message(file, caffe_pb2.SolverParameter()).max_iter
    return RunSettings(
        prototxt,
        outputs=data.classes if data else None,
        scale=scale,
        seed=options.seed,
        test_images=tuple(data.test_images.items()) if data else (),
        solver_mode="CPU" if options.devices[0] == "cpu" else "GPU",
    )


def _train(options: Options, networks: Sequence[Network], threads: int, console: Console) -> list[Result]:
    """Train what is not done; returns all rows in the plan's order."""
    from reproduce.cost import training_flops

    out = options.out
    jobs = _jobs(options)
    devices = list(islice(cycle(options.devices), jobs))
    results = {network.name: read_result(network, out) for network in networks if is_done(network, out)}
    channels = find_data_set(options.data)[0].channels
    costs = {n.name: training_flops(out / n.name, channels) for n in networks if n.name not in results}
    console.print(
        f"{len(networks)} networks, {len(results)} of them done; {jobs} at a time on {', '.join(options.devices)}",
        highlight=False,
        markup=False,
    )
    mode = Mode(threads, options.fast, options.precision)
    with Progress(costs, len(results), out, console) as progress:

        def finish(network: Network) -> None:
            results[network.name] = read_result(network, out)
            progress.done(network, results[network.name].accuracy)

        run_local(networks, out, devices, mode, on_start=progress.start, on_done=finish, on_poll=progress.poll)
    return [results[network.name] for network in networks]


def _show(options: Options, results: Sequence[Result], wall_s: float) -> None:
    """Figures and report."""
    # Imported here: matplotlib takes a second that --dry-run and a wrong option need not wait for.
    from reproduce.figures import draw_all
    from reproduce.report import write_report

    paper = paper_results()
    figures = draw_all(results, paper, options.out / "figures")
    settings = {name: value for name, value in asdict(options).items() if name != "dry_run"} | {
        "networks": len(results),
        "training time of all networks": f"{sum(r.seconds for r in results) / 60:.1f} min",
        "this command": f"{wall_s / 60:.1f} min",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    write_report(results, paper, figures, settings, options.out / "report.html")
