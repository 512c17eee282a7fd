"""Re-run the experiment of Yosinski et al., NIPS 2014, from images to figures.

    python reproduce/run_paper.py --split 0                            # drawn glyphs, no download
    python reproduce/run_paper.py --split 0 --data fashion-mnist
    python reproduce/run_paper.py --split 0 --data imagenet:ILSVRC2012 --devices cuda:0,1

    python reproduce/run_paper.py report paper_run                     # from what is finished, at any time

Stopped at any moment and started again, it continues; several splits may share one --out.  The results
are in --out: a folder per network, results.csv, figures/ and report.html.  Where the package is installed, python -m
reproduce.run_paper is the same.
"""

if __name__ == "__main__" and not __package__:
    import from_checkout  # noqa: F401

import errno
import sys
from importlib.util import find_spec

from caffe_compat.errors import CaffeCompatError, printable

_DRAWING = ("matplotlib", "jinja2")  # what the extra "reproduce" adds for letters, figures and the report


def main(arguments: list[str] | None = None) -> int:
    """0; 2 for wrong input or a full disk, 1 for networks whose processes died, 130 for Ctrl-C, 128 and its number for
    another signal that asked to leave.
    """
    from reproduce.options import parse  # late: a shell's completion reads this module for its name only

    options = parse(arguments, __doc__)
    if missing := [name for name in _DRAWING if find_spec(name) is None]:
        return _fail(f"{' and '.join(missing)} not found; run pip install 'caffe-compat[reproduce]'", 2)
    from rich.console import Console  # later still: --help does not need the rest

    from reproduce.dry_run import show_plan
    from reproduce.experiment import run
    from reproduce.runners import LeftEarly, NetworksFailed

    console = Console(soft_wrap=True)
    try:
        if options.dry_run:
            show_plan(options, console)
        else:
            run(options, console)
    except NetworksFailed as error:
        return _fail(str(error), 1 if any(failure.died for failure in error.failures) else 2)
    except LeftEarly as error:
        return _fail(str(error), 128 + error.signal_number)
    except CaffeCompatError as error:
        return _fail(str(error), 2)
    except OSError as error:
        cure = "free some space or choose another --out" if error.errno == errno.ENOSPC else "choose another --out"
        return _fail(f"{error.filename or options.out}: {error.strerror}; {cure}", 2)
    except KeyboardInterrupt:
        return _fail("stopped; run the same command again to continue", 130)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"run_paper: {printable(message)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
