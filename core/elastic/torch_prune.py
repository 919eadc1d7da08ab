"""PruneTrain's channels in PyTorch networks: reading them off the traced graph, the proximal step,
and making the modules narrower. What it is about is in `core.elastic.channels`."""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from core.elastic.channels import Arrays, Group, Slice, Wiring, unknown
from core.errors import ConfigError


def groups(network: nn.Module, head: nn.Linear) -> tuple[Group, ...]:
    """The groups of a network and its prediction layer; arrays are called as in `weights_of`.
    Images keep their channels, and the prediction layer its classes.

    Raises ConfigError for a module or function that is not in the tables below.
    """
    try:
        graph = fx.symbolic_trace(network).graph
    except (fx.proxy.TraceError, TypeError) as error:
        kind = f"a module that cannot be traced ({error})"
        raise _unknown(type(network).__name__, kind) from None
    wiring = Wiring()
    after: dict[fx.Node, int] = {}
    seen: set[Any] = set()
    for node in graph.nodes:
        before = [after[source] for source in node.all_input_nodes]
        if node.op == "placeholder":
            after[node] = wiring.new(node.name, 3, cut=False)
        elif node.op == "output":
            wiring.weigh(before[0], "head.weight", 1)
        elif node.op == "call_module":
            module = network.get_submodule(node.target)
            if node.target in seen and next(module.parameters(), None) is not None:
                raise _unknown(node.target, f"{type(module).__name__} and used more than once")
            seen.add(node.target)
            if isinstance(module, nn.Flatten) and _is_pooled(network, node):
                after[node] = before[0]
                continue
            after[node] = _through(wiring, node.target, module, before)
        elif node.target in SUMS:
            after[node] = wiring.join(node.name, before)
        elif node.target in EACH_ALONE or (node.target in FLATTEN and _is_pooled(network, node)):
            after[node] = before[0]
        else:
            raise _unknown(node.name, getattr(node.target, "__name__", str(node.target)))
    return wiring.groups()


def _unknown(layer: str, kind: str) -> ConfigError:
    return unknown(layer, kind, "core/elastic/torch_prune.py")


def _through(wiring: Wiring, name: str, module: nn.Module, before: Sequence[int]) -> int:
    if type(module) not in MODULES:
        raise _unknown(name, type(module).__name__)
    return MODULES[type(module)](wiring, name, module, before)


def _convolution(wiring: Wiring, name: str, module: Any, before: Sequence[int]) -> int:
    """Weight (out, in, height, width), or (channels, 1, height, width) where it is depthwise."""
    if module.groups == 1:
        after = wiring.new(name, module.out_channels)
        wiring.weigh(before[0], f"{name}.weight", 1)
    elif module.groups == module.in_channels == module.out_channels:
        after = before[0]
    else:
        raise _unknown(name, "Conv2d in groups")
    wiring.weigh(after, f"{name}.weight", 0)
    if module.bias is not None:
        wiring.follow(after, f"{name}.bias")
    return after


def _normalisation(wiring: Wiring, name: str, module: Any, before: Sequence[int]) -> int:
    learnt = ("weight", "bias") if module.affine else ()
    wiring.follow(before[0], *(f"{name}.{p}" for p in (*learnt, "running_mean", "running_var")))
    return before[0]


def _each_alone(wiring: Wiring, name: str, module: Any, before: Sequence[int]) -> int:
    return before[0]


# What a module does to channels: takes the sets that come in, tells which arrays they run
# through, gives the set that goes out. A network with other modules or functions needs them here.
MODULES: dict[type[nn.Module], Callable[[Wiring, str, Any, Sequence[int]], int]] = {
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _normalisation,
    nn.Identity: _each_alone,
    nn.ReLU: _each_alone,
    nn.ReLU6: _each_alone,
    nn.Dropout: _each_alone,
    nn.ZeroPad2d: _each_alone,
    nn.MaxPool2d: _each_alone,
    nn.AvgPool2d: _each_alone,
    nn.AdaptiveAvgPool2d: _each_alone,
}
SUMS = frozenset({operator.add, operator.iadd, torch.add})
EACH_ALONE = frozenset({functional.relu, functional.relu6, functional.adaptive_avg_pool2d})
FLATTEN = frozenset({torch.flatten, "flatten"})


def _is_pooled(network: nn.Module, flatten: fx.Node) -> bool:
    """Whether one pixel was left, so that flattening gives one feature for each channel."""
    pool = flatten.all_input_nodes[0]
    if pool.op == "call_module":
        size = getattr(network.get_submodule(str(pool.target)), "output_size", None)
    else:
        size = pool.args[1] if pool.target is functional.adaptive_avg_pool2d else None
    return size in (1, (1, 1))


def weights_of(network: nn.Module, head: nn.Linear) -> dict[str, Any]:
    """Every parameter of these by name, and the statistics of normalisation."""
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return own | {f"head.{name}": parameter for name, parameter in head.named_parameters()}


def narrow(network: nn.Module, head: nn.Linear, arrays: Arrays) -> None:
    """Make both as wide as these arrays, and fill in their values, which need not be all."""
    for name, value in arrays.items():
        layer, _, part = name.rpartition(".")
        module = head if layer == "head" else network.get_submodule(layer)
        old = getattr(module, part)
        new = torch.from_numpy(value).to(old.device)
        setattr(module, part, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
    for module in (*network.modules(), head):
        _describe(module)


def _describe(module: nn.Module) -> None:
    """Correct what a module says about its own shape; convolutions compute by it."""
    match module:
        case nn.Conv2d():
            depthwise = module.groups > 1
            module.out_channels, inputs = module.weight.shape[:2]
            module.in_channels = module.out_channels if depthwise else inputs
            module.groups = module.out_channels if depthwise else 1
        case nn.BatchNorm2d():
            module.num_features = len(module.running_mean)  # type: ignore[arg-type]
        case nn.Linear():
            module.in_features = module.weight.shape[1]


@torch.no_grad()
def shrink(
    groups: Sequence[Group],
    weights: Mapping[str, Tensor],
    amount: float,
    trained: Collection[str],
) -> None:
    """The proximal step of the group lasso, in place, on those arrays that are trained.

    amount: step times coefficient, by which the norm of every channel becomes smaller.
    """
    for group in groups:
        squares = torch.stack([_squares(weights[s.array], s) for s in group.kernels])
        norm = squares.sum(0).sqrt()
        factor = torch.where(norm > amount, 1 - amount / norm, 0.0)
        for s in group.kernels:
            if s.array in trained:
                weight = weights[s.array]
                weight *= factor.reshape([-1 if a == s.axis else 1 for a in range(weight.ndim)])


def _squares(weight: Tensor, s: Slice) -> Tensor:
    return weight.square().sum([axis for axis in range(weight.ndim) if axis != s.axis])
