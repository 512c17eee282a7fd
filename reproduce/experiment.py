"""The main job in its steps: images, databases and run folders; training; table, figures and report."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from rich.console import Console

from caffe_compat.atomic_file import write_text
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.proto import caffe_pb2, read_message
from reproduce.comparisons import verdicts
from reproduce.dataset import DataSet, Prepared
from reproduce.diagnostics import TABLE as DIAGNOSTICS
from reproduce.every_test import TESTS
from reproduce.folder_networks import NETWORK, named_networks, networks_in
from reproduce.lease import Held, Lease, holder
from reproduce.local_processes import LocalProcesses
from reproduce.mode import Mode
from reproduce.model_nets import model_prototxts
from reproduce.network import DEPTHS, Network
from reproduce.options import DIAGNOSE, PREPARE, REPORT, STATUS, TRAIN, WHOLE_JOB, Options
from reproduce.pair import chosen_data, storage_of
from reproduce.plan import planned_networks, splits_of
from reproduce.progress import Progress
from reproduce.provenance import CALLS, note_call
from reproduce.publish import DIFFERENCES, FIGURES, REPORT_PAGE, TABLE, publish
from reproduce.results import read_result
from reproduce.run_folder import PROTOTXT, RunSettings, cut_names, write_run_folder
from reproduce.runners import Failure, NetworksFailed, Runner, Told, is_done, train_networks
from reproduce.settings import (
    IMAGES,
    SETTINGS,
    is_bound,
    note_settings,
    noted_checks,
    noted_mode,
    noted_shape,
    read_noted,
    tells_of_images,
)
from reproduce.splits import PAIR_SPLIT
from reproduce.stop_signals import StopSignals
from reproduce.treatments import TREATMENTS

#: of the folder of a run: one process at a time writes databases and networks' folders
PREPARE_LEASE = ".prepare"
#: of the eighths of an image's side that a crop takes, where a data set has no nets of its own: 28 of 32 pixels
CROP_OF_EIGHT = 7
_PLAIN: Any = {"highlight": False, "markup": False}


def chosen_networks(options: Options) -> list[Network]:
    """The networks to train, in order.  Raises DataError for an option that names nothing."""
    splits_of(options.split)
    for name in options.treatments or ():
        if name not in TREATMENTS:
            raise DataError(f"--treatments {name}: there is no such treatment; choose from {', '.join(TREATMENTS)}")
    depths = _depths(options)
    layers = chosen_depths(options, depths)
    data_set, _ = chosen_data(options)
    if (options.encode_type or options.separate) and not data_set.has_storage:
        raise DataError(
            f"--data {options.data}: has no choice of storage; --encode-type and --separate are for imagenet"
        )
    more_seeds = range(options.seed + 1, options.seed + options.seeds)
    split = options.split if options.data_a is None else PAIR_SPLIT
    networks = planned_networks(split, options.treatments, layers or depths, more_seeds)
    return _that_fit(networks, options.treatments or (), depths[-1])


def _that_fit(networks: Sequence[Network], treatments: Sequence[str], deepest: int) -> list[Network]:
    """The networks, without those that would keep more layers above the cut than there are.

    DataError for a treatment that has none left.
    """
    fit = [network for network in networks if not network.tuned or network.n + network.tuned <= deepest]
    for name in treatments:
        if TREATMENTS[name].of(networks) and not TREATMENTS[name].of(fit):
            most = deepest - max(network.tuned for network in TREATMENTS[name].of(networks))
            raise DataError(
                f"--treatments {name}: keeps layers above the cut; expected a depth up to {most} in --layers"
            )
    return fit


def _depths(options: Options) -> Sequence[int]:
    """At which learned layers the network can be cut; ours are CaffeNet's, all of them."""
    own = options.prototxt is None and options.model is None
    return DEPTHS if own else range(1, len(names_of_cuts(options)) + 1)


def names_of_cuts(options: Options) -> tuple[str, ...]:
    """The layer, or the block, that each cut lies behind."""
    return cut_names(run_settings(options, None))


