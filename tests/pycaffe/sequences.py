"""Random nets and random sequences of pycaffe calls on them, which Caffe 1.0 has run, too.

``expected.npz`` beside the golden cases has what Caffe got; it is made with a pycaffe of Caffe's own:
``python tests/pycaffe/sequences.py caffe tests/golden/pycaffe/expected.npz``.
"""

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

REFUSED = (1001, 1023)  # Caffe stops at a reshape that does not fit a parameter, and so do we
SEEDS = [seed for seed in range(1000, 1040) if seed not in REFUSED]
SAMPLES = 6  # values of each array that are compared, beside its size and sum

Arrays = dict[str, np.ndarray]


def layer(name: str, kind: str, bottoms: str, tops: str, extra: str = "") -> str:
    """A layer in prototxt; bottoms and tops with blanks between them."""
    blobs = [f"bottom: '{b}'" for b in bottoms.split()] + [f"top: '{t}'" for t in tops.split()]
    return f"layer {{ name: '{name}' type: '{kind}' {' '.join(blobs)} {extra} }}\n"


NEURONS = {
    "ReLU": "relu_param { negative_slope: 0.1 }",
    "Sigmoid": "",
    "TanH": "",
    "ELU": "",
    "AbsVal": "",
    "BNLL": "",
    "PReLU": "",
    "Exp": "",
    "Log": "log_param { shift: 50 }",
    "MVN": "",
    "Softmax": "",
    "LRN": "",
    "BatchNorm": "",
    "Scale": "scale_param { bias_term: true }",
    "Bias": "",
    "Dropout": "",
    "Power": "power_param { power: 2 scale: 0.5 shift: 1 }",
}
IN_PLACE = ("ReLU", "Sigmoid", "TanH", "ELU", "BatchNorm", "Scale", "Dropout")


def random_net(rng: np.random.RandomState) -> str:
    """Three to seven stages, one after the other."""
    text = layer("data", "Input", "", "data", "input_param { shape { dim: 2 dim: 2 dim: 7 dim: 7 } }")
    last = "data"
    flat = False
    for i in range(rng.randint(3, 8)):
        name, stage = f"l{i}", rng.randint(8)
        kinds = [kind for kind in NEURONS if not (flat and kind in ("LRN", "PReLU"))]
        kind = kinds[rng.randint(len(kinds))]
        if stage == 0 and not flat:
            fields = f"convolution_param {{ num_output: {rng.randint(1, 4)} kernel_size: {rng.randint(1, 4)} pad: 1 }}"
            text += layer(name, "Convolution", last, name, fields)
        elif stage == 1 and not flat:
            pool = ("MAX", "AVE")[rng.randint(2)]
            text += layer(name, "Pooling", last, name, f"pooling_param {{ pool: {pool} kernel_size: 2 }}")
        elif stage == 2:
            text += layer(f"{name}a", "ReLU", last, f"{name}a")
            operation = ("SUM", "PROD", "MAX")[rng.randint(3)]
            text += layer(name, "Eltwise", f"{last} {name}a", name, f"eltwise_param {{ operation: {operation} }}")
        elif stage == 3:
            text += layer(f"{name}a", "Power", last, f"{name}a", "power_param { scale: 2 }")
            text += layer(name, "Concat", f"{name}a {last}", name)
        elif stage == 4 and not flat:
            flatten = "reshape_param { shape { dim: 0 dim: -1 } }" if rng.randint(2) else ""
            text += layer(name, "Reshape" if flatten else "Flatten", last, name, flatten)
            flat = True
        elif stage == 5 and last != "data":
            text += layer(name, IN_PLACE[rng.randint(len(IN_PLACE))], last, last)
            continue
        else:
            text += layer(name, kind, last, name, NEURONS[kind])
        last = name
    return text


def state(net: Any) -> Arrays:
    """Every data and diff of a net."""
    arrays = {}
    for name, blob in net.blobs.items():
        arrays[f"data of {name}"], arrays[f"diff of {name}"] = blob.data.copy(), blob.diff.copy()
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            arrays[f"data of {name}:{i}"], arrays[f"diff of {name}:{i}"] = blob.data.copy(), blob.diff.copy()
    return arrays


