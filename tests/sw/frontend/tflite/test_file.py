"""What is wrong with a TFLite file is told in one line, whatever is in it."""

import re

import numpy as np
import pytest
import tflite
from tflite_cases import CASES, case
from tflite_models import TfliteBuilder
from tflite_networks import network

from weft.errors import InputError, ModelError
from weft.errors.limits import TENSOR_ELEMENTS
from weft.frontend import partition
from weft.frontend.tflite.reader import read_file
from weft.frontend.tflite.rules import exact_once, round_away
from weft.hw.isa.commands import Rounding
from weft.reference import quantized_multiplier, scale_fixed_point

CURE = "representative_dataset"


def conv(*, x=np.int8, weights=np.int8, bias=np.int32, y=np.int8, weight_zero=0, options=True,
         activation=0, size=5, change=None):
    """A CONV_2D; what is not given is as it should be."""
    b = TfliteBuilder()
    quantized = {"scale": 0.1} if np.dtype(x).kind in "iu" else {}
    source = b.input((1, size, size, 3), dtype=x, **quantized)
    values = np.ones((4, 3, 3, 3)).astype(weights)
    kernel = b.constant(values, 0.01 if np.dtype(weights).kind == "i" else None, weight_zero)
    offsets = b.constant(np.ones(4).astype(bias), 0.001 if bias == np.int32 else None)
    target = b.tensor((1, size - 2, size - 2, 4), dtype=y, **quantized)
    fields = {"Padding": tflite.Padding.VALID, "StrideH": 1, "StrideW": 1,
              "FusedActivationFunction": activation} if options else {}
    b.operator("CONV_2D", [source, kernel, offsets], [target], "Conv2DOptions" if options else "",
               version=3, **fields)
    b.output(target)
    if change is not None:
        change(b)
    return b.build()


def unary(op, options="", **fields):
    """A CONV_2D and another operator behind it."""
    def change(b):
        target = b.tensor((1, 3, 3, 4), 0.1)
        b.operator(op, [3], [target], options, **fields)
        b.output(target)
    return conv(change=change)


def many(count):
    def change(b):
        b.subgraphs = count
    return change


def old(b):
    b.version = 2


