"""Quantized ONNX models for tests: built directly with random integers, or by a quantizer."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from weft import reference
from weft.bench.quantize import quantize_model
from weft.frontend import partition
from weft.ir import HostPart, Tensor
from weft.reference.golden import GoldenSession, cpu_is_exact, to_int8

__all__ = ["QdqBuilder", "assert_plan_is_golden", "conv_model", "float_cnn",
           "quantize_dynamically", "quantize_model", "random_inputs", "run_plan", "run_quantized"]


class QdqBuilder:
    """Builds a QDQ graph node by node, with random int8 weights and scales that fit them.

    Methods take and return names of real-valued tensors; :meth:`quantize` adds the QuantizeLinear
    and DequantizeLinear pair that ends a layer. Quantized tensors are called ``<name>_q``.

    Parameters
    ----------
    rng : :class:`numpy.random.Generator`
        Source of everything that is not given.
    unsigned : :class:`bool`
        uint8 activations, else int8.
    per_channel : :class:`bool`
        A weight scale for each output channel, else one for all.
    unsigned_weights : :class:`bool`
        uint8 weights of zero point 128.
    opset : :class:`int`
    """

    def __init__(self, rng: np.random.Generator, *, unsigned: bool = False,
                 per_channel: bool = True, unsigned_weights: bool = False, opset: int = 17):
        self._rng = rng
        self._dtype = np.uint8 if unsigned else np.int8
        self._per_channel = per_channel
        self._unsigned_weights = unsigned_weights
        self._opset = opset
        self._count = 0
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self._scales: dict[str, np.float32] = {}    # of the real-valued tensors' quantization
        self._spread: dict[str, float] = {}         # usual size of a layer's real-valued result

    def node(self, op: str, inputs: list[str], name: str | None = None, **attributes) -> str:
        """Adds a node of one output, and returns the output's name."""
        if name is None:
            self._count += 1
            name = f"{op.lower()}{self._count}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        for known in (self._scales, self._spread):
            if inputs and inputs[0] in known and op not in ("Conv", "Gemm", "MatMul",
                                                            "QuantizeLinear"):
                known.setdefault(name, known[inputs[0]])
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Adds an initializer."""
        self.initializers[name] = np.asarray(value)
        return name

    def input(self, name: str, shape: tuple[int | str, ...], *, scale: float | None = None) -> str:
        """Adds a float input of the graph with its quantization."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return self.quantize(name, scale=scale or 0.01 + 0.05 * self._rng.random())

    def quantize(self, x: str, *, scale: float | None = None,
                 zero_point: int | None = None) -> str:
        """Adds QuantizeLinear and DequantizeLinear; scale and zero point fit what ``x`` holds."""
        info = np.iinfo(self._dtype)
        if scale is None:
            scale = self._spread.get(x, 1.0) / (20 + 40 * self._rng.random())
        if zero_point is None:
            zero_point = int(self._rng.integers(info.min, info.max + 1))
        self.constant(f"{x}_scale", np.float32(scale))
        self.constant(f"{x}_zero", self._dtype(zero_point))
        self.node("QuantizeLinear", [x, f"{x}_scale", f"{x}_zero"], f"{x}_q")
        return self.dequantize(x)

    def dequantize(self, x: str) -> str:
        """Adds another DequantizeLinear to the quantized ``x``."""
        out = self.node("DequantizeLinear", [f"{x}_q", f"{x}_scale", f"{x}_zero"],
                        f"{x}_d{sum(f'{x}_q' in node.input for node in self.nodes)}")
        self._scales[out] = np.float32(self.initializers[f"{x}_scale"])
        return out

    def weights(self, name: str, shape: tuple[int, ...], axis: int) -> tuple[str, np.ndarray]:
        """Adds quantized weights with output channels on ``axis``, and returns their scales."""
        values = self._rng.integers(-127, 128, shape).astype(np.int8)
        count = shape[axis] if self._per_channel else 1
        scales = (0.001 + 0.01 * self._rng.random(count)).astype(np.float32)
        zeros = np.zeros(count, np.int8)
        if self._unsigned_weights:
            values, zeros = values.view(np.uint8) ^ np.uint8(128), np.full(count, 128, np.uint8)
        self.constant(f"{name}_w", values)
        self.constant(f"{name}_ws", scales if self._per_channel else scales[0])
        self.constant(f"{name}_wz", zeros if self._per_channel else zeros[0])
        axis_attribute = {"axis": axis} if self._per_channel else {}
        out = self.node("DequantizeLinear", [f"{name}_w", f"{name}_ws", f"{name}_wz"],
                        f"{name}_wd", **axis_attribute)
        return out, np.broadcast_to(scales, (shape[axis],))

    def bias(self, name: str, scales: np.ndarray, limit: int = 20000) -> str:
        """Adds an int32 bias of the given scales."""
        values = self._rng.integers(-limit, limit, scales.size).astype(np.int32)
        self.constant(f"{name}_b", values)
        self.constant(f"{name}_bs", scales if self._per_channel else scales[0])
        self.constant(f"{name}_bz", np.zeros(scales.size if self._per_channel else (), np.int32))
        return self.node("DequantizeLinear", [f"{name}_b", f"{name}_bs", f"{name}_bz"],
                         f"{name}_bd", **({"axis": 0} if self._per_channel else {}))

    def _layer(self, op: str, x: str, shape: tuple[int, ...], axis: int, name: str | None,
               bias: bool, **attributes) -> str:
        self._count += 1
        name = name or f"{op.lower()}{self._count}"
        weights, scales = self.weights(name, shape, axis)
        inputs = [x, weights]
        if bias:
            inputs.append(self.bias(name, self._scales[x] * scales))
        taps = np.prod(shape) / shape[axis]
        out = self.node(op, inputs, name, **attributes)
        self._spread[out] = float(self._scales[x] * scales.mean() * 74 * 100 * np.sqrt(taps))
        return out

    def conv(self, x: str, channels: int, filters: int, kernel: tuple[int, int] = (1, 1), *,
             name: str | None = None, bias: bool = True, **attributes) -> str:
        """Adds a Conv with random weights; ``attributes`` are the node's."""
        return self._layer("Conv", x, (filters, channels, *kernel), 0, name, bias, **attributes)

    def gemm(self, x: str, features: int, filters: int, *, name: str | None = None,
             bias: bool = True, trans_b: bool = True, **attributes) -> str:
        """Adds a Gemm with random weights."""
        shape, axis = ((filters, features), 0) if trans_b else ((features, filters), 1)
        return self._layer("Gemm", x, shape, axis, name, bias, transB=int(trans_b), **attributes)

    def matmul(self, x: str, features: int, filters: int, *, name: str | None = None) -> str:
        """Adds a MatMul with random weights."""
        return self._layer("MatMul", x, (features, filters), 1, name, False)

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        """Adds a Reshape."""
        self._count += 1
        target = self.constant(f"shape{self._count}", np.array(shape, np.int64))
        return self.node("Reshape", [x, target])

    def output(self, x: str, kind: int = TensorProto.FLOAT) -> None:
        """Makes a tensor an output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(x, kind, None))

    def build(self, name: str = "network") -> onnx.ModelProto:
        """The model."""
        graph = helper.make_graph(
            self.nodes, name, self._inputs, self._outputs,
            [numpy_helper.from_array(value, key) for key, value in self.initializers.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)],
                                 ir_version=8)


def run_quantized(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray],
                  sources: Sequence[Tensor], target: Tensor, *, opset: int = 17) -> np.ndarray:
    """What onnxruntime makes of int8 [C, H, W] arrays between quantizers: int8, of ``target``.

    ``nodes`` read ``<name>_d`` for each array, and the last of them makes ``y``. ``sources``, in
    the order of ``arrays``, and ``target`` give the quantizations.
    """
    given, initial, before = {}, {}, []
    for (name, values), tensor in zip(arrays.items(), sources, strict=True):
        given[name] = (values.view(np.uint8) ^ np.uint8(128) if tensor.unsigned else values)[None]
        before.append(helper.make_node("DequantizeLinear", [name, f"{name}_s", f"{name}_z"],
                                       [f"{name}_d"]))
        initial |= _quantization(name, tensor)
    initial |= _quantization("y", target)
    after = helper.make_node("QuantizeLinear", ["y", "y_s", "y_z"], ["y_q"])
    graph = helper.make_graph(
        [*before, *nodes, after], "rule",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype),
                                       value.shape) for name, value in given.items()],
        [helper.make_empty_tensor_value_info("y_q")],
        [numpy_helper.from_array(value, name) for name, value in initial.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return to_int8(GoldenSession(model).run(given)["y_q"])[0]


def _quantization(name: str, tensor: Tensor) -> dict[str, np.ndarray]:
    zero = tensor.zero_point + 128 * tensor.unsigned
    return {f"{name}_s": np.asarray(tensor.scale, np.float32),
            f"{name}_z": np.asarray(zero, np.uint8 if tensor.unsigned else np.int8)}


def conv_model(rng: np.random.Generator, *, channels: int = 3, size: tuple[int, int] = (6, 6),
               filters: int = 4, kernel: tuple[int, int] = (3, 3), bias: bool = True,
               unsigned: bool = False, per_channel: bool = True, unsigned_weights: bool = False,
               **attributes) -> onnx.ModelProto:
    """A model of one convolution: input ``x``, Conv ``conv``, quantized output ``conv_q``."""
    b = QdqBuilder(rng, unsigned=unsigned, per_channel=per_channel,
                   unsigned_weights=unsigned_weights)
    x = b.input("x", (1, channels, *size))
    b.output(b.quantize(b.conv(x, channels, filters, kernel, name="conv", bias=bias, **attributes)))
    return b.build()


def quantize_dynamically(model: onnx.ModelProto, *, per_channel: bool, unsigned: bool,
                         reduce_range: bool = False) -> onnx.ModelProto:
    """What onnxruntime's dynamic quantizer makes of a float model; ``unsigned`` are its weights."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.onnx" for name in ("float", "int8")]
        onnx.save(model, paths[0])
        quantize_dynamic(paths[0], paths[1], per_channel=per_channel, reduce_range=reduce_range,
                         weight_type=QuantType.QUInt8 if unsigned else QuantType.QInt8)
        return onnx.load(paths[1])


