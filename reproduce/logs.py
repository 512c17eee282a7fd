"""Results from training logs alone: a folder for each network, named as the authors name theirs.

Their published ``results/`` is such a folder: ``half0A/140403_063910_half0A.o227963.gz``, ...
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from caffe_compat.errors import DataError, SolverError
from reproduce.curves import Course, course_of
from reproduce.folder_networks import named_networks
from reproduce.network import Network
from reproduce.plan import turn
from reproduce.results import Log, Result, result_of

#: ``train.log``, glog's ``caffe.INFO`` and what it stands for, a queue's ``half0A.o227963``; each may be compressed
LOG_NAME = re.compile(r".*(\.log|\.log\.INFO\..*|\.INFO|\.o(\d+|MANUAL))(\.gz)?")


@dataclass(frozen=True)
class FromLogs:
    """What the logs of a folder say."""

    results: list[Result]
    courses: list[Course]
    problems: dict[str, str]  # {network: why its logs give no result}
    files: int  # how many logs were read


def read_folder(folder: Path) -> FromLogs:
    """Every network of a folder that has a log, in the plan's order.

    Where a run was restarted, all its files count; of an iteration that comes twice the later time stamp.
    Raises DataError when no folder in it has a network's name.
    """
    found = FromLogs([], [], {}, 0)
    files = 0
    for network in _networks(folder):
        logs = sorted(file for file in (folder / network.name).iterdir() if LOG_NAME.fullmatch(file.name))
        files += len(logs)
        try:
            result, course = _read(network, logs)
        except (DataError, SolverError) as error:
            found.problems[network.name] = str(error)
            continue
        found.results.append(result)
        found.courses.append(course)
    return replace(found, files=files)


def _networks(folder: Path) -> list[Network]:
    """The networks that folders are named after, further seeds included."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with a folder for each network's logs")
    found = []
    for path in folder.iterdir():
        name, _, seed = path.name.partition("-seed")
        network = named_networks().get(name)
        if network and path.is_dir() and (not seed or seed.isdecimal()):
            found.append(network.with_seed(int(seed)) if seed else network)
    if not found:
        raise DataError(f"{folder}: no folder in it is named as a network (half0A, transfer0A0B_1_4, ...)")
    return sorted(found, key=turn)


def _read(network: Network, logs: Sequence[Path]) -> tuple[Result, Course]:
    # Imported here: it brings PyTorch, which a wrong option need not wait for.
    from caffe_compat.solver.log_reader import read_logs, score_curve

    if not logs:
        raise DataError("no log in its folder; expected files as train.log, caffe.INFO or half0A.o227963, .gz or not")
    events = read_logs(logs)
    accuracy, loss = dict(score_curve(events)), dict(score_curve(events, "loss"))
    if not accuracy:
        raise DataError(f"no test in its logs ({', '.join(file.name for file in logs)})")
    displays = {event.iteration: event.value for event in events if event.kind == "train"}
    log = Log(accuracy, loss, seconds=0.0, training_loss=displays)
    return result_of(network, log), course_of(network, log)
