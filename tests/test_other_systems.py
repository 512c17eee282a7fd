"""macOS and Windows lack parts of Python that Linux has; without them the package trains, on plain twins.

No such system is at hand: a process without those parts stands in for it.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = '''
import os, signal, sys

# what others import, and may use these
import cv2, filelock, google.protobuf, h5py, lmdb, numpy, rich.progress, safetensors.torch, torch
import torch.multiprocessing.spawn

for module in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[module] = None
for name in ("pread", "preadv", "uname", "sched_getaffinity", "getuid", "geteuid", "sysconf", "statvfs", "mkfifo"):
    delattr(os, name)
del signal.SIGHUP
sys.platform = "win32"

import importlib, pkgutil

import caffe_compat
from caffe_compat import Solver, data
from caffe_compat.data.datum import encode_datum

for found in pkgutil.walk_packages(caffe_compat.__path__, "caffe_compat."):
    if not found.name.endswith(("__main__", "._C", "installing")):
        importlib.import_module(found.name)

images = numpy.random.default_rng(0).integers(0, 256, (20, 1, 6, 6), dtype=numpy.uint8)
data.write_lmdb("train_lmdb", ((b"%02d" % i, encode_datum(image, i % 2)) for i, image in enumerate(images)))
with open("solver.prototxt", "w") as file:
    file.write("""net_param { layer { name: "data" type: "Data" top: "data" top: "label"
          data_param { source: "train_lmdb" batch_size: 20 backend: LMDB } transform_param { scale: 0.01 } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
          inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" } }
      base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 30 random_seed: 1 snapshot_prefix: "w" """)
solver = Solver("solver.prototxt")
batch = solver.net.next_batch()
losses = []
for steps in (30, 0):
    losses.append(float(solver.net(**batch)["loss"]))
    solver.step(steps)
print("loss", *losses)
solver.snapshot()
print(sorted(name for name in os.listdir() if name.startswith("w_")))
'''


def test_the_package_without_what_linux_alone_has(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CAFFE_COMPAT_EXTENSION": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    losses, files = done.stdout.splitlines()
    first, last = map(float, losses.split()[1:])
    assert last < 0.5 < 0.6 < first
    assert files == "['w_iter_30.caffemodel', 'w_iter_30.resume', 'w_iter_30.solverstate']"
