"""The networks for small devices are those of their papers."""

from math import prod

import numpy as np
import onnx
import pytest
from places import MODELS

from weft.bench.mobile import MOBILE
from weft.bench.networks import autoencoder

# Parameters and multiply-accumulates as in torchvision; of YOLOv8n by Ultralytics, whose layer
# that decodes boxes has 16 more.
PUBLISHED = {
    "mobilenet_v2": (3_504_872, 300_774_272),
    "mobilenet_v3_small": (2_542_856, 56_510_400),
    "efficientnet_b0": (5_288_548, 385_814_752),
    "mnasnet_05": (2_218_512, 104_455_968),
    "shufflenet_v2_05": (1_366_792, 40_476_448),
    "yolov8n": (3_157_200 - 16, 1_092_864_000),
}


def products(model):
    """Of each Conv and Gemm: shape of its weights and output, group, stride, whether a BatchNorm
    was folded into it, as into all but those on single pixels and at the outputs."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
              for value in (*inferred.value_info, *inferred.output)}
    weights = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    outputs = {value.name for value in inferred.output}
    for node in inferred.node:
        if node.op_type in ("Conv", "Gemm"):
            values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            name, shape = node.output[0], shapes[node.output[0]]
            normalized = (node.op_type == "Conv" and name not in outputs
                          and shape[2:] != (1, 1))
            yield (weights[node.input[1]], shape, values.get("group", 1),
                   tuple(values.get("strides", [1, 1])), normalized)


@pytest.mark.parametrize("name", MOBILE)
def test_parameters_and_macs_are_the_published_ones(name):
    parameters = macs = 0
    for weights, shape, _group, _stride, normalized in products(
            MOBILE[name](np.random.default_rng(0))):
        # A bias, or the scale and bias that it came from.
        parameters += prod(weights) + weights[0] * (2 if normalized else 1)
        macs += prod(weights[1:]) * prod(shape)
    assert (parameters, macs) == PUBLISHED[name]


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
@pytest.mark.parametrize("name, file", [
    ("mobilenet_v3_small", "tv_mobilenet_v3_small"), ("shufflenet_v2_05", "tv_shufflenet_v2")])
def test_layers_are_those_of_torchvision(name, file):
    """Those of an export: weights, groups and strides, layer by layer."""
    given = onnx.load(MODELS / "real" / f"{file}.onnx").graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in given.initializer}
    real = {node.output[0]: node for node in given.node}
    expected = []
    for node in given.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        weights = shapes[real[node.input[1]].input[0]]
        expected.append((weights, values.get("group", 1), tuple(values.get("strides", [1, 1]))))
    ours = [(weights, group, stride) for weights, _shape, group, stride, _normalized in products(
        MOBILE[name](np.random.default_rng(0)))]
    assert sorted(ours) == sorted(expected)


def test_autoencoder_is_that_of_mlperf_tiny():
    model = autoencoder(np.random.default_rng(0))
    sizes = [weights[1] for weights, *_ in products(model)]
    assert sizes == [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    assert sum(prod(weights) for weights, *_ in products(model)) == 264_192
