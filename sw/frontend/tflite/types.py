"""Files that are not quantized to int8, or not all of them: what they are, and the cure."""

import numpy as np

from weft.errors import ModelError

from .file import File, Operator, Tensor, label

__all__ = ["check_types"]


_EDGES = ("QUANTIZE", "DEQUANTIZE")

_CURE = ("convert it with tf.lite.TFLiteConverter, optimizations [tf.lite.Optimize.DEFAULT], a "
         "representative_dataset and supported_ops [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]")


def check_types(file: File) -> None:
    """Refuses a file whose operators, but for QUANTIZE and DEQUANTIZE, work on anything but int8
    activations.

    Raises
    ------
    ModelError
        Naming the first such operator, what it works on, and how to convert the model.
    """
    halves = {operator.outputs[0].name for operator in file.operators
              if operator.op == "DEQUANTIZE" and operator.inputs[0] is not None
              and operator.inputs[0].dtype == np.float16}
    for operator in file.operators:
        if operator.op in _EDGES or operator.custom:
            continue
        given = [each for each in operator.inputs if each is not None]
        for tensor in (*operator.outputs, *given):
            if tensor.data is None and tensor.name not in halves:
                _check(file, operator, tensor, any(
                    each.name in halves or each.dtype == np.float16 for each in given))


def _check(file: File, operator: Operator, tensor: Tensor, halves: bool) -> None:
    weights = operator.inputs[1] if len(operator.inputs) > 1 else None
    what = f"{file.name} must compute in int8, not "
    if tensor.dtype in (np.float32, np.float16):
        kind = "float32"
        if halves:
            kind = "float16"
        elif weights is not None and weights.dtype == np.int8 and weights.data is not None:
            kind = "float32 with int8 weights"
        raise ModelError(f"{what}{kind} ({label(operator)}): {_CURE}")
    if tensor.dtype == np.int16:
        raise ModelError(f"{what}int16 ({label(operator)}): {_CURE}, not the one with 16x8 "
                         f"activations")
    if tensor.dtype == np.uint8:
        raise ModelError(f"{what}uint8 ({label(operator)}), as files of TensorFlow 1 do: {_CURE}")
