"""In what portions the matrix engine takes pixels and output channels.

Pixels go in tiles that the accumulators hold, output channels in column tiles of the array's width,
and column tiles in groups whose weights are loaded together. Where not even those of one column
tile fit, or not the input of a pixel tile, input channels go in chunks whose sums are added up.
"""

from collections.abc import Iterator
from math import gcd

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.misfit import with_field
from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, layout

__all__ = ["tile_pixels", "weight_tiles", "column_step", "column_chunks", "column_groups",
           "depth_chunks", "weights_stay"]


def tile_pixels(config: AcceleratorConfig, out_pixels: int) -> int:
    """Pixels of a full pixel tile: as few tiles as the accumulators allow, all about equal.

    Equal tiles keep every step longer than the ``pe_rows`` cycles that its weights take to shift
    in, and give the drain of a tile the time of a whole tile to hide behind.
    """
    tiles = -(-out_pixels // config.accumulator_pixels)
    return -(-out_pixels // tiles)


def weight_tiles(config: AcceleratorConfig, laid_out: ChannelLayout,
                 layer: Convolution) -> tuple[int, int]:
    """Column tiles of a convolution, and steps of each: its weight tiles."""
    outputs, _, kernel_h, kernel_w = layer.weights.shape
    channels = laid_out.channels[layer.output]
    if not channels.plain(config):
        outputs = channels.blocks(config) * config.word_lanes
    return (layout.col_tiles(config, outputs),
            kernel_h * kernel_w * laid_out.channels[layer.input].blocks(config))


def column_step(config: AcceleratorConfig) -> int:
    """Column tiles after which an output word begins again at the first column."""
    return config.rows // gcd(config.rows, config.cols)


def column_chunks(config: AcceleratorConfig, layer: str, tiles: int, tile_rows: int, *,
                  share: int = 2, least: int = 1) -> list[range]:
    """Column tiles of a layer in groups that are loaded and computed together.

    A group takes at most half of the weight and parameter memories where it can, so that the next
    one is loaded while it is computed; and it starts at the first lane of an output word, because
    a command's output does.

    Parameters
    ----------
    layer : :class:`str`
        Its name, for the error.
    tiles : :class:`int`
        Column tiles of the layer.
    tile_rows : :class:`int`
        Weight rows of one column tile.
    share : :class:`int`
        A group takes this fraction of the memories; 0 makes groups as small as they can be.
    least : :class:`int`
        Groups that are wanted, at least.

    Raises
    ------
    CompileError
        If the smallest possible group does not fit.
    """
    step = column_step(config)
    smallest = min(step, tiles)
    for what, each, unit_bytes, depth, cure in (
            ("weight", tile_rows, config.weight_row_data_bytes, config.weight_depth,
             with_field("weight_bytes", smallest * tile_rows * config.weight_row_data_bytes)),
            ("parameter", config.requant_groups, config.parameter_entry_data_bytes,
             config.parameter_depth, with_field("parameter_channels", smallest * config.cols))):
        if smallest * each > depth:
            raise CompileError(
                f"Layer {layer!r} needs {smallest * each * unit_bytes} bytes of {what} memory for "
                f"{smallest * config.cols} output channels, {depth * unit_bytes} are available",
                cure=cure)
    limit = share and min(config.weight_depth // share // tile_rows,
                          config.parameter_depth // share // config.requant_groups)
    limit = max(limit - limit % step, step)
    count = max(-(-tiles // limit), least)
    size = -(-tiles // count)
    size += -size % step
    return [range(first, min(first + size, tiles)) for first in range(0, tiles, size)]


def column_groups(config: AcceleratorConfig, layer: str, tiles: int) -> tuple[range, ...]:
    """Column tiles of a layer in groups that are as small as they can be: each starts at the first
    lane of an output word.

    Raises
    ------
    CompileError
        If the parameters of a group do not fit.
    """
    step = min(column_step(config), tiles)
    if step * config.requant_groups > config.parameter_depth:
        unit_bytes = config.parameter_entry_data_bytes
        raise CompileError(
            f"Layer {layer!r} needs {step * config.requant_groups * unit_bytes} bytes of parameter "
            f"memory for {step * config.cols} output channels, "
            f"{config.parameter_depth * unit_bytes} are available",
            cure=with_field("parameter_channels", step * config.cols))
    return tuple(range(first, min(first + step, tiles)) for first in range(0, tiles, step))


def depth_chunks(config: AcceleratorConfig, layer: str, blocks: int,
                 taps: int) -> Iterator[tuple[range, ...]]:
    """Channel blocks of an input in chunks, from few to many, that can be computed one by one.

    Half of the weight memory holds the weights of a column tile for a chunk, so that those of the
    next one are loaded meanwhile, if it can.

    Parameters
    ----------
    layer : :class:`str`
        Its name, for the error.
    blocks : :class:`int`
    taps : :class:`int`
        Of the kernel: weight tiles of a channel block.

    Raises
    ------
    CompileError
        If not even the weights of one channel block fit.
    """
    rows = taps * config.weight_tile_rows
    if rows > config.weight_depth:
        row_bytes = config.weight_row_data_bytes
        raise CompileError(
            f"Layer {layer!r} needs {rows * row_bytes} bytes of weight memory for {config.cols} "
            f"output channels and {config.rows} input channels, "
            f"{config.weight_depth * row_bytes} are available",
            cure=with_field("weight_bytes", rows * row_bytes))
    most = max(1, config.weight_depth // 2 // rows)
    sizes = {-(-blocks // count) for count in (*range(1, 9), *(8 << power for power in range(13)))}
    for size in sorted({min(size, most) for size in sizes}, reverse=True):
        yield tuple(range(first, min(first + size, blocks)) for first in range(0, blocks, size))


def weights_stay(config: AcceleratorConfig, columns_outer: bool, rows: int) -> bool:
    """Whether a group of column tiles of ``rows`` weight rows, cut by input channels, loads them
    once for all tiles of pixels."""
    return columns_outer and rows <= config.weight_depth
