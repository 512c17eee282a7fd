"""V1 nets, ``layers { type: CONVOLUTION ... }``, to the current ``layer { type: "Convolution" ... }``."""

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.upgrade.log import UpgradeLog

#: V1 enum value -> current type.
TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
    # of forks
    "CROP": "AlignedCrop",  # finds its offsets by itself; Caffe's Crop is told them
    "DENSE_CRF": "DenseCRF",
    "IMAGE_SEG_DATA": "ImageSegData",
    "INTERP": "Interp",
    "MAT_READ": "MatRead",
    "MAT_WRITE": "MatWrite",
    "MULTI_STAGE_MEANFIELD": "MultiStageMeanfield",
    "RELU6": "ReLU6",
    "SEG_ACCURACY": "SegAccuracy",
    "UNIQUE_LABEL": "UniqueLabel",
}

#: V1 repeated field -> field of the ``param`` with the same index.
_PARAM_SPEC = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


def needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """True when the net has V1 layers."""
    return len(net.layers) > 0


def upgrade(net: caffe_pb2.NetParameter, log: UpgradeLog) -> None:
    """Replace ``layers`` by ``layer``, in place."""
    if net.layer:
        log.fail_net("has both old 'layers' and new 'layer' blocks; write all of them as 'layer'")
    for old in net.layers:
        _upgrade_layer(old, net.layer.add(), log)
    del net.layers[:]


def _upgrade_layer(old: caffe_pb2.V1LayerParameter, new: caffe_pb2.LayerParameter, log: UpgradeLog) -> None:
    for field, value in old.ListFields():
        if field.name == "type":
            name = caffe_pb2.V1LayerParameter.LayerType.Name(value)
            if name not in TYPES:
                log.fail(old.name, f"type {name} is not one of Caffe's V1 types; use the form layer {{ type: ... }}")
            new.type = TYPES[name]
        elif field.name in _PARAM_SPEC:
            while len(new.param) < len(value):
                new.param.add()
            for spec, item in zip(new.param, value, strict=False):
                setattr(spec, _PARAM_SPEC[field.name], item)
        elif field.name not in new.DESCRIPTOR.fields_by_name:
            log.fail(old.name, f"field {field.name} has no counterpart in LayerParameter")
        elif hasattr(value, "CopyFrom"):
            getattr(new, field.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(new, field.name).extend(value)
        else:
            setattr(new, field.name, value)
