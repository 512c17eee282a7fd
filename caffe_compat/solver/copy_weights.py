"""Weights from one file or several into a net, and what did not fit into the log."""

from collections.abc import Collection, Sequence

from caffe_compat.errors import NetError
from caffe_compat.net import CopyReport, Net
from caffe_compat.solver.log import WeightsLog


def copy_weights(
    net: Net, paths: Sequence[str], log: WeightsLog, *, strict: bool = False, reshape: Collection[str] = ()
) -> None:
    """Copy from each file, the later ones over the earlier ones.

    Each layer that the net lacks is a line of Caffe's; a warning names the layers whose blobs nobody took, and those
    that no file has.  ``strict``: NetError in such a case.  ``reshape``: see ``Net.copy_from``, which raises NetError
    for a file of which nothing fits.
    """
    if not all(paths):
        raise NetError(f'weights "{",".join(paths)}": a name between the commas is empty')
    total = CopyReport()
    for number, path in enumerate(paths):
        log.finetuning(path)
        report = net.copy_from(path, reshape=reshape, warn=False)
        for name in report.ignored:
            log.ignoring_source_layer(name)
        total.unused += report.unused
        total.missing = [name for name in report.missing if number == 0 or name in total.missing]
        total.repeated = [name for name in report.repeated if name in total.missing]
    if total.differences():
        if strict:
            raise NetError(f"{', '.join(paths)}: does not fit {net.source} wholly: {total.differences()}")
        log.weights_differ(", ".join(paths), total.differences())
