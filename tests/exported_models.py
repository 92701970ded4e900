"""Quantized networks as exporters of quantization-aware training write them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["as_exported", "exported_cnn", "exported_mlp"]


class _Graph:
    def __init__(self, rng, *, weights, bias, clips, unsigned, per_channel, constant_nodes):
        self.rng = rng
        self.weights, self.bias, self.clips = weights, bias, clips
        self.unsigned, self.per_channel = unsigned, per_channel
        self.constant_nodes = constant_nodes
        self.nodes, self.constants, self.scales = [], {}, {}

    def constant(self, name, values):
        values = np.asarray(values)
        if self.constant_nodes and values.ndim == 0:
            self.nodes.append(helper.make_node("Constant", [], [name],
                                               value=numpy_helper.from_array(values)))
        else:
            self.constants[name] = values
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"/{output}/{op}",
                                           **attributes))
        return output

    def _pair(self, x, name, scale, zero, bounds, **axis):
        """QuantizeLinear, Clip where there are bounds, DequantizeLinear."""
        parameters = [self.constant(f"{name}.scale", scale), self.constant(f"{name}.zero", zero)]
        y = self.node("QuantizeLinear", [x, *parameters], f"{name}.q", **axis)
        if bounds is not None:
            low, high = (self.constant(f"{name}.{side}", zero.dtype.type(bound))
                         for side, bound in zip(("low", "high"), bounds))
            y = self.node("Clip", [y, low, high], f"{name}.clip")
        y = self.node("DequantizeLinear", [y, *parameters], f"{name}.dq", **axis)
        self.scales[y] = scale
        return y

    def quantize(self, x, scale, *, relu=False):
        """An activation; ``clips`` leave it 6 bits."""
        unsigned = self.unsigned and relu
        zero = np.uint8(0) if unsigned else np.int8(0)
        bounds = None if not self.clips else (0, 63) if unsigned else (-32, 31)
        if bounds is not None:
            scale *= 4
        return self._pair(x, f"{x}.act", np.float32(scale), zero, bounds)

    def layer(self, op, x, shape, name, *, group=1, **attributes):
        """A Conv, or a Gemm with weights of [outputs, inputs]."""
        count, fan_in = shape[0], int(np.prod(shape[1:]))
        real = self.rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(fan_in))
        across = tuple(range(1, real.ndim)) if self.per_channel else None
        scale = (np.abs(real).max(axis=across) / 127).astype(np.float32)
        axis = {"axis": 0} if self.per_channel else {}
        zero = np.zeros(scale.shape, np.int8) if self.per_channel else np.int8(0)
        if self.weights == "float":
            weights = self._pair(self.constant(f"{name}.weight", real), f"{name}.weight",
                                 scale, zero, (-127, 127), **axis)
        else:
            spread = scale.reshape(-1, *[1] * (real.ndim - 1)) if self.per_channel else scale
            values = np.clip(np.rint(real / spread), -127, 127).astype(np.int8)
            weights = self.node("DequantizeLinear", [
                self.constant(f"{name}.weight", values), self.constant(f"{name}.scale", scale),
                self.constant(f"{name}.zero", zero)], f"{name}.weight.dq", **axis)
        bias = (0.3 * self.rng.standard_normal(count)).astype(np.float32)
        inputs = [x, weights]
        if self.bias == "float":
            inputs.append(self.constant(f"{name}.bias", bias))
        elif self.bias == "int32":
            unit = np.broadcast_to(self.scales[x] * scale, count).astype(np.float32)
            unit = unit if self.per_channel else unit[0]
            inputs.append(self.node("DequantizeLinear", [
                self.constant(f"{name}.bias", np.rint(bias / unit).astype(np.int32)),
                self.constant(f"{name}.bias.scale", unit),
                self.constant(f"{name}.bias.zero", np.zeros(unit.shape, np.int32))],
                f"{name}.bias.dq", **axis))
        if op == "Conv":
            attributes |= {"group": group, "kernel_shape": shape[2:]}
        else:
            attributes |= {"transB": 1}
        return self.node(op, inputs, f"{name}.out", **attributes)

    def model(self, shape, result, opset):
        self.nodes[-1].output[0] = "output"
        graph = helper.make_graph(
            self.nodes, "exported",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, result)],
            [numpy_helper.from_array(values, name) for name, values in self.constants.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)],
                                 ir_version=8)


def exported_cnn(seed=0, *, weights="int8", bias="int32", clips=False, unsigned=True,
                 per_channel=True, constant_nodes=True, flatten=True, opset=17):
    """Convolution, depthwise convolution, sum, pooling and a fully connected layer.

    Parameters
    ----------
    weights : ``int8``, or ``float`` with QuantizeLinear and Clip behind
    bias : ``int32`` behind DequantizeLinear, ``float`` or ``None``
    clips : Clip between QuantizeLinear and DequantizeLinear of activations, for fewer bits
    unsigned : uint8 activations behind Relu, else int8
    constant_nodes : scales and zero points of activations as Constant nodes, else initializers
    flatten : a fully connected layer at the end, behind a Flatten that is not quantized again
    """
    graph = _Graph(np.random.default_rng([seed, 11]), weights=weights, bias=bias, clips=clips,
                   unsigned=unsigned, per_channel=per_channel, constant_nodes=constant_nodes)
    x = graph.quantize("input", 0.03)
    x = graph.layer("Conv", x, (8, 3, 3, 3), "first", pads=[1] * 4, strides=[1, 1])
    x = graph.quantize(graph.node("Relu", [x], "first.relu"), 0.02, relu=True)
    y = graph.layer("Conv", x, (8, 1, 3, 3), "depthwise", group=8, pads=[1] * 4)
    y = graph.quantize(y, 0.03)
    y = graph.layer("Conv", y, (8, 8, 1, 1), "pointwise")
    y = graph.quantize(y, 0.03)
    x = graph.quantize(graph.node("Relu", [graph.node("Add", [x, y], "sum")], "sum.relu"), 0.03,
                       relu=True)
    x = graph.node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = graph.quantize(x, 0.03, relu=True)
    if flatten:
        scale = graph.scales[x]
        x = graph.node("Flatten", [x], "flat")
        graph.scales[x] = scale
        x = graph.quantize(graph.layer("Gemm", x, (10, 128), "classifier"), 0.05)
    return graph.model((1, 3, 8, 8), (1, 10) if flatten else (1, 8, 4, 4), opset)


def exported_mlp(seed=0, *, weights="int8", bias="int32", clips=False, unsigned=True,
                 per_channel=True, constant_nodes=True, opset=17):
    """Three fully connected layers, with options as for :func:`exported_cnn`."""
    graph = _Graph(np.random.default_rng([seed, 12]), weights=weights, bias=bias, clips=clips,
                   unsigned=unsigned, per_channel=per_channel, constant_nodes=constant_nodes)
    x = graph.quantize("input", 0.03)
    for number, (inputs, outputs) in enumerate([(64, 32), (32, 16)]):
        x = graph.layer("Gemm", x, (outputs, inputs), f"layer{number}")
        x = graph.quantize(graph.node("Relu", [x], f"relu{number}"), 0.02, relu=True)
    graph.quantize(graph.layer("Gemm", x, (10, 16), "classifier"), 0.03)
    return graph.model((1, 64), (1, 10), opset)


def as_exported(model, rng):
    """A quantizer's QDQ model as an exporter might have written it: some biases in float32, some
    activations of fewer bits."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}

    def made_by(name):
        return makers[name].op_type if name in makers else ""

    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 \
                or made_by(node.input[0]) != "DequantizeLinear" \
                or made_by(node.input[2]) != "DequantizeLinear" or rng.random() < 0.3:
            continue
        values, scale = (constants[name] for name in makers[node.input[2]].input[:2])
        name = f"{node.input[2]}_float"
        node.input[2] = name
        graph.initializer.append(numpy_helper.from_array((values * scale).astype(np.float32), name))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "QuantizeLinear" or rng.random() < 0.7:
            continue
        zero = int(constants[node.input[2]])
        info = np.iinfo(constants[node.input[2]].dtype)
        bounds = []
        for side, value in (("low", zero - rng.integers(20, 100)),
                            ("high", zero + rng.integers(20, 100))):
            bounds.append(f"{node.output[0]}_{side}")
            graph.initializer.append(numpy_helper.from_array(
                np.asarray(np.clip(value, info.min, info.max), info.dtype), bounds[-1]))
        clipped = node.output[0]
        node.output[0] = f"{clipped}_wide"
        nodes.append(helper.make_node("Clip", [node.output[0], *bounds], [clipped],
                                      name=f"{clipped}_clip"))
    del graph.node[:]
    graph.node.extend(nodes)
    return result
