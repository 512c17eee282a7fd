import pytest

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.registry import register, registered


def test_a_registered_class_is_known_by_its_name() -> None:
    @register("RegistryTest")
    class Mine(Layer):
        pass

    assert registered()["RegistryTest"] is Mine
    assert Mine.type == "RegistryTest"


def test_the_same_class_may_come_again() -> None:
    def define() -> type[Layer]:
        @register("RegistryTestAgain")
        class Mine(Layer):
            pass

        return Mine

    define()
    second = define()  # as when a notebook cell runs twice
    assert registered()["RegistryTestAgain"] is second


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(
        NetError, match=r'type "Convolution" is already registered by caffe_compat\.layers\.convolution'
    ):

        @register("Convolution")
        class Mine(Layer):
            pass

    assert registered()["Convolution"] is Convolution


def test_registered_is_a_copy() -> None:
    registered().clear()
    assert "Convolution" in registered()
