"""Which operation of a training step belongs to which tensor, read off the graph.

No layer names, no table of operation types: an operation is charged to the tensors whose update
needs it. That gives the paper's rules (MobiSys 2023, page 61) for convolutions, biases and
normalisation, and a rule for everything else:

- needed by tensors up to k, and using the value of a tensor beyond k: error propagation through
  that tensor's operation (input gradient of a convolution);
- otherwise, needed by one tensor only: that tensor's t_dw (filter gradient, bias gradient,
  update; for tensor 0 also what lies on the way to it, which is paid for with it alone);
- otherwise: error propagation on the way to k (normalisation, activation, pooling).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Part = Literal["dw", "reach", "through", "forward"]


@dataclass(frozen=True)
class Charge:
    """An operation's place: tensor index, -1 for what lies before every tensor; and the tensors
    whose update needs it, none for the forward pass, which every step needs."""

    tensor: int
    part: Part
    users: frozenset[int] = field(default=frozenset(), compare=False)


def charges(function: Any, variables: Sequence[Any], loss: Any) -> dict[str, Charge]:
    """Every operation of a step by node name.

    function: concrete TensorFlow function of the step.
    variables: trainable variables in order of use; those that the step does not update may be
        among them.
    loss: the loss tensor inside the function's graph; what it needs is the forward pass.
    """
    index = _captured(function, variables)
    forward = _ancestors([loss])
    needed = _needed_by(function.graph, index)
    upstream = _last_tensor_upstream(function.graph, index)
    found = {name: Charge(upstream[name], "forward") for name in forward}
    for operation in function.graph.get_operations():
        users = needed.get(operation.name)
        if users and operation.name not in forward:
            found[operation.name] = _charge(operation, users, index)
    return found


def order_of_use(function: Any, variables: Sequence[Any]) -> list[Any]:
    """The variables in the order in which the forward pass first computes with them."""
    index = _captured(function, variables)
    first: dict[int, tuple[int, int]] = {}
    for place, operation in enumerate(function.graph.get_operations()):
        for position, tensor in enumerate(operation.inputs):
            source = _behind_reads(tensor)
            if source.op.name in index and not _is_read(operation):
                first.setdefault(index[source.op.name], (place, position))
    order = sorted(range(len(variables)), key=lambda i: first.get(i, (-1, i)))
    return [variables[i] for i in order]


def _captured(function: Any, variables: Sequence[Any]) -> dict[str, int]:
    """Tensor index by the name of the placeholder that stands for it inside the function."""
    handles = {id(v.handle): i for i, v in enumerate(variables)}
    return {
        inner.op.name: handles[id(outer)]
        for outer, inner in function.graph.captures
        if id(outer) in handles
    }


def _charge(operation: Any, users: set[int], index: dict[str, int]) -> Charge:
    last = max(users)
    values = {index.get(_behind_reads(t).op.name, -1) for t in operation.inputs}
    beyond = [k for k in values if k > last]
    if beyond:
        return Charge(min(beyond), "through", frozenset(users))
    return Charge(last, "dw" if len(users) == 1 else "reach", frozenset(users))


def _needed_by(graph: Any, index: dict[str, int]) -> dict[str, set[int]]:
    """For each operation, the tensors whose update is computed from it."""
    needed: dict[str, set[int]] = defaultdict(set)
    for operation in graph.get_operations():
        if operation.type.startswith(("ResourceApply", "Assign")):
            tensor = index.get(operation.inputs[0].op.name)
            if tensor is not None:
                needed[operation.name].add(tensor)
                for name in _ancestors(operation.inputs):
                    needed[name].add(tensor)
    return needed


def _ancestors(tensors: Iterable[Any]) -> set[str]:
    """Names of all operations that these tensors are computed from."""
    seen: set[str] = set()
    stack = list(tensors)
    while stack:
        tensor = stack.pop()
        operation = tensor.op
        if operation.type == "IdentityN":
            # Optimisers pass all gradients through one of these; each output is its own input.
            stack.append(operation.inputs[tensor.value_index])
        elif operation.name not in seen:
            seen.add(operation.name)
            stack.extend(operation.inputs)
    return seen


def _last_tensor_upstream(graph: Any, index: dict[str, int]) -> dict[str, int]:
    """For each operation, the last tensor that its result depends on, -1 for none."""
    last: dict[str, int] = {}
    for operation in graph.get_operations():  # in topological order, as it was traced
        own = index.get(operation.name, -1)
        last[operation.name] = max([own, *(last[t.op.name] for t in operation.inputs)])
    return last


def _is_read(operation: Any) -> bool:
    return operation.type in ("ReadVariableOp", "Identity", "Cast")


def _behind_reads(tensor: Any) -> Any:
    while _is_read(tensor.op) and tensor.op.inputs:
        tensor = tensor.op.inputs[0]
    return tensor
