"""The lines of the commands."""

import io
from pathlib import Path
from typing import Any

from caffe_compat.solver.log import Score
from caffe_compat.tools._log import (
    CaffeTestLog,
    CaffeTimeLog,
    CaffeTrainLog,
    ComputeImageMeanLog,
    ConvertImagesetLog,
    DeviceQueryLog,
    ExtractFeaturesLog,
)
from tests.solver.test_log import GLOG, said


def test_lines_of_the_train_command() -> None:
    calls = (
        ("using_cpu",),
        ("using_gpu", "0,1", 1, "H100"),
        ("resuming", Path("a.solverstate")),
        ("no_snapshot", "snap"),
        ("starting",),
        ("command_done",),
        ("warning", "net.py:3", "odd"),
    )
    assert said(CaffeTrainLog, *calls) == [
        "I caffe.cpp:197] Use CPU.",
        "I caffe.cpp:204] Using GPUs 0,1",
        "I caffe.cpp:209] GPU 1: H100",
        "I caffe.cpp:234] Resuming from a.solverstate",
        "I caffe.cpp:234] No whole snapshot snap_iter_*: starting from the beginning",
        "I caffe.cpp:239] Starting Optimization",
        "I caffe.cpp:250] Optimization Done.",
        "W net.py:3] odd",
    ]


def test_lines_of_test_time_and_device_query() -> None:
    scores = [Score("accuracy", 0.5), Score("loss", 2.0, 0.5)]
    assert said(CaffeTestLog, ("using", 3), ("running", 2), ("batch", 0, "loss", 2.0), ("means", 1.5, scores)) == [
        "I caffe.cpp:275] Use GPU with device ID 3",
        "I caffe.cpp:281] Running for 2 iterations.",
        "I caffe.cpp:304] Batch 0, loss = 2",
        "I caffe.cpp:309] Loss: 1.5",
        "I caffe.cpp:321] accuracy = 0.5",
        "I caffe.cpp:321] loss = 2 (* 0.5 = 1 loss)",
    ]
    calls = (
        ("using", None),
        ("performing_forward",),
        ("performing_backward", 2.5),
        ("begins", 2),
        ("iteration", 1, 4.0),
    )
    assert said(CaffeTimeLog, *calls, ("layers", [("ip", 1.0, 2.0)])) == [
        "I caffe.cpp:341] Use CPU.",
        "I caffe.cpp:352] Performing Forward",
        "I caffe.cpp:357] Initial loss: 2.5",
        "I caffe.cpp:358] Performing Backward",
        "I caffe.cpp:366] *** Benchmark begins ***",
        "I caffe.cpp:367] Testing for 2 iterations.",
        "I caffe.cpp:395] Iteration: 1 forward-backward time: 4 ms.",
        "I caffe.cpp:398] Average time per layer: ",
        "I caffe.cpp:401]         ip\tforward: 1 ms.",
        "I caffe.cpp:404]         ip\tbackward: 2 ms.",
    ]
    stream = io.StringIO()
    CaffeTimeLog(stream).ends(1.0, 2.0, total_ms=7.0, iterations=2)
    assert [line.partition("] ")[2] for line in stream.getvalue().splitlines()] == [
        "Average Forward pass: 1 ms.",
        "Average Backward pass: 2 ms.",
        "Average Forward-Backward: 3.5 ms.",
        "Total Time: 7 ms.",
        "*** Benchmark ends ***",
    ]
    assert said(DeviceQueryLog, ("querying", "all"), ("fact", "Name:", "H100")) == [
        "I caffe.cpp:138] Querying GPUs all",
        "I common.cpp:220] Name:                          H100",
    ]


def test_lines_of_the_tools() -> None:
    calls: tuple[tuple[Any, ...], ...]
    calls = (("using", None), ("opening", "db"), ("extracting",), ("extracted", 5, "fc7"), ("done",))
    assert said(ExtractFeaturesLog, *calls) == [
        "E extract_features.cpp:54] Using CPU",
        "I extract_features.cpp:134] Opening dataset db",
        "E extract_features.cpp:143] Extracting Features",
        "E extract_features.cpp:178] Extracted features of 5 query images for feature blob fc7",
        "E extract_features.cpp:184] Successfully extracted the features!",
    ]
    calls = (
        *(("shuffling", 7), ("total", 9), ("assuming_encoded",), ("left_out", ValueError("bad"))),
        *(("progress", 3), ("went_on", 4), ("done", 9, 0), ("done", 9, 1)),
    )
    assert said(ConvertImagesetLog, *calls) == [
        "I convert_imageset.cpp:85] Shuffling data, --seed=7",
        "I convert_imageset.cpp:88] A total of 9 images.",
        "I convert_imageset.cpp:91] encode_type specified, assuming encoded=true.",
        "E io.cpp:80] bad; left out",
        "I convert_imageset.cpp:144] Processed 3 files.",
        "I convert_imageset.cpp:144] Went on at file 4 of an earlier, interrupted run.",
        "I convert_imageset.cpp:151] Processed 9 files.",
        "I convert_imageset.cpp:151] Processed 9 files.",
        "W convert_imageset.cpp:151] 1 files could not be read and are left out.",
    ]
    calls = (
        *(("other_backend", "db", "LEVELDB"), ("starting",), ("progress", 3), ("done", 4)),
        *(("writing", "m.binaryproto"), ("channels", 1), ("channel_mean", 0, 104.5)),
    )
    assert said(ComputeImageMeanLog, *calls) == [
        "W compute_image_mean.cpp:55] db is LEVELDB, and is read as such",
        "I compute_image_mean.cpp:77] Starting iteration",
        "I compute_image_mean.cpp:100] Processed 3 files.",
        "I compute_image_mean.cpp:107] Processed 4 files.",
        "I compute_image_mean.cpp:114] Write to m.binaryproto",
        "I compute_image_mean.cpp:120] Number of channels: 1",
        "I compute_image_mean.cpp:125] mean_value channel [0]: 104.5",
    ]


def test_a_name_cannot_add_a_line() -> None:
    stream = io.StringIO()
    CaffeTimeLog(stream).layers([("a\nI1126 00:00:00.000000     1 solver.cpp:332] Optimization Done.", 1.0, 2.0)])
    escaped = r"a\nI1126 00:00:00.000000     1 solver.cpp:332] Optimization Done."
    assert [GLOG.sub("", line) for line in stream.getvalue().splitlines()] == [
        "Average time per layer: ",
        f"{escaped}\tforward: 1 ms.",
        f"{escaped}\tbackward: 2 ms.",
    ]