class Sequence:
    """One net and the calls on it; ``steps`` holds (what was called, the state after it)."""

    def __init__(self, caffe: Any, seed: int, folder: Path) -> None:
        self.caffe = caffe
        self.rng = np.random.RandomState(seed)
        self.steps: list[tuple[str, Arrays]] = []
        self.others: list[Any] = []
        self.path = folder / f"{seed}.prototxt"
        self.path.write_text(f"force_backward: {'true' if self.rng.rand() < 0.8 else 'false'}\n" + random_net(self.rng))
        self.net = self.make_net(0.2, 0.8)
        self.names = list(self.net._layer_names)
        self.fill(self.net.blobs["data"].data)
        self.net.forward()
        self.note("forward")
        calls = sorted(name for name in dir(self) if name.startswith("call_"))
        for _ in range(self.rng.randint(4, 9)):
            call = calls[self.rng.randint(len(calls))]
            getattr(self, call)(*sorted(self.rng.randint(0, len(self.names), 2)))
            self.note(call)

    def make_net(self, low: float, high: float) -> Any:
        net = self.caffe.Net(str(self.path), self.caffe.TEST)
        for blobs in net.params.values():
            for blob in blobs:
                self.fill(blob.data, low, high)
        return net

    def fill(self, array: np.ndarray, low: float = -1, high: float = 1) -> None:
        array[...] = self.rng.uniform(low, high, array.shape)

    def note(self, call: str) -> None:
        self.steps.append((f"{len(self.steps)} {call}", state(self.net)))

    def blob(self) -> Any:
        return self.net.blobs[list(self.net.blobs)[self.rng.randint(len(self.net.blobs))]]

    def call_forward(self, i: int, j: int) -> None:
        self.net.forward()

    def call_forward_to(self, i: int, j: int) -> None:
        self.net.forward(end=self.names[j])

    def call_forward_from(self, i: int, j: int) -> None:
        self.net.forward(start=self.names[max(i, 1)])

    def call_forward_between(self, i: int, j: int) -> None:
        self.net.forward(start=self.names[i], end=self.names[j])

    def call_backward(self, i: int, j: int) -> None:
        self.net.backward()

    def call_backward_between(self, i: int, j: int) -> None:
        self.net.backward(start=self.names[j], end=self.names[i])

    def call_clear(self, i: int, j: int) -> None:
        self.net.clear_param_diffs()

    def call_write_parameter(self, i: int, j: int) -> None:
        if self.net.params:
            name = list(self.net.params)[self.rng.randint(len(self.net.params))]
            self.fill(self.net.params[name][0].data, 0.2, 0.8)

    def call_write_data(self, i: int, j: int) -> None:
        self.fill(self.blob().data)

    def call_write_diff(self, i: int, j: int) -> None:
        self.fill(self.blob().diff)

    def call_write_diff_and_go_back(self, i: int, j: int) -> None:
        self.fill(self.blob().diff)
        self.net.backward()

    def call_reshape(self, i: int, j: int) -> None:
        data = self.net.blobs["data"]
        size = self.rng.randint(6, 10)
        data.reshape(self.rng.randint(1, 4), 2, size, size)
        self.fill(data.data)
        if i % 2:
            self.net.reshape()
        else:
            self.net.forward(end=self.names[j])
        self.note("in the middle of a reshape")
        self.net.forward()

    def call_share(self, i: int, j: int) -> None:
        other = self.make_net(0.1, 0.5)
        self.net.share_with(other)
        self.others.append(other)

    def call_save_and_load(self, i: int, j: int) -> None:
        if self.net.params:
            path = str(self.path.with_suffix(".caffemodel"))
            self.net.save(path)
            self.net.copy_from(path)


def samples(caffe: Any, seed: int) -> dict[str, np.ndarray]:
    """{"call/array": size, sum and some values}."""
    with tempfile.TemporaryDirectory() as folder:
        steps = Sequence(caffe, seed, Path(folder)).steps
    return {f"{call}/{name}": sample(array) for call, arrays in steps for name, array in arrays.items()}


def sample(array: np.ndarray) -> np.ndarray:
    values = array.astype(np.float64).ravel()
    places = np.linspace(0, max(values.size - 1, 0), SAMPLES).astype(int)
    picked = values[places] if values.size else np.zeros(SAMPLES)
    return np.concatenate([[values.size, values.sum()], picked]).astype(np.float32)


def main(module: str, path: str) -> None:
    """Write what ``module`` gets."""
    caffe = importlib.import_module(module)
    arrays: dict[str, Any] = {str(seed): np.stack(list(samples(caffe, seed).values())) for seed in SEEDS}
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
