"""What is worth knowing of nodes that run on the accelerator."""

from dataclasses import replace

from weft.ir import Partition, Where

from .model import OnnxModel

__all__ = ["annotate"]


_FLOAT = "onnxruntime computes it in float32, and may round differently"

# Operators whose result depends on how they are computed, with the names of their fusions.
_ROUNDING = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul",
             "Add", "Mul", "AveragePool", "GlobalAveragePool"}


def annotate(partition: Partition) -> Partition:
    """The same with a note at every accelerated node that onnxruntime itself leaves in float32.

    This loads the whole model into onnxruntime. Functions of one value have no note: their tables
    are made of what onnxruntime computes. A partition of another format is returned as it is.
    """
    model = partition.model
    if not isinstance(model, OnnxModel):
        return partition
    tensors = [layer.output for graph in partition.graphs for layer in graph.layers
               if layer.output in model.tensors]
    left = {node.name or node.output[0] for node in model.golden(tensors).optimized
            if node.op_type in _ROUNDING}
    tables = {layer.name for graph in partition.graphs for layer in graph.layers
              if hasattr(layer, "table")}
    return replace(partition, placements=tuple(
        replace(row, note=_FLOAT) if row.where is Where.ACCELERATOR and row.name in left
        and row.name not in tables else row for row in partition.placements))
