"""Convert images and the boxes in them to a database for SSD's AnnotatedData.

    caffe-compat convert_annoset --anno_type detection --label_map_file labels.prototxt VOCdevkit/ list.txt train_lmdb

The list has a line `image.jpg annotation.xml` for each image (with --anno_type classification, `image.jpg LABEL`).
"""

import argparse
from functools import partial

from caffe_compat.errors import DataError
from caffe_compat.tools._log import ConvertImagesetLog
from caffe_compat.tools._values import int32
from caffe_compat.tools.convert_imageset import LINES_EVERY, add_record_arguments, shuffled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of SSD's tool, --seed and --threads."""
    add_record_arguments(parser, "image annotation")
    parser.add_argument(
        "--anno_type",
        default="classification",
        choices=["classification", "detection"],
        help="whether an image has a label or boxes (default classification)",
    )
    parser.add_argument(
        "--label_type", default="xml", choices=["xml"], help="kind of annotation files (default xml: Pascal VOC's)"
    )
    parser.add_argument("--label_map_file", default="", metavar="FILE", help="a LabelMap: numbers of the names")
    parser.add_argument("--check_label", action="store_true", help="check that no name is in the map twice")
    parser.add_argument("--min_dim", type=int32, default=0, metavar="N", help="least side images are enlarged to")
    parser.add_argument("--max_dim", type=int32, default=0, metavar="N", help="largest side images are made smaller to")


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit status."""
    from caffe_compat.data.convert import Entries, convert_images
    from caffe_compat.data.convert_annotated import AnnotatedOptions, make_annotated_record
    from caffe_compat.data.image_list import ImageList
    from caffe_compat.data.pair_list import PairList
    from caffe_compat.data.voc_annotation import read_label_map
    from caffe_compat.progress import show_progress

    log = ConvertImagesetLog()
    boxes = args.anno_type == "detection"
    if boxes and not args.label_map_file:
        raise DataError("--anno_type=detection needs --label_map_file, the numbers of the names in annotation files")
    entries: Entries = PairList(args.list_file, second="annotation") if boxes else ImageList(args.list_file)
    order = shuffled(len(entries), args.seed, log) if args.shuffle else None
    log.total(len(entries))
    if args.encode_type and not args.encoded:
        log.assuming_encoded()
    options = AnnotatedOptions(
        gray=args.gray,
        resize_height=args.resize_height,
        resize_width=args.resize_width,
        encoded=args.encoded,
        encode_type=args.encode_type,
        check_size=args.check_size,
        backend=args.backend,
        min_dim=max(0, args.min_dim),
        max_dim=max(0, args.max_dim),
        labels=read_label_map(args.label_map_file, unique=args.check_label) if boxes else {},
        boxes=boxes,
        root=args.root_folder,
    )
    with show_progress("converting", len(entries)) as update:

        def report(done: int, problem: DataError | None) -> None:
            update(done)
            if problem is not None:
                log.left_out(problem)
            if done % LINES_EVERY == 0:
                log.progress(done)

        made = convert_images(
            args.root_folder,
            entries,
            args.db_name,
            options,
            order=order,
            report=report,
            threads=args.threads,
            make=partial(make_annotated_record, warn=log.odd_annotation),
        )
    if made.resumed_at:
        log.went_on(made.resumed_at)
    log.done(len(entries), made.skipped)
    return 0
