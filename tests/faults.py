"""Twenty random faults in one run: the table equals that of a run that was left alone.  `make faults`, some minutes.

    python -m tests.faults --faults 20 --seed 1

Five tiny networks are trained by two runs that share a folder, the second of them on a Ray cluster of processes where
Ray is installed.  Meanwhile, in an order drawn by the seed, a worker is killed, or paused until others have taken over
its network and then woken, as a machine that was lost and comes back, or refused every write as by a full disk; a file
of its newest snapshot is cut or gets another bit; the file server's clock leaps by an hour; the Ray machine that trains
is killed, and another one joins; a run is killed, or asked to leave by SIGTERM.  A run that has ended is started again.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reproduce.lease import NETWORK_LEASE, Holder, holder
from reproduce.local_processes import LocalProcesses
from reproduce.mode import Mode
from reproduce.network import Network
from reproduce.options import Options
from reproduce.plan import split_networks
from reproduce.results import results_in
from reproduce.runners import is_done, train_networks
from reproduce.settings import note_settings
from tests.reproduce.test_train_one import small_run

LEASE_S = 2.0
RUNS = 2
TIMEOUT_S = 1800.0
RAY_MACHINE = "kill a Ray machine"
FAULTS = (
    "kill a worker",
    "pause a worker",
    "refuse a worker's writes",
    "damage a snapshot",
    "change the clock",
    "kill a run",
    "ask a run to leave",
    RAY_MACHINE,
)


class RayCluster:
    """A cluster of processes of this machine: a head that trains nothing, and one machine with one core."""

    def __init__(self) -> None:
        os.environ |= {
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "120",  # a busy machine is slow
            "RAY_worker_niceness": "0",  # else a busy machine gives its tasks nothing
        }
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._machine = self._cluster.add_node(num_cpus=1)
        self.address = str(self._cluster.address)

    def kill_machine(self) -> None:
        """Kill the machine with all that it runs; another one joins."""
        self._cluster.remove_node(self._machine, allow_graceful=False)
        self._machine = self._cluster.add_node(num_cpus=1)

    def close(self) -> None:
        """End all processes of the cluster."""
        self._cluster.shutdown()


@contextmanager
def ray_cluster() -> Iterator[RayCluster | None]:
    """The cluster; None where Ray is not installed."""
    if not find_spec("ray"):
        print(f"Ray is not installed, so that nothing will {RAY_MACHINE}: pip install 'caffe-compat[ray]'")
        yield None
        return
    cluster = RayCluster()
    try:
        yield cluster
    finally:
        cluster.close()


def main() -> int:
    """0 where the tables are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=2500, help="of each network (default: 2500)")
    args = parser.parse_args()
    networks = split_networks("0", ["base", "AnB", "random"], [3])
    with tempfile.TemporaryDirectory() as folder:
        calm, rough = Path(folder) / "calm", Path(folder) / "rough"
        for out in (calm, rough):
            small_run(networks, out, iterations=args.iterations)
            note_settings(Options(out=out, data="glyphs"), 1)
        if train_networks(networks, calm, LocalProcesses(calm, ["cpu"] * RUNS, Mode())):
            print("the run that was left alone failed")
            return 1
        began = time.monotonic()
        with ray_cluster() as cluster:
            count = disturb(Scene(networks, rough, random.Random(args.seed), cluster), args.faults)
        print(f"{sum(count.values())} faults in {time.monotonic() - began:.0f} s: {dict(count)}")
        same = table(calm) == table(rough)
        print("the table equals the undisturbed one" if same else "THE TABLES DIFFER")
        if sum(count.values()) < args.faults:
            print(f"only {sum(count.values())} faults before all was trained; take more --iterations")
        return 0 if same and sum(count.values()) >= args.faults else 1


def table(out: Path) -> list[tuple[object, ...]]:
    """The rows, but for the time that they took, and the bits of the last weights."""
    results, problems = results_in(out)
    weights = sorted((path.parent.name, path.read_bytes()) for path in out.glob("*/*.caffemodel"))
    return [*((r.network, r.accuracy, r.accuracy_final, r.loss) for r in results), *problems.items(), *weights]


@dataclass
class Scene:
    """Where faults are done."""

    networks: list[Network]
    out: Path
    draw: random.Random
    cluster: RayCluster | None
    runs: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)


