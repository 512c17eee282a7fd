"""The log of Caffe's commands (``train``, ``test``, ``time``, ``device_query``) and its tools for images and features.

Worded as Caffe 1.0's, one method for each; those of a Solver are in ``solver/log.py``.
"""

from collections.abc import Iterable
from pathlib import Path

from caffe_compat.glog import Glog
from caffe_compat.solver.log import Log, Score, WeightsLog, format_score


class CaffeTrainLog(Log):
    """``caffe train``: the command's own lines around those of its Solver."""

    def using_cpu(self) -> None:
        """Training runs on the CPU."""
        self.line("caffe.cpp:197", "Use CPU.")

    def using_gpu(self, gpus: str, index: int, name: str) -> None:
        """The devices that were asked for, and the one that this process trains on."""
        self.line("caffe.cpp:204", f"Using GPUs {gpus}")
        self.line("caffe.cpp:209", f"GPU {index}: {name}")

    def resuming(self, path: Path) -> None:
        """The snapshot that training continues from."""
        self.line("caffe.cpp:234", f"Resuming from {path}")

    def no_snapshot(self, prefix: str) -> None:
        """Our own: ``--snapshot auto`` has found nothing."""
        self.line("caffe.cpp:234", f"No whole snapshot {prefix}_iter_*: starting from the beginning")

    def starting(self) -> None:
        """The solver is about to run."""
        self.line("caffe.cpp:239", "Starting Optimization")

    def command_done(self) -> None:
        """The solver has run."""
        self.line("caffe.cpp:250", "Optimization Done.")


class CaffeTestLog(WeightsLog):
    """``caffe test``."""

    def using(self, gpu: int | None) -> None:
        """The device; None is the CPU."""
        self.line("caffe.cpp:275", _device(gpu))

    def running(self, batches: int) -> None:
        """How many batches there will be."""
        self.line("caffe.cpp:281", f"Running for {batches} iterations.")

    def batch(self, number: int, name: str, value: float) -> None:
        """One output of one batch."""
        self.line("caffe.cpp:304", f"Batch {number}, {name} = {value:g}")

    def means(self, loss: float, scores: list[Score]) -> None:
        """Mean loss and outputs of all batches."""
        self.line("caffe.cpp:309", f"Loss: {loss:g}")
        for score in scores:
            self.line("caffe.cpp:321", format_score(score))


class CaffeTimeLog(WeightsLog):
    """``caffe time``; times in ms."""

    def using(self, gpu: int | None) -> None:
        """The device; None is the CPU."""
        self.line("caffe.cpp:341", _device(gpu))

    def performing_forward(self) -> None:
        """The first pass begins."""
        self.line("caffe.cpp:352", "Performing Forward")

    def performing_backward(self, loss: float) -> None:
        """The first pass has got so far, with this loss."""
        self.line("caffe.cpp:357", f"Initial loss: {loss:g}")
        self.line("caffe.cpp:358", "Performing Backward")

    def begins(self, iterations: int) -> None:
        """How many passes will be measured."""
        self.line("caffe.cpp:366", "*** Benchmark begins ***")
        self.line("caffe.cpp:367", f"Testing for {iterations} iterations.")

    def iteration(self, number: int, wall_ms: float) -> None:
        """One pass, forward and backward; ``number`` counts from 1."""
        self.line("caffe.cpp:395", f"Iteration: {number} forward-backward time: {wall_ms:g} ms.")

    def layers(self, times: Iterable[tuple[str, float, float]]) -> None:
        """(layer, mean of forward, mean of backward)."""
        self.line("caffe.cpp:398", "Average time per layer: ")
        for layer, forward_ms, backward_ms in times:
            self.line("caffe.cpp:401", f"{layer:>10}\tforward: {forward_ms:g} ms.")
            self.line("caffe.cpp:404", f"{layer:>10}\tbackward: {backward_ms:g} ms.")

    def ends(self, forward_ms: float, backward_ms: float, *, total_ms: float, iterations: int) -> None:
        """Means of a pass, and the time of all passes together."""
        self.line("caffe.cpp:409", f"Average Forward pass: {forward_ms:g} ms.")
        self.line("caffe.cpp:411", f"Average Backward pass: {backward_ms:g} ms.")
        self.line("caffe.cpp:413", f"Average Forward-Backward: {total_ms / iterations:g} ms.")
        self.line("caffe.cpp:415", f"Total Time: {total_ms:g} ms.")
        self.line("caffe.cpp:416", "*** Benchmark ends ***")


