"""Which of PyTorch's switches are set while an operator runs."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: cuDNN's, which torch's annotations leave out
SWITCH: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]


class Switches(TorchDispatchMode):
    """Notes cuDNN's switch whenever a convolution, or its backward, runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, str]] = []

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(function)
        if "convolution" in name:
            kind = "backward" if "backward" in name else "forward"
            self.seen.append((kind, SWITCH.fp32_precision))
        return function(*args, **(kwargs or {}))
