"""What moves memory runs as many kernels as the inventory counts of it."""

from __future__ import annotations

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from tests.validate.calibration.jobs import TINY
from validate.calibration import streams
from validate.calibration.bench import Bench

#: Operators that start no kernel: views, and what is only asked or marked.
SILENT = {
    "view", "transpose", "slice", "expand", "unsqueeze", "split", "detach", "alias", "empty_like",
    "promote_types", "_record_function_enter_new", "_record_function_exit",
}  # fmt: skip
ITEMS = [item for item in streams.items(TINY) if item["elements"] == TINY.elements[0]]


class Kernels(TorchDispatchMode):
    """Notes what starts a kernel."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        if name not in SILENT:
            self.names.append(name)
        return found


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item['operator']}-{item['phase']}")
def test_an_operator_runs_as_many_kernels_as_are_counted(item):
    call = streams.prepare(item, Bench("cpu"))
    call()
    with Kernels() as ran:
        call()
    if (item["operator"], item["phase"]) == ("merge", "forward"):
        # Five operators here; what is counted is the one script of ring-flash-attention.
        assert ran.names == ["sub", "sigmoid", "_to_copy", "lerp_", "logaddexp"]
        return
    own = [name for name in ran.names if name != "_foreach_add_"]  # the optimizer's step number
    assert len(own) == streams.work([item]).launches[0], own
