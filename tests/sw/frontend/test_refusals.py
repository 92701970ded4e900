"""Files and models that the front end refuses, each with one message."""

import numpy as np
import onnx
import pytest
from frontend_checks import check, refused, rng_of
from models import QdqBuilder, conv_model, float_cnn
from onnx import TensorProto, helper, numpy_helper

from weft.errors import ModelError
from weft.frontend import load_graph


def replace_constant(model, name, value):
    """The model with another value for an initializer."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
            return model
    raise AssertionError(name)


def set_attribute(model, node, **values):
    """The model with other attributes for a node."""
    target, = (item for item in model.graph.node if item.name == node)
    kept = [item for item in target.attribute if item.name not in values]
    del target.attribute[:]
    target.attribute.extend(kept)
    target.attribute.extend(helper.make_attribute(key, value) for key, value in values.items())
    return model


# Refusals: files ----------------------------------------------------------------------------------

def test_missing_file_wrong(tmp_path):
    refused(tmp_path / "none.onnx", f"Model file '{tmp_path / 'none.onnx'}' does not exist")
    refused(tmp_path, f"Model file '{tmp_path}' is not a file")


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(range(256))])
def test_file_that_is_not_onnx_wrong(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    refused(path, "net.onnx is not an ONNX file")


def test_missing_external_data_wrong(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(conv_model(rng_of()), path, save_as_external_data=True, location="weights.bin",
              size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    refused(path, "net.onnx keeps its weights in external files that cannot be read: weights.bin")
    refused(onnx.load(path, load_external_data=False),
            "network keeps its weights in external files that were not loaded: weights.bin")


def test_float_model_wrong(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(float_cnn(rng_of()), path)
    refused(path, "net.onnx is a float model: quantize it with "
                  f"weft quantize {path} -o {tmp_path / 'net_int8.onnx'} --calibrate DATA "
                  f"(a folder of images, or an .npz file), or on the way with --quantize DATA")


def test_dynamically_quantized_model_wrong():
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dynamic"),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    refused(helper.make_model(graph, ir_version=8),
            "network is quantized dynamically (DynamicQuantizeLinear 'dynamic'): its scales are "
            "not known before it runs. Quantize the float model it was made of with weft quantize")


def test_invalid_model_wrong():
    model = conv_model(rng_of())
    model.graph.node[-1].input[0] = "nowhere"
    with pytest.raises(ModelError, match=r"^network is not a valid ONNX model: [^\n]+$"):
        load_graph(model)


def test_dynamic_image_size_wrong():
    b = QdqBuilder(rng_of())
    b.output(b.quantize(b.conv(b.input("x", (1, 3, "height", 6)), 3, 4)))
    refused(b.build(), "Input 'x' has the dynamic dimension 'height' at axis 2; only the batch may "
                       "be dynamic: fix it with onnxruntime.tools.make_dynamic_shape_fixed "
                       "--dim_param height --dim_value SIZE")


def test_nothing_to_accelerate_wrong():
    b = QdqBuilder(rng_of())
    b.output(b.input("x", (1, 3)))
    refused(b.build(), "network has no operator between quantized tensors that the accelerator "
                       "supports")


# Refusals: nodes ----------------------------------------------------------------------------------

def two_convs(between, **attributes):
    b = QdqBuilder(rng_of())
    y = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, name="one"))
    y = b.node(between, [y], "odd", **attributes)
    b._spread.pop(y, None)
    y = b.quantize(y, scale=0.1)
    b.output(b.quantize(b.conv(y, 4, 4, name="two")))
    return b.build()


@pytest.mark.parametrize("op", ["LogSoftmax", "GlobalLpPool", "LpNormalization"])
def test_operator_between_layers_wrong(op):
    refused(two_convs(op), f"{op} 'odd' is not supported on the accelerator")


def test_unnamed_node_is_called_by_its_output():
    model = two_convs("LogSoftmax")
    for node in model.graph.node:
        node.name = ""
    refused(model, "LogSoftmax 'odd' is not supported on the accelerator")


def test_three_dimensional_convolution_wrong():
    b = QdqBuilder(rng_of())
    weights, _ = b.weights("w", (4, 3, 3, 3, 3), 0)
    b.output(b.quantize(b.node("Conv", [b.input("x", (1, 3, 9, 9, 9)), weights], "conv"),
                        scale=0.1))
    refused(b.build(), "Conv 'conv' has an input of 5 dimensions; only 3 and 4 are supported")


def test_batch_wrong():
    b = QdqBuilder(rng_of())
    b.output(b.quantize(b.conv(b.input("x", (8, 3, 6, 6)), 3, 4, name="conv")))
    refused(b.build(), "Conv 'conv' has a batch of 8; only a batch of 1 is supported")


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_gemm_factor_wrong(name):
    b = QdqBuilder(rng_of())
    b.output(b.quantize(b.gemm(b.input("x", (1, 20)), 20, 7, name="fc", **{name: 0.5})))
    refused(b.build(), f"Gemm 'fc' has {name} 0.5; only 1 is supported")


def test_matmul_of_constant_first_wrong():
    b = QdqBuilder(rng_of())
    weights, _ = b.weights("w", (4, 4), 0)
    b.output(b.quantize(b.node("MatMul", [weights, b.input("x", (4, 4))], "mm"), scale=0.1))
    refused(b.build(), f"MatMul 'mm' has the constant '{weights}', which must be int8 or uint8 "
                       f"with one scale")


def test_weight_zero_point_wrong():
    refused(replace_constant(conv_model(rng_of()), "conv_wz", np.full(4, 3, np.int8)),
            "Conv 'conv' must have int8 weights of zero point 0, not 3")
    model = conv_model(rng_of(), unsigned_weights=True, per_channel=False)
    refused(replace_constant(model, "conv_wz", np.uint8(0)),
            "Conv 'conv' must have uint8 weights of zero point 128, not 0")


def test_weight_scale_axis_wrong():
    model = conv_model(rng_of(), channels=4)
    refused(set_attribute(model, "conv_wd", axis=1),
            "Conv 'conv' has weight scales that vary within an output channel; they must be per "
            "tensor or per output channel")
    model = conv_model(rng_of(), channels=3)
    refused(set_attribute(model, "conv_wd", axis=1),
            "DequantizeLinear 'conv_wd' has 4 scales on axis 1 of a tensor of shape [4, 3, 3, 3]")


def test_float_weights_wrong():
    b = QdqBuilder(rng_of())
    weights = b.constant("w", np.ones((4, 3, 1, 1), np.float32))
    b.output(b.quantize(b.node("Conv", [b.input("x", (1, 3, 6, 6)), weights], "conv"), scale=0.1))
    refused(b.build(), "Conv 'conv' has float32 weights; they must be int8 or uint8 behind a "
                       "DequantizeLinear")


def test_float_constant_added_wrong():
    b = QdqBuilder(rng_of())
    matmul = b.matmul(b.input("x", (1, 20)), 20, 7)
    added = b.node("Add", [matmul, b.constant("b", np.ones(7, np.float32))], "add")
    b.output(b.quantize(added))
    refused(b.build(), "Add 'add' has a float32 bias; it must be int32 behind a DequantizeLinear "
                       "of scale input scale x weight scale, or float32 right behind the "
                       "DequantizeLinear of the input")


def test_bias_scale_wrong():
    model = conv_model(rng_of(), per_channel=False)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    right = values["x_scale"] * values["conv_ws"]
    check(replace_constant(model, "conv_bs", np.float32(1.0005) * right))
    wrong = np.float32(0.5) * right
    refused(replace_constant(model, "conv_bs", wrong),
            f"Conv 'conv' must have a bias of scale {right:.6g} (input scale x weight scale) in "
            f"channel 0, not {wrong:.6g}")


def test_scale_of_a_zero_bias_does_not_matter():
    model = conv_model(rng_of(), per_channel=False)
    replace_constant(model, "conv_b", np.zeros(4, np.int32))
    layer, = load_graph(replace_constant(model, "conv_bs", np.float32(1))).layers
    assert not layer.bias.any()


def test_bias_zero_point_wrong():
    model = conv_model(rng_of(), per_channel=False)
    refused(replace_constant(model, "conv_bz", np.int32(2)),
            "Conv 'conv' must have an int32 bias of zero point 0, not int32 of zero point 2")


def test_int16_activations_wrong():
    model = conv_model(rng_of())
    refused(replace_constant(model, "conv_zero", np.int16(0)),
            "QuantizeLinear 'conv_q' has int16 values; only int8 and uint8 are supported")


def test_float16_scale_wrong():
    b = QdqBuilder(rng_of(), opset=19)
    x = b.node("Cast", ["x"], "half", to=TensorProto.FLOAT16)
    b.input("x", (1, 3, 6, 6))
    b.nodes = [node for node in b.nodes if node.op_type == "Cast"]
    b.constant("half_scale", np.float16(0.1))
    b.constant("half_zero", np.int8(0))
    b.node("QuantizeLinear", [x, "half_scale", "half_zero"], "half_q")
    b.output(b.dequantize("half"), TensorProto.FLOAT16)
    refused(b.build(), "QuantizeLinear 'half_q' must have a float32 scale, not float16")


def test_activation_per_channel_wrong():
    model = conv_model(rng_of(), filters=4)
    replace_constant(model, "conv_scale", np.full(4, 0.1, np.float32))
    replace_constant(model, "conv_zero", np.zeros(4, np.int8))
    refused(model, "QuantizeLinear 'conv_q' has 4 scales; an activation must have one")


def test_scale_that_is_not_positive_wrong():
    refused(replace_constant(conv_model(rng_of()), "conv_scale", np.float32(0)),
            "QuantizeLinear 'conv_q' must have positive scales, not 0.0")


def test_dequantized_with_another_scale_wrong():
    model = conv_model(rng_of())
    model.graph.initializer.append(numpy_helper.from_array(np.float32(9), "other"))
    node, = (node for node in model.graph.node if node.name == "x_d0")
    node.input[1] = "other"
    refused(model, "DequantizeLinear 'x_d0' must use the scale and zero point that 'x_q' was "
                   "quantized with")


def test_scale_out_of_range_wrong():
    model = conv_model(rng_of(), per_channel=False, bias=False)
    replace_constant(model, "conv_ws", np.float32(1e30))
    replace_constant(model, "conv_scale", np.float32(1e-30))
    refused(model, "Conv 'conv': input scale x weight scale / output scale must be finite in "
                   "float32")


def test_layers_without_quantization_between_wrong():
    b = QdqBuilder(rng_of())
    y = b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, name="one")
    weights, _ = b.weights("w", (4, 4, 1, 1), 0)
    b.output(b.quantize(b.node("Conv", [y, weights], "two"), scale=0.1))
    refused(b.build(), "Conv 'two' reads the output of Conv 'one', which must have a "
                       "QuantizeLinear after it")


def test_unknown_attribute_wrong():
    b = QdqBuilder(rng_of())
    b.output(b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, name="conv")))
    model = set_attribute(b.build(), "conv", magic=1)
    refused(model, "network is not a valid ONNX model: Unrecognized attribute: magic for operator "
                   "Conv")
