"""What front ends make and the compiler takes: the graph of layers, and how a model is divided
between accelerator and host. Nothing here knows a model format."""

from .graph import Edge, Graph
from .layer import NO_PADS, Function, Layer, Pads
from .matrix_layers import Convolution, MatMul, Selection, Sums
from .moves import Alias, Concat, Interleave, Resize
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
from .row_layers import Normalization, RowLayer, Softmax
from .tensor import Tensor
from .vector_layers import (
    Add,
    Affine,
    ChannelSum,
    Depthwise,
    Lookup,
    Multiply,
    Padding,
    Pool,
    PoolKind,
)

__all__ = ["Add", "Affine", "Alias", "ChannelSum", "Concat", "Convolution", "Depthwise", "Edge",
           "Function", "Golden", "Graph", "HostExecutor", "HostPart", "HostProgram", "Interleave",
           "Layer", "Lookup", "MatMul", "Misfits", "Model", "Multiply", "NO_PADS", "Normalization",
           "Padding", "Pads", "Partition", "Placement", "Pool", "PoolKind", "Resize", "RowLayer",
           "Selection", "Softmax", "Sums", "Tensor", "TensorInfo", "Where"]
