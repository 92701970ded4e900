"""From a float network to an int8 one that the accelerator runs.

The arithmetic is that of :mod:`onnxruntime.quantization`. ``source`` reads a float model and makes
it ready, ``batch_norm`` turns what is left of batch normalization into convolutions, ``frames`` has
what a model is calibrated on, ``static`` calls the quantizer, ``headroom`` keeps sums in int32,
``loss`` compares with the float network, and ``pipeline`` is all of it.
"""

from .frames import Frames, ImageFrames, Pixels, array_frames, random_frames
from .loss import LayerLoss, TopResult
from .pipeline import Quantization, Quantized, quantize

__all__ = ["Frames", "ImageFrames", "LayerLoss", "Pixels", "Quantization", "Quantized",
           "TopResult", "array_frames", "quantize", "random_frames"]