def chosen_depths(options: Options, depths: Sequence[int]) -> tuple[int, ...]:
    """``--layers`` in numbers, ascending; () for all.  Raises DataError for a number or a name that is none."""
    chosen = set[int]()
    for layer in options.layers or ():
        if layer in depths:
            chosen.add(int(layer))
            continue
        names = names_of_cuts(options)
        if layer not in names:
            raise DataError(
                f"--layers {layer}: expected numbers from {depths[0]} to {depths[-1]}, or names of {', '.join(names)}"
            )
        chosen.add(names.index(str(layer)) + 1)
    return tuple(sorted(chosen))


def run(options: Options, console: Console) -> None:
    """Do the step that the options name, or the whole job, or what is left of it, in ``options.out``.

    Raises NetworksFailed when all others are trained, other CaffeCompatErrors for wrong input and OSError where the
    system refuses.
    """
    if options.step == STATUS:
        _show(options, console)
        return
    if options.step == DIAGNOSE:
        from reproduce.diagnostics.table import diagnose

        check_devices(options)
        diagnose(options.out, options, lambda text: console.print(text, **_PLAIN))
        publish(options.out)
        console.print(f"see {options.out / REPORT_PAGE}", **_PLAIN)
        return
    failed: NetworksFailed | None = None
    if options.step in (WHOLE_JOB, PREPARE, TRAIN):
        failed = _work(options, console)
    if options.step in (WHOLE_JOB, REPORT) and not (failed and not _any_done(options.out)):
        _publish(options.out, console)
    if failed:
        raise failed


def _show(options: Options, console: Console) -> None:
    from reproduce.status import show_status, status_json, watch_status

    if options.serve:
        from reproduce.status_page import serve

        serve(options.out, options.port, console)
    elif options.json:
        console.print(status_json(options.out), **_PLAIN)
    else:
        (watch_status if options.watch else show_status)(options.out, console)


def _publish(out: Path, console: Console) -> None:
    """Table, figures and report, and what they say; DataError at the end for results that cannot be read."""
    results, problems = publish(out)
    unlike = [what for what, text in noted_checks(out).items() if "equals the authors'" not in text]
    if unlike:
        console.print(f"images unlike the authors', see the report: {', '.join(unlike)}", **_PLAIN)
    for verdict in verdicts(results):
        console.print(f"{verdict.claim}: {verdict.text()}", **_PLAIN)
    console.print(f"{out / TABLE}: {len(results)} networks; see {out / REPORT_PAGE}", **_PLAIN)
    if problems:
        raise DataError(f"{next(iter(problems.values()))} (results that cannot be read: {len(problems)})")


def _work(options: Options, console: Console) -> NetworksFailed | None:
    """Prepare and train, as far as the step goes; returns what failed, where the rest went well."""
    out = options.out
    networks: list[Network] = []
    if options.step != TRAIN:
        networks = chosen_networks(options)
        _check_before_anything_is_written(options, networks)
        out.mkdir(parents=True, exist_ok=True)
    else:
        check_devices(options)
        networks = networks_in(out)
        if not networks:
            raise DataError(f"{out}: no network is prepared here; do `prepare {out}` first")
    if options.step != TRAIN:
        try:
            lease = Lease(out, name=PREPARE_LEASE)
        except Held as error:
            raise DataError(f"{error}, or choose another --out") from None
        with lease:
            _prepare(options, networks, console)
            lease.check(sure=True)
    if options.step == PREPARE:
        console.print(f"{out}: {len(networks)} networks are prepared; train them with `train {out}`", **_PLAIN)
        return None
    return _train(options, networks, console)


