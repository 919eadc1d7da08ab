"""The frameworks that train. This table is what `framework` can be in a config."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Framework:
    """title: name on figures. environment: of envs/, which trains with it. backend: module and
    class behind the contract of `core.elastic.backend`, imported only where it trains."""

    title: str
    environment: str
    backend: str

    def load(self) -> Any:
        """The class of the backend. Imports the framework."""
        module, _, name = self.backend.partition(":")
        return getattr(importlib.import_module(module), name)


FRAMEWORKS = {
    "tensorflow": Framework(
        "TensorFlow", "tensorflow", "core.elastic.tf_backend:TensorFlowBackend"
    ),
    "torch": Framework("PyTorch", "main", "core.elastic.torch_backend:TorchBackend"),
}


def installed() -> str:
    """The framework of this environment; each has one, called as its package is."""
    return next(name for name in FRAMEWORKS if importlib.util.find_spec(name))
