"""Rewrite a net's prototxt of any age in the current format.

caffe-compat upgrade_net_proto_text old.prototxt new.prototxt
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """INPUT OUTPUT, as in Caffe."""
    parser.add_argument("input", metavar="INPUT", help="prototxt to read")
    parser.add_argument("output", metavar="OUTPUT", help="prototxt to write")


def run(args: argparse.Namespace) -> int:
    """Exit status: 0, or 1 when fields were dropped that do not fit their layer."""
    from caffe_compat.proto.upgrade.files import upgrade_net_file

    return upgrade_net_file(args.input, args.output, "text")