WRONG = {
    "float": (conv(x=np.float32, weights=np.float32, bias=np.float32, y=np.float32),
              r"model must compute in int8, not float32 \(CONV_2D 't3'\): convert it .*" + CURE),
    "hybrid": (conv(x=np.float32, bias=np.float32, y=np.float32),
               r"model must compute in int8, not float32 with int8 weights \(CONV_2D 't3'\): .*"
               + CURE),
    "float16": (conv(x=np.float32, weights=np.float16, bias=np.float32, y=np.float32),
                r"model must compute in int8, not float16 \(CONV_2D 't3'\): .*" + CURE),
    "int16": (conv(x=np.int16, bias=np.int64, y=np.int16),
              r"model must compute in int8, not int16 \(CONV_2D 't3'\): .*" + CURE),
    "uint8": (conv(x=np.uint8, weights=np.uint8, y=np.uint8),
              r"model must compute in int8, not uint8 \(CONV_2D 't3'\), as files of TensorFlow 1 "
              r"do: .*" + CURE),
    "weight zero point": (conv(weight_zero=3),
                          r"CONV_2D 't3' must have weights of zero point 0, not 3"),
    "bias type": (conv(bias=np.int64), r"CONV_2D 't3' must have an int32 bias of 4 values, not "
                                       r"int64 \[4\]"),
    "no options": (conv(options=False), r"CONV_2D 't3' must have Conv2DOptions, which the file "
                                        r"lacks"),
    "activation": (conv(activation=tflite.ActivationFunctionType.TANH),
                   r"CONV_2D 't3' must have a fused activation of NONE, RELU, RELU6 or "
                   r"RELU_N1_TO_1, not TANH"),
    "subgraphs": (conv(change=many(2)), r"model must have one subgraph, not 2: convert a single "
                                        r"function without control flow"),
    "no subgraph": (conv(change=many(0)), r"model must have one subgraph, not 0: .*"),
    "version": (conv(change=old), r"model must be of schema version 3, not 2"),
    "custom": (unary("CUSTOM", custom="Flex\x1bOp"),
               r"Flex\\x1bOp 't4' is a custom operator, which neither accelerator nor host can "
               r"run: convert the model without it"),
    "unsupported": (unary("COS"), r"COS 't4' is not supported, on the accelerator or the host: "
                                  r"convert the model without it"),
    "softmax": (unary("SOFTMAX", "SoftmaxOptions", Beta=1.0),
                r"SOFTMAX 't4' must have an output of scale 1/256 and zero point -128, not 0.1 and "
                r"0"),
    "no file": (b"\x1c\0\0\0TFL2" + bytes(60), r"model is not a TFLite file: its bytes 4 to 7 must "
                                               r"be 'TFL3', not b'TFL2'"),
    "empty": (b"", r"model is not a TFLite file: .* not b''"),
    "mark alone": (b"\x1c\0\0\0TFL3", r"model is damaged or cut short: .*"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name):
    content, message = WRONG[name]
    with pytest.raises(ModelError, match=f"^{message}"):
        partition(content)


def test_tensor_shapes_wrong():
    for shape, message in (((1, 0, 2, 2), "sizes of at least 1, not \\[1, 0, 2, 2\\]"),
                           ((1, 1 << 14, 1 << 14, 4), f"at most {TENSOR_ELEMENTS:,} elements"),
                           ((1,) * 9, "at most 8 sizes")):
        b = TfliteBuilder()
        x = b.input(shape, 0.1)
        b.operator("RELU", [x], [b.tensor(shape, 0.1)])
        b.output(1)
        with pytest.raises(ModelError, match=message):
            partition(b.build())


def test_constants_must_have_all_their_bytes():
    b = TfliteBuilder()
    x = b.input((1, 4), 0.1)
    weights = b.tensor((2, 4), 0.1, data=np.zeros(7, np.int8))
    y = b.tensor((1, 2), 0.1)
    b.operator("FULLY_CONNECTED", [x, weights], [y], "FullyConnectedOptions")
    b.output(y)
    with pytest.raises(ModelError, match=r"^model: tensor 't1' must have 8 bytes of data for int8 "
                                         r"\[2, 4\], not 7$"):
        partition(b.build())


@pytest.mark.parametrize("scale, zero, message", [
    (0.0, 0, "positive scales, not 0"), (np.inf, 0, "positive scales, not inf"),
    (-1.0, 0, "positive scales, not -1"), (0.1, 200, "zero point of type int8, not 200"),
    ([0.1, 0.2, 0.3], 0, "one scale, or one for each of dimension 0, not 3"),
])
def test_quantization_wrong(scale, zero, message):
    b = TfliteBuilder()
    x = b.input((1, 2, 2, 3), scale, zero)
    b.operator("RELU", [x], [b.tensor((1, 2, 2, 3), 0.1)])
    b.output(1)
    with pytest.raises(ModelError, match=re.escape(message)):
        partition(b.build())


def test_order_of_operators_wrong():
    b = TfliteBuilder()
    x, inner, y = b.input((1, 4), 0.1), b.tensor((1, 4), 0.1), b.tensor((1, 4), 0.1)
    b.operator("RELU", [inner], [y])
    b.operator("RELU", [x], [inner])
    b.output(y)
    with pytest.raises(ModelError, match=r"^model: RELU 't2' reads tensor 't1', which nothing "
                                         r"before it makes$"):
        partition(b.build())


def test_names_need_not_be_unique():
    b = TfliteBuilder()
    x = b.input((1, 4), 0.1)
    first, second = (b.tensor((1, 4), 0.1, name="same;other") for _ in range(2))
    b.operator("RELU", [x], [first])
    b.operator("RELU6", [first], [second])
    b.output(second)
    file = read_file(b.build())
    assert [operator.name for operator in file.operators] == ["same", "same#2"]
    assert len({tensor.name for tensor in file.tensors}) == 3


def test_paths_wrong(tmp_path):
    missing = tmp_path / "none.tflite"
    with pytest.raises(ModelError, match=r"^Model file '.*none.tflite' does not exist$"):
        partition(missing)
    with pytest.raises(ModelError, match=r"^Model file '.*' is not a file$"):
        read_file(tmp_path)
    with pytest.raises(InputError, match=r"^Rule must be one of tflite, tflite-micro, "
                                         r"onnxruntime, not mine$"):
        partition(conv(), rule="mine")


def whole_or_one_line(content):
    """A damaged file is read, or refused in one line."""
    message = ""
    try:
        partition(content)
    except ModelError as error:
        message = str(error)
    assert "\n" not in message


def test_files_cut_short():
    content, _ = network(1)
    for length in range(0, len(content), 97):
        whole_or_one_line(content[:length])


@pytest.mark.parametrize("seed", range(60))
def test_damaged_files(seed):
    """Bytes changed anywhere, most of all among the tables, which lie in front."""
    rng = np.random.default_rng(seed)
    ops = list(CASES)
    content = bytearray(network(seed)[0] if seed % 2 else case(ops[seed % len(ops)], seed)[0])
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(8, len(content)))
        content[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
    whole_or_one_line(bytes(content))


def test_rounding_once_is_rounding_in_float64():
    """The multipliers of FULLY_CONNECTED, at all sums around the steps of the result."""
    refused = nearest = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ratio = [np.exp(rng.uniform(-9, 1)), 2.0 ** -int(rng.integers(0, 14)),
                 int(rng.integers(1, 64)) / (2 * int(rng.integers(1, 500))),     # with many ties
                 0.013 * float(np.float32(rng.uniform(0.001, 0.1)))][seed % 4]
        limit, zero = int(rng.choice([50, 5000, 1 << 20, 1 << 24])), int(rng.integers(-128, 128))
        steps = np.arange(-129, 130) - zero
        sums = np.concatenate([np.ceil((steps - 0.5) / ratio) + near for near in range(-3, 4)])
        sums = np.clip(sums, -limit, limit).astype(np.int64)
        wanted = np.clip(round_away(sums * ratio), -128 - zero, 127 - zero)

        def once(multiplier, shift, sums=sums, zero=zero):
            result = scale_fixed_point(sums, multiplier, shift, Rounding.FIXED_POINT_ONCE)
            return np.clip(result, -128 - zero, 127 - zero)

        nearest += not np.array_equal(once(*quantized_multiplier(ratio)), wanted)
        try:
            chosen = exact_once(np.array([ratio]), np.array([limit]), zero)
        except ValueError:      # float64 itself breaks ties one way here, another there
            refused += 1
            continue
        np.testing.assert_array_equal(once(*chosen), wanted)
    assert refused < 10 < nearest
