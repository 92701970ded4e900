"""What front ends make and the compiler takes: the graph of layers, and how a model is divided
between accelerator and host. Nothing here knows a model format."""

from .graph import (
    NO_PADS,
    Add,
    Affine,
    Alias,
    Concat,
    Convolution,
    Depthwise,
    Edge,
    Function,
    Graph,
    Interleave,
    Layer,
    Lookup,
    MatMul,
    Multiply,
    Pads,
    Pool,
    PoolKind,
    Resize,
    Selection,
    Sums,
    Tensor,
)
from .partition import (
    Golden,
    HostExecutor,
    HostPart,
    HostProgram,
    Misfits,
    Model,
    Partition,
    Placement,
    TensorInfo,
    Where,
)

__all__ = ["Add", "Affine", "Alias", "Concat", "Convolution", "Depthwise", "Edge", "Function",
           "Golden", "Graph", "HostExecutor", "HostPart", "HostProgram", "Interleave", "Layer",
           "Lookup", "MatMul", "Misfits", "Model", "Multiply", "NO_PADS", "Pads", "Partition",
           "Placement", "Pool", "PoolKind", "Resize", "Selection", "Sums", "Tensor", "TensorInfo",
           "Where"]
