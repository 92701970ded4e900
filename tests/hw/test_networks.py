"""Whole networks through the RTL, byte for byte."""


import numpy as np
import onnx
import onnx.utils
import pytest
from configs import CONFIGS, SWEPT
from models import quantize_model, random_inputs
from onnxruntime.quantization import QuantFormat
from places import MODELS
from sweeps import sweep
from tflite_networks import network

from weft import digits
from weft.bench.networks import NETWORKS
from weft.frontend.tflite.reader import read_file
from weft.hw.isa.presets import PRESETS
from weft.reference.golden import cpu_is_exact
from weft.runtime.compare import Verifier
from weft.runtime.session import InferenceSession

real_models = pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")


def check_frames(model, config, feeds):
    """Every layer of every frame, on the RTL, equals the functional device, and onnxruntime where
    its kernels are exact. Returns the sessions' last outputs."""
    with InferenceSession(model, config=config, keep_tensors=True) as session, \
            InferenceSession(model, config=config, keep_tensors=True,
                             device="functional") as functional:
        verifier = Verifier(session.plan)
        outputs = []
        for feed in feeds:
            frame, expected = (each.run_frame(feed, tensors=True) for each in (session, functional))
            assert frame.tensors.keys() == expected.tensors.keys() != set()
            for name, values in expected.tensors.items():
                np.testing.assert_array_equal(frame.tensors[name], values, err_msg=name)
            if cpu_is_exact():
                check = verifier.check(feed, frame.outputs, frame.tensors)
                assert check.mismatches == ()
            outputs.append(frame.outputs[0])
        return outputs


def test_digits_on_an_accelerator_without_a_vector_engine():
    images, _ = digits.load()
    config = PRESETS["tiny"].replace(vector_taps=0, counters=False, queue_depth=1,
                                     requant_lanes=1, axi_addr_width=18)
    check_frames(digits.MODEL, config, [{"input": image[None]} for image in images[:2]])


def test_tflite_networks():
    """By the rule of LiteRT's reference kernels, layer by layer."""
    config = CONFIGS["tiny_fip"].replace(fixed_point=True)
    for seed in range(6):
        content, values = network(seed, operators=8)
        inputs = [tensor.name for tensor in read_file(content).inputs]
        check_frames(content, config, [dict(zip(inputs, values, strict=True))])


# Pre-trained networks -------------------------------------------------------------------------

@pytest.fixture(scope="module")
def stem():
    """ResNet-8 up to its first residual addition: three 3x3 convolutions."""
    model = onnx.shape_inference.infer_shapes(onnx.load(MODELS / "ic_resnet8_int8.onnx"))
    add = next(node for node in model.graph.node if node.op_type == "Add")
    return onnx.utils.Extractor(model).extract_model(["input_1"], list(add.input))


@real_models
@pytest.mark.parametrize("name", SWEPT)
def test_first_layers_of_resnet8(name, stem):
    images = np.load(MODELS / "ic_resnet8_int8.npz")["input"]
    check_frames(stem, CONFIGS[name], [{"input_1": image[None]} for image in images[:2]])


def small_memory(config):
    """So little activation memory that the network has to be tiled."""
    return config.replace(activation_bytes=config.rows * 1536)


@real_models
@pytest.mark.parametrize("model, name", sweep(
    ("ic_resnet8_int8", "kws_dscnn_int8"), (*PRESETS, "tiled"),
    fast=lambda model, name: name == "base" or (model, name) == ("kws_dscnn_int8", "tiny")))
def test_pretrained_network(model, name):
    """All layers of two frames; and the results of all frames against the stored golden ones."""
    config = small_memory(PRESETS["small"]) if name == "tiled" else PRESETS[name]
    path = MODELS / f"{model}.onnx"
    archive = np.load(MODELS / f"{model}.npz")
    feeds = [{"input_1": frame[None]} for frame in archive["input"]]
    check_frames(path, config, feeds[:2])
    with InferenceSession(path, config=config) as session:
        for feed, golden in zip(feeds, archive["output"], strict=True):
            frame = session.run_frame(feed)
            np.testing.assert_array_equal(frame.outputs[0][0], golden)


# Topologies with random weights ---------------------------------------------------------------

@pytest.mark.parametrize("quant_format", [
    QuantFormat.QDQ, pytest.param(QuantFormat.QOperator, marks=pytest.mark.slow)])
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "resnet50"])
def test_network_with_random_weights(network, quant_format):
    rng = np.random.default_rng([len(network), 5])
    model = quantize_model(rng, NETWORKS[network](rng), quant_format=quant_format)
    check_frames(model, PRESETS["base"], [random_inputs(rng, model) for _ in range(2)])


@pytest.mark.slow
@pytest.mark.parametrize("device", ["functional", "verilator"])
def test_resnet50(device):
    """A frame of 224 x 224 pixels: about 20 million cycles, a minute or two on the RTL."""
    rng = np.random.default_rng(50)
    model = quantize_model(rng, NETWORKS["resnet50"](rng))
    feed = random_inputs(rng, model)
    with InferenceSession(model, config="base", device=device, keep_tensors=True) as session:
        frame = session.run_frame(feed, tensors=True)
        assert len(frame.tensors) == len(session.graph.layers) > 70
        if cpu_is_exact():
            check = Verifier(session.plan).check(feed, frame.outputs, frame.tensors)
            assert check.mismatches == ()
