"""The work of nodes on the host equals that of the same nodes written out."""

import onnx
import pytest
from onnx import TensorProto, helper

from weft.frontend.onnx.macs import node_macs


def _macs(op: str, shapes: dict[str, tuple[int, ...]], **attributes: object) -> int:
    node = helper.make_node(op, list(shapes), ["y"], name="node", **attributes)
    graph = helper.make_graph(
        [node], "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
         for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), strict_mode=True)
    known = {**shapes, "y": tuple(dim.dim_value for dim in
                                  model.graph.output[0].type.tensor_type.shape.dim)}
    return node_macs(node, known.get)


@pytest.mark.parametrize("op, shapes, attributes, expected", [
    ("Conv", {"x": (1, 6, 9, 7), "w": (4, 3, 3, 5)}, {"group": 2}, 4 * 7 * 3 * 3 * 3 * 5),
    ("Conv", {"x": (1, 6, 9), "w": (4, 6, 3)}, {"pads": [1, 1]}, 4 * 9 * 6 * 3),
    ("ConvTranspose", {"x": (1, 6, 5, 4), "w": (6, 3, 2, 2)}, {"strides": [2, 2]},
     6 * 5 * 4 * 3 * 2 * 2),
    ("Gemm", {"x": (5, 6), "w": (6, 7)}, {}, 5 * 6 * 7),
    ("Gemm", {"x": (1, 6), "w": (7, 6)}, {"transB": 1}, 6 * 7),
    ("MatMul", {"x": (1, 3, 5, 6), "w": (1, 3, 6, 2)}, {}, 3 * 5 * 6 * 2),
    ("LSTM", {"x": (7, 1, 5), "w": (1, 12, 5), "r": (1, 12, 3)}, {"hidden_size": 3},
     7 * (12 * 5 + 12 * 3)),
    ("MaxPool", {"x": (1, 6, 9, 7)}, {"kernel_shape": [2, 2]}, 0),
])
def test_macs(op: str, shapes: dict[str, tuple[int, ...]], attributes: dict[str, object],
              expected: int) -> None:
    assert _macs(op, shapes, **attributes) == expected
