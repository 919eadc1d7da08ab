"""Multiply-adds of PyTorch computations, by PyTorch's own counter."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from core.errors import ConfigError


def multiply_adds(run: Callable[[], object]) -> float:
    """Multiply-adds of everything that `run` computes.

    Raises ConfigError for an operation that is neither known to the counter nor in FREE: it would
    silently count nothing.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_CORRECTIONS)
    with counter, _Known():
        run()
    return float(counter.get_total_flops() / 2)  # a multiplication and an addition


class _Known(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        packet = func.overloadpacket
        name = packet._qualified_op_name.removeprefix("aten::")
        if (
            packet not in flop_registry
            and packet not in _CORRECTIONS
            and name.rstrip("_") not in FREE
        ):
            raise ConfigError(
                f"operation {name} of PyTorch: its multiply-adds are not known; say what it "
                "counts in core/elastic/torch_counting.py"
            )
        return func(*args, **(kwargs or {}))


def _convolution_backward(
    error: Sequence[int],
    images: Sequence[int],
    kernel: Sequence[int],
    *rest: Any,
    out_shape: Any = None,
    **_: Any,
) -> int:
    """Each gradient takes as many as the forward pass. PyTorch's own formula counts the kernel of
    a grouped convolution once for every group too often."""
    wanted = rest[-1]
    channels_and_window = torch.Size(kernel[1:]).numel()
    return 2 * torch.Size(error).numel() * channels_and_window * (bool(wanted[0]) + bool(wanted[1]))


def _attention(query: Sequence[int], key: Sequence[int], *_: Any, **__: Any) -> int:
    """Scores, and the sum over values; shapes (batch, heads, length, width)."""
    return 4 * torch.Size(query).numel() * key[-2]


def _attention_backward(
    error: Sequence[int], query: Sequence[int], key: Sequence[int], *_: Any, **__: Any
) -> int:
    """Gradients of queries, keys, values and scores. The kernel computes scores again to save
    memory; what an implementation repeats is not counted."""
    return 8 * torch.Size(query).numel() * key[-2]


_aten = torch.ops.aten
_CORRECTIONS = {
    _aten.convolution_backward: _convolution_backward,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}

# Operations without multiply-adds, or with so few (one for an element: normalisation, scaling)
# that the published counts leave them out.
FREE = frozenset(
    """
    _log_softmax _log_softmax_backward_data _to_copy _unsafe_view add affine_grid_generator
    argmax as_strided cat clone constant_pad_nd copy cudnn_batch_norm cudnn_batch_norm_backward
    detach div empty eq expand flip gelu gelu_backward grid_sampler_2d hardtanh
    hardtanh_backward lift_fresh max_pool2d_with_indices max_pool2d_with_indices_backward mean
    mul native_batch_norm native_batch_norm_backward native_layer_norm
    native_layer_norm_backward new_zeros nll_loss_backward nll_loss_forward ones_like permute
    relu select select_backward slice squeeze sub sum t threshold_backward transpose unsqueeze
    view where
    """.split()
)
