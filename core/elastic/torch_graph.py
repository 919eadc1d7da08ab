"""Which gradient belongs to which tensor, and what it costs, read off PyTorch's autograd graph.

No table of layer types: the graph says which tensors each operation of the backward pass serves,
and every operation is run alone, with its own input, for the gradient of its weights and for the
error that it passes on, each by itself. That gives the paper's rules (MobiSys 2023, page 61):

- the gradient of tensor k where it is used: t_dw[k];
- error passed on by an operation that uses tensor k: through tensor k;
- error passed on by an operation without tensors: on the way to the nearest tensor before it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from core.errors import ConfigError

# Cost of running an operation for the gradients at these edges only, any unit.
Measure = Callable[[Callable[[], object]], float]


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation of the backward pass.

    own: edges by which it gives the gradient of a tensor, by tensor index. onward: edges to the
    operations before it. beyond: the tensors that those serve. error: gradients of its results,
    from a real backward pass.
    """

    node: Any
    own: dict[int, GradientEdge]
    onward: list[GradientEdge]
    beyond: frozenset[int]
    error: tuple[Tensor | None, ...] = field(repr=False)

    def run_whole(self) -> object:
        """Compute everything that it computes in a backward pass."""
        with torch.no_grad():  # as in a backward pass; else it records a graph of its own
            return self.node(*self.error)

    def run(self, edges: Sequence[GradientEdge]) -> object:
        """Compute the gradients at these edges, and nothing else."""
        outputs = [(i, error) for i, error in enumerate(self.error) if error is not None]
        return torch.autograd.grad(
            [GradientEdge(self.node, i) for i, _ in outputs],
            list(edges),
            [error for _, error in outputs],
            retain_graph=True,
            allow_unused=True,
        )


@dataclass
class Charges:
    """What is charged to each tensor; each list has one number per tensor. needed: the same, by
    the set of tensors whose update needs it."""

    dw: list[float]
    reach: list[float]
    through: list[float]
    needed: dict[frozenset[int], float]


def operations(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Operation]:
    """Every operation of the backward pass, from the output to the input.

    Runs the backward pass once to record errors; the graph of `loss` is kept.
    """
    index = {id(p): i for i, p in enumerate(parameters)}
    nodes = _topological(loss.grad_fn)
    errors = _errors(loss, parameters, nodes)
    serves: dict[Any, frozenset[int]] = {}
    for node in reversed(nodes):
        own = [index[id(node.variable)]] if _is_leaf(node) else []
        serves[node] = frozenset(own).union(*(serves[n] for n in _following(node)))
    return [
        _operation(node, index, serves, errors[node])
        for node in nodes
        if not _is_leaf(node) and node in errors
    ]


def charge(found: Sequence[Operation], tensors: int, measure: Measure) -> Charges:
    """Measure every operation and charge it to its tensors."""
    dw, reach, through = ([0.0] * tensors for _ in range(3))
    charges = Charges(dw, reach, through, defaultdict(float))
    for operation in found:
        if not operation.own:
            # By itself and not by its edges: where branches join again, one edge can be reached
            # by way of another, and all in between would be computed too.
            whole = measure(operation.run_whole)
            charges.reach[max(operation.beyond)] += whole
            charges.needed[operation.beyond] += whole
            continue
        onward = measure(partial(operation.run, operation.onward)) if operation.onward else 0.0
        charges.through[min(operation.own)] += onward
        charges.needed[operation.beyond] += onward
        alone = {k: measure(partial(operation.run, [e])) for k, e in operation.own.items()}
        for k, cost in _shares(operation, alone, onward, measure).items():
            charges.dw[k] += cost
            charges.needed[frozenset([k])] += cost
    return charges


def order_of_use(
    forward: Callable[[], object], parameters: Sequence[nn.Parameter]
) -> list[nn.Parameter]:
    """The parameters in the order in which the forward pass first computes with them.

    Raises ConfigError for a network that has others, which no loss could train.
    """
    uses = _Uses({id(p) for p in parameters})
    with uses:
        forward()
    place = {key: i for i, key in enumerate(uses.found)}
    if unused := [tuple(p.shape) for p in parameters if id(p) not in place]:
        raise ConfigError(
            f"the network never computes with its parameters of shapes {unused}; "
            "leave them out of it in core/models/torch_zoo.py"
        )
    return sorted(parameters, key=lambda p: place[id(p)])


class _Uses(TorchFunctionMode):
    def __init__(self, wanted: set[int]) -> None:
        super().__init__()
        self._wanted = wanted
        self.found: dict[int, None] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.__name__ != "__get__":  # looking at a shape or type is no use
            for value in tree_leaves((args, kwargs)):
                if id(value) in self._wanted:
                    self.found[id(value)] = None
        return func(*args, **(kwargs or {}))


def _shares(
    operation: Operation, alone: dict[int, float], onward: float, measure: Measure
) -> dict[int, float]:
    """What each own gradient adds. Kernels that compute several gradients at once do it for
    less than the sum of what each takes alone; the difference is split in proportion."""
    if len(alone) == 1 and not operation.onward:
        return alone
    whole = measure(lambda: operation.run([*operation.onward, *operation.own.values()]))
    total = sum(alone.values())
    added = min(max(whole - onward, 0.0), total)
    return {k: added * cost / total if total else 0.0 for k, cost in alone.items()}


def _operation(
    node: Any,
    index: dict[int, int],
    serves: dict[Any, frozenset[int]],
    error: tuple[Tensor | None, ...],
) -> Operation:
    own, onward = {}, []
    beyond: frozenset[int] = frozenset()
    for following, number in node.next_functions:
        if following is None:
            continue
        edge = GradientEdge(following, number)
        leaf = _leaf_behind(following)
        if leaf is None:
            onward.append(edge)
            beyond |= serves[following]
        else:
            own[index[id(leaf)]] = edge
    return Operation(node, own, onward, beyond, error)


def _leaf_behind(node: Any) -> nn.Parameter | None:
    """The parameter that an edge leads to by way of nothing but views of it."""
    while not _is_leaf(node):
        if len(node.next_functions) != 1 or node.next_functions[0][0] is None:
            return None
        node = node.next_functions[0][0]
    parameter: nn.Parameter = node.variable
    return parameter


def _is_leaf(node: Any) -> bool:
    return hasattr(node, "variable")


def _errors(
    loss: Tensor, parameters: Sequence[nn.Parameter], nodes: Sequence[Any]
) -> dict[Any, tuple[Tensor | None, ...]]:
    """The gradient that reaches each operation in a backward pass."""
    found: dict[Any, tuple[Tensor | None, ...]] = {}
    handles = [
        node.register_prehook(lambda errors, node=node: found.__setitem__(node, errors))
        for node in nodes
        if not _is_leaf(node)
    ]
    torch.autograd.grad(loss, list(parameters), retain_graph=True)
    for handle in handles:
        handle.remove()
    return found


def _topological(root: Any) -> list[Any]:
    """Every node once, before all that it leads to."""
    order: list[Any] = []
    seen: set[Any] = set()
    stack: list[tuple[Any, Iterator[Any]]] = [(root, _following(root))]
    seen.add(root)
    while stack:
        node, following = stack[-1]
        step = next((n for n in following if n not in seen), None)
        if step is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(step)
            stack.append((step, _following(step)))
    return order[::-1]


def _following(node: Any) -> Iterator[Any]:
    return iter([n for n, _ in node.next_functions if n is not None])
