"""Integer operators of onnxruntime (QOperator format) as QDQ: DequantizeLinear, the operator on
real values, QuantizeLinear. Both mean the same, and onnxruntime runs both with the same kernels.
Products that give int32 stay what they are, but for their zero points."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from weft.errors import ModelError

from .nodes import attributes, label, opset
from .zero_points import Product, fix_zero_points, is_integer_product

__all__ = ["Rewritten", "is_integer_operator", "rewrite"]


@dataclass(frozen=True)
class Rewritten:
    """What became of a model's nodes.

    Parameters
    ----------
    operators : :class:`dict`
        Operator in the file of each node that stands for another, by its first output.
    added : :class:`set`
        First outputs of nodes that were not in the file.
    refusals : :class:`dict`
        Why a node was left as it is, by its first output.
    products : :class:`list` of :class:`~.zero_points.Product`
        What took the place of products that give int32.
    """

    operators: dict[str, str] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)
    refusals: dict[str, ModelError] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)


_Inputs = list[tuple[str, str, str]]    # tensor, scale, zero point
_PER_CHANNEL_OPSET = 13                 # of DequantizeLinear


@dataclass(frozen=True)
class _Form:
    """How an integer operator gives its quantizations: which of its inputs are what."""
    op: str
    inputs: Callable[[list[str]], _Inputs]
    output: Callable[[list[str]], tuple[str, str]]
    bias: int | None = None
    only: tuple[tuple[str, int], ...] = ()      # attributes with the only value that is understood


def _at(names: list[str], index: int) -> str:
    return names[index] if index < len(names) else ""


def _triples(*starts: int) -> Callable[[list[str]], _Inputs]:
    return lambda names: [(_at(names, start), _at(names, start + 1), _at(names, start + 2))
                          for start in starts]


def _pair(start: int) -> Callable[[list[str]], tuple[str, str]]:
    return lambda names: (_at(names, start), _at(names, start + 1))


def _concat_inputs(names: list[str]) -> _Inputs:
    return [(names[start], names[start + 1], names[start + 2]) for start in range(2, len(names), 3)]


_PLANES = (("channels_last", 0),)
_FORMS = {
    "QGemm": _Form("Gemm", _triples(0, 3), _pair(7), bias=6),
    "QLinearAdd": _Form("Add", _triples(0, 3), _pair(6)),
    "QLinearAveragePool": _Form("AveragePool", _triples(0), _pair(3), only=_PLANES),
    "QLinearConcat": _Form("Concat", _concat_inputs, _pair(0)),
    "QLinearConv": _Form("Conv", _triples(0, 3), _pair(6), bias=8),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", _triples(0), _pair(3), only=_PLANES),
    "QLinearLeakyRelu": _Form("LeakyRelu", _triples(0), _pair(3)),
    "QLinearMatMul": _Form("MatMul", _triples(0, 3), _pair(6)),
    "QLinearMul": _Form("Mul", _triples(0, 3), _pair(6)),
    "QLinearSigmoid": _Form("Sigmoid", _triples(0), _pair(3)),
}


def is_integer_operator(node: onnx.NodeProto) -> bool:
    """Whether a node is of the QOperator format, or gives sums of products of integers."""
    return node.op_type.startswith("QLinear") or node.op_type == "QGemm" \
        or is_integer_product(node)


def rewrite(model: onnx.ModelProto) -> Rewritten:
    """Replaces the integer operators of a model, in place."""
    result = Rewritten()
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    version = opset(model)
    types = _types(model) if any(map(is_integer_product, graph.node)) else {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if is_integer_product(node):
            nodes += _product(node, constants, types, result)
            continue
        form = _FORMS.get(node.op_type)
        if form is None:
            nodes.append(node)
            continue
        try:
            parts = list(_parts(node, form, constants, version, graph))
        except ModelError as error:
            result.refusals[node.output[0]] = error
            nodes.append(node)
            continue
        nodes += parts
        for part in parts:
            if part.op_type == form.op:
                result.operators[part.output[0]] = node.op_type
            else:
                result.added.add(part.output[0])
    del graph.node[:]
    graph.node.extend(nodes)
    for product in result.products:
        graph.initializer.extend(product.constants)
    return result


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value.type.tensor_type
            for value in (*graph.value_info, *graph.output, *graph.input)}


def _product(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto],
             types: dict[str, onnx.TypeProto.Tensor], result: Rewritten) -> list[onnx.NodeProto]:
    """What stands for an integer product."""
    try:
        product = fix_zero_points(node, constants, types)
    except ModelError as error:
        result.refusals[node.output[0]] = error
        return [node]
    if product is None:
        return [node]
    result.products.append(product)
    result.operators[product.sums.output[0]] = node.op_type
    result.added.update(other.output[0] for other in product.others)
    # What reads the sums comes behind them, and they behind no other node.
    return [product.sums, *product.others]


def _parts(node: onnx.NodeProto, form: _Form, constants: dict[str, onnx.TensorProto], version: int,
           graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    given = attributes(node)
    for name, value in form.only:
        if given.pop(name, value) != value:
            raise ModelError(f"{label(node)} has {name} {attributes(node)[name]}; only {value} is "
                             f"supported")
    names, base = list(node.input), node.output[0]
    real = []
    for index, (tensor, scale, zero) in enumerate(form.inputs(names)):
        extra: dict[str, Any] = {}
        if scale in constants and numpy_helper.to_array(constants[scale]).size > 1:
            if version < _PER_CHANNEL_OPSET:
                raise ModelError(f"{label(node)} has a scale for each channel in opset {version}; "
                                 f"DequantizeLinear needs opset {_PER_CHANNEL_OPSET}")
            extra["axis"] = 0 if form.op == "Conv" or given.get("transB", 0) else 1
        real.append(f"{base}/input{index}")
        yield helper.make_node("DequantizeLinear", [tensor, scale, *filter(None, [zero])],
                               [real[-1]], **extra)
    if form.bias is not None and _at(names, form.bias):
        scales = [names[1], names[4]]
        if any(name not in constants for name in scales):
            raise ModelError(f"{label(node)} must have constant scales")
        first, second = (numpy_helper.to_array(constants[name]) for name in scales)
        scale = (np.float32(given.get("alpha", 1.0)) * first.reshape(-1) * second.reshape(-1))
        scale = scale.astype(np.float32).reshape(second.shape)
        graph.initializer.append(numpy_helper.from_array(scale, f"{base}/bias_scale"))
        real.append(f"{base}/bias")
        along: dict[str, Any] = {"axis": 0} if scale.size > 1 else {}
        yield helper.make_node("DequantizeLinear", [names[form.bias], f"{base}/bias_scale"],
                               [real[-1]], **along)
    scale_name, zero = form.output(names)
    result = f"{base}/real" if scale_name else base
    yield helper.make_node(form.op, real, [result], name=node.name, **given)
    if scale_name:
        # Without a zero point the output is uint8.
        yield helper.make_node("QuantizeLinear", [result, scale_name, *filter(None, [zero])],
                               [base])
