"""What ``net.forward()`` and ``net.backward()`` return where arrays are copies from a device."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any

import numpy as np


class Arrays(dict[str, np.ndarray]):
    """A dict of arrays, each made when somebody looks at it, so that a pass that nobody reads copies nothing."""

    def __init__(self, functions: Mapping[str, Callable[[], np.ndarray]]) -> None:
        """``functions``: what makes the arrays."""
        super().__init__(dict.fromkeys(functions, np.empty(0)))
        self._functions = dict(functions)

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._functions:
            self[name] = self._functions.pop(name)()
        return super().__getitem__(name)

    def _make_all(self) -> None:
        for name in list(self._functions):
            self[name]

    def __iter__(self) -> Iterator[str]:  # without it dict(arrays) and **arrays would take the values as they lie
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401

    def values(self) -> ValuesView[np.ndarray]:  # type: ignore[override]
        return ValuesView(self)

    def items(self) -> ItemsView[str, np.ndarray]:  # type: ignore[override]
        return ItemsView(self)

    def pop(self, name: str, *default: Any) -> Any:
        self._make_all()
        return super().pop(name, *default)

    def copy(self) -> dict[str, np.ndarray]:
        return dict(self.items())

    def __repr__(self) -> str:
        return repr(self.copy())
