"""torchvision, also beside a PyTorch without CUDA."""

from importlib import import_module
from types import ModuleType
from typing import Any


def torchvision(part: str) -> ModuleType:
    """Import a module of torchvision, such as `datasets`. Raises ImportError without it.

    The index's Linux build is linked to CUDA. Beside a CPU-only PyTorch its C++ extension does not
    load, and then the first import fails at operators that nobody defined. Declaring the two
    schemas that it looks for is enough for models, data sets and transforms; the operators
    themselves (boxes) stay out of reach and are not used here.
    """
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_box_operators()
    return import_module(f"torchvision.{part}")


def _declare_box_operators() -> None:
    import torch

    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for operator in ("nms", "qnms"):
        library.define(operator + boxes)
    _KEPT.append(library)  # a library that is collected takes its operators with it


_KEPT: list[object] = []
