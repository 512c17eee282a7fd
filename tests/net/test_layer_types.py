from caffe_compat.layers.base import Layer
from caffe_compat.layers.registry import register
from caffe_compat.net.layer_types import layer_types

#: the types of BVLC's Caffe, from the names in its layer_factory.cpp and REGISTER_LAYER_CLASS lines
# fmt: off
CAFFES = {
    "AbsVal", "Accuracy", "ArgMax", "BNLL", "BatchNorm", "BatchReindex", "Bias", "Clip", "Concat",
    "ContrastiveLoss", "Convolution", "Crop", "Data", "Deconvolution", "Dropout", "DummyData", "ELU", "Eltwise",
    "Embed", "EuclideanLoss", "Exp", "Filter", "Flatten", "HDF5Data", "HDF5Output", "HingeLoss", "Im2col",
    "ImageData", "InfogainLoss", "InnerProduct", "Input", "LRN", "LSTM", "LSTMUnit", "Log", "MVN", "MemoryData",
    "MultinomialLogisticLoss", "PReLU", "Parameter", "Pooling", "Power", "Python", "RNN", "ReLU", "Reduction",
    "Reshape", "SPP", "Scale", "Sigmoid", "SigmoidCrossEntropyLoss", "Silence", "Slice", "Softmax",
    "SoftmaxWithLoss", "Split", "Swish", "TanH", "Threshold", "Tile", "WindowData",
}
# fmt: on


def test_all_of_caffes_are_here() -> None:
    assert not CAFFES - set(layer_types())


def test_every_class_bears_its_name() -> None:
    for name, cls in layer_types().items():
        assert cls.type == name
        assert issubclass(cls, Layer)


def test_a_users_type_joins() -> None:
    @register("LayerTypesTest")
    class Mine(Layer):
        pass

    assert layer_types()["LayerTypesTest"] is Mine
