"""What is worth knowing of nodes that run on the accelerator."""

from dataclasses import replace

from weft.ir import Plan, Where
from weft.reference.golden import GoldenSession

__all__ = ["annotate"]


_FLOAT = "onnxruntime computes it in float32, and may round differently"

# Operators whose result depends on how they are computed, with the names of their fusions.
_ROUNDING = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Add", "Mul",
             "AveragePool", "GlobalAveragePool"}


def annotate(plan: Plan) -> Plan:
    """The plan with a note at every accelerated node that onnxruntime itself leaves in float32.

    This loads the whole model into onnxruntime. Functions of one value have no note: their tables
    are made of what onnxruntime computes.
    """
    made = {name for node in plan.model.graph.node for name in node.output}
    tensors = [layer.output for graph in plan.graphs for layer in graph.layers
               if layer.output in made]
    session = GoldenSession(plan.model, tensors=tensors)
    left = {node.name or node.output[0] for node in session.optimized
            if node.op_type in _ROUNDING}
    tables = {layer.name for graph in plan.graphs for layer in graph.layers
              if hasattr(layer, "table")}
    return replace(plan, placements=tuple(
        replace(row, note=_FLOAT) if row.where is Where.ACCELERATOR and row.name in left
        and row.name not in tables else row for row in plan.placements))
