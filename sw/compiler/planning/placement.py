"""Which tensors live on chip, which in external memory, and in what tiles layers read the latter.

A tensor is on chip for its whole life, or in external memory for its whole life. A layer with an
operand in external memory is computed in tiles: some rows of its output at a time, from buffers
that hold the rows it needs of its inputs, into a buffer for its output. These tile buffers are
double where there is room, so that one is filled or emptied while the other is in use.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.misfit import MisfitError, with_field
from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Alias, Concat, Convolution, MatMul, RowLayer, Softmax

from .channel_groups import ChannelChoice, ChannelGroupPlan
from .columns import weight_tiles
from .depth_first import GroupChoice, GroupPlan, GroupPlanner
from .frames import Joints, find_joints
from .groups import Group
from .head_groups import HeadChoice, HeadGroupPlan
from .tiles import Choice, LayerPlan, Room, TileBuffer, Tiling, row_align

__all__ = ["AnyGroupPlan", "Storage", "MemoryPlan", "plan_memory"]


AnyGroupPlan = GroupPlan | ChannelGroupPlan | HeadGroupPlan
"""How a group of any kind is computed."""


_NONE = Joints({}, {})

# Cycles that stand for a layer that does not fit, and for each word that it lacks: the search then
# fits layers before it saves cycles.
_SHORTAGE_CYCLES = 1e15
_WORD_SHORTAGE_CYCLES = 1e9

_NARROW = 4  # of the activation memory, what narrow tiles take at most
_APART = 4  # layers between the uses of a place, at best


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
    plane : :class:`int`
        There, words from channel block to channel block.
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
    plane: int = 0


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
    groups : :class:`tuple` of :class:`GroupPlan`, :class:`ChannelGroupPlan`, :class:`HeadGroupPlan`
        Layers that are computed in turns, in order; the other ones are computed one by one.
    cycles : :class:`tuple` of :class:`float`
        Of each layer, by an estimate; of a group they are those of its first one.
    joints : :class:`Joints`
        Layers of a batch that are computed for all frames at once, and their tensors.
    others : :class:`tuple` of :class:`MemoryPlan`
        The same with other addresses: places are used again as late as possible. In the second one,
        if there is one, tiles of layers of the vector engine take less room for that.
    """

    storages: dict[str, Storage]
    layers: tuple[LayerPlan, ...]
    aligns: dict[str, int]
    groups: tuple[AnyGroupPlan, ...] = ()
    cycles: tuple[float, ...] = ()
    joints: Joints = _NONE
    others: "tuple[MemoryPlan, ...]" = ()

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
    MisfitError
        If layers do not fit even in the smallest tiles.
    """
    joints = find_joints(laid_out, config)
    if joints.layers:
        try:
            plan = _Planner(laid_out, config, keep_tensors, groups, joints).run()
        except CompileError:    # together they need more room than one by one
            pass
        else:
            if not any(plan.storages[root].external for root in joints.planes) \
                    and not any(plan.layers[index].depths for index in joints.layers):
                return plan
    return _Planner(laid_out, config, keep_tensors, groups, _NONE).run()


@dataclass(frozen=True, eq=False)
class _Life:
    """A buffer in need of an address, from one layer to another; ``key`` is the name of a storage,
    or layer, tensor and number of a tile buffer."""
    key: str | tuple[int, str, int]
    words: int
    first: int
    last: int

    def meets(self, other: "_Life", apart: int = 0) -> bool:
        """Whether there are not ``apart`` layers between the two."""
        return self.first <= other.last + apart and other.first <= self.last + apart


@dataclass(frozen=True, eq=False)
class _Grouped(Choice):
    """A way to compute a group, as that of its first layer; the other ones take nothing."""
    group: GroupChoice | ChannelChoice | HeadChoice | None = None


class _Planner:
    def __init__(self, laid_out: ChannelLayout, config: AcceleratorConfig, keep_tensors: bool,
                 groups: Sequence[Group], joints: Joints):
        self._laid_out = laid_out
        self._graph = laid_out.graph
        self._config = config
        self._joints = joints
        self._depth = config.activation_depth
        self._stored = {edge.tensor for edge in self._graph.outputs}
        if keep_tensors:
            self._stored |= laid_out.kept
        self._groups = {index: group for group in groups for index in group.layers}
        self._inner = {name for group in groups for name in group.inner}
        self._sides = {name for group in groups for name in group.side_outputs}
        self._aligns = {name: row_align(config, tensor.shape[2])
                        for name, tensor in self._graph.tensors.items()}
        self._group_planner = GroupPlanner(laid_out, config, self._aligns, self._stored)
        self._storages = {storage.name: storage for storage in self._find_storages()}
        self._external = set(self._sides)
        layers = len(self._graph.layers)
        self._live: list[list[Storage]] = [[] for _ in range(layers + 1)]
        for storage in self._storages.values():
            if storage.name not in self._inner:
                for index in range(storage.first, storage.last + 1):
                    self._live[index].append(storage)
        self._limits = [self._depth] * (layers + 1)
        self._choose = lru_cache(maxsize=None)(Tiling(laid_out, config).choose)

    def run(self) -> MemoryPlan:
        self._check_layers()
        # Each round either fits, or lowers the limit of a layer whose memory turned out too
        # fragmented, until some layer can do with no less.
        while True:
            if not self._spill():   # with nothing else on chip, each has the room that it needs
                self._external = set(self._storages) - self._inner
                self._limits = [self._depth] * len(self._limits)
            choices = self._choices()
            lives = list(self._lives(choices))
            placed, failed = _place(lives, self._depth)
            if failed is None:
                others = [self._finish(choices, _spread(lives, placed, self._depth))]
                narrow = [self._narrow(index, choice) for index, choice in enumerate(choices)]
                if narrow != choices:
                    lives = list(self._lives(narrow))
                    again, failed = _place(lives, self._depth)
                    if failed is None:
                        others.append(self._finish(narrow, _spread(lives, again, self._depth)))
                return replace(self._finish(choices, placed), others=tuple(others))
            self._limits[failed.first] -= max(1, self._depth // 16)

    def _check_layers(self) -> None:
        """Makes sure that every layer fits if it has the chip for itself, which is enough: a graph
        can be computed with all its tensors in external memory."""
        misfits: dict[int, CompileError] = {}
        everything = frozenset(self._storages)
        for index, origin in enumerate(self._laid_out.origins):
            try:
                lack = self._choice(index, everything).lack
            except CompileError as error:
                misfits.setdefault(origin, error)
                continue
            if lack:
                word_bytes = self._config.word_data_bytes
                misfits.setdefault(origin, CompileError(
                    f"Layer {self._layer_name(index)!r} needs {(self._depth + lack) * word_bytes} "
                    f"bytes of activation memory, {self._depth * word_bytes} are available",
                    cure=with_field("activation_bytes", word_bytes * (
                        self._depth + lack + -lack % self._config.activation_banks))))
        if misfits:
            raise MisfitError(misfits)

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
            words, plane = blocks * height * width, height * width
            if root in self._joints.planes:     # that of frame 0 stands for all
                together, frame = self._joints.planes[root]
                words, plane = 0 if frame else together.words, together.block_step
                both = [spans[other] for other in together.roots if other in spans]
                first = min(start for start, _ in both)
                last = max(stop for _, stop in both)
            yield Storage(name=root, layer=self._layer_name(first), blocks=blocks,
                          plane_bytes=plane_bytes + -plane_bytes % self._config.axi_bytes,
                          words=words, first=first, last=last, plane=plane)

    def _layer_name(self, index: int) -> str:
        layers = self._graph.layers
        return layers[index].name if index < len(layers) else "output"

    # Spilling ---------------------------------------------------------------------------------

    def _cycles(self, index: int, external: frozenset[str]) -> float:
        choice = self._choice(index, external)
        if choice.lack:
            return _SHORTAGE_CYCLES + choice.lack * _WORD_SHORTAGE_CYCLES
        return choice.cycles

    def _choice(self, index: int, external: frozenset[str]) -> Choice:
        group = self._groups.get(index)
        if group is not None and index > group.layers[0]:
            return Choice(0, LayerPlan(), {})
        available = self._limits[index] - sum(storage.words for storage in self._live[index]
                                              if storage.name not in external)
        if index == len(self._graph.layers) or isinstance(self._graph.layers[index],
                                                          Concat | Alias):
            return Choice(0, LayerPlan(), {}, max(0, -available))
        layer = self._graph.layers[index]
        operands = (*layer.inputs, layer.output) if group is None else (*group.inputs, group.output)
        homes = self._laid_out.homes
        outside = tuple(name for name in dict.fromkeys(operands) if homes[name].root in external)
        if group is not None:
            return self._choose_group(group, outside, available)
        return self._choose(index, outside, available)

    def _choose_group(self, group: Group, outside: tuple[str, ...], available: int) -> Choice:
        """The best way to compute a group with the operands ``outside`` in external memory."""
        choice, least = self._group_planner.best(group, frozenset(outside), available)
        if choice is None:
            return Choice(0, LayerPlan(), {}, max(1, least - available))
        if isinstance(choice, ChannelChoice | HeadChoice):
            return _Grouped(choice.cycles, LayerPlan(), {
                name: Room(*room) for name, room in choice.rooms.items()}, group=choice)
        rooms = {name: Room(words, 1) for name, (_, words) in choice.lines.items()}
        if choice.output_count:
            rooms[group.output] = Room(choice.output_words, choice.output_count)
        return _Grouped(choice.cycles, LayerPlan(), rooms, group=choice)

    def _spill(self) -> bool:
        """Moves storages out as long as that helps; whether all layers fit then."""
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
                return not tight
            self._external.add(best)

    # Addresses --------------------------------------------------------------------------------

    def _choices(self) -> list[Choice]:
        external = frozenset(self._external)
        return [self._choice(index, external) for index in range(len(self._graph.layers))]

    def _narrow(self, index: int, choice: Choice) -> Choice:
        """The same layer in tiles that take less, if it is one of the vector engine."""
        if index in self._groups or not choice.tile_buffers:
            return choice
        layer = self._graph.layers[index]
        if isinstance(layer, Convolution | MatMul | RowLayer):
            return choice
        outside = tuple(name for name in dict.fromkeys((*layer.inputs, layer.output))
                        if name in choice.tile_buffers)
        found = self._choose(index, outside, self._depth // _NARROW)
        return choice if found.lack else found

    def _lives(self, choices: Sequence[Choice]) -> Iterator[_Life]:
        for storage in self._storages.values():
            if storage.name not in self._external | self._inner and storage.words:
                yield _Life(storage.name, storage.words, storage.first, storage.last)
        for index, choice in enumerate(choices):
            last = self._groups[index].layers[-1] if index in self._groups else index
            for name, room in choice.tile_buffers.items():
                for number in range(room.count):
                    yield _Life((index, name, number), room.words, index, last)

    def _finish(self, choices: Sequence[Choice],
                placed: dict[str | tuple[int, str, int], int]) -> MemoryPlan:
        storages = {name: replace(storage, external=name in self._external,
                                  address=self._address(name, placed))
                    for name, storage in self._storages.items()}
        layers: list[LayerPlan] = []
        groups: list[AnyGroupPlan] = []
        for index, choice in enumerate(choices):
            buffers = {name: TileBuffer(words=room.words, addresses=tuple(
                           placed[index, name, number] for number in range(room.count)))
                       for name, room in choice.tile_buffers.items()}
            if isinstance(choice, _Grouped) and isinstance(choice.group, ChannelChoice):
                group = self._groups[index]
                layers += self._channel_turns(group, choice.group, buffers)
                groups.append(ChannelGroupPlan(
                    layers=group.layers, chunks=choice.group.chunks, inner=group.inner[0],
                    addresses={name: buffer.addresses[0] for name, buffer in buffers.items()
                               if name != group.output}))
            elif isinstance(choice, _Grouped) and isinstance(choice.group, HeadChoice):
                group = self._groups[index]
                layers += self._head_turns(group, choice.group, buffers)
                softmax = self._graph.layers[group.layers[1]]
                assert isinstance(softmax, Softmax)
                groups.append(HeadGroupPlan(
                    layers=group.layers, heads=softmax.heads, tiles=choice.group.tiles,
                    inner=group.inner, address=buffers[group.inner[0]].addresses[0]))
            elif isinstance(choice, _Grouped) and isinstance(choice.group, GroupChoice):
                group = self._groups[index]
                layers += self._turns(group, choice.group, buffers)
                groups.append(GroupPlan(
                    layers=group.layers, flows=choice.group.flows,
                    lines={name: line for name, (line, _) in choice.group.lines.items()},
                    addresses={name: buffers[name].addresses[0] for name in choice.group.lines}))
            elif index not in self._groups:
                layers.append(replace(choice.plan, tile_buffers=buffers))
        return MemoryPlan(storages=storages, layers=tuple(layers), aligns=self._aligns,
                          groups=tuple(groups), cycles=tuple(choice.cycles for choice in choices),
                          joints=self._joints)

    def _address(self, name: str, placed: dict[str | tuple[int, str, int], int]) -> int:
        """Of a storage on chip."""
        if name not in self._joints.planes:
            return placed.get(name, 0)
        plane, frame = self._joints.planes[name]
        return placed.get(plane.roots[0], 0) + frame * plane.frame_step

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

    def _channel_turns(self, group: Group, choice: ChannelChoice,
                       buffers: dict[str, TileBuffer]) -> Iterator[LayerPlan]:
        """The same, of a group by channels."""
        for index in group.layers:
            name = self._graph.layers[index].output
            last = name == group.output and name in buffers
            yield LayerPlan(
                tiles=(range(self._graph.tensors[name].shape[1]),), chunks=choice.chunks,
                columns_outer=True, in_turns=True,
                tile_buffers={name: buffers[name]} if last else {})

    def _head_turns(self, group: Group, choice: HeadChoice,
                    buffers: dict[str, TileBuffer]) -> Iterator[LayerPlan]:
        """The same, of a group by heads."""
        for index in group.layers:
            layer = self._graph.layers[index]
            mine = {*layer.inputs, layer.output} - set(group.inner)
            yield LayerPlan(tiles=choice.tiles, in_turns=True, tile_buffers={
                name: buffer for name, buffer in buffers.items() if name in mine})


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


def _spread(lives: Sequence[_Life], placed: dict[str | tuple[int, str, int], int],
            depth: int) -> dict[str | tuple[int, str, int], int]:
    """Addresses with which places are used again as late as possible: what a layer writes then
    need not wait for those before it, which are still read there."""
    placed = dict(placed)
    moved: set[_Life] = set()   # the others will move away themselves
    for life in sorted(lives, key=lambda life: life.first):
        for apart in range(_APART, 0, -1):
            others = [(other, placed[other.key]) for other in lives if other is not life
                      and life.meets(other, apart if other in moved else 0)]
            address = _lowest(life, others, placed[life.key])
            if address + life.words > depth:
                address = _lowest(life, others)
            if address + life.words <= depth:
                placed[life.key] = address
                break
        moved.add(life)
    return placed


def _first_fit(lives: Iterable[_Life],
               depth: int) -> tuple[dict[str | tuple[int, str, int], int], _Life | None]:
    """Each buffer at the lowest address that is free for its whole life."""
    placed: list[tuple[_Life, int]] = []
    for life in lives:
        address = _lowest(life, ((other, start) for other, start in placed if life.meets(other)))
        if address + life.words > depth:
            return {}, life
        placed.append((life, address))
    return {life.key: address for life, address in placed}, None


def _lowest(life: _Life, others: Iterable[tuple[_Life, int]], address: int = 0) -> int:
    """The lowest address, from one on, at which a buffer does not overlap others."""
    for start, stop in sorted((start, start + other.words) for other, start in others):
        if address + life.words <= start:
            break
        address = max(address, stop)
    return address
