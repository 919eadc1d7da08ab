"""Multiply-adds of the operations of a TensorFlow graph, from their shapes."""

import math
from collections.abc import Callable
from typing import Any

from core.errors import ConfigError


def multiply_adds(graph: Any) -> dict[str, float]:
    """Multiply-adds of every operation of a graph with static shapes, by node name.

    Raises ConfigError for a type of operation that is neither in COUNTED nor in FREE: guessing
    that it is free would make a network look cheaper than it is.
    """
    found = {}
    for operation in graph.get_operations():
        if operation.type in COUNTED:
            found[operation.name] = float(COUNTED[operation.type](operation))
        elif operation.type in FREE:
            found[operation.name] = 0.0
        else:
            raise ConfigError(
                f"operation {operation.name} is of type {operation.type}, whose multiply-adds "
                "are not known; say what it counts in core/elastic/tf_counting.py"
            )
    return found


def _shape(tensor: Any) -> list[int]:
    shape: list[int] = tensor.shape.as_list()
    return shape


def _size(tensor: Any) -> int:
    return math.prod(_shape(tensor))


def _convolution(operation: Any) -> int:
    """Each output element sums over the window and the input channels of its group."""
    height, width, channels, _ = _shape(operation.inputs[1])
    return _size(operation.outputs[0]) * height * width * channels


def _convolution_input(operation: Any) -> int:
    height, width, channels, _ = _shape(operation.inputs[1])
    return _size(operation.inputs[2]) * height * width * channels


def _convolution_filter(operation: Any) -> int:
    height, width, channels, _ = _shape(operation.outputs[0])
    return _size(operation.inputs[2]) * height * width * channels


def _depthwise(operation: Any) -> int:
    height, width, *_ = _shape(operation.inputs[1])
    return _size(operation.outputs[0]) * height * width


def _depthwise_input(operation: Any) -> int:
    height, width, *_ = _shape(operation.inputs[1])
    return _size(operation.inputs[2]) * height * width


def _depthwise_filter(operation: Any) -> int:
    height, width, *_ = _shape(operation.outputs[0])
    return _size(operation.inputs[2]) * height * width


def _matmul(operation: Any) -> int:
    rows, columns = _shape(operation.inputs[0])
    summed = rows if operation.get_attr("transpose_a") else columns
    return _size(operation.outputs[0]) * summed


def _batch_matmul(operation: Any) -> int:
    *_, rows, columns = _shape(operation.inputs[0])
    summed = rows if operation.get_attr("adj_x") else columns
    return _size(operation.outputs[0]) * summed


def _einsum(operation: Any) -> int:
    """One multiply-add for each combination of all indices, where there are two factors."""
    factors = operation.get_attr("equation").decode().partition("->")[0].split(",")
    if len(factors) < 2:
        return 0
    sizes: dict[str, int] = {}
    for factor, tensor in zip(factors, operation.inputs, strict=True):
        sizes |= dict(zip(factor, _shape(tensor), strict=True))
    return math.prod(sizes.values())


COUNTED: dict[str, Callable[[Any], int]] = {
    "Conv2D": _convolution,
    "Conv2DBackpropInput": _convolution_input,
    "Conv2DBackpropFilter": _convolution_filter,
    "DepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNativeBackpropInput": _depthwise_input,
    "DepthwiseConv2dNativeBackpropFilter": _depthwise_filter,
    "MatMul": _matmul,
    "BatchMatMulV2": _batch_matmul,
    "Einsum": _einsum,
}

# Operations without multiply-adds, or with so few (one for an element: normalisation, scaling,
# the update) that the published counts leave them out.
FREE = frozenset(
    """
    AddN AddV2 ArgMax AssignAddVariableOp AssignSubVariableOp BiasAdd BiasAddGrad BitwiseOr
    BroadcastGradientArgs BroadcastTo Cast ConcatOffset ConcatV2 Const Cos Equal Erf Exp
    ExpandDims Fill FloorDiv FloorMod FusedBatchNormGradV3 FusedBatchNormV3 GatherV2
    GreaterEqual Identity IdentityN ImageProjectiveTransformV3 InvertPermutation LeftShift
    Less LogSoftmax LogicalOr MaxPool MaxPoolGrad Maximum Mean Minimum Mul Neg NoOp Pack Pad
    Placeholder Pow Prod Range ReadVariableOp RealDiv Relu Relu6 Relu6Grad ReluGrad Reshape
    ResourceApplyAdam ResourceApplyKerasMomentum ReverseV2 Rsqrt RsqrtGrad Select SelectV2
    ShapeN Sin Slice Softmax SparseSoftmaxCrossEntropyWithLogits Sqrt Square
    SquaredDifference StatelessRandomGetKeyCounter StatelessRandomUniformFullIntV2
    StatelessRandomUniformV2 StopGradient StridedSlice StridedSliceGrad Sub Sum Tile
    Transpose UnsortedSegmentSum ZerosLike
    """.split()
)
