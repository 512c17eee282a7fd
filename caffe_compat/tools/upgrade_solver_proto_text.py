"""Rewrite a solver's prototxt of any age in the current format.

caffe-compat upgrade_solver_proto_text old.prototxt new.prototxt
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT OUTPUT, as in Caffe."""
    parser.add_argument("input", metavar="INPUT", help="solver prototxt to read")
    parser.add_argument("output", metavar="OUTPUT", help="solver prototxt to write")


def run(args: argparse.Namespace) -> int:
    """Exit status 0; a file that cannot be upgraded raises ProtoError."""
    from caffe_compat.proto.upgrade.files import upgrade_solver_file

    return upgrade_solver_file(args.input, args.output)
