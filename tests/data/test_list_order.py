import pytest

from caffe_compat.data.list_order import ListOrder
from caffe_compat.errors import DataError
from caffe_compat.random import CaffeGenerator


def test_as_they_stand() -> None:
    order = ListOrder("list.txt", 3, None, skip=2)
    assert order.peek() == 2
    assert [order.next() for _ in range(5)] == [2, 0, 1, 2, 0]


def test_each_epoch_is_shuffled_anew_from_the_last_order() -> None:
    order, numbers, stream = ListOrder("list.txt", 5, 7), list(range(5)), CaffeGenerator(7)
    for _ in range(3):
        stream.shuffle(numbers)
        assert [order.next() for _ in range(5)] == numbers


@pytest.mark.parametrize("taken", [0, 4, 5, 12])
def test_state_goes_on(taken: int) -> None:
    order, other = ListOrder("list.txt", 5, 7), ListOrder("list.txt", 5, 1)
    for _ in range(taken):
        order.next()
    other.set_state(order.state())
    assert [other.next() for _ in range(9)] == [order.next() for _ in range(9)]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seed": None, "shuffles": 0, "next": 0}, "the saved state is unshuffled"),
        ({"seed": 1, "shuffles": 1, "next": 5}, "has 5 images; the saved state stood at 5"),
        ({"seed": 1, "shuffles": 2**40, "next": 0}, "behind 1099511627776 shuffles"),
    ],
)
def test_states_of_others(state: dict[str, int | None], message: str) -> None:
    with pytest.raises(DataError, match=f"list.txt: .*{message}|list.txt: {message}"):
        ListOrder("list.txt", 5, 7).set_state(state)
