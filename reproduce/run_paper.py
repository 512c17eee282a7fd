"""Re-run the experiment of Yosinski et al., NIPS 2014, from images to figures.

    python reproduce/run_paper.py --split 0                            # drawn glyphs, no download
    python reproduce/run_paper.py --split 0 --data fashion-mnist
    python reproduce/run_paper.py --split 0 --data imagenet:ILSVRC2012 --devices cuda:0,1

    python reproduce/run_paper.py report paper_run                     # from what is finished, at any time

Where the package is installed, `caffe-compat reproduce` (or python -m reproduce.run_paper) is the same.
Stopped at any moment and started again, it continues; several splits may share one --out.  The results
are in --out: a folder per network, results.csv, figures/ and report.html.
"""

if __name__ == "__main__" and not __package__:
    import from_checkout  # noqa: F401

import argparse
import errno
import sys
from importlib.util import find_spec

from caffe_compat.errors import CaffeCompatError, printable

_DRAWING = ("matplotlib", "jinja2")  # what the extra "reproduce" adds for letters, figures and the report


def make_parser(program: str) -> argparse.ArgumentParser:
    """What a shell completes."""
    from reproduce import options  # late: the list of commands reads this module for its name only

    return options.make_parser(__doc__, program)


def main(arguments: list[str] | None = None, program: str = "run_paper.py") -> int:
    """0; 2 for wrong input or a full disk, 1 for networks whose processes died, 130 for Ctrl-C, 128 and its number for
    another signal that asked to leave.
    """
    from reproduce.options import name_of, parse  # late, too

    options = parse(arguments, __doc__, program)
    name = name_of(program)
    if missing := [name for name in _DRAWING if find_spec(name) is None]:
        return _fail(name, f"{' and '.join(missing)} not found; run pip install 'caffe-compat[reproduce]'", 2)
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
        return _fail(name, str(error), 1 if any(failure.died for failure in error.failures) else 2)
    except LeftEarly as error:
        return _fail(name, str(error), 128 + error.signal_number)
    except CaffeCompatError as error:
        return _fail(name, str(error), 2)
    except OSError as error:
        cure = "free some space or choose another --out" if error.errno == errno.ENOSPC else "choose another --out"
        return _fail(name, f"{error.filename or options.out}: {error.strerror}; {cure}", 2)
    except KeyboardInterrupt:
        return _fail(name, "stopped; run the same command again to continue", 130)
    return 0


def _fail(name: str, message: str, code: int) -> int:
    print(f"{name}: {printable(message)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
