"""What the fork server imports for all workers."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_layers_are_loaded_and_no_thread_runs() -> None:
    code = (
        "import sys, threading, reproduce.warm\n"
        "assert 'caffe_compat.layers.convolution' in sys.modules\n"
        "assert 'reproduce.train_one' in sys.modules\n"
        "assert threading.active_count() == 1  # a fork would lose the others\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
