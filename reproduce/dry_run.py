"""What a run would do and take: its networks, and the hours and the disk, without writing anything to its folder."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from caffe_compat.errors import CaffeCompatError, DataError
from reproduce.experiment import check_devices, chosen_networks, cores, jobs_of, names_of_cuts, run_settings
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
        rows = _rows(networks, costs, _cuts(options))
        hours = _hours(options, networks, costs, settings, out)
    notes = [hours, _disk(options, networks, costs)]
    if options.json:
        console.print(json.dumps({"networks": rows, "notes": notes}, indent=2), **_PLAIN)
        return
    _print_table(rows, console)
    for note in notes:
        console.print(note, **_PLAIN)


def _cuts(options: Options) -> dict[int, str]:
    """{n: the layer that cut n lies behind} of a network that is not CaffeNet."""
    named = options.model is not None or options.prototxt is not None
    return dict(enumerate(names_of_cuts(options), 1)) if named else {}


def _rows(networks: Sequence[Network], costs: Sequence[Any], cuts: Mapping[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "network": network.name,
            "treatment": network.treatment,
            "starts_from": network.base_network or None,
            "trained_on": network.data,
            "training_flop": cost.training,
            "tests_flop": cost.tests,
            **({"cut_behind": cuts.get(network.n)} if cuts else {}),
        }
        for network, cost in zip(networks, costs, strict=True)
    ]


def _print_table(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    head = f"{'':4}{'network':30}{'treatment':10} {'starts from':20}{'trained on':14}{'TFLOP':>9}"
    console.print(head + ("  cut behind" if "cut_behind" in rows[0] else ""), **_PLAIN)
    for number, row in enumerate(rows, 1):
        flop, cut = row["training_flop"] + row["tests_flop"], row.get("cut_behind")
        console.print(
            f"{number:<4}{row['network']:30}{row['treatment']:10} {row['starts_from'] or '-':20}{row['trained_on']:14}"
            f"{flop / 1e12:9.3f}" + (f"  {cut}" if cut else ""),
            **_PLAIN,
        )
    training, tests = (sum(row[name] for row in rows) / 1e12 for name in ("training_flop", "tests_flop"))
    console.print(f"{len(rows)} networks, {training:.2f} TFLOP of training and {tests:.2f} of tests", **_PLAIN)


def _hours(
    options: Options, networks: Sequence[Network], costs: Sequence[Any], settings: RunSettings, out: Path
) -> str:
    """How long the run takes, from a measurement of some of its networks."""
    from reproduce.measure import measure, speed, write_noise

    device = options.devices[0]
    try:
        check_devices(options)
    except DataError as error:
        return f"hours: not measured, as this machine has no such device; {error}"
    measured = _to_measure(options, costs)
    write_noise(
        [networks[i] for i in measured],
        out / "data",
        channels=settings.channels,
        size_px=settings.size_px,
        counts=_record_counts(options, networks) if options.fast else None,
    )
    mode = Mode(max(1, cores() // jobs_of(options)), options.fast, options.precision)
    timings = measure([out / networks[i].name for i in measured], device, mode)
    if len(measured) == len({cost.step_flops for cost in costs}):
        of_kind = {costs[i].step_flops: timing for i, timing in zip(measured, timings, strict=True)}
        alone = {n.name: of_kind[cost.step_flops].seconds(cost) for n, cost in zip(networks, costs, strict=True)}
    else:
        found = speed([costs[i] for i in measured], timings)
        alone = {network.name: found.seconds(cost) for network, cost in zip(networks, costs, strict=True)}
    longest = max(alone[network.name] + alone.get(network.base_network, 0.0) for network in networks)
    jobs = min(jobs_of(options), len(networks))
    wall_s = max(sum(alone.values()) / jobs, longest)
    said = "; ".join(
        f"{networks[i].name} {timing.step_s * 1e3:.3g} ms an iteration, {timing.test_s * 1e3:.3g} ms a batch of a test"
        for i, timing in zip(measured, timings, strict=True)
    )
    return (
        f"hours: about {wall_s / 3600:.2g} on {', '.join(options.devices)}, {jobs} at a time, if they do not slow each "
        f"other (measured on noise: {said})"
    )


def _to_measure(options: Options, costs: Sequence[Any]) -> list[int]:
    """Which networks are measured: the most and the least costly one.

    Tables of what frozen layers make of the images leave no line over operations: then one of each cost.
    """
    flops = [cost.step_flops for cost in costs]
    if options.fast and options.devices[0] == "cpu":
        return [flops.index(count) for count in sorted(set(flops), reverse=True)]
    return [flops.index(max(flops)), flops.index(min(flops))]


def _record_counts(options: Options, networks: Sequence[Network]) -> dict[str, int]:
    data_set, path = chosen_data(options)
    try:
        return data_set.record_counts(path, networks, storage_of(options))
    except CaffeCompatError:  # the disk's line says that they are not there
        return {}


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