def disturb(scene: Scene, faults: int) -> Counter[str]:
    """Let the runs train everything, and do so many faults meanwhile; how many of each."""
    networks, out, draw, runs = scene.networks, scene.out, scene.draw, scene.runs
    count: Counter[str] = Counter()
    deadline, next_fault = time.monotonic() + TIMEOUT_S, time.monotonic()
    left: list[str] = []
    try:
        while not all(is_done(network, out) for network in networks):
            if time.monotonic() > deadline:
                print("not trained in time")
                break
            for number in range(RUNS):
                if number not in runs or runs[number].poll() is not None:
                    runs[number] = start(out, scene.cluster.address if scene.cluster and number else "")
            if sum(count.values()) < faults and time.monotonic() > next_fault:
                # Each comes once before one comes again, so that twenty have all of them.
                left = left or draw.sample(FAULTS, len(FAULTS))
                done = one_fault(left, scene)
                if done:
                    left.remove(done)
                    count[done] += 1
                    print(f"{sum(count.values()):3} {done}", flush=True)
                    next_fault = time.monotonic() + draw.uniform(0.2, 2.0)
                if scene.cluster is None and left == [RAY_MACHINE]:
                    left = []
            time.sleep(0.1)
    finally:
        for run in runs.values():
            run.kill()
            run.wait()
    return count


def start(out: Path, ray_address: str = "") -> subprocess.Popen[bytes]:
    """A run that trains what is prepared in ``out``."""
    command = [sys.executable, "-m", "reproduce.run_paper", "train", str(out), "--jobs", "1", "--lease", str(LEASE_S)]
    command += ["--ray", ray_address] if ray_address else []
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def one_fault(left: list[str], scene: Scene) -> str:
    """Do the first of ``left`` that can be done now, where there is a worker that trains; which, or "" for none."""
    out, draw, cluster = scene.out, scene.draw, scene.cluster
    workers = [(n, w) for n in scene.networks if not is_done(n, out) and (w := holder(out / n.name))]
    if not workers:
        return ""
    network, worker = draw.choice(workers)
    for fault in left:
        with suppress(ProcessLookupError):
            if fault == RAY_MACHINE:
                if cluster is None or not any(is_of_ray(other) for _, other in workers):
                    continue
                cluster.kill_machine()
            elif fault == "kill a worker":
                os.kill(worker.process, signal.SIGKILL)
            elif fault == "pause a worker":
                pause(out / network.name, worker)
            elif fault == "refuse a worker's writes":
                resource.prlimit(worker.process, resource.RLIMIT_FSIZE, (1, 1))
            elif fault == "damage a snapshot":
                if not damage(out / network.name, worker, draw):
                    continue
            elif fault == "change the clock":
                change_clock(out / network.name, draw)
            else:
                draw.choice(list(scene.runs.values())).send_signal(
                    signal.SIGKILL if fault == "kill a run" else signal.SIGTERM
                )
            return fault
    return ""


def is_of_ray(worker: Holder) -> bool:
    """Whether a worker is a task of Ray, which gives its processes names."""
    with suppress(OSError):
        return Path(f"/proc/{worker.process}/cmdline").read_bytes().startswith(b"ray::")
    return False


def pause(folder: Path, worker: Holder) -> None:
    """Stop a worker until another has its network, or for three leases; then let it go on."""
    os.kill(worker.process, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 3 * LEASE_S
        while time.monotonic() < deadline:
            other = holder(folder)
            if other and other.process != worker.process:
                break
            time.sleep(0.1)
    finally:
        os.kill(worker.process, signal.SIGCONT)


def damage(folder: Path, worker: Holder, draw: random.Random) -> bool:
    """Kill a worker and damage a file of its newest snapshot; False where there is none yet."""
    states = sorted(folder.glob("*.solverstate"), key=lambda path: path.stat().st_mtime)
    if not states:
        return False
    os.kill(worker.process, signal.SIGKILL)
    path = draw.choice(sorted(folder.glob(f"{states[-1].stem}.*")))
    data = bytearray(path.read_bytes())
    place = draw.randrange(len(data))
    if draw.random() < 0.5:
        del data[place:]
    else:
        data[place] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return True


def change_clock(folder: Path, draw: random.Random) -> None:
    """The last sign of life is an hour old, or an hour ahead."""
    then = time.time() + draw.choice((-3600, 3600))
    for path in folder.glob(f"{NETWORK_LEASE}-*"):
        os.utime(path, (then, then))


if __name__ == "__main__":
    sys.exit(main())
