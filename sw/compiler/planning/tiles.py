"""In what tiles a layer is computed that has operands in external memory, and what they take.

A tile is some rows of the output. Where a single row of all channels is too much for the chip, it
is cut further: into groups of channel blocks, on the vector engine, and into columns. A convolution
is cut by channel blocks of its input where nothing else will do: their sums are added up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from math import gcd, lcm

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.timing.engines import COMMAND_OVERHEAD, step_cycles
from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.rows.walk import batch_rows
from weft.ir import Convolution, Interleave, Layer, MatMul, Resize, RowLayer

from .columns import column_chunks, column_groups, depth_chunks, weight_tiles, weights_stay
from .loop_order import layer_cycles
from .products import head_chunks, matmul_cycles, row_layer_cycles
from .rows import needed, window

__all__ = ["Choice", "LayerPlan", "Room", "TileBuffer", "Tiling", "row_align"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TileBuffer:
    """Room for the tiles of one operand of one layer: ``words`` at each of the addresses."""
    words: int
    addresses: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPlan:
    """How a layer is computed.

    Attributes
    ----------
    tiles : :class:`tuple` of :class:`range`
        Output rows that are computed at a time, in order.
    columns : :class:`tuple` of :class:`range`
        Output columns of these that are, in order; none for all of a row.
    chunks : :class:`tuple` of :class:`range`
        Of a convolution: column tiles that are computed at a time, in order. Of another layer:
        channel blocks; none for all.
    columns_outer : :class:`bool`
        All tiles of rows for one chunk after the other, and not all chunks for one tile.
    depths : :class:`tuple` of :class:`range`
        Of a convolution: channel blocks of its input that are computed at a time, in order; none
        for all. A tile then has no more pixels than the accumulators, where the sums of a column
        tile stay from one command to the next.
    tile_buffers : :class:`dict`
        By tensor, for operands in external memory.
    in_turns : :class:`bool`
        Part of a group that is computed depth first: the other layers have their turns between the
        tiles, and constants are loaded all together and stay.
    """

    tiles: tuple[range, ...] = ()
    columns: tuple[range, ...] = ()
    chunks: tuple[range, ...] = ()
    columns_outer: bool = False
    depths: tuple[range, ...] = ()
    in_turns: bool = False
    tile_buffers: dict[str, TileBuffer] = field(default_factory=dict)

    def needs(self, layer: Layer, part: range, size: int, axis: int) -> tuple[range, int]:
        """Rows, or columns with ``axis`` 1, of an input of ``size`` of them for some of the
        output, and those of padding before them."""
        if len(self.columns if axis else self.tiles) <= 1 and not (self.in_turns and axis == 0):
            return range(size), window(layer, axis).before  # all, whatever the layer makes of it
        return needed(window(layer, axis), part, size)


@dataclass(frozen=True)
class Room:
    """The tile buffers of one operand: ``count`` times ``words``."""
    words: int
    count: int


@dataclass(frozen=True, eq=False)
class Choice:
    """A way to compute a layer: estimated cycles, and its tile buffers before they are placed; or
    the words that the best way lacks."""
    cycles: float
    plan: LayerPlan
    tile_buffers: dict[str, Room]
    lack: int = 0


@dataclass(frozen=True, eq=False)
class _Shape:
    """How a layer is cut, before it is known how many buffers there are.

    Attributes
    ----------
    height, width : :class:`int`
        Of a full tile of the output.
    chunks, columns_outer, depths
        As in :class:`LayerPlan`.
    stays : :class:`bool`
        With ``depths``: the input of a tile is on chip in all its channel blocks, so that it is
        loaded once for all column tiles.
    """

    height: int
    width: int
    chunks: tuple[range, ...]
    columns_outer: bool
    depths: tuple[range, ...] = ()
    stays: bool = False


@dataclass(frozen=True)
class _Cut:
    """What of a layer must be cut, beside its rows: groups of channel blocks of what it makes,
    columns, and channel blocks of what it reads."""
    blocks: bool = False
    columns: bool = False
    depth: bool = False


def _parts(size: int, step: int) -> tuple[range, ...]:
    return tuple(range(first, min(first + step, size)) for first in range(0, size, step))


def _lengths(size: int, step: int) -> Iterator[tuple[int, int]]:
    """How long the parts are, and how many are so long."""
    yield step, size // step
    if size % step:
        yield size % step, 1


_UNBOUNDED = 1 << 62    # words that stand for a tile of more pixels than accumulators
_LINE_CYCLES = 8        # of the memory port for each burst, beside its beats
# Weights of a layer on chip that take more than half of their memory are loaded in so small a part
# of it, so that loads never wait for long, and little is left to compute behind the last one.
_SHARE = 4
_HEIGHTS = 8            # tile heights that are compared, from the largest that fits
_WIDTHS = (1, 2, 3, 4, 6, 8)    # tiles of a row that are tried; and all of these times 8 ** n


def row_align(config: AcceleratorConfig, width: int) -> int:
    """Rows of ``width`` words from one that begins with a beat in external memory to the next."""
    return config.axi_bytes // gcd(config.axi_bytes, width * config.word_bytes)


class Tiling:
    """The ways to compute the layers of a graph.

    Rows are cut first. What else is cut is decided once for a layer, as if it had the chip for
    itself: so a layer that need not be cut further never is.
    """

    def __init__(self, laid_out: ChannelLayout, config: AcceleratorConfig):
        self._laid_out = laid_out
        self._graph = laid_out.graph
        self._config = config
        self._cut = lru_cache(maxsize=None)(self._find_cut)
        self._best = lru_cache(maxsize=None)(self._find_best)
        self._needed = lru_cache(maxsize=None)(self._find_needed)
        self._vector_cycles = lru_cache(maxsize=None)(self._find_vector_cycles)
        self._weight_tiles = lru_cache(maxsize=None)(partial(weight_tiles, config, laid_out))
        # Channel blocks of each tensor.
        self._all_blocks = {name: channels.blocks(config)
                            for name, channels in laid_out.channels.items()}

    def choose(self, index: int, outside: tuple[str, ...], available: int) -> Choice:
        """The best way to compute a layer.

        Parameters
        ----------
        index : :class:`int`
            Of the layer, which is no concatenation.
        outside : tuple of :class:`str`
            Operands in external memory.
        available : :class:`int`
            Words of activation memory for the tiles of these.

        Raises
        ------
        CompileError
            If not even the constants of its smallest part fit.
        """
        layer = self._graph.layers[index]
        cut = self._cut(index)
        if cut.columns and set(outside) != {*layer.inputs, layer.output}:
            # Columns are cut in tile buffers alone: what is on chip is in the way.
            inside = {*layer.inputs, layer.output} - set(outside)
            return _too_large(sum(self._words(name) for name in inside) + max(0, -available))
        return self._best(layer, outside, available, cut)

    def _words(self, name: str) -> int:
        _, height, width = self._graph.tensors[name].shape
        return self._all_blocks[name] * height * width

    def _find_cut(self, index: int) -> _Cut:
        """What must be cut of a layer: as little as it takes, or of a convolution what takes the
        fewest cycles."""
        layer = self._graph.layers[index]
        outside = tuple(dict.fromkeys((*layer.inputs, layer.output)))
        # Cut columns need a beat at the beginning of every word in external memory.
        columns = self._config.word_bytes % self._config.axi_bytes == 0
        if isinstance(layer, Convolution):
            cuts = [_Cut(), *[_Cut(columns=True)] * columns]
            if not self._config.sequential:     # which has no accumulators
                cuts += [_Cut(depth=True), *[_Cut(columns=True, depth=True)] * columns]
        elif isinstance(layer, MatMul):
            head_chunks(self._config, self._graph, layer)   # which may not fit
            return _Cut()
        elif isinstance(layer, RowLayer):    # a row needs all of its channels
            cuts = [_Cut()]
        else:
            cuts = [_Cut(), _Cut(blocks=True), *[_Cut(blocks=True, columns=True)] * columns]
        found: dict[_Cut, Choice] = {}
        refused: CompileError | None = None
        for cut in cuts:
            try:
                found[cut] = self._best(layer, outside, self._config.activation_depth, cut)
            except CompileError as error:   # constants do not fit
                refused = error
                continue
            if not found[cut].lack and (cut == _Cut() or not isinstance(layer, Convolution)):
                break
        best = min(found, key=lambda cut: (found[cut].lack, found[cut].cycles), default=None)
        if refused and (best is None or found[best].lack >= _UNBOUNDED // 2):
            raise refused
        assert best is not None
        return best

    # Candidates -------------------------------------------------------------------------------

    def _find_best(self, layer: Layer, outside: tuple[str, ...], available: int,
                   cut: _Cut) -> Choice:
        best: Choice | None = None
        least: int | None = None
        for whole in self._whole(layer, outside, cut):
            for width in self._widths(layer) if cut.columns else (self._width(layer),):
                choice, needed = self._tile(layer, outside, available, replace(whole, width=width))
                if choice is not None and (best is None or choice.cycles < best.cycles):
                    best = choice
                least = needed if least is None else min(least, needed)
        if best is not None:
            return best
        assert least is not None
        return _too_large(least - available)

    def _whole(self, layer: Layer, outside: tuple[str, ...], cut: _Cut) -> Iterator[_Shape]:
        """The ways to cut all but rows and columns."""
        _, height, width = self._graph.tensors[layer.output].shape
        if not (isinstance(layer, Convolution) and cut.depth):
            for chunks, columns_outer in self._orders(layer, outside, cut):
                yield _Shape(height, width, chunks, columns_outer)
            return
        config = self._config
        tiles, steps = self._weight_tiles(layer)
        blocks = self._all_blocks[layer.input]
        chunks = column_groups(config, layer.name, tiles)
        for depths in depth_chunks(config, layer.name, blocks, steps // blocks):
            for columns_outer in (False, True):
                for stays in (True, False) if layer.input in outside else (False,):
                    yield _Shape(height, width, chunks, columns_outer, depths, stays)

    def _width(self, layer: Layer) -> int:
        return self._graph.tensors[layer.output].shape[2]

    def _widths(self, layer: Layer) -> Iterator[int]:
        """Columns of a tile, for some counts of about equal tiles."""
        width = self._width(layer)
        step = layer.factors[1] if isinstance(layer, Resize | Interleave) else 1
        counts = {min(count * 8 ** power, width) for count in _WIDTHS for power in range(5)}
        sizes = {-(-width // count) for count in counts}
        yield from sorted({min(size + -size % step, width) for size in sizes}, reverse=True)

    def _orders(self, layer: Layer, outside: tuple[str, ...],
                cut: _Cut) -> Iterator[tuple[tuple[range, ...], bool]]:
        """Groups of column tiles or channel blocks, and whether they are the outer loop."""
        config = self._config
        if not isinstance(layer, Convolution):
            blocks = self._all_blocks[layer.output]
            if not cut.blocks:
                yield (), False
                return
            sizes = {-(-blocks // count) for count in range(1, blocks + 1)}
            for size in (1,) if cut.columns else sorted(sizes, reverse=True):
                yield tuple(range(first, min(first + size, blocks))
                            for first in range(0, blocks, size)), True
            return
        tiles, steps = self._weight_tiles(layer)
        rows = steps * config.weight_tile_rows
        half = tuple(column_chunks(config, layer.name, tiles, rows))
        if not outside:  # each weight is loaded once, whatever the tiles
            if len(half) > 1:
                half = tuple(column_chunks(config, layer.name, tiles, rows, share=_SHARE))
            yield half, len(half) > 1
            return
        yield half, False
        if len(half) > 1:
            if tiles * rows <= config.weight_depth \
                    and tiles * config.requant_groups <= config.parameter_depth:
                yield (range(tiles),), False
            yield half, True
        if tiles > 1:
            yield tuple(column_chunks(config, layer.name, tiles, rows, share=0)), True

    def _tile(self, layer: Layer, outside: tuple[str, ...], available: int,
              whole: _Shape) -> tuple[Choice | None, int]:
        """Tiles of as many rows as there is room for; and the fewest words that would do."""
        out_h, out_w = self._graph.tensors[layer.output].shape[1:]
        align = row_align(self._config, out_w)

        def total(found: dict[str, Room]) -> int:
            return sum(room.words * room.count for room in found.values())

        split = {height + -height % align
                 for height in (-(-out_h // count) for count in range(1, out_h + 1))}
        if isinstance(layer, RowLayer):     # a batch takes as long if it is not full
            step = lcm(align, batch_rows(self._config))
            split |= set(range(step, out_h, step))
        heights = sorted({min(height, out_h) for height in split}, reverse=True)
        if not outside and not whole.depths:  # split later, once all else is known
            heights = [out_h]
        if isinstance(layer, MatMul) and layer.a == layer.b:
            heights = [out_h]
        if whole.depths:
            heights = [height for height in heights
                       if height * whole.width <= self._config.accumulator_pixels]
        if not heights:
            return None, _UNBOUNDED
        shapes = [replace(whole, height=height) for height in heights]
        least = total(self._sizes(layer, outside, shapes[-1], False))
        best = None
        for double in (True, False):
            fitting = (shape for shape in shapes
                       if total(self._sizes(layer, outside, shape, double)) <= available)
            for shape in islice(fitting, _HEIGHTS):
                cycles = self._estimate(layer, outside, shape, double)
                if best is None or cycles < best.cycles:
                    best = Choice(cycles, LayerPlan(
                        tiles=_parts(out_h, shape.height), chunks=shape.chunks,
                        columns=_parts(out_w, shape.width) if shape.width < out_w else (),
                        columns_outer=shape.columns_outer, depths=shape.depths),
                        self._sizes(layer, outside, shape, double))
        return best, least

    # Room -------------------------------------------------------------------------------------

    def _sizes(self, layer: Layer, outside: tuple[str, ...], shape: _Shape,
               double: bool) -> dict[str, Room]:
        """The tile buffers of operands in external memory."""
        out_h, out_w = self._graph.tensors[layer.output].shape[1:]
        many = shape.height < out_h or shape.width < out_w
        found = {}
        for name in outside:
            again = many and not _stays(layer, name)
            if name == layer.output:
                again |= shape.columns_outer and len(shape.chunks) > 1
                words = shape.height * shape.width
            else:
                again |= len(shape.chunks) > 1 and not isinstance(layer, Convolution)
                words = (self._needed(layer, name, shape.height, 0)
                         * self._needed(layer, name, shape.width, 1))
            count = 1
            if shape.depths and name != layer.output:
                again |= not shape.stays
                count = len(shape.depths) if shape.stays else 1
            found[name] = Room(words * self._blocks(layer, name, shape),
                               2 * count if double and again else count)
        return found

    def _blocks(self, layer: Layer, name: str, shape: _Shape) -> int:
        """Channel blocks of an operand in a tile."""
        config = self._config
        blocks = self._all_blocks[name]
        most = max(map(len, shape.chunks), default=0)
        if not isinstance(layer, Convolution):
            return min(blocks, most or blocks)
        if name != layer.output and shape.depths:
            return max(map(len, shape.depths))
        if name == layer.output and shape.columns_outer:
            return min(blocks, -(-most * config.cols // config.rows))
        return blocks

    def _find_needed(self, layer: Layer, name: str, count: int, axis: int) -> int:
        """Rows of an input, or columns with ``axis`` 1, that ``count`` of the output need at
        most."""
        size = self._graph.tensors[name].shape[1 + axis]
        if _stays(layer, name):
            return size
        if count == self._graph.tensors[layer.output].shape[1 + axis] or size == 1:
            return size
        shape = window(layer, axis)
        if shape.repeat > 1:
            found = (count - 2) // shape.repeat + 2
        else:
            found = (count - 1) * shape.stride + shape.dilation * (shape.kernel - 1) + 1
        if axis == 0:
            found += row_align(self._config, self._graph.tensors[name].shape[2]) - 1
        return min(size, found)

    # Cycles -----------------------------------------------------------------------------------

    def _estimate(self, layer: Layer, outside: tuple[str, ...], shape: _Shape,
                  double: bool) -> float:
        """Cycles of a layer, if its loads and stores overlap with its computation."""
        config, graph = self._config, self._graph
        _, out_h, out_w = graph.tensors[layer.output].shape
        rows, columns = list(_lengths(out_h, shape.height)), list(_lengths(out_w, shape.width))
        chunks = shape.chunks
        count = -(-out_h // shape.height) * -(-out_w // shape.width)
        moved = 0.0
        for name in outside:
            words = out_h * out_w
            if name != layer.output:
                words = (sum(self._needed(layer, name, size, 0) * times for size, times in rows)
                         * sum(self._needed(layer, name, size, 1) * times
                               for size, times in columns))
                if isinstance(layer, Convolution):
                    words *= self._again(layer, shape, count)
                if _stays(layer, name):
                    words //= count     # it is loaded once
            moved += words * self._all_blocks[name] * config.word_bytes
        if isinstance(layer, Convolution):
            tiles, steps = self._weight_tiles(layer)
            again = count if not shape.columns_outer and len(chunks) > 1 else 1
            if shape.depths:
                least = len(chunks[0]) * steps * config.weight_tile_rows
                again = 1 if weights_stay(config, shape.columns_outer, least) else count
            moved += tiles * steps * config.weight_tile_rows * config.weight_row_bytes * again
            busy = float(tiles * steps * sum(
                step_cycles(config, height * width) * times * again
                for height, times in rows for width, again in columns))
        elif isinstance(layer, RowLayer):
            busy = float(sum(
                row_layer_cycles(self._config, graph, layer, height * width) * times * again
                for height, times in rows for width, again in columns))
        else:
            busy = self._vector_cycles(layer)
        load = moved / config.axi_bytes
        if shape.width < out_w:
            load += _LINE_CYCLES * count * sum(
                self._lines(layer, name, shape) for name in outside)
        overhead = float(COMMAND_OVERHEAD * self._commands(layer, outside, shape, count))
        if not outside:  # constants are loaded while the layer before is computed
            return max(load, busy) + overhead
        # The first tile is loaded before anything is computed, the last one stored after all is.
        together = ((max(load, busy) + min(load, busy) / count) if double or shape.stays
                    else load + busy)
        return together + overhead

    def _commands(self, layer: Layer, outside: Sequence[str], shape: _Shape, count: int) -> int:
        """Each tile costs a few commands, and one for each channel block where the operands of a
        pair do not lie alike, or where a row is cut; with one tile buffer nothing overlaps."""
        commands = count * max(1, len(shape.chunks))
        if shape.depths and isinstance(layer, Convolution):
            tiles, _ = self._weight_tiles(layer)
            again = self._again(layer, shape, count)
            loads = len(shape.depths)
            if shape.width < self._width(layer):
                loads = self._all_blocks[layer.input]
            return count * (len(shape.depths) * tiles * 2 + loads * again)
        if len({name in outside for name in layer.inputs}) > 1 and count > 1:
            commands *= self._all_blocks[layer.output]
        elif shape.width < self._width(layer):
            commands *= sum(self._blocks(layer, name, shape) for name in outside
                            if self._rows(layer, name, shape) > 1) or 1
        return commands

    def _rows(self, layer: Layer, name: str, shape: _Shape) -> int:
        """Rows of an operand in a tile."""
        return (shape.height if name == layer.output
                else self._needed(layer, name, shape.height, 0))

    def _lines(self, layer: Layer, name: str, shape: _Shape) -> int:
        """Parts of rows of an operand in a tile, each of which is a burst of its own; an input is
        loaded again for every group of column tiles that is an outer loop."""
        again = len(shape.chunks) if shape.columns_outer else 1
        blocks = self._blocks(layer, name, shape)
        if shape.depths and isinstance(layer, Convolution) and name == layer.input:
            again = self._again(layer, shape, 2)
            blocks = self._all_blocks[name]
        return again * self._rows(layer, name, shape) * blocks

    def _again(self, layer: Convolution, shape: _Shape, count: int) -> int:
        """How often a convolution loads each of the ``count`` tiles of its input."""
        if shape.depths and not shape.stays:
            return self._weight_tiles(layer)[0]
        return len(shape.chunks) if shape.columns_outer and count > 1 else 1

    def _find_vector_cycles(self, layer: Layer) -> float:
        if isinstance(layer, MatMul):
            return float(matmul_cycles(self._config, self._graph, layer))
        blocks = self._all_blocks[layer.output]
        return float(layer_cycles(self._config, self._graph, layer, blocks))


def _stays(layer: Layer, name: str) -> bool:
    """Whether all of an operand is on chip, whatever the tile: one that weights are made of."""
    return isinstance(layer, MatMul) and name == layer.b


def _too_large(lack: int) -> Choice:
    """What stands for a layer that lacks some words."""
    return Choice(0, LayerPlan(), {}, max(1, lack))
