"""Damaged model files: small valid models, changed at random in their bytes or in their fields."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from models import QdqBuilder, conv_model
from onnx import TensorProto, helper

__all__ = ["mutant", "sound_models"]


def sound_models() -> dict[str, onnx.ModelProto]:
    """The models that mutants are made from, by name; all run."""
    return {"conv": conv_model(np.random.default_rng(0)), "planes": _planes(),
            "features": _features(), "integer": _integer(), "parts": _parts()}


def _planes() -> onnx.ModelProto:
    b = QdqBuilder(np.random.default_rng(1), unsigned=True)
    x = b.input("x", ("batch", 4, 6, 6))
    a = b.quantize(b.node("Relu", [b.conv(x, 4, 4, (3, 3), pads=[1, 1, 1, 1])]))
    c = b.quantize(b.conv(a, 1, 4, (3, 3), pads=[1, 1, 1, 1], group=4))
    c = b.quantize(b.node("Add", [a, c]))
    c = b.quantize(b.node("Mul", [c, b.quantize(b.node("Sigmoid", [c]))]))
    pads = b.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    c = b.node("Pad", [c, pads])
    c = b.quantize(b.node("MaxPool", [c], kernel_shape=[2, 2], strides=[2, 2]))
    roi, scales = b.constant("roi", np.zeros(0, np.float32)), \
        b.constant("scales", np.array([1, 1, 2, 2], np.float32))
    c = b.quantize(b.node("Resize", [c, roi, scales], mode="nearest",
                          coordinate_transformation_mode="asymmetric", nearest_mode="floor"))
    c = b.quantize(b.node("AveragePool", [c], kernel_shape=[3, 3], strides=[2, 2]))
    b.output(b.quantize(b.conv(c, 4, 3)))
    return b.build()


def _features() -> onnx.ModelProto:
    b = QdqBuilder(np.random.default_rng(2))
    x = b.input("x", (1, 3, 4, 4))
    x = b.quantize(b.node("GlobalAveragePool", [b.quantize(b.conv(x, 3, 8, (2, 2)))]))
    x = b.node("Clip", [b.quantize(b.gemm(b.reshape(x, (1, 8)), 8, 6)),
                        b.constant("low", np.float32(0)), b.constant("high", np.float32(3))])
    b.output(b.node("Softmax", [b.quantize(b.matmul(b.quantize(x), 6, 5))]))
    return b.build()


def _parts() -> onnx.ModelProto:
    b = QdqBuilder(np.random.default_rng(3))
    x, y = b.input("x", (1, 4, 4, 4)), b.input("y", (1, 4, 4, 4))
    x = b.quantize(b.node("Concat", [b.quantize(b.conv(x, 4, 4)), y], axis=1))
    x = b.quantize(b.node("Erf", [b.node("Transpose", [x], perm=[0, 1, 3, 2])]))
    x = b.quantize(b.conv(x, 8, 4))
    b.output(x)
    b.output(b.node("Flatten", [x]))
    return b.build()


def _integer() -> onnx.ModelProto:
    rng = np.random.default_rng(4)
    constants = {
        "xs": np.float32(0.1), "xz": np.uint8(10), "ws": np.float32([0.01, 0.02, 0.03]),
        "w": rng.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8), "wz": np.zeros(3, np.int8),
        "ys": np.float32(0.2), "yz": np.uint8(100), "b": np.int32([1, -2, 300])}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="q"),
        helper.make_node("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["c"],
                         name="c", kernel_shape=[3, 3]),
        helper.make_node("QLinearAdd", ["c", "ys", "yz", "c", "ys", "yz", "xs", "xz"], ["a"],
                         name="a", domain="com.microsoft"),
        helper.make_node("DequantizeLinear", ["a", "xs", "xz"], ["y"], name="y")]
    graph = helper.make_graph(
        nodes, "integer", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 5, 5))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name)
         for name, value in constants.items()])
    return helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)])


_INTEGERS = (0, 1, 2, 3, 4, 6, 7, 8, 16, 99, 127, 255, 1000, 10 ** 6, 2 ** 31 - 1, 2 ** 31,
             2 ** 40, 2 ** 62, -1, -2, -128, -2 ** 31, -2 ** 63)
_FLOATS = (0.0, -0.0, -1.0, 1.0, 2.0, 0.5, 1e-30, 1e-45, 1e-8, 1e8, 1e30, 3e38, float("inf"),
           float("-inf"), float("nan"))
_TEXTS = ("", "x", "y", "conv", "\n", "\x1b[31m", "é" * 40, "a" * 5000, "\u202e", "\0", "../a",
          "[bold]", "com.microsoft", "ai.onnx", "NOTSET", "SAME_UPPER", "VALID",
          "Conv", "Relu", "Add", "Mul", "Reshape", "Transpose", "Concat", "Resize", "MaxPool",
          "AveragePool", "Gemm", "MatMul", "Identity", "Shape", "Tile", "Expand", "Constant",
          "ConstantOfShape", "Range", "If", "Loop", "QuantizeLinear", "DequantizeLinear",
          "DynamicQuantizeLinear", "QLinearConv", "QLinearAdd", "Softmax", "Pad", "Clip")


def mutant(models: dict[str, onnx.ModelProto], number: int) -> bytes:
    """The bytes of the mutant of that number, always the same ones."""
    rng = np.random.default_rng((20, number))
    model = onnx.ModelProto()
    model.CopyFrom(models[sorted(models)[number % len(models)]])
    if rng.random() < 0.25:
        return _damage(rng, model.SerializeToString())
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change(rng, model)
    try:
        return model.SerializeToString()
    except ValueError:      # a message inside itself is too deep, or text is no text
        return b""


def _damage(rng: np.random.Generator, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(data) + 1))
        size = int(rng.choice((1, 2, 4, 30)))
        match rng.integers(6):
            case 0:
                data[at:at + size] = rng.bytes(size)
            case 1:
                del data[at:at + size]
            case 2:
                data[at:at] = rng.bytes(size)
            case 3:
                data[at:at] = data[at // 2:at // 2 + 100]
            case 4:
                data[at:at + size] = b"\xff" * size
            case _:
                if rng.random() < 0.2:
                    del data[at:]
    return bytes(data)


_Place = tuple[Any, Any]    # a message, and the descriptor of one of its fields


def _places(message: Any) -> Iterator[_Place]:
    """All fields that are set, at any depth."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            for item in value if _repeated(field) else [value]:
                yield from _places(item)


