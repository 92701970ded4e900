"""Makes an int8 network of digits.onnx: digits_int8.onnx, and images to run: images.npz."""

import numpy as np
from onnxruntime import quantization

from weft.digits import load, load_training


class Calibration(quantization.CalibrationDataReader):
    """Images from which onnxruntime learns the range of every tensor."""

    def __init__(self):
        images, _labels = load_training()
        self._frames = iter([{"input": image[None]} for image in images[:200]])

    def get_next(self):
        return next(self._frames, None)


quantization.quantize_static(
    "digits.onnx", "digits_int8.onnx", Calibration(),
    quant_format=quantization.QuantFormat.QDQ,
    activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
    per_channel=True)

images, labels = load()                     # held out: not seen by the training
np.savez("images.npz", input=images[:20], labels=labels[:20])
print("digits_int8.onnx, images.npz")