def _prepare(options: Options, networks: Sequence[Network], console: Console) -> None:
    """Databases and run folders, or what an earlier call has left of them."""
    out = options.out
    if not options.resume:
        _check_nobody_trains(out)
        _remove_run(out)
    note_settings(options, max(1, cores() // jobs_of(options)))
    try:
        data = _prepare_data(options, networks, console)
    except CaffeCompatError:
        if not is_bound(out):
            (out / SETTINGS).unlink()  # nothing was made with them, so that others may be chosen
        raise
    settings = run_settings(options, data)
    for network in networks:
        write_run_folder(network, settings, out)
    note_call(options)


def _any_done(out: Path) -> bool:
    return any(is_done(network, out) for network in networks_in(out))


def _check_before_anything_is_written(options: Options, networks: Sequence[Network]) -> None:
    """DataError or ProtoError for devices, images or prototxts that are not there."""
    if options.step != PREPARE:  # the machine that prepares need not be the one that trains
        check_devices(options)
    data_set, path = chosen_data(options)
    data_set.check(path)
    settings = run_settings(options, None)
    with tempfile.TemporaryDirectory() as folder:
        for network in {network.family: network for network in networks}.values():
            write_run_folder(network, settings, Path(folder))


def check_devices(options: Options) -> None:
    """DataError for GPUs that are not there."""
    numbers = [int(device.removeprefix("cuda:")) for device in options.devices if device != "cpu"]
    if numbers and options.ray is None and options.slurm is None:
        import torch  # loaded here: --dry-run and a wrong option need not wait for it

        count = torch.cuda.device_count()
        if max(numbers) >= count:
            raise DataError(
                f"--devices cuda:{max(numbers)}: there is no such GPU; PyTorch finds {count}; choose others, or leave "
                "--devices out to use the CPU"
            )


def _check_nobody_trains(out: Path) -> None:
    """DataError where a network of an earlier run is still trained."""
    for folder in _network_folders(out):
        other = holder(folder) if folder.is_dir() else None
        if other:
            raise DataError(f"{folder}: {other} trains this network; stop it before --no-resume, or wait")


def _remove_run(out: Path) -> None:
    """Remove what an earlier run left, and nothing else."""
    for folder in [*_network_folders(out), out / "data", out / FIGURES, out / CALLS]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in (SETTINGS, TABLE, TESTS, DIFFERENCES, DIAGNOSTICS, REPORT_PAGE):
        (out / name).unlink(missing_ok=True)


def _network_folders(out: Path) -> set[Path]:
    return {path.parent for path in out.glob(f"*/{NETWORK}")} | {out / name for name in named_networks()}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def jobs_of(options: Options) -> int:
    """How many networks are trained at a time."""
    return options.jobs or (cores() if options.devices == ("cpu",) else len(options.devices))


def _prepare_data(options: Options, networks: Sequence[Network], console: Console) -> Prepared:
    """The databases of all networks: made, or found from an earlier run, which has noted them in ``images.json``."""
    folder = options.out / "data"
    file = options.out / IMAGES
    needed = {network.data for network in networks} | {network.test_data for network in networks}
    known: dict[str, Any] = {
        "made": [],
        "classes": 0,
        "size": 0,
        "test_images": {},
        "same_numbers": False,
        "checks": {},
        "channels": 0,
    }
    if file.exists():
        known |= read_noted(file)
        if not tells_of_images(known):
            raise DataError(f"{file}: is not what was noted of the images; remove {folder}, or choose another --out")
    if not needed <= set(known["made"]):
        said = options.data if options.data_a is None else f"A {options.data_a}, B {options.data_b}"
        console.print(f"images: {said}", highlight=False, markup=False)
        data_set, path = chosen_data(options)
        made = data_set.prepare(
            path,
            networks,
            folder,
            download=options.download,
            tell=lambda text: console.print(text, **_PLAIN),
            storage=storage_of(options),
        )
        known["classes"], known["size"], known["same_numbers"] = made.classes, made.size_px, made.same_numbers
        known["checks"] |= made.checks
        known["channels"] = made.channels or data_set.channels
        known["test_images"] |= made.test_images
        known["made"] = sorted({*known["made"], *needed})
        write_text(file, json.dumps(known, indent=1) + "\n")
    numbers = known["classes"], known["size"], known["test_images"], known["same_numbers"]
    return Prepared(*numbers, known["checks"], known["channels"])


def run_settings(options: Options, data: Prepared | None) -> RunSettings:
    """``data`` None: before the images have been looked at, for the plan only."""
    data_set, path = chosen_data(options)
    channels, size_px = data_set.channels, data_set.size_px
    if data:
        channels, size_px = data.channels or channels, data.size_px
    else:
        try:
            channels, size_px = data_set.shape(path)
        except DataError:  # a plan does without images; a run is told of it later
            if options.data_a is not None:
                raise
        size_px = options.resize or size_px
    prototxt = options.prototxt or _own_prototxts(options, data_set, channels, size_px)
    scale = options.scale
    if options.iters is not None:
        file = prototxt / "base" / "solver.prototxt"
        scale = options.iters / read_message(file, caffe_pb2.SolverParameter()).max_iter
    return RunSettings(
        prototxt,
        outputs=data.classes if data else None,
        scale=scale,
        seed=options.seed,
        same_crops=options.same_crops,
        test_images=tuple(data.test_images.items()) if data else (),
        same_numbers=bool(data and data.same_numbers),
        solver_mode="CPU" if options.devices[0] == "cpu" else "GPU",
        channels=channels,
        size_px=size_px,
    )


def _own_prototxts(options: Options, data_set: DataSet, channels: int, size_px: int) -> Path:
    """The folder with base/ that suits a data set, or that of --model, which takes images of any size."""
    try:
        own, crop_px = PROTOTXT / data_set.prototxt_folder(size_px), 0
    except DataError:
        if options.model is None:
            raise
        own, crop_px = PROTOTXT / "miniature" / "photos", size_px * CROP_OF_EIGHT // 8
    return own if options.model is None else model_prototxts(options.model, own, channels, crop_px)


def _train(options: Options, networks: Sequence[Network], console: Console) -> NetworksFailed | None:
    """Train what is not done; returns what failed, None when everything is trained."""
    from reproduce.cost import cost_of

    if options.step == TRAIN:
        note_call(options)
    out = options.out
    jobs = jobs_of(options)
    left = [network for network in networks if not is_done(network, out)]
    done = len(networks) - len(left)
    where = f"{jobs} at a time on {', '.join(options.devices)}"
    if options.ray is not None:
        where = f"on the Ray cluster {options.ray}"
    elif options.slurm is not None:
        where = "as jobs of Slurm"
    console.print(f"{len(networks)} networks, {done} of them done; {where}", **_PLAIN)
    costs = {network: cost_of(out / network.name, *noted_shape(out)).all for network in left}
    with Progress(costs, done, out, console) as progress:

        def finish(network: Network) -> None:
            try:
                progress.done(network, read_result(network, out).accuracy)
            except DataError as error:  # said again at the end; the other networks go on
                progress.failed(network, str(error), again=False)

        def fail(failure: Failure, again: bool) -> None:
            progress.failed(failure.network, failure.why, again)

        runner = make_runner(options, noted_mode(out))
        with StopSignals() as signals:
            failures = train_networks(
                networks,
                out,
                runner,
                together=options.together,
                retries=options.retries,
                told=Told(progress.start, finish, fail, progress.put_back, progress.poll),
                signal_to_leave=lambda: signals.seen,
            )
    waiting = sum(not is_done(network, out) for network in networks) - len(failures)
    return NetworksFailed(failures, waiting, out) if failures else None


def make_runner(options: Options, mode: Mode) -> Runner:
    """What starts the processes, by the options.  ``--jobs`` is how many networks, on several GPUs in turn."""
    gpu = options.devices[0] != "cpu"
    if options.ray is not None:
        from reproduce.ray_tasks import RayTasks

        share = len(options.devices) / jobs_of(options) if gpu else 0.0
        return RayTasks(options.out, options.ray, mode, gpus=min(1.0, share), lease_s=options.lease)
    if options.slurm is not None:
        from reproduce.slurm_jobs import SlurmJobs

        return SlurmJobs(options.out, dict(options.slurm), mode, gpu=gpu, most=options.jobs, lease_s=options.lease)
    return LocalProcesses(options.out, list(islice(cycle(options.devices), jobs_of(options))), mode, options.lease)
