"""Which tensors live on chip, which in external memory, and in what tiles layers read the latter.

A tensor is on chip for its whole life, or in external memory for its whole life. A layer with an
operand in external memory is computed in tiles: some rows of its output at a time, from buffers
that hold the rows it needs of its inputs, into a buffer for its output. These tile buffers are
double where there is room, so that one is filled or emptied while the other is in use.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from math import gcd

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.timing.engines import COMMAND_OVERHEAD, step_cycles
from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Concat, Convolution, Layer

from .columns import column_chunks, weight_tiles
from .depth_first import GroupChoice, GroupPlan, GroupPlanner
from .groups import Group
from .loop_order import layer_cycles
from .rows import needed_rows, window

__all__ = ["Storage", "TileBuffer", "LayerPlan", "MemoryPlan", "plan_memory"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Storage:
    """A tensor with all the tensors that live inside it.

    Attributes
    ----------
    name : :class:`str`
        Of the tensor.
    layer : :class:`str`
        The layer that an error names if it does not fit.
    blocks : :class:`int`
        Channel blocks.
    plane_bytes : :class:`int`
        Bytes from channel block to channel block in external memory.
    words : :class:`int`
        All its words.
    first, last : :class:`int`
        Indices of the layers that write it first, and use it last.
    external : :class:`bool`
        Lives in external memory.
    address : :class:`int`
        In activation memory, if it does not.
    """

    name: str
    layer: str
    blocks: int
    plane_bytes: int
    words: int
    first: int
    last: int
    external: bool = False
    address: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class TileBuffer:
    """Room for the tiles of one operand of one layer: ``words`` at each of one or two addresses."""
    words: int
    addresses: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPlan:
    """How a layer is computed.

    Attributes
    ----------
    tiles : :class:`tuple` of :class:`range`
        Output rows that are computed at a time, in order.
    chunks : :class:`tuple` of :class:`range`
        Of a convolution: column tiles that are computed at a time, in order.
    columns_outer : :class:`bool`
        All tiles of rows for one chunk after the other, and not all chunks for one tile.
    tile_buffers : :class:`dict`
        By tensor, for operands in external memory.
    in_turns : :class:`bool`
        Part of a group that is computed depth first: the other layers have their turns between the
        tiles, and constants are loaded all together and stay.
    """

    tiles: tuple[range, ...] = ()
    chunks: tuple[range, ...] = ()
    columns_outer: bool = False
    in_turns: bool = False
    tile_buffers: dict[str, TileBuffer] = field(default_factory=dict)

    def needs(self, layer: Layer, rows: range, size: int) -> tuple[range, int]:
        """Rows of an input of ``size`` rows for some rows of the output, and rows of padding
        before them."""
        if len(self.tiles) == 1:  # all of it, whatever the layer makes of it
            return range(size), window(layer).before
        return needed_rows(layer, rows, size)


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryPlan:
    """Where every tensor is, and how every layer is computed.

    Attributes
    ----------
    storages : :class:`dict`
        By name.
    layers : :class:`tuple` of :class:`LayerPlan`
    aligns : :class:`dict`
        By tensor, see :meth:`align`.
    groups : :class:`tuple` of :class:`GroupPlan`
        Layers that are computed depth first, in order; the other ones are computed one by one.
    cycles : :class:`tuple` of :class:`float`
        Of each layer, by an estimate; of a group they are those of its first one.
    """

    storages: dict[str, Storage]
    layers: tuple[LayerPlan, ...]
    aligns: dict[str, int]
    groups: tuple[GroupPlan, ...] = ()
    cycles: tuple[float, ...] = ()

    def align(self, name: str) -> int:
        """Rows from one that begins with a beat in external memory to the next: every part of
        a tensor that is loaded or stored begins at a multiple of it."""
        return self.aligns[name]


def plan_memory(laid_out: ChannelLayout, config: AcceleratorConfig, *,
                keep_tensors: bool = False, groups: Sequence[Group] = ()) -> MemoryPlan:
    """Decides where tensors live and how layers are tiled.

    All tensors are on chip if they fit. Else tensors move to external memory one by one, each time
    the one whose eviction saves the most cycles, by an estimate of all layers: those of the array,
    or of the memory port where they are more.

    Parameters
    ----------
    keep_tensors : :class:`bool`
        Every tensor is to be stored, too.
    groups : list of :class:`Group`
        Layers that are computed depth first; none is in two of them.

    Raises
    ------
    CompileError
        If a layer does not fit even in the smallest tiles.
    """
    return _Planner(laid_out, config, keep_tensors, groups).run()


@dataclass(frozen=True, eq=False)
class _Life:
    """A buffer in need of an address, from one layer to another; ``key`` is the name of a storage,
    or layer, tensor and number of a tile buffer."""
    key: str | tuple[int, str, int]
    words: int
    first: int
    last: int

    def meets(self, other: "_Life") -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class _Room:
    """The tile buffers of one operand: ``count`` times ``words``."""
    words: int
    count: int


@dataclass(frozen=True, eq=False)
class _Choice:
    """A way to compute a layer: estimated cycles, and its tile buffers before they are placed."""
    cycles: float
    plan: LayerPlan
    tile_buffers: dict[str, _Room]
    group: GroupChoice | None = None


_HEIGHTS = 8            # tile heights that are compared, from the largest that fits
# Cycles that stand for a layer that does not fit, and for each word that it lacks: the search then
# fits layers before it saves cycles.
_SHORTAGE_CYCLES = 1e15
_WORD_SHORTAGE_CYCLES = 1e9


def _too_large(lack: int) -> _Choice:
    """What stands for a layer that lacks some words."""
    return _Choice(_SHORTAGE_CYCLES + lack * _WORD_SHORTAGE_CYCLES, LayerPlan(), {})


class _Planner:
    def __init__(self, laid_out: ChannelLayout, config: AcceleratorConfig, keep_tensors: bool,
                 groups: Sequence[Group]):
        self._laid_out = laid_out
        self._graph = laid_out.graph
        self._config = config
        self._depth = config.activation_depth
        self._stored = {edge.tensor for edge in self._graph.outputs}
        if keep_tensors:
            self._stored |= laid_out.kept
        self._groups = {index: group for group in groups for index in group.layers}
        self._inner = {name for group in groups for name in group.inner}
        self._aligns = {name: self._align(name) for name in self._graph.tensors}
        self._group_planner = GroupPlanner(laid_out, config, self._aligns, self._stored)
        self._storages = {storage.name: storage for storage in self._find_storages()}
        self._external: set[str] = set()
        layers = len(self._graph.layers)
        self._live: list[list[Storage]] = [[] for _ in range(layers + 1)]
        for storage in self._storages.values():
            if storage.name not in self._inner:
                for index in range(storage.first, storage.last + 1):
                    self._live[index].append(storage)
        self._limits = [self._depth] * (layers + 1)
        self._choose = lru_cache(maxsize=None)(self._choose_plan)

    def run(self) -> MemoryPlan:
        # Each round either fits, or lowers the limit of a layer whose memory turned out too
        # fragmented, until some layer can do with no less.
        while True:
            self._spill()
            choices = self._choices()
            lives = list(self._lives(choices))
            placed, failed = _place(lives, self._depth)
            if failed is None:
                return self._finish(choices, placed)
            self._limits[failed.first] -= max(1, self._depth // 16)

    # Tensors ----------------------------------------------------------------------------------

    def _find_storages(self) -> Iterator[Storage]:
        graph, homes = self._graph, self._laid_out.homes
        spans: dict[str, tuple[int, int]] = {}

        def use(name: str, index: int) -> None:
            root = homes[name].root
            span = self._groups[index].layers if index in self._groups else (index,)
            first, _ = spans.get(root, (span[0], index))
            spans[root] = first, span[-1]

        for index, layer in enumerate(graph.layers):
            for name in (*layer.inputs, layer.output):
                use(name, index)
        inputs = {edge.tensor for edge in graph.inputs}
        for edge in graph.outputs:
            if edge.tensor in inputs:
                use(edge.tensor, len(graph.layers))
        for root, (first, last) in spans.items():
            _, height, width = graph.tensors[root].shape
            blocks = self._laid_out.channels[root].blocks(self._config)
            plane_bytes = height * width * self._config.word_bytes
            yield Storage(name=root, layer=self._layer_name(first), blocks=blocks,
                          plane_bytes=plane_bytes + -plane_bytes % self._config.axi_bytes,
                          words=blocks * height * width, first=first, last=last)

    def _layer_name(self, index: int) -> str:
        layers = self._graph.layers
        return layers[index].name if index < len(layers) else "output"

    def _align(self, name: str) -> int:
        """Rows between two that begin with a beat in external memory."""
        row = self._graph.tensors[name].shape[2] * self._config.word_bytes
        return self._config.axi_bytes // gcd(self._config.axi_bytes, row)

    # Spilling ---------------------------------------------------------------------------------

    def _cycles(self, index: int, external: frozenset[str]) -> float:
        return self._choice(index, external).cycles

    def _choice(self, index: int, external: frozenset[str]) -> _Choice:
        group = self._groups.get(index)
        if group is not None and index > group.layers[0]:
            return _Choice(0, LayerPlan(), {})
        available = self._limits[index] - sum(storage.words for storage in self._live[index]
                                              if storage.name not in external)
        if index == len(self._graph.layers) or isinstance(self._graph.layers[index], Concat):
            lack = max(0, -available)
            return _too_large(lack) if lack else _Choice(0, LayerPlan(), {})
        homes = self._laid_out.homes
        layer = self._graph.layers[index]
        operands = ((*group.inputs, group.output) if group
                    else dict.fromkeys((*layer.inputs, layer.output)))
        outside = tuple(name for name in operands if homes[name].root in external)
        return self._choose(index, outside, available)

    def _spill(self) -> None:
        """Moves storages out as long as that helps."""
        while True:
            now = frozenset(self._external)
            best, gain = None, 0.0
            cycles = [self._cycles(index, now) for index in range(len(self._live))]
            tight = [index for index, live in enumerate(self._live)
                     if cycles[index] >= _SHORTAGE_CYCLES]
            where = tight[:1] or [index for index in range(len(self._graph.layers))
                                  if self._choice(index, now).tile_buffers]
            for storage in dict.fromkeys(storage for index in where
                                         for storage in self._live[index]):
                if storage.name in now:
                    continue
                then = now | {storage.name}
                less = sum(cycles[index] - self._cycles(index, then)
                           for index in range(storage.first, storage.last + 1))
                if less > gain:
                    best, gain = storage.name, less
            if best is None:
                if tight:
                    self._fail(tight[0], now)
                return
            self._external.add(best)

    def _fail(self, index: int, external: frozenset[str]) -> None:
        cycles = self._cycles(index, external)
        lack = round((cycles - _SHORTAGE_CYCLES) / _WORD_SHORTAGE_CYCLES)
        word_bytes, limit = self._config.word_data_bytes, self._limits[index]
        text = f"Layer {self._layer_name(index)!r} needs {(limit + lack) * word_bytes} bytes of " \
               f"activation memory"
        if limit == self._depth:
            raise CompileError(f"{text}, {limit * word_bytes} are available")
        raise CompileError(f"{text}, the {self._depth * word_bytes} available are too fragmented")

    # Layers -----------------------------------------------------------------------------------

    def _choose_plan(self, index: int, outside: tuple[str, ...], available: int) -> _Choice:
        """The best way to compute a layer, or a group that begins with it, with the operands
        ``outside`` in external memory."""
        if index in self._groups:
            return self._choose_group(self._groups[index], outside, available)
        layer = self._graph.layers[index]
        best: _Choice | None = None
        least: int | None = None
        for chunks, columns_outer in self._orders(layer, outside):
            choice, needed = self._tile(layer, outside, available, chunks, columns_outer)
            if choice is not None and (best is None or choice.cycles < best.cycles):
                best = choice
            least = needed if least is None else min(least, needed)
        if best is not None:
            return best
        assert least is not None
        return _too_large(least - available)

    def _choose_group(self, group: Group, outside: tuple[str, ...], available: int) -> _Choice:
        choice, least = self._group_planner.best(group, frozenset(outside), available)
        if choice is None:
            return _too_large(least - available)
        rooms = {name: _Room(words, 1) for name, (_, words) in choice.lines.items()}
        if choice.output_count:
            rooms[group.output] = _Room(choice.output_words, choice.output_count)
        return _Choice(choice.cycles, LayerPlan(), rooms, choice)

    def _orders(self, layer: Layer, outside: tuple[str, ...]) \
            -> Iterator[tuple[tuple[range, ...], bool]]:
        """Groups of column tiles, and whether they are the outer loop."""
        if not isinstance(layer, Convolution):
            yield (), False
            return
        config = self._config
        tiles, steps = weight_tiles(config, self._laid_out, layer)
        rows = steps * config.weight_tile_rows
        half = tuple(column_chunks(config, layer.name, tiles, rows))
        if not outside:  # each weight is loaded once, whatever the tiles
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
              chunks: tuple[range, ...],
              columns_outer: bool) -> tuple[_Choice | None, int]:
        """Tiles of as many rows as there is room for; and the fewest words that would do."""
        config = self._config
        out_h = self._graph.tensors[layer.output].shape[1]
        out_blocks = self._laid_out.channels[layer.output].blocks(config)
        if columns_outer:
            out_blocks = min(out_blocks, -(-max(map(len, chunks)) * config.cols // config.rows))
        align = self._align(layer.output)

        def sizes(height: int, double: bool) -> dict[str, _Room]:
            many = height < out_h
            found = {}
            for name in outside:
                width = self._graph.tensors[name].shape[2]
                if name == layer.output:
                    again = many or (columns_outer and len(chunks) > 1)
                    words = height * out_blocks
                else:
                    again = many
                    words = (self._in_rows(layer, name, height, out_h)
                             * self._laid_out.channels[name].blocks(config))
                found[name] = _Room(words * width, 2 if double and again else 1)
            return found

        def total(found: dict[str, _Room]) -> int:
            return sum(room.words * room.count for room in found.values())

        split = {height + -height % align
                 for height in (-(-out_h // count) for count in range(1, out_h + 1))}
        heights = sorted({min(height, out_h) for height in split}, reverse=True)
        if not outside:  # split later, once all else is known
            heights = [out_h]
        least = total(sizes(heights[-1], False))
        best = None
        for double in (True, False):
            fitting = (height for height in heights if total(sizes(height, double)) <= available)
            for height in islice(fitting, _HEIGHTS):
                tiles = tuple(range(row, min(row + height, out_h))
                              for row in range(0, out_h, height))
                cycles = self._estimate(layer, outside, tiles, chunks, columns_outer, double)
                if best is None or cycles < best.cycles:
                    best = _Choice(cycles, LayerPlan(
                        tiles=tiles, chunks=chunks, columns_outer=columns_outer),
                        sizes(height, double))
        return best, least

    def _in_rows(self, layer: Layer, name: str, height: int, out_h: int) -> int:
        """Rows of an input that ``height`` rows of the output need at most."""
        size = self._graph.tensors[name].shape[1]
        if height == out_h or size == 1:
            return size
        shape = window(layer)
        if shape.repeat > 1:
            rows = (height - 2) // shape.repeat + 2
        else:
            rows = (height - 1) * shape.stride + shape.dilation * (shape.kernel - 1) + 1
        return min(size, rows + self._align(name) - 1)

    def _estimate(self, layer: Layer, outside: tuple[str, ...], tiles: Sequence[range],
                  chunks: Sequence[range], columns_outer: bool, double: bool) -> float:
        """Cycles of a layer, if its loads and stores overlap with its computation."""
        config, graph = self._config, self._graph
        _, out_h, out_w = graph.tensors[layer.output].shape
        moved, busy = 0.0, 0.0
        for name in outside:
            width = graph.tensors[name].shape[2]
            blocks = self._laid_out.channels[name].blocks(config)
            rows = out_h
            if name != layer.output:
                rows = sum(self._in_rows(layer, name, len(tile), out_h) for tile in tiles)
                if columns_outer and len(tiles) > 1:
                    rows *= len(chunks)
            moved += rows * width * blocks * config.word_bytes
        if isinstance(layer, Convolution):
            columns, steps = weight_tiles(config, self._laid_out, layer)
            again = len(tiles) if not columns_outer and len(chunks) > 1 else 1
            moved += columns * steps * config.weight_tile_rows * config.weight_row_bytes * again
            busy = columns * steps * sum(step_cycles(config, len(tile) * out_w) for tile in tiles)
        else:
            busy = float(layer_cycles(config, graph, layer,
                                      self._laid_out.channels[layer.output].blocks(config)))
        load = moved / config.axi_bytes
        # Each tile costs a few commands, and one for each channel block where the operands of a
        # pair do not lie alike; with one tile buffer nothing overlaps.
        commands = len(tiles) * max(1, len(chunks))
        if len({name in outside for name in layer.inputs}) > 1 and len(tiles) > 1:
            commands *= self._laid_out.channels[layer.output].blocks(config)
        overhead = float(COMMAND_OVERHEAD * commands)
        if not outside:  # constants are loaded while the layer before is computed
            return max(load, busy) + overhead
        # The first tile is loaded before anything is computed, the last one stored after all is.
        together = (max(load, busy) + min(load, busy) / len(tiles)) if double else load + busy
        return together + overhead

    # Addresses --------------------------------------------------------------------------------

    def _choices(self) -> list[_Choice]:
        external = frozenset(self._external)
        return [self._choice(index, external) for index in range(len(self._graph.layers))]

    def _lives(self, choices: Sequence[_Choice]) -> Iterator[_Life]:
        for storage in self._storages.values():
            if storage.name not in self._external | self._inner:
                yield _Life(storage.name, storage.words, storage.first, storage.last)
        for index, choice in enumerate(choices):
            last = self._groups[index].layers[-1] if index in self._groups else index
            for name, room in choice.tile_buffers.items():
                for number in range(room.count):
                    yield _Life((index, name, number), room.words, index, last)

    def _finish(self, choices: Sequence[_Choice],
                placed: dict[str | tuple[int, str, int], int]) -> MemoryPlan:
        storages = {name: replace(storage, external=name in self._external,
                                  address=placed.get(name, 0))
                    for name, storage in self._storages.items()}
        layers: list[LayerPlan] = []
        groups: list[GroupPlan] = []
        for index, choice in enumerate(choices):
            buffers = {name: TileBuffer(words=room.words, addresses=tuple(
                           placed[index, name, number] for number in range(room.count)))
                       for name, room in choice.tile_buffers.items()}
            if choice.group is not None:
                group = self._groups[index]
                layers += self._turns(group, choice.group, buffers)
                groups.append(GroupPlan(
                    layers=group.layers, flows=choice.group.flows,
                    lines={name: line for name, (line, _) in choice.group.lines.items()},
                    addresses={name: buffers[name].addresses[0] for name in choice.group.lines}))
            elif index not in self._groups:
                layers.append(replace(choice.plan, tile_buffers=buffers))
        return MemoryPlan(storages=storages, layers=tuple(layers), aligns=self._aligns,
                          groups=tuple(groups), cycles=tuple(choice.cycles for choice in choices))

    def _turns(self, group: Group, choice: GroupChoice,
               buffers: dict[str, TileBuffer]) -> Iterator[LayerPlan]:
        """Plans of the layers of a group."""
        for index in group.layers:
            layer = self._graph.layers[index]
            if isinstance(layer, Convolution):
                count, _ = weight_tiles(self._config, self._laid_out, layer)
            else:
                count = self._laid_out.channels[layer.output].blocks(self._config)
            last = layer.output == group.output and choice.output_count
            yield LayerPlan(
                tiles=tuple(rows for rows in choice.flows[layer.output].new if rows),
                chunks=(range(count),), in_turns=True,
                tile_buffers={layer.output: buffers[layer.output]} if last else {})


def _place(lives: Sequence[_Life],
           depth: int) -> tuple[dict[str | tuple[int, str, int], int], _Life | None]:
    """Addresses for all, or the first that there was no room for."""
    # No order is best for all graphs: the first leaves the most room between a tensor and what
    # comes next, the others pack closer.
    orders = (lambda life: (life.first,),
              lambda life: (-life.words, life.first),
              lambda life: (life.first - life.last, -life.words))
    failed = None
    for order in orders:
        placed, at = _first_fit(sorted(lives, key=order), depth)
        if at is None:
            return placed, None
        failed = failed or at
    return {}, failed


def _first_fit(lives: Iterable[_Life],
               depth: int) -> tuple[dict[str | tuple[int, str, int], int], _Life | None]:
    """Each buffer at the lowest address that is free for its whole life."""
    placed: list[tuple[_Life, int]] = []
    for life in lives:
        address = 0
        for start, stop in sorted((start, start + other.words) for other, start in placed
                                  if life.meets(other)):
            if address + life.words <= start:
                break
            address = max(address, stop)
        if address + life.words > depth:
            return {}, life
        placed.append((life, address))
    return {life.key: address for life, address in placed}, None
