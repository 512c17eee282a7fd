"""examples/python_data_layer.py: what the layer draws trains the net; the test net's layer draws from its own seed."""

from pathlib import Path

import pytest

from tests.examples.run_example import number, run_example

ACCURACY = 0.88  # seeded: 0.950 here; other processors round otherwise


@pytest.mark.slow
def test_the_layer_feeds_the_training(tmp_path: Path) -> None:
    said = run_example("python_data_layer", tmp_path)
    assert 2.1 < number(r"loss (\S+) at first", said) < 2.6  # ln 10 is 2.3
    assert number(r"(\S+) at last", said) < 0.4
    assert ACCURACY <= number(r"200 images of another seed: (\S+)", said) <= 1
    assert "the layer: DrawnDigits, {'batch': 50, 'seed': 2, 'invert': 0.5}" in said
