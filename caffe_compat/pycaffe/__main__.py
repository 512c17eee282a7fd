"""Run a script that says ``import caffe``: ``python -m caffe_compat.pycaffe script.py``, or ``-m module``."""

import runpy
import sys
from pathlib import Path

from caffe_compat.pycaffe.installing import install

USAGE = "usage: python -m caffe_compat.pycaffe script.py [arguments], or -m module [arguments]"


def main(arguments: list[str]) -> int:
    """Run the script or module; returns the exit status of a call that cannot be understood."""
    as_module = arguments[:1] == ["-m"]
    arguments = arguments[as_module:]
    if not arguments or (arguments[0].startswith("-") and not as_module):
        print(USAGE, file=sys.stderr)
        return 2
    if not as_module and not Path(arguments[0]).exists():
        print(f"{arguments[0]}: no such script (working directory {Path.cwd()}); {USAGE}", file=sys.stderr)
        return 2
    install()
    sys.argv = arguments
    if as_module:
        sys.path.insert(0, "")
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