def _repeated(field: Any) -> bool:
    return field.is_repeated


def _change(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    """Changes a field, with nodes' and tensors' kinds of fields as likely as others."""
    places = list(_places(model))
    if not places:
        return      # nothing is left of it
    kinds = sorted({(field.containing_type.name, field.name) for _, field in places})
    kind = kinds[rng.integers(len(kinds))]
    places = [place for place in places
              if (place[1].containing_type.name, place[1].name) == kind]
    message, field = places[rng.integers(len(places))]
    if _repeated(field):
        _change_list(rng, getattr(message, field.name), field, places)
    elif field.type == field.TYPE_MESSAGE or rng.random() < 0.1:
        message.ClearField(field.name)
    else:
        _set(message, field.name, _value(rng, field, getattr(message, field.name), places))


def _change_list(rng: np.random.Generator, values: Any, field: Any, places: list[_Place]) -> None:
    at = int(rng.integers(len(values)))
    match rng.integers(6):
        case 0:
            del values[at]
        case 1:
            values.append(values[at])
        case 2:
            items = list(values)
            other = int(rng.integers(len(items)))
            items[at], items[other] = items[other], items[at]
            del values[:]
            values.extend(items)
        case 3:
            del values[:]
        case _:
            if field.type == field.TYPE_MESSAGE:
                message, other_field = places[rng.integers(len(places))]
                values.append(getattr(message, other_field.name)[0])
            else:
                value = _value(rng, field, values[at], places)
                try:
                    values[at] = value
                except (ValueError, TypeError):
                    del values[at]


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError):     # out of the field's range
        message.ClearField(name)


def _value(rng: np.random.Generator, field: Any, old: Any, places: list[_Place]) -> Any:
    """Another value for a field: an odd one, or that of another message."""
    def choose(values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    odd: dict[int, Callable[[], Any]] = {
        field.TYPE_STRING: lambda: choose(_TEXTS), field.TYPE_BYTES: lambda: _bytes(rng, old),
        field.TYPE_FLOAT: lambda: choose(_FLOATS), field.TYPE_DOUBLE: lambda: choose(_FLOATS)}
    if rng.random() < 0.3 or field.type == field.TYPE_ENUM:
        message, other = choose(places)
        if field.type != field.TYPE_ENUM:
            value = getattr(message, other.name)
            return choose(value) if _repeated(other) else value
        return int(rng.integers(0, 25))
    make = odd.get(field.type)
    if make is not None:
        return make()
    return old + choose((-1, 1)) if rng.random() < 0.3 else choose(_INTEGERS)


def _bytes(rng: np.random.Generator, old: bytes) -> bytes:
    match rng.integers(5):
        case 0:
            return old[:-1]
        case 1:
            return old + b"\0"
        case 2:
            return bytes(rng.bytes(len(old)))
        case 3 if len(old) % 4 == 0:
            return np.full(len(old) // 4, rng.choice(_FLOATS), np.float32).tobytes()
        case _:
            return b""
