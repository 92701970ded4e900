"""What layers are lowered with: tensors and constants where the memory plan put them, and the loads
and stores that this takes.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, TypeVar

import numpy as np

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.misfit import MisfitError
from weft.compiler.ops import Address, Buffer, Fields, Lowered, Op, Region, Space
from weft.compiler.planning.channel_groups import ChannelGroupPlan
from weft.compiler.planning.depth_first import GroupPlan
from weft.compiler.planning.head_groups import HeadGroupPlan
from weft.compiler.planning.placement import AnyGroupPlan, MemoryPlan, Storage
from weft.compiler.planning.skip import Run, runs
from weft.compiler.planning.tiles import LayerPlan
from weft.errors import CompileError
from weft.hw.isa.commands import COMMANDS, Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import field_ranges
from weft.ir import Alias, Concat, Convolution, Graph, Layer, MatMul, Tensor
from weft.ir.layout import ChannelMap

from .kept_lines import KeptLines
from .line_buffer import LineBuffer, TurnBuffer
from .parts import LoweringMemory, Part
from .rotation import Rotation
from .sharing import Sharing
from .view import View

__all__ = ["LoweringContext"]

_T = TypeVar("_T")


_RANGES = {opcode: field_ranges(opcode) for opcode in COMMANDS}


class LoweringContext:
    """What layers are lowered with. For every type of layer there is a function ``lower_xxx(
    context, index, layer)`` that emits its commands; with everything on chip or not, it is ::

        constants = context.constant(index, "weights", Space.VECTOR_WEIGHT, packed)
        for rows, columns in context.tiles(index):         # of the output, top to bottom
            source = context.read(index, layer.input, rows, columns)   # loads what is not on chip
            target = context.write(index, rows, columns)
            context.emit(index, Op(..., reads=(*source.regions(), Region.whole(constants)),
                                    writes=target.regions()))
            context.finish(index, target)                  # stores what must leave the chip

    In a command, ``source.padding`` and ``source.left`` take the place of ``layer.pads.top`` and
    ``layer.pads.left``, ``len(source.rows)`` that of the input's height, ``source.plane`` and
    ``source.width`` are its steps, and ``source.at(-padding)`` is an ``in_base``. A layer can also
    go through channel blocks in groups, with ``read(..., blocks=...)`` and ``write(...,
    blocks=...)``, or with :meth:`View.part` of a view. In whatever order it goes through tiles and
    blocks: each ``finish`` stores its view, and must come before the second next ``write``.

    Constants lie in rings: what was loaded first is overwritten first. A constant stays until the
    last command that reads it, and all that are in use at a time must fit.

    Attributes
    ----------
    config : :class:`AcceleratorConfig`
    graph : :class:`Graph`
        As the passes before have left it: inputs packed, copies inserted.
    """

    def __init__(self, laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan,
                 keep_tensors: bool, known: dict[Hashable, Any], *, outline: bool = False):
        self.config = config
        self._outline = outline
        self.graph: Graph = laid_out.graph
        self._laid_out = laid_out
        self._plan = plan
        self._known = known
        self._memory: LoweringMemory = self.once(tuple(plan.storages.values()), LoweringMemory)
        self._lowered = Part()
        self._current = Part()    # the layer, or group, at hand
        self._rotations: dict[tuple[int, str], Rotation] = {}
        self._sharing = Sharing(config)
        # Of the group at hand.
        self._lines: dict[str, LineBuffer | TurnBuffer] = {}
        self._turns: dict[int, range] = {}          # rows of its layers that are next
        self._chunk: range | None = None            # channel blocks, or heads, that are
        self._kept = KeptLines(config)
        self._staying: dict[Hashable, Any] = {}     # its constants
        self._given = self.graph.given
        self._present: set[str] = set()         # tensors that are computed
        self._stored = {edge.tensor for edge in self.graph.outputs}
        if keep_tensors:
            self._stored |= laid_out.kept

    def run(self, lower: "Callable[[LoweringContext, int, Layer], None]",
            lower_group: "Callable[[LoweringContext, AnyGroupPlan], None]") -> Lowered:
        """Lowers all layers, each with ``lower``, or as part of a group with ``lower_group``."""
        misfits: dict[int, CompileError] = {}
        groups = {group.layers[0]: group for group in self._plan.groups}
        for index, layer in enumerate(self.graph.layers):
            try:
                if index in groups:
                    self._lower(index, groups[index], partial(lower_group, self, groups[index]))
                elif not self.plan(index).in_turns:
                    self._lower(index, self.plan(index), partial(lower, self, index, layer))
            except CompileError as error:
                misfits.setdefault(self._laid_out.origins[index], error)
            self._present.add(layer.output)
        if misfits:
            raise MisfitError(misfits)
        for edge in self.graph.outputs:  # an input that is an output as well
            if edge.tensor in self._given and self.storage(edge.tensor).external:
                self._slot(edge.tensor, "output")
            elif edge.tensor in self._given:
                self._enter(edge.tensor, "output")
                self._store(None, self._whole(edge.tensor))
        self._lowered.add(self._current)
        whole = self._lowered
        # Constants first: all that is sent once lies together.
        sources = dict.fromkeys(whole.slots[name].buffer for name in sorted(
            whole.slots, key=lambda name: name not in self.graph.constants))
        return Lowered(ops=tuple(whole.ops), slots=whole.slots, placed=whole.placed,
                       external=(*whole.sections, *sources))

    def _lower(self, index: int, plan: Hashable, lower: Callable[[], None]) -> None:
        """Adds what a layer, or the group that begins with it, becomes: by ``lower``, or as it did
        where it was planned alike."""
        key = index, plan, tuple(self._lowered.entered.items())
        part = self._memory.parts.get(key)
        if part is None:
            part = self._current = Part()
            self._kept = KeptLines(self.config)
            lower()
            if self.graph.frames == 1:      # the others share constants with layers before them
                self._memory.parts[key] = part
        self._lowered.add(part)
        self._current = Part()

    # What lowering functions ask --------------------------------------------------------------

    def tensor(self, name: str) -> Tensor:
        """A tensor of the graph."""
        return self.graph.tensors[name]

    def channels(self, name: str) -> ChannelMap:
        """Where the channels of a tensor lie; of an element-wise layer's operands the same."""
        return self._laid_out.channels[name]

    def blocks(self, name: str) -> range:
        """All channel blocks of a tensor."""
        return range(self.channels(name).blocks(self.config))

    def spread(self, name: str, values: np.ndarray) -> np.ndarray:
        """[lanes, ...] from [channels, ...], as the channels of a tensor lie; zero elsewhere."""
        return self.channels(name).spread(self.config, values)

    def runs(self, layer: Convolution) -> tuple[Run, ...]:
        """Column tiles of a convolution, and the channel blocks that they read."""
        return runs(self.config, self._laid_out, layer)

    def plan(self, index: int) -> LayerPlan:
        """Everything that is planned for a layer."""
        return self._plan.layers[index]

    def tiles(self, index: int) -> tuple[tuple[range, range], ...]:
        """Rows and columns of a layer's output that are computed at a time; of a layer of a group,
        those of its turn."""
        plan = self._plan.layers[index]
        columns = plan.columns or (range(self.tensor(self.graph.layers[index].output).shape[2]),)
        rows = (self._turns[index],) if index in self._turns else plan.tiles
        return tuple(product(rows, columns))

    def in_turn(self, chunk: range) -> bool:
        """Whether these channel blocks, or heads, are computed now: all, but in a group by channels
        or heads."""
        return self._chunk is None or chunk.start in self._chunk

    def copies(self, index: int) -> range | None:
        """The copies of a convolution for all frames, if that of the first one computes them all;
        none, if another one computes this layer."""
        for copies in self._plan.joints.layers.values():
            if index in copies:
                return copies if index == copies.start else range(0)
        return None

    def together(self, views: Sequence[View]) -> View:
        """Tensors of one pixel for all frames, that lie together, as rows of one column."""
        first = views[0]
        plane, _ = self._plan.joints.planes[self.storage(first.tensor.name).name]
        frames = len(views)
        if plane.loaded:    # between two rows, the other channel blocks
            return replace(first, rows=range(frames), columns=range(plane.blocks),
                           spans=tuple(region for view in views for region in view.regions()))
        return replace(first, rows=range(frames))

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What ``make`` gives; it is called once for all lowerings of the graph."""
        if key not in self._known:
            self._known[key] = make()
        known: _T = self._known[key]
        return known

    def storage(self, name: str) -> Storage:
        """Where a tensor lives."""
        return self._plan.storages[self._laid_out.homes[name].root]

    # What lowering functions do ---------------------------------------------------------------

    def read(self, index: int, name: str, rows: range, columns: range, *,
             blocks: range | None = None) -> View:
        """The part of an input that a part of the output needs.

        Parameters
        ----------
        index : :class:`int`
            Of the layer.
        name : :class:`str`
            Tensor.
        rows, columns : :class:`range`
            Of the layer's output.
        blocks : :class:`range`
            Channel blocks of the input; all, if not given.
        """
        plan, layer = self._plan.layers[index], self.graph.layers[index]
        _, height, width = self.tensor(name).shape
        needed, padding = plan.needs(layer, rows, height, 0)
        across, left = plan.needs(layer, columns, width, 1)
        if isinstance(layer, MatMul) and name == layer.b:
            needed = range(height)
        blocks = blocks or self.blocks(name)
        if name in self._lines:
            view = self._lines[name].view(needed, blocks)
            view.padding, view.left = padding, left
            return view
        if not self.storage(name).external:
            self._enter(name, layer.name, needed.stop)
            view = self._part(name, needed, blocks)
            view.padding, view.left = padding, left
            return view
        self._expect(name)
        rotation = self._rotation(index, name)
        over = needed.start % self._plan.align(name)
        loaded = range(needed.start - over, needed.stop)
        key = loaded, across, blocks
        if key in rotation.contents:
            buffer = rotation.buffers[rotation.contents.index(key)]
            view = self._in_tile_buffer(name, buffer, *key)
        else:
            view = self._in_tile_buffer(name, rotation.take(key), *key)
            self._transfer(Opcode.LOAD, index, f"{name}{self._range(name, *key)}", view)
        return replace(view, rows=needed, offset=over * view.width, padding=padding, left=left)

    def write(self, index: int, rows: range, columns: range, *,
              blocks: range | None = None) -> View:
        """Where a part of a layer's output goes; :meth:`finish` must follow.

        Parameters
        ----------
        index : :class:`int`
            Of the layer.
        rows, columns : :class:`range`
            Of its output.
        blocks : :class:`range`
            Channel blocks of its output; all, if not given.
        """
        name = self.graph.layers[index].output
        blocks = blocks or self.blocks(name)
        if name in self._lines:
            return self._lines[name].view(rows, blocks)
        if self.storage(name).external:
            buffer = self._rotation(index, name).take((rows, columns, blocks))
            return self._in_tile_buffer(name, buffer, rows, columns, blocks)
        return self._part(name, rows, blocks)

    def finish(self, index: int, view: View) -> None:
        """Stores the words of a :meth:`write` that must leave the chip, once they are written."""
        name = view.tensor.name
        if self.storage(name).external or name in self._stored:
            self._store(index, view)

    def constant(self, index: int, what: str, space: Space, packed: np.ndarray, *,
                 part: range | None = None) -> Buffer:
        """Loads constants to an on-chip memory, if they are not there from another frame.

        Parameters
        ----------
        index : :class:`int`
            Of the layer.
        what : :class:`str`
            For texts. A constant that is loaded twice is in external memory once.
        space : :class:`Space`
        packed : int8 [..., unit_bytes]
            Units as they lie in external memory: all that the layer has. Those of a table are a
            byte, or an entry for each lane.
        part : :class:`range`
            Along the first axis: what is loaded; all, if not given.
        """
        return self.stays(index, (what, part),
                          lambda: self._load_constant(index, what, space, packed, part))

    def _load_constant(self, index: int, what: str, space: Space, packed: np.ndarray,
                       part: range | None) -> Buffer:
        raw = (packed if part is None else packed[part.start:part.stop]).tobytes()
        unit_bytes = packed.shape[-1]
        found = self._sharing.find(index, space, raw)
        if found is not None:
            return found
        layer = self.graph.layers[index].name
        name = f"{layer} {what}"
        sections = self._memory.sections
        if (name, raw) not in sections:
            sections[name, raw] = Buffer(name=name, space=Space.EXTERNAL, size=len(raw),
                                         layer=layer, data=raw)
        source = sections[name, raw]
        self._current.sections[source] = None
        units = len(raw) // unit_bytes
        target = Buffer(name=name, space=space, layer=layer,
                        size=space.depth(self.config) if space.single else units)
        if self.graph.frames > 1:
            # Where there is one constant at a time, the next one waits anyway.
            self._sharing.keep(space, raw, target,
                               0 if space.single else packed.size // unit_bytes)
        memory = space.memory
        if space is Space.TABLE and unit_bytes > 1:
            memory = Memory.LANE_TABLE
        self.emit(index, Op(
            opcode=Opcode.LOAD, layer=index, text=name,
            fields={"memory": memory, "lines": 1, "address": Address(source), "stride": 0,
                    "units": units, "local_address": Address(target), "local_stride": 0},
            reads=(Region.whole(source),), writes=(Region(target, 0, units),)))
        return target

    def lines(self, run: Hashable, rows: range, count: int) -> tuple[int, bool, Region]:
        """Lines for a command of the layer, or group, at hand: see :meth:`KeptLines.take`."""
        self._current.placed[self._kept.buffer] = 0
        return self._kept.take(run, rows, count)

    def emit(self, index: int | None, op: Op) -> None:
        """Adds a command to the stream.

        Raises
        ------
        CompileError
            If a value does not fit its field; it names the layer.
        """
        layer = "output" if index is None else self.graph.layers[index].name
        ranges = _RANGES[op.opcode]
        for name, value in op.fields.items():
            if not isinstance(value, int):  # known only to later passes
                continue
            low, high = ranges[name]
            if not low <= value <= high:
                raise CompileError(f"Layer {layer!r}: {name} must be between {low} and {high}, "
                                   f"not {value}")
        if op.layer is not None:
            op.layer = self._laid_out.origins[op.layer]
        self._current.ops.append(op)

    def join(self, index: int, layer: Concat | Alias) -> None:
        """A layer that is a matter of places: its sources are there already, but for what no
        layer makes."""
        external = self.storage(layer.output).external
        for name in layer.inputs:
            self._expect(name)
            if external:
                self._slot(name, layer.name)
            elif name in self._given:
                self._enter(name, layer.name)
        if external:
            self._slot(layer.output, layer.name)
        else:
            self.finish(index, self._whole(layer.output))

    # Groups -----------------------------------------------------------------------------------

    def begin_group(self, group: GroupPlan) -> dict[str, LineBuffer]:
        """Makes the lines of a group: in them are the tensors that its layers read and write, until
        its end."""
        first = self.graph.layers[group.layers[0]].name
        lines: dict[str, LineBuffer] = {}
        for name, line in group.lines.items():
            blocks = self.blocks(name)
            buffer = Buffer(name=f"{name} line", space=Space.ACTIVATION, layer=first,
                            size=len(blocks) * line.rows * self.tensor(name).shape[2])
            self._current.placed[buffer] = group.addresses[name]
            lines[name] = LineBuffer(self.tensor(name), line, blocks, buffer)
        self._lines |= lines
        return lines

    def begin_channels(self, group: ChannelGroupPlan) -> None:
        """Makes the buffers of a group by channels, and loads its input, if that is not on chip."""
        first = group.layers[0]
        for name, address in group.addresses.items():
            _, height, width = self.tensor(name).shape
            blocks, slots = len(self.blocks(name)), 1
            if name == group.inner:
                blocks, slots = len(group.chunks[0]), group.slots
            buffer = Buffer(name=f"{name} chunks", space=Space.ACTIVATION,
                            layer=self.graph.layers[first].name,
                            size=slots * blocks * height * width)
            self._current.placed[buffer] = address
            self._lines[name] = lines = TurnBuffer(self.tensor(name), buffer, blocks,
                                                   (range(height),), slots)
            if name != group.inner:
                self.load_line(first, lines.view(range(height), self.blocks(name)))

    def begin_heads(self, group: HeadGroupPlan) -> None:
        """Makes the buffer of a group by heads."""
        name = group.inner[0]
        blocks = len(self.blocks(name)) // group.heads
        words = blocks * len(group.tiles[0]) * self.tensor(name).shape[2]
        buffer = Buffer(name=f"{name} turns", space=Space.ACTIVATION,
                        layer=self.graph.layers[group.layers[0]].name,
                        size=group.slots * words)
        self._current.placed[buffer] = group.address
        for name in group.inner:
            self._lines[name] = TurnBuffer(self.tensor(name), buffer, blocks, group.tiles,
                                           group.slots)

    def stays(self, index: int, key: Hashable, make: Callable[[], _T]) -> _T:
        """What ``make`` puts on chip for a layer; in a group it stays for the next turns."""
        if index not in self._turns:
            return make()
        if (index, key) not in self._staying:
            self._staying[index, key] = make()
        found: _T = self._staying[index, key]
        return found

    def take_turn(self, index: int, rows: range, chunk: range | None = None) -> None:
        """What a layer of the group computes next: all that :meth:`tiles` gives; of a group by
        channels or heads, only this chunk of it."""
        self._turns[index] = rows
        self._chunk = chunk

    def load_line(self, index: int, view: View) -> None:
        """Loads rows of a line from external memory."""
        name = view.tensor.name
        self._expect(name)
        part = self._range(name, view.rows, view.columns, view.blocks)
        self._transfer(Opcode.LOAD, index, f"{name}{part}", view)

    def end_group(self) -> None:
        """Nothing of the group is needed any more."""
        self._lines.clear()
        self._turns.clear()
        self._chunk = None
        self._staying.clear()

    # Tensors ----------------------------------------------------------------------------------

    def _resident(self, name: str) -> Buffer:
        """Buffer of the storage that a tensor is in."""
        storage, storages = self.storage(name), self._memory.storages
        if storage.name not in storages:
            size = storage.words
            if storage.name in self._plan.joints.planes:
                size = (storage.blocks - 1) * storage.plane + 1
            storages[storage.name] = Buffer(name=storage.name, space=Space.ACTIVATION, size=size,
                                            layer=storage.layer)
        buffer = storages[storage.name]
        self._current.placed[buffer] = storage.address
        return buffer

    def _part(self, name: str, rows: range, blocks: range) -> View:
        """Some rows and blocks of a tensor that is on chip."""
        tensor, plane = self.tensor(name), self.storage(name).plane
        first = (self._laid_out.homes[name].block + blocks.start) * plane
        return View(tensor=tensor, buffer=self._resident(name), plane=plane, rows=rows,
                    columns=range(tensor.shape[2]), blocks=blocks,
                    offset=first + rows.start * tensor.shape[2])

    def _whole(self, name: str) -> View:
        return self._part(name, range(self.tensor(name).shape[1]), self.blocks(name))

    def _in_tile_buffer(self, name: str, buffer: Buffer, rows: range, columns: range,
                        blocks: range) -> View:
        return View(tensor=self.tensor(name), buffer=buffer, offset=0, rows=rows, columns=columns,
                    blocks=blocks, plane=len(rows) * len(columns))

    def _expect(self, name: str) -> None:
        if name not in self._present and name not in self._given:
            raise ValueError(f"Tensor {name!r} is used before it is computed")

    def _enter(self, name: str, layer: str, stop: int | None = None) -> None:
        """Loads what no layer makes to the chip at its first use, as far as row ``stop`` if that is
        given."""
        self._expect(name)
        if name not in self._given:
            return
        height = self.tensor(name).shape[1]
        start = self._current.entered.get(name, self._lowered.entered.get(name, 0))
        align = self._plan.align(name)
        stop = height if stop is None else min(stop + -stop % align, height)
        if start < stop:
            self._current.entered[name] = stop
            view = self._part(name, range(start, stop), self.blocks(name))
            part = self._range(name, view.rows, view.columns, view.blocks)
            kind = "constant" if name in self.graph.constants else "input"
            self._transfer(Opcode.LOAD, None, f"{kind} {name}{part}", view, layer)

    def _rotation(self, index: int, name: str) -> Rotation:
        if (index, name) not in self._rotations:
            room = self._plan.layers[index].tile_buffers[name]
            rotation = Rotation(name, room, self.graph.layers[index].name)
            self._rotations[index, name] = rotation
            self._current.placed.update(zip(rotation.buffers, room.addresses, strict=True))
        return self._rotations[index, name]

    def _range(self, name: str, rows: range, columns: range, blocks: range) -> str:
        """The part of a tensor as text; nothing for all of it."""
        text = ""
        if blocks != self.blocks(name):
            text += f" blocks {blocks.start}..{blocks.stop - 1}"
        if len(rows) != self.tensor(name).shape[1]:
            text += f" rows {rows.start}..{rows.stop - 1}"
        if len(columns) != self.tensor(name).shape[2]:
            text += f" columns {columns.start}..{columns.stop - 1}"
        return text

    # External memory --------------------------------------------------------------------------

    def _slot(self, name: str, layer: str) -> Region:
        """Bytes of a tensor in external memory: in the storage it is a part of, if that lives
        there as a whole."""
        slots, sources = self._memory.slots, self._memory.sources
        if name not in slots:
            storage, home = self.storage(name), self._laid_out.homes[name]
            blocks = len(self.blocks(name))
            if storage.external:
                owner, first, count = storage.name, home.block, storage.blocks
            else:
                owner, first, count = name, 0, blocks
            if owner not in sources:
                sources[owner] = Buffer(name=owner, space=Space.EXTERNAL, layer=layer,
                                        size=count * storage.plane_bytes)
            start = first * storage.plane_bytes
            slots[name] = Region(sources[owner], start, start + blocks * storage.plane_bytes)
        self._current.slots[name] = slots[name]
        return slots[name]

    def _transfer(self, opcode: Opcode, index: int | None, text: str, view: View,
                  layer: str = "") -> None:
        """A LOAD or STORE of a view; of one with less than all columns, a command for each channel
        block."""
        if view.width < view.tensor.shape[2] and len(view.rows) > 1 and len(view.blocks) > 1:
            for block in view.blocks:
                self._transfer(opcode, index, text, view.part(range(block, block + 1)), layer)
            return
        name = view.tensor.name
        slot = self._slot(name, layer or view.buffer.layer)
        plane_bytes = self.storage(name).plane_bytes
        word_bytes = self.config.word_bytes
        row_bytes = view.tensor.shape[2] * word_bytes
        start = (slot.start + view.blocks.start * plane_bytes + view.rows.start * row_bytes
                 + view.columns.start * word_bytes)
        words = len(view.rows) * view.width
        lines, stride, local_stride = len(view.blocks), plane_bytes, view.plane
        if view.width < view.tensor.shape[2] and len(view.rows) > 1:
            lines, words, stride, local_stride = len(view.rows), view.width, row_bytes, view.width
        elif lines == 1 or (words == view.plane and words * word_bytes == plane_bytes):
            lines, words, stride, local_stride = 1, lines * words, 0, 0
        outside: tuple[Region, ...] = (slot,)
        if not self._outline:
            outside = (Region(slot.buffer, start, start + words * word_bytes, lines, stride),)
        fields: Fields = {"lines": lines, "address": Address(slot.buffer, start), "stride": stride,
                  "units": words, "local_address": view.at(), "local_stride": local_stride}
        load = opcode is Opcode.LOAD
        if load:
            fields["memory"] = Space.ACTIVATION.memory
        inside = view.regions()
        self.emit(index, Op(opcode=opcode, layer=index, text=text, fields=fields,
                            reads=outside if load else inside,
                            writes=inside if load else outside))

    def _store(self, index: int | None, view: View) -> None:
        name = view.tensor.name
        self._transfer(Opcode.STORE, index,
                       f"output {name}{self._range(name, view.rows, view.columns, view.blocks)}",
                       view)
