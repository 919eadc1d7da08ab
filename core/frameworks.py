"""The frameworks that train. This table is what `framework` can be in a config."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Framework:
    """title: name on figures. environment: of envs/, which trains with it. backend: module and
    class behind the contract of `core.elastic.backend`, imported only where it trains."""

    title: str
    environment: str
    backend: str


FRAMEWORKS = {
    "tensorflow": Framework(
        "TensorFlow", "tensorflow", "core.elastic.tf_backend:TensorFlowBackend"
    ),
    "torch": Framework("PyTorch", "main", "core.elastic.torch_backend:TorchBackend"),
}