class DeviceQueryLog(Glog):
    """``caffe device_query``."""

    def querying(self, gpus: str) -> None:
        """The devices that were asked for."""
        self.line("caffe.cpp:138", f"Querying GPUs {gpus}")

    def fact(self, label: str, value: object) -> None:
        """One thing that is known of a device."""
        self.line("common.cpp:220", f"{label:<31}{value}")


def _device(gpu: int | None) -> str:
    return "Use CPU." if gpu is None else f"Use GPU with device ID {gpu}"


class ExtractFeaturesLog(WeightsLog):
    """``extract_features``; Caffe's tool says most as errors, so that it is seen."""

    def using(self, gpu: int | None) -> None:
        """The device; None is the CPU."""
        self.line("extract_features.cpp:54", "Using CPU" if gpu is None else "Using GPU", severity="E")

    def opening(self, database: str) -> None:
        """A database is about to be made."""
        self.line("extract_features.cpp:134", f"Opening dataset {database}")

    def extracting(self) -> None:
        """The batches begin."""
        self.line("extract_features.cpp:143", "Extracting Features", severity="E")

    def extracted(self, images: int, blob: str) -> None:
        """How many images a database has got."""
        self.line(
            "extract_features.cpp:178",
            f"Extracted features of {images} query images for feature blob {blob}",
            severity="E",
        )

    def done(self) -> None:
        """All is written."""
        self.line("extract_features.cpp:184", "Successfully extracted the features!", severity="E")


class ConvertImagesetLog(Glog):
    """``convert_imageset`` and SSD's ``convert_annoset``."""

    def shuffling(self, seed: int) -> None:
        """The order is drawn, from a seed that repeats it."""
        self.line("convert_imageset.cpp:85", f"Shuffling data, --seed={seed}")

    def total(self, images: int) -> None:
        """How many images the list names."""
        self.line("convert_imageset.cpp:88", f"A total of {images} images.")

    def assuming_encoded(self) -> None:
        """--encode_type without --encoded."""
        self.line("convert_imageset.cpp:91", "encode_type specified, assuming encoded=true.")

    def left_out(self, problem: Exception) -> None:
        """An image that cannot be read."""
        self.line("io.cpp:80", f"{problem}; left out", severity="E")

    def odd_annotation(self, problem: str) -> None:
        """Something in a file of boxes that is taken as it stands."""
        self.line("io.cpp:274", problem, severity="W")

    def progress(self, files: int) -> None:
        """So many files so far."""
        self.line("convert_imageset.cpp:144", f"Processed {files} files.")

    def went_on(self, file: int) -> None:
        """Our own: the first files were there from an interrupted run."""
        self.line("convert_imageset.cpp:144", f"Went on at file {file} of an earlier, interrupted run.")

    def done(self, files: int, skipped: int) -> None:
        """All files, and how many of them could not be read."""
        self.line("convert_imageset.cpp:151", f"Processed {files} files.")
        if skipped:
            self.line("convert_imageset.cpp:151", f"{skipped} files could not be read and are left out.", severity="W")


class ComputeImageMeanLog(Glog):
    """``compute_image_mean``."""

    def other_backend(self, database: str, found: str) -> None:
        """The database is not of the kind that --backend says."""
        self.line("compute_image_mean.cpp:55", f"{database} is {found}, and is read as such", severity="W")

    def starting(self) -> None:
        """The first image is about to be read."""
        self.line("compute_image_mean.cpp:77", "Starting iteration")

    def progress(self, files: int) -> None:
        """So many images so far."""
        self.line("compute_image_mean.cpp:100", f"Processed {files} files.")

    def done(self, files: int) -> None:
        """All images."""
        self.line("compute_image_mean.cpp:107", f"Processed {files} files.")

    def writing(self, path: str) -> None:
        """The file that is about to be written."""
        self.line("compute_image_mean.cpp:114", f"Write to {path}")

    def channels(self, count: int) -> None:
        """How many channels the mean has."""
        self.line("compute_image_mean.cpp:120", f"Number of channels: {count}")

    def channel_mean(self, channel: int, mean: float) -> None:
        """The mean of one channel over all pixels."""
        self.line("compute_image_mean.cpp:125", f"mean_value channel [{channel}]: {mean:g}")
