"""Reading a TFLite file: everything that can be wrong with it before its operators matter."""

import struct
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from weft.errors import ModelError
from weft.errors.limits import HOST_BYTES, TENSOR_ELEMENTS
from weft.errors.text import printable

from .file import File, Operator, Quantization, Tensor, label
from .options import OPTIONS, read_options

__all__ = ["IDENTIFIER", "read_file"]


IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of every file."""

_VERSION = 3
_MOST_DIMENSIONS = 8
_CUSTOM = "CUSTOM"

_TYPES = {tflite.TensorType.BOOL: np.bool_, tflite.TensorType.INT8: np.int8,
          tflite.TensorType.UINT8: np.uint8, tflite.TensorType.INT16: np.int16,
          tflite.TensorType.INT32: np.int32, tflite.TensorType.INT64: np.int64,
          tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.FLOAT32: np.float32}

_TYPE_NAMES, _OPERATOR_NAMES = (
    {value: key for key, value in vars(kind).items() if isinstance(value, int)}
    for kind in (tflite.TensorType, tflite.BuiltinOperator))

_DAMAGE = (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError,
           KeyError, MemoryError)
"""What the generated readers raise where offsets lead nowhere; they check nothing themselves."""


def read_file(model: str | Path | bytes) -> File:
    """Reads and checks a file, or what one would hold.

    Raises
    ------
    ModelError
        If it cannot be read, is damaged, or holds what no operator here could work with.
    """
    if isinstance(model, bytes):
        name, content = "model", model
    else:
        path = Path(model)
        name, content = printable(path.name), _read(path)
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"{name} is not a TFLite file: its bytes 4 to 7 must be 'TFL3', not "
                         f"{content[4:8]!r}")
    try:
        return _Reader(name, content).file()
    except _DAMAGE as error:
        raise ModelError(f"{name} is damaged or cut short: {error or type(error).__name__}") \
            from None


def _read(path: Path) -> bytes:
    if not path.exists():
        raise ModelError(f"Model file '{path}' does not exist")
    if not path.is_file():
        raise ModelError(f"Model file '{path}' is not a file")
    try:
        size = path.stat().st_size
        if size > HOST_BYTES:
            raise ModelError(f"{path.name} must have at most {HOST_BYTES:,} bytes, not {size:,}")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"Model file '{path}' cannot be read: {error.strerror}") from error


class _Reader:
    """Walks the tables of a file; errors of :data:`_DAMAGE` may come from anywhere."""

    def __init__(self, name: str, content: bytes):
        self._name = name
        self._content = content
        self._model = tflite.Model.GetRootAs(content, 0)

    def file(self) -> File:
        model = self._model
        if model.Version() != _VERSION:
            raise ModelError(f"{self._name} must be of schema version {_VERSION}, "
                             f"not {model.Version()}")
        count = model.SubgraphsLength()
        if count != 1:
            raise ModelError(f"{self._name} must have one subgraph, not {count}: convert a single "
                             f"function without control flow")
        graph = model.Subgraphs(0)
        names = self._names(graph)
        tensors = tuple(self._tensor(graph.Tensors(index), names[index])
                        for index in range(len(names)))
        inputs, outputs = (self._pick(tensors, numbers, what) for numbers, what in (
            (self._integers(graph.InputsAsNumpy()), "inputs"),
            (self._integers(graph.OutputsAsNumpy()), "outputs")))
        operators = tuple(self._operators(graph, tensors))
        if not operators:
            raise ModelError(f"{self._name} has no operators")
        if not inputs or not outputs:
            raise ModelError(f"{self._name} must have inputs and outputs")
        file = File(self._name, self._content, tensors, operators, inputs, outputs)
        _check_order(file)
        return file

    def _count(self, length: int) -> range:
        """Indices of a vector of tables, each of which takes at least 4 bytes of the file."""
        if length * 4 > len(self._content):
            raise ValueError(f"a vector of {length:,} tables")
        return range(length)

    @staticmethod
    def _integers(array: Any) -> list[int]:
        # An absent vector is a 0.
        return [] if isinstance(array, int) else [int(value) for value in array]

    def _pick(self, tensors: tuple[Tensor, ...], numbers: list[int],
              what: str) -> tuple[Tensor, ...]:
        for number in numbers:
            if not 0 <= number < len(tensors):
                raise ValueError(f"{what} name tensor {number} of {len(tensors)}")
        return tuple(tensors[number] for number in numbers)

    def _names(self, graph: Any) -> list[str]:
        """A name for each tensor: its own, unless another has that too."""
        raw = [graph.Tensors(index).Name() for index in self._count(graph.TensorsLength())]
        names = [printable((each or b"").decode("utf-8", "backslashreplace")) for each in raw]
        seen = Counter(names)
        return [name if name and seen[name] == 1 else f"{name}#{index}"
                for index, name in enumerate(names)]

    def _tensor(self, table: Any, name: str) -> Tensor:
        shape = tuple(self._integers(table.ShapeAsNumpy()))
        if len(shape) > _MOST_DIMENSIONS or any(size < 1 for size in shape):
            raise ModelError(f"{self._name}: tensor '{name}' must have at most {_MOST_DIMENSIONS} "
                             f"sizes of at least 1, not {list(shape)}")
        if prod(shape) > TENSOR_ELEMENTS:
            raise ModelError(f"{self._name}: tensor '{name}' must have at most "
                             f"{TENSOR_ELEMENTS:,} elements, not {prod(shape):,}")
        kind = table.Type()
        if kind not in _TYPES:
            raise ModelError(f"{self._name}: tensor '{name}' is of type "
                             f"{_TYPE_NAMES.get(kind, kind)}, which is not supported")
        if table.IsVariable():
            raise ModelError(f"{self._name}: tensor '{name}' keeps its value from frame to frame, "
                             f"which is not supported")
        if table.Sparsity() is not None:
            raise ModelError(f"{self._name}: tensor '{name}' is stored sparsely, which is not "
                             f"supported: convert the model without sparse weights")
        dtype = np.dtype(_TYPES[kind])
        return Tensor(name, shape, dtype, self._quantization(table, name, shape, dtype),
                      self._data(table, name, shape, dtype))

    def _quantization(self, table: Any, name: str, shape: tuple[int, ...],
                      dtype: np.dtype[Any]) -> Quantization | None:
        given = table.Quantization()
        if given is None or given.ScaleLength() == 0:
            return None
        scale = np.array(given.ScaleAsNumpy(), np.float32)
        zero = np.array(self._integers(given.ZeroPointAsNumpy()) or [0], np.int64)
        axis = given.QuantizedDimension()
        if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
            raise ModelError(f"{self._name}: tensor '{name}' of shape {list(shape)} must have one "
                             f"scale, or one for each of dimension {axis}, not {scale.size}")
        if zero.size not in (1, scale.size):
            raise ModelError(f"{self._name}: tensor '{name}' must have one zero point for each of "
                             f"its {scale.size} scales, not {zero.size}")
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise ModelError(f"{self._name}: tensor '{name}' must have positive scales, "
                             f"not {scale[~(np.isfinite(scale) & (scale > 0))][0]:g}")
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            outside = zero[(zero < limits.min) | (zero > limits.max)]
            if outside.size:
                raise ModelError(f"{self._name}: tensor '{name}' must have a zero point of type "
                                 f"{dtype}, not {outside[0]}")
        return Quantization(scale, np.broadcast_to(zero, scale.shape).copy(), axis)

    def _data(self, table: Any, name: str, shape: tuple[int, ...],
              dtype: np.dtype[Any]) -> np.ndarray | None:
        number = table.Buffer()
        if not 0 <= number < self._model.BuffersLength():
            raise ValueError(f"tensor '{name}' names buffer {number} of "
                             f"{self._model.BuffersLength()}")
        buffer = self._model.Buffers(number)
        if buffer.Offset() > 1:     # behind the tables, as in files of more than 2 GB
            raw = self._content[buffer.Offset():buffer.Offset() + buffer.Size()]
        elif number == 0 or buffer.DataLength() == 0:
            return None
        else:
            raw = buffer.DataAsNumpy().tobytes()
        size = prod(shape) * dtype.itemsize
        if len(raw) != size:
            raise ModelError(f"{self._name}: tensor '{name}' must have {size:,} bytes of data for "
                             f"{dtype} {list(shape)}, not {len(raw):,}")
        return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)

    def _operators(self, graph: Any, tensors: tuple[Tensor, ...]) -> Iterator[Operator]:
        kinds = [self._kind(self._model.OperatorCodes(index))
                 for index in self._count(self._model.OperatorCodesLength())]
        used: Counter[str] = Counter()
        for index in self._count(graph.OperatorsLength()):
            table = graph.Operators(index)
            op, custom = kinds[table.OpcodeIndex()]
            numbers = self._integers(table.InputsAsNumpy())
            inputs = tuple(None if number == -1 else self._pick(tensors, [number], op)[0]
                           for number in numbers)
            outputs = self._pick(tensors, self._integers(table.OutputsAsNumpy()), op)
            if not outputs:
                raise ModelError(f"{self._name}: operator {index}, {op}, has no output")
            # A converter joins the names of all that it has fused; the first is the layer's.
            name = outputs[0].name.partition(";")[0]
            used[name] += 1
            if used[name] > 1:
                name = f"{name}#{used[name]}"
            operator = Operator(name, op, inputs, outputs, custom=custom)
            options = {} if custom or op not in OPTIONS \
                else read_options(table, op, label(operator))
            yield Operator(name, op, inputs, outputs, options, custom)

    @staticmethod
    def _kind(code: Any) -> tuple[str, bool]:
        # Codes below 128 may be in the old field alone.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        op = _OPERATOR_NAMES.get(number, f"operator {number}")
        if op != _CUSTOM:
            return op, False
        text = (code.CustomCode() or b"").decode("utf-8", "backslashreplace")
        return printable(text) or _CUSTOM, True


def _check_order(file: File) -> None:
    """Every operator must read what there is before it."""
    made = {tensor.name for tensor in file.inputs}
    for tensor in file.inputs:
        if tensor.data is not None:
            raise ModelError(f"{file.name}: input '{tensor.name}' is a constant")
    for operator in file.operators:
        for each in operator.inputs:
            if each is not None and each.data is None and each.name not in made:
                raise ModelError(f"{file.name}: {label(operator)} reads tensor '{each.name}', "
                                 f"which nothing before it makes")
        for each in operator.outputs:
            if each.name in made or each.data is not None:
                raise ModelError(f"{file.name}: {label(operator)} makes tensor '{each.name}', "
                                 f"which there is already")
            made.add(each.name)
    for each in file.outputs:
        if each.name not in made:
            raise ModelError(f"{file.name}: output '{each.name}' is made by no operator")
