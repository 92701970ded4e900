"""TFLite files for tests, built operator by operator with the flatbuffers builder."""

from collections.abc import Sequence

import flatbuffers
import numpy as np
import tflite

__all__ = ["TfliteBuilder"]


_TYPES = {np.dtype(np.int8): tflite.TensorType.INT8, np.dtype(np.uint8): tflite.TensorType.UINT8,
          np.dtype(np.int16): tflite.TensorType.INT16, np.dtype(np.int32): tflite.TensorType.INT32,
          np.dtype(np.int64): tflite.TensorType.INT64,
          np.dtype(np.float16): tflite.TensorType.FLOAT16,
          np.dtype(np.float32): tflite.TensorType.FLOAT32,
          np.dtype(np.bool_): tflite.TensorType.BOOL}

Scales = float | Sequence[float] | np.ndarray


class TfliteBuilder:
    """Collects tensors and operators, and writes them as the bytes of a file.

    Methods take and return indices of tensors.
    """

    def __init__(self, name: str = "test"):
        self._name = name
        self._tensors: list[dict] = []
        self._operators: list[dict] = []
        self.inputs: list[int] = []
        self._outputs: list[int] = []
        self.subgraphs = 1
        self.version = 3

    def tensor(self, shape: Sequence[int], scale: Scales | None = None, zero_point: int = 0, *,
               dtype: type = np.int8, data: np.ndarray | None = None, axis: int = 0,
               name: str | None = None) -> int:
        """A tensor; quantized if it has a scale, constant if it has data."""
        index = len(self._tensors)
        self._tensors.append({
            "shape": tuple(shape), "dtype": np.dtype(dtype), "data": data, "axis": axis,
            "name": f"t{index}" if name is None else name, "zero_point": zero_point,
            "scale": None if scale is None else np.atleast_1d(np.asarray(scale, np.float32))})
        return index

    def constant(self, array: np.ndarray, scale: Scales | None = None, zero_point: int = 0, *,
                 axis: int = 0) -> int:
        """A tensor with these values."""
        return self.tensor(array.shape, scale, zero_point, dtype=array.dtype.type, data=array,
                           axis=axis)

    def input(self, shape: Sequence[int], scale: Scales | None = None, zero_point: int = 0, *,
              dtype: type = np.int8) -> int:
        """An input of the model."""
        self.inputs.append(self.tensor(shape, scale, zero_point, dtype=dtype))
        return self.inputs[-1]

    def output(self, tensor: int) -> None:
        """Makes a tensor an output of the model."""
        self._outputs.append(tensor)

    def operator(self, op: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "",
                 *, version: int = 1, custom: str = "", **fields: object) -> None:
        """An operator; ``options`` names the table of its options, ``fields`` are its entries."""
        self._operators.append({"op": op, "inputs": tuple(inputs), "outputs": tuple(outputs),
                                "options": options, "version": version, "custom": custom,
                                "fields": fields})

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._tensors[tensor]["shape"]

    # Writing ----------------------------------------------------------------------------------

    def build(self) -> bytes:
        """The file."""
        self._b = b = flatbuffers.Builder(1024)
        buffers = [self._table("Buffer")]
        tensors = [self._tensor(each, buffers) for each in self._tensors]
        codes: list[int] = []
        kinds: dict[tuple, int] = {}
        operators = [self._operator(each, codes, kinds) for each in self._operators]
        graph = self._table(
            "SubGraph", Tensors=self._offsets(tensors), Inputs=self._ints(self.inputs),
            Outputs=self._ints(self._outputs), Operators=self._offsets(operators),
            Name=b.CreateString(self._name))
        model = self._table(
            "Model", Version=self.version, OperatorCodes=self._offsets(codes),
            Subgraphs=self._offsets([graph] * self.subgraphs),
            Description=b.CreateString("made by a test"), Buffers=self._offsets(buffers))
        b.Finish(model, b"TFL3")
        return bytes(b.Output())

    def _table(self, table: str, **fields: object) -> int:
        getattr(tflite, f"{table}Start")(self._b)
        for key, value in fields.items():
            if value is not None:
                getattr(tflite, f"{table}Add{key}")(self._b, value)
        return getattr(tflite, f"{table}End")(self._b)

    def _ints(self, values: Sequence[int]) -> int:
        return self._b.CreateNumpyVector(np.asarray(values, np.int32))

    def _offsets(self, values: Sequence[int]) -> int:
        self._b.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._b.PrependUOffsetTRelative(value)
        return self._b.EndVector()

    def _tensor(self, given: dict, buffers: list[int]) -> int:
        b, buffer = self._b, 0
        if given["data"] is not None:
            raw = np.frombuffer(np.ascontiguousarray(given["data"]).tobytes(), np.uint8)
            data = b.CreateNumpyVector(raw)
            buffer = len(buffers)
            buffers.append(self._table("Buffer", Data=data))
        quantization = None
        if given["scale"] is not None:
            scale = b.CreateNumpyVector(given["scale"])
            zeros = np.broadcast_to(np.asarray(given["zero_point"], np.int64), given["scale"].shape)
            zero = b.CreateNumpyVector(np.ascontiguousarray(zeros))
            quantization = self._table("QuantizationParameters", Scale=scale, ZeroPoint=zero,
                                       QuantizedDimension=given["axis"])
        return self._table("Tensor", Shape=self._ints(given["shape"]), Type=_TYPES[given["dtype"]],
                           Buffer=buffer, Name=b.CreateString(given["name"]),
                           Quantization=quantization)

    def _operator(self, given: dict, codes: list[int], kinds: dict[tuple, int]) -> int:
        b = self._b
        kind = given["op"], given["version"], given["custom"]
        if kind not in kinds:
            code = getattr(tflite.BuiltinOperator, given["op"])
            custom = b.CreateString(given["custom"]) if given["custom"] else None
            kinds[kind] = len(codes)
            codes.append(self._table("OperatorCode", DeprecatedBuiltinCode=min(code, 127),
                                     BuiltinCode=code, Version=given["version"],
                                     CustomCode=custom))
        options, kind_of_options = None, 0
        if given["options"]:
            fields = {key: self._ints(value) if isinstance(value, list) else value
                      for key, value in given["fields"].items()}
            options = self._table(given["options"], **fields)
            kind_of_options = getattr(tflite.BuiltinOptions, given["options"])
        return self._table(
            "Operator", OpcodeIndex=kinds[kind], Inputs=self._ints(given["inputs"]),
            Outputs=self._ints(given["outputs"]), BuiltinOptionsType=kind_of_options,
            BuiltinOptions=options)
