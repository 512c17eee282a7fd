"""Table, figures and report of the paper from training logs alone: the authors' published ones, or your own.

    caffe-compat plot_paper --logs convnet_transfer/results --out paper_plots --imagenet

DIR has a folder for each network, named as the authors name theirs (half0A, transfer0A0B_1_4, ...), with its logs:
train.log, caffe.INFO, half0A.o227963, compressed with gzip or not. Where a run was restarted, all its files count.
Exit status 1 says that a folder has no result in its logs, as 22 of the authors' 170 have none.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reproduce.comparisons import verdicts
from reproduce.logs import FromLogs, read_folder
from reproduce.publish import REPORT_PAGE, TABLE, in_words, write_all
from reproduce.results import Result, paper_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the logs are, and where table, figures and report go."""
    parser.add_argument("--logs", type=Path, required=True, metavar="DIR", help="a folder for each network's logs")
    parser.add_argument("--out", type=Path, default=Path("paper_plots"), help="folder to write (default paper_plots)")
    parser.add_argument(
        "--imagenet", action="store_true", help="the networks saw the authors' images: lay the curves over theirs"
    )


def run(args: argparse.Namespace) -> int:
    """Draw; returns the exit status, 1 where a network's logs give no result."""
    from reproduce.report import Report

    found = read_folder(args.logs)
    paper = paper_results()
    report = Report(
        headline=f"These are {len(found.results)} networks, read from {found.files} training logs; "
        f"{in_words(verdicts(found.results))}.",
        results=found.results,
        paper=paper,
        courses=found.courses,
        settings={"logs": str(args.logs), "images": "ILSVRC12, as --imagenet says" if args.imagenet else "not known"},
        unfinished=list(found.problems.items()),
    )
    if found.results:
        write_all(report, args.out, same_images=args.imagenet)
        print(
            f"{args.out / TABLE}: {len(found.results)} networks from {found.files} logs; {as_published(found, paper)}"
        )
        print(f"see {args.out / REPORT_PAGE}")
    for name, why in found.problems.items():
        print(f"plot_paper: {name}: {why}", file=sys.stderr)
    return 1 if found.problems else 0


def as_published(found: FromLogs, paper: Sequence[Result]) -> str:
    """How many results equal the authors' published table, which has six digits of the mean."""
    theirs = {result.network: result for result in paper}
    same = sum(
        abs(result.accuracy - theirs[result.network].accuracy) < 1e-6
        and (result.accuracy_final, result.loss) == (theirs[result.network].accuracy_final, theirs[result.network].loss)
        for result in found.results
        if result.network in theirs
    )
    return f"{same} of them as in the authors' table of {len(paper)}"
