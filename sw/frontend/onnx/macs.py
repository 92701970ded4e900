"""The work of nodes that the host runs, to be compared with that of the accelerator."""

from collections.abc import Callable
from math import prod

import onnx

__all__ = ["node_macs"]


def node_macs(node: onnx.NodeProto, shape: Callable[[str], tuple[int, ...] | None]) -> int:
    """Multiply-accumulates of a convolution, matrix product or recurrent layer; 0 for other nodes,
    and where ``shape`` knows no shape of a tensor by its name.

    They are those of the operator's definition: padding counts, and what a transposed convolution
    would multiply with inserted zeros does not.
    """
    shapes = [shape(name) if name else None for name in node.input]
    output = shape(node.output[0])

    def given(index: int) -> tuple[int, ...]:
        return (shapes[index] if index < len(shapes) else None) or ()

    match node.op_type:
        case "Conv" | "ConvInteger":        # weights [N, C / groups, kernel]
            return prod(output) * prod(given(1)[1:]) if output and given(1) else 0
        case "QLinearConv":
            return prod(output) * prod(given(3)[1:]) if output and given(3) else 0
        case "ConvTranspose":               # weights [C, N / groups, kernel]
            return prod(given(0)) * prod(given(1)[1:]) if given(0) and given(1) else 0
        case "MatMul" | "MatMulInteger" | "QLinearMatMul":
            return prod(output) * given(0)[-1] if output and given(0) else 0
        case "Gemm" | "QGemm":
            return prod(output) * prod(given(0)) // output[0] if output and given(0) else 0
        case "LSTM" | "GRU" | "RNN":        # input [time, batch, C], W [directions, gates, C]
            if not (given(0) and given(1) and given(2)):
                return 0
            return prod(given(0)[:2]) * (prod(given(1)) + prod(given(2)))
        case _:
            return 0
