"""Products of two tensors, and what works on rows between them: what they take, and in what
portions."""

from weft.compiler.timing.engines import step_cycles
from weft.compiler.timing.transfer import row_cycles
from weft.errors import CompileError
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Graph, MatMul, RowLayer, Softmax, layout

from .columns import column_chunks

__all__ = ["head_chunks", "head_steps", "in_heads", "matmul_cycles", "row_layer_cycles"]


def head_steps(config: AcceleratorConfig, graph: Graph, layer: MatMul) -> tuple[int, int]:
    """Column tiles of a head, and channel blocks that each of them reads."""
    channels = graph.tensors[layer.output].shape[0] // layer.heads
    return layout.col_tiles(config, channels), layout.channel_blocks(config, layer.depth)


def head_chunks(config: AcceleratorConfig, graph: Graph, layer: MatMul) -> list[range]:
    """Column tiles of a head whose weights are made together: half of the memory, where that is
    enough, so that the next ones are made meanwhile.

    Raises
    ------
    CompileError
        If those of a single column tile do not fit.
    """
    columns, depth = head_steps(config, graph, layer)
    return column_chunks(config, layer.name, columns, depth * config.weight_tile_rows)


def matmul_cycles(config: AcceleratorConfig, graph: Graph, layer: MatMul) -> int:
    """Cycles of the array, if it need not wait for weights."""
    _, height, width = graph.tensors[layer.output].shape
    columns, depth = head_steps(config, graph, layer)
    return layer.heads * columns * depth * step_cycles(config, height * width)


def row_layer_cycles(config: AcceleratorConfig, graph: Graph, layer: RowLayer,
                     pixels: int) -> int:
    """Cycles of a softmax or a normalization of some pixels, if it need not wait for words."""
    channels = graph.tensors[layer.output].shape[0]
    blocks = layout.channel_blocks(config, channels // layer.heads)
    opcode = Opcode.SOFTMAX if isinstance(layer, Softmax) else Opcode.NORMALIZE
    return layer.heads * row_cycles(config, opcode, pixels, blocks)


def in_heads(config: AcceleratorConfig, graph: Graph, layers: range) -> bool:
    """Whether layers are two products and the softmax between them, of which the weights and
    parameters of a head are on chip at a time."""
    first, softmax, second = (graph.layers[index] for index in layers)
    if not (isinstance(first, MatMul) and isinstance(softmax, Softmax)
            and isinstance(second, MatMul)):
        return False
    names = {first.a, first.b, second.b}
    if len(names) < 3 or second.a != softmax.output or second.b == second.a:
        return False
    try:
        return all(len(head_chunks(config, graph, layer)) == 1 for layer in (first, second))
    except CompileError:    # those of a single column tile do not fit
        return False
