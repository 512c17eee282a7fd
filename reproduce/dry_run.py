"""What a run would do and take: its networks, and the hours and the disk, without writing anything to its folder."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from caffe_compat.errors import CaffeCompatError, DataError
from reproduce.experiment import check_devices, chosen_networks, cores, jobs_of, run_settings
from reproduce.mode import Mode
from reproduce.network import Network
from reproduce.options import Options
from reproduce.pair import chosen_data, storage_of
from reproduce.run_folder import RunSettings, write_run_folder

_PLAIN: Any = {"highlight": False, "markup": False}


def show_plan(options: Options, console: Console) -> None:
    """Print the networks, their order and operations, then hours on this machine's device and disk; or all as JSON."""
    from reproduce.cost import cost_of  # loads torch, which --help does without

    networks = chosen_networks(options)
    settings = run_settings(options, None)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        costs = [
            cost_of(write_run_folder(network, settings, out), settings.channels, settings.size_px)
            for network in networks
        ]
        if not options.json:
            _print_table(networks, costs, console)
        hours = _hours(options, networks, costs, settings, out)
    notes = [hours, _disk(options, networks, costs)]
    if options.json:
        console.print(json.dumps({"networks": _rows(networks, costs), "notes": notes}, indent=2), **_PLAIN)
    for note in () if options.json else notes:
        console.print(note, **_PLAIN)


def _print_table(networks: Sequence[Network], costs: Sequence[Any], console: Console) -> None:
    console.print(f"{'':4}{'network':30}{'treatment':10} {'starts from':20}{'trained on':14}{'TFLOP':>9}", **_PLAIN)
    for number, (network, cost) in enumerate(zip(networks, costs, strict=True), 1):
        console.print(
            f"{number:<4}{network.name:30}{network.treatment:10} {network.base_network or '-':20}{network.data:14}"
            f"{cost.all / 1e12:9.3f}",
            **_PLAIN,
        )
    training, tests = (sum(getattr(cost, name) for cost in costs) / 1e12 for name in ("training", "tests"))
    console.print(f"{len(networks)} networks, {training:.2f} TFLOP of training and {tests:.2f} of tests", **_PLAIN)


def _rows(networks: Sequence[Network], costs: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "network": network.name,
            "treatment": network.treatment,
            "starts_from": network.base_network or None,
            "trained_on": network.data,
            "training_flop": cost.training,
            "tests_flop": cost.tests,
        }
        for network, cost in zip(networks, costs, strict=True)
    ]


def _hours(
    options: Options, networks: Sequence[Network], costs: Sequence[Any], settings: RunSettings, out: Path
) -> str:
    """How long the run takes, from a measurement of its most and its least costly network."""
    from reproduce.measure import measure, speed, write_noise

    device = options.devices[0]
    try:
        check_devices(options)
    except DataError as error:
        return f"hours: not measured, as this machine has no such device; {error}"
    flops = [cost.step_flops for cost in costs]
    pair = (flops.index(max(flops)), flops.index(min(flops)))
    write_noise([networks[i] for i in pair], out / "data", channels=settings.channels, size_px=settings.size_px)
    mode = Mode(max(1, cores() // jobs_of(options)), options.fast, options.precision)
    timings = measure([out / networks[i].name for i in pair], device, mode)
    found = speed([costs[i] for i in pair], timings)
    alone = {network.name: found.seconds(cost) for network, cost in zip(networks, costs, strict=True)}
    longest = max(alone[network.name] + alone.get(network.base_network, 0.0) for network in networks)
    jobs = min(jobs_of(options), len(networks))
    wall_s = max(sum(alone.values()) / jobs, longest)
    said = "; ".join(
        f"{networks[i].name} {timing.step_s * 1e3:.3g} ms an iteration, {timing.test_s * 1e3:.3g} ms a batch of a test"
        for i, timing in zip(pair, timings, strict=True)
    )
    return (
        f"hours: about {wall_s / 3600:.2g} on {', '.join(options.devices)}, {jobs} at a time, if they do not slow each "
        f"other (measured on noise: {said})"
    )


def _disk(options: Options, networks: Sequence[Network], costs: Sequence[Any]) -> str:
    """How much the databases and the snapshots take."""
    data_set, path = chosen_data(options)
    try:
        data_bytes = data_set.database_bytes(path, networks, storage_of(options))
        data = f"{data_bytes / 1e9:.3g} GB of databases"
    except CaffeCompatError as error:
        data = f"databases not known ({error})"
    last = sum(cost.snapshot_bytes for cost in costs)
    most = max(cost.snapshot_bytes * cost.snapshots for cost in costs)
    jobs = min(jobs_of(options), len(networks))
    return (
        f"disk: about {data}, {last / 1e9:.3g} GB of last snapshots, and up to {jobs * most / 1e9:.3g} GB of earlier "
        "ones while networks train"
    )
