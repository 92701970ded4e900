"""What to change in a model so that a node need not run on the host, where there is something."""

__all__ = ["CURES", "OPERATOR_CURES", "cure_of"]


OPERATOR_CURES = {
    "Sum": "replace it by Add",
    "Upsample": "export with opset 13, so that it is Resize",
}
"""By an operator that is not known: what takes its place."""

CURES = (
    ("must have a QuantizeLinear after it",
     "quantize the output of that node too: weft quantize does"),
    ("dimensions; only 3 and 4 are", "export it for [1, C, H, W], with an axis of size 1"),
    ("only a batch of 1 is supported", "export with a batch of 1"),
    ("in float32; at most", "replace it by GlobalAveragePool, whose sum is an integer"),
    ("is added up in float32 by onnxruntime",
     "replace it by a depthwise Conv with weights of 1 / count, which is exact"),
    ("only nearest and linear are supported", "export it with mode nearest or linear"),
    ("interpolates by", "export it with mode nearest, or half_pixel or asymmetric by a power of 2"),
    ("is interpolated in float32 by onnxruntime",
     "quantize its output with a scale of its own, 257/256 of its input's: weft quantize does"),
    ("do not repeat every", "export it with coordinate_transformation_mode asymmetric and "
                            "nearest_mode floor"),
    ("joins quantized tensors of different scales",
     "quantize in QDQ format: each input is brought to the output's scale"),
    ("they must be int8 or", "quantize its weights: weft quantize does"),
    ("it must be int32 behind a", "quantize its bias: weft quantize does"),
    ("has a second output", "export it without"),
    ("cannot be inferred", "export with static shapes, or with onnx.shape_inference"),
    ("must have constant", "export with constant folding"),
    ("that is not quantized, which", "quantize its constants: weft quantize does"),
    ("only one value for all elements", "where it is an Add or a Mul, quantize its constant, with "
                                        "one scale: weft quantize does"),
    ("only int8 and uint8 are", "quantize to 8 bits: weft quantize does"),
)
"""By a part of the reason why a node is left to the host."""


def cure_of(op: str, reason: str) -> str:
    """A cure for a node that is left to the host; empty if none is known."""
    if op in OPERATOR_CURES and "is not supported on the accelerator" in reason:
        return OPERATOR_CURES[op]
    return next((cure for part, cure in CURES if part in reason), "")