def random_inputs(rng: np.random.Generator, model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Float inputs that use the whole range of the quantized ones, symbols taken as 1."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if kind != np.float32:
            info = np.iinfo(kind)
            inputs[value.name] = rng.integers(info.min, info.max + 1, shape).astype(kind)
            continue
        scale = constants.get(f"{value.name}_scale")
        zero = constants.get(f"{value.name}_zero")
        if scale is None or zero is None:
            inputs[value.name] = rng.standard_normal(shape).astype(np.float32)
            continue
        low = -int(numpy_helper.to_array(zero)) - (128 if zero.data_type == TensorProto.INT8 else 0)
        steps = low + 256 * rng.random(shape)
        inputs[value.name] = (steps * numpy_helper.to_array(scale)).astype(np.float32)
    return inputs


def run_plan(plan, inputs: dict[str, np.ndarray]) -> tuple[dict, list[dict]]:
    """Every ONNX tensor that passes between segments, and what each graph's tensors hold."""
    values, inner = dict(inputs), []
    for segment in plan.segments:
        if isinstance(segment, HostPart):
            values |= segment.program.load().run(
                {name: values[name] for name in segment.inputs})
            continue
        inner.append(reference.run(segment, {
            edge.tensor: segment.enter(edge, values[edge.name]) for edge in segment.inputs}))
        for edge in segment.outputs:
            values[edge.name] = segment.leave(edge, inner[-1][edge.tensor])
    return values, inner


def golden_plan(model, rng):
    """The partition of a model, compared with onnxruntime where that is exact."""
    plan = partition(model)
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(rng, plan.model.proto))
    return plan


def layers_of(plan, kind):
    """Those of a kind on the accelerator."""
    return [layer for graph in plan.graphs for layer in graph.layers if isinstance(layer, kind)]


def assert_plan_is_golden(plan, inputs: dict[str, np.ndarray], *, exact: bool = True) -> int:
    """Every quantized tensor of the accelerator, all that passes between segments, and the outputs
    are byte for byte what onnxruntime makes of the whole model. Returns how many values were
    compared."""
    names = [name for graph in plan.graphs for name in graph.tensors if name in plan.model.tensors]
    session = plan.model.golden(names)
    if exact:
        assert session.float_layers == ()
    golden = session.run(inputs)
    whole = plan.model.golden().run(inputs)
    values, inner = run_plan(plan, inputs)
    count = 0
    for graph, tensors in zip(plan.graphs, inner, strict=True):
        for name, tensor in graph.tensors.items():
            found = tensor.to_model(tensors[name])
            if name in golden:
                np.testing.assert_array_equal(found, golden[name], err_msg=name, strict=True)
                count += found.size
    for name, value in values.items():
        if name in golden:
            np.testing.assert_array_equal(value, golden[name], err_msg=name, strict=True)
    for name, value in whole.items():
        if name not in inputs:
            np.testing.assert_array_equal(values[name], value, err_msg=name, strict=True)
            count += value.size
    return count


def float_cnn(rng: np.random.Generator) -> onnx.ModelProto:
    """A small float network: strided convolutions with Relu and Clip, Flatten, two Gemm, Softmax.

    Input ``x`` [batch, 3, 12, 12], output ``y`` [batch, 5].
    """
    def random(*shape: int) -> np.ndarray:
        fan_in = np.prod(shape[1:]) or 1
        return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    initial = {"w1": random(8, 3, 3, 3), "b1": random(8), "w2": random(12, 8, 3, 3),
               "b2": random(12), "w3": random(6, 12, 1, 1), "lo": np.float32(0),
               "hi": np.float32(6), "w4": random(10, 6 * 3 * 3), "b4": random(10),
               "w5": random(10, 5), "b5": random(5)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1],
                         strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", pads=[0, 1, 1, 0],
                         strides=[2, 2]),
        helper.make_node("Clip", ["c2", "lo", "hi"], ["r2"], name="clip2"),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], name="conv3"),
        helper.make_node("Flatten", ["c3"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["g1"], name="fc1", transB=1),
        helper.make_node("Relu", ["g1"], ["r4"], name="relu4"),
        helper.make_node("Gemm", ["r4", "w5", "b5"], ["g2"], name="fc2"),
        helper.make_node("Softmax", ["g2"], ["y"], name="softmax"),
    ]
    graph = helper.make_graph(
        nodes, "float_cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initial.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
