"""Random command streams whose result is defined, for every engine.

They are drawn for what compiled programs seldom do: the smallest and the largest commands right
behind each other, in any order of engines. All of a stream lives in small windows of the memories,
so that commands meet often.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Any

from fuzz.programs.layout import KIB, Layout, allowed_places, entries_fit
from fuzz.programs.order import Command, touches
from fuzz.programs.rows import SETS, load_constants, set_fields
from weft.hw.isa.commands import Engine, Memory, Opcode, VectorOp
from weft.hw.isa.limits import LINE_KERNELS, LINE_QUARTERS, LOCAL_ADDRESSES, NORMALIZED_LANES
from weft.hw.isa.memories import memories
from weft.hw.isa.subset import roundings
from weft.hw.isa.vector_rules import LINE_STRIDES, REQUANTIZED, line_columns

__all__ = ["Painter"]




@dataclass
class Painter:
    """Draws streams, one after the other, for devices whose memories keep their contents."""

    rng: random.Random
    layout: Layout
    places: list[int] = field(default_factory=list)  # of each vector entry: those not zero
    recent: list[int] = field(default_factory=list)  # addresses of words
    free: int = Layout.ENTRIES.start  # for weight entries of this stream

    def __post_init__(self) -> None:
        self.config = self.layout.config
        self.forget()

    def forget(self) -> None:
        """The memories on chip are filled anew, with weights of zero."""
        self.places = [0] * self.config.vector_entries

    # Sizes and places -----------------------------------------------------------------------

    def size(self, largest: int) -> int:
        """Mostly tiny."""
        rng = self.rng
        return min(largest, rng.choice((1, 1, 1, 1, 2, 2, 3, rng.randint(3, 6),
                                        rng.randint(1, largest))))

    def spare(self) -> int:
        """Units between two things."""
        return self.rng.choice((0, 0, 0, 1, 3))

    def at(self, size: int) -> int:
        """Where ``size`` words may lie; often where others lie."""
        words = self.layout.words
        last = words.stop - size
        if self.recent and self.rng.random() < 0.7:
            start = self.rng.choice(self.recent[-8:]) + self.rng.choice((0, 0, 0, -1, 1, 2, size))
            start = min(max(words.start, start), last)
        else:
            start = self.rng.choice((words.start, last, self.rng.randint(words.start, last)))
        self.recent.append(start)
        return start

    def clamp(self) -> dict[str, int]:
        if self.rng.random() < 0.7:
            return {"clamp_min": -128, "clamp_max": 127}
        low, high = sorted(self.rng.choices(range(-128, 128), k=2))
        return {"clamp_min": low, "clamp_max": high}

    def zero(self) -> int:
        return self.rng.choice((0, 0, -128, 127, self.rng.randint(-128, 127)))

    # Commands -------------------------------------------------------------------------------

    def stream(self) -> list[Command]:
        """A few commands, in order."""
        kinds = [self.load, self.store, self.matrix]
        weights = [2, 2, 4]
        if not self.config.sequential:
            kinds.append(self.sums)
            weights.append(2)
        if self.config.vector:
            kinds.append(self.vector)
            weights.append(4)
        if self.config.products:
            kinds.append(self.turn)
            weights.append(4)
        if self.config.softmax:
            kinds.append(self.softmax)
            weights.append(4)
        if self.config.normalize_channels:
            kinds.append(self.normalize)
            weights.append(4)
        self.free = Layout.ENTRIES.start
        stream: list[Command] = []
        count = self.rng.choice((1, 2, 3, 3, 4, 6, 8, 12))
        kind = None
        while len(stream) < count:
            if kind is None or self.rng.random() < 0.5:
                kind, = self.rng.choices(kinds, weights)
            if stream and self.rng.random() < 0.1 and not stream[-1].fields.get("accumulate"):
                stream.append(stream[-1])
                continue
            commands = None
            while commands is None:
                commands = kind()
            stream += commands
        return stream

    def _fits(self, command: Command, *, in_place: bool = False) -> bool:
        """Whether a command stays inside the windows, and does not overwrite its input."""
        words = self.layout.words
        mask = (1 << words.stop) - (1 << words.start)
        reads, writes = touches(self.config, command).get("activation", (0, 0))
        return not (reads | writes) & ~mask and (in_place or not reads & writes)

    def sums(self) -> list[Command] | None:
        """A few MATRIX that add up the same sums, and what may come between them."""
        rng = self.rng
        last = None
        while last is None or last.fields["col_tiles"] > 1 \
                or last.fields["out_pixels"] > last.fields["tile_pixels"]:
            last, = self.matrix() or (None,)
        pixels = last.fields["out_pixels"]
        every: list[Command] = []
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            part = None
            while part is None or part.fields["col_tiles"] > 1:
                part, = self.matrix(pixels) or (None,)
            keeping = Command(Opcode.MATRIX, part.fields | {
                "tile_pixels": max(pixels, part.fields["tile_pixels"]), "keep": 1,
                "accumulate": int(bool(every))})
            if not self._fits(keeping):
                return None
            every.append(keeping)
            if rng.random() < 0.3:
                every += rng.choice((self.load, self.store))() or []
        return [*every, Command(Opcode.MATRIX, last.fields | {"accumulate": 1})]

    def matrix(self, pixels: int = 0) -> list[Command] | None:
        """A command of its own; of so many ``pixels``, if given."""
        rng, config = self.rng, self.config
        f = {name: rng.choice((1, 1, 2, 3)) for name in
             ("kernel_h", "kernel_w", "stride_h", "stride_w")}
        f |= {name: rng.choice((1, 1, 2)) for name in ("dilation_h", "dilation_w")}
        f |= {name: rng.choice((0, 0, 1, 2)) for name in ("pad_top", "pad_left")}
        f |= {name: rng.choice((1, 1, 2, 3)) for name in ("channel_blocks", "col_tiles")}
        full = config.accumulator_pixels
        if rng.random() < 0.1:
            out_h, out_w = rng.choice(((1, full - 1), (1, full), (1, full + 1), (full, 1),
                                       (full + 1, 1), (2, full // 2)))
        else:
            out_h, out_w = self.size(9), self.size(9)
        if pixels:
            out_w = rng.choice([width for width in range(1, pixels + 1) if pixels % width == 0])
            out_h = pixels // out_w
        pixels = out_h * out_w
        tile = min(full, max(1, rng.choice((1, 2, pixels - 1, pixels, pixels, pixels + 1,
                                            -(-pixels // 2), full, rng.randint(1, full)))))
        if config.sequential and rng.random() < 0.3:  # which has no pixel tiles
            tile = 65535
        for size, out, axis, pad in (("in_h", out_h, "h", "top"), ("in_w", out_w, "w", "left")):
            natural = ((out - 1) * f[f"stride_{axis}"] + 1 - f[f"pad_{pad}"]
                       + (f[f"kernel_{axis}"] - 1) * f[f"dilation_{axis}"])
            f[size] = max(1, natural + rng.choice((0, 0, 0, -1, -2, 1)))
        steps = f["kernel_h"] * f["kernel_w"] * f["channel_blocks"]
        rows = steps * f["col_tiles"] * config.weight_tile_rows
        if rows > len(self.layout.weight_rows) or steps * f["col_tiles"] * pixels > 4000:
            return None
        plane, out_plane = f["in_h"] * f["in_w"] + self.spare(), pixels + self.spare()
        groups = rng.choice((1, config.requant_groups, rng.randint(1, config.requant_groups)))
        every = (f["col_tiles"] - 1) * config.requant_groups + groups
        slot = 0 if config.sequential else rng.choice((0, 0, config.word_slots - 1))
        out_size = -(-(slot + every) * config.requant_lanes // config.word_lanes) * out_plane
        in_size = f["channel_blocks"] * plane
        if max(in_size, out_size) > len(self.layout.words) // 2 or every > config.parameter_depth:
            return None
        first = self.layout.weight_rows
        command = Command(Opcode.MATRIX, f | self.clamp() | {
            "in_base": (self.at(in_size) - f["pad_top"] * f["in_w"] - f["pad_left"])
            % LOCAL_ADDRESSES,
            "in_zero": self.zero(), "in_plane": plane,
            "pixel_row_step": f["stride_h"] * f["in_w"],
            "kernel_row_step": f["dilation_h"] * f["in_w"], "out_w": out_w, "out_pixels": pixels,
            "tile_pixels": tile, "out_zero": self.zero(), "out_base": self.at(out_size),
            "out_plane": out_plane, "last_groups": groups, "out_slot": slot,
            "accumulate": 0, "keep": 0, "weight_zero": self.zero() if config.products else 0,
            "rule": rng.choice(roundings(config, Engine.MATRIX)).value,
            "table": rng.choice((0, rng.randint(0, config.drain_tables))),
            "weight_base": rng.choice((first.start, first.stop - rows,
                                       rng.randint(first.start, first.stop - rows))),
            "parameter_base": rng.choice((0, config.parameter_depth - every,
                                          rng.randint(0, config.parameter_depth - every)))})
        return [command] if self._fits(command) else None

    def vector(self) -> list[Command] | None:
        rng, config = self.rng, self.config
        op = rng.choice(list(VectorOp))
        window = op in (VectorOp.CONV, VectorOp.MAX)
        pair = op in (VectorOp.ADD, VectorOp.MULTIPLY)
        f: dict[str, Any] = {"op": op.value, "blocks": rng.choice((1, 1, 2, 3)),
                             "out_outer": self.size(9), "out_inner": self.size(20)}
        lines = rng.choice((0, *LINE_KERNELS)) if window and config.vector_lines else 0
        f |= {"slide": 0, "lines": int(lines > 0), "broadcast": int(pair and rng.random() < 0.4),
              "subtract": int(op is VectorOp.ADD and rng.random() < 0.5),
              "shared": int(rng.random() < 0.4),
              "resumes": 0, "quarter": rng.randrange(LINE_QUARTERS) if lines else 0,
              "table": rng.choice((int(op is VectorOp.LOOKUP), rng.randint(
                  1, config.vector_tables))),
              "rule": rng.choice(roundings(config, Engine.VECTOR)).value
              if op in REQUANTIZED else 0}
        f["table_step"] = int(rng.random() < 0.5 and 0 < f["table"] <= config.vector_tables
                              - f["blocks"] + 1)
        for axis in ("outer", "inner"):
            f |= {f"stride_{axis}": 1, f"dilation_{axis}": 0, f"pad_{axis}": 0,
                  f"kernel_{axis}": 1, f"in_{axis}": f[f"out_{axis}"]}
            if window:
                f |= {f"stride_{axis}": rng.choice((1, 1, 2, 3)),
                      f"dilation_{axis}": rng.choice((1, 1, 2)),
                      f"pad_{axis}": rng.choice((0, 0, 1, 2)),
                      f"kernel_{axis}": rng.choice((1, 1, 2, 3, 4, 5))}
                if lines:
                    f |= {f"kernel_{axis}": lines, f"dilation_{axis}": 1}
                    if axis == "inner":
                        f["stride_inner"] = rng.choice(LINE_STRIDES)
                natural = ((f[f"out_{axis}"] - 1) * f[f"stride_{axis}"] + 1 - f[f"pad_{axis}"]
                           + (f[f"kernel_{axis}"] - 1) * f[f"dilation_{axis}"])
                f[f"in_{axis}"] = max(1, natural + rng.choice((0, 0, 0, -1, -2, 1)))
        if lines and line_columns(f["out_inner"], kernel=lines, stride=f["stride_inner"],
                                  pad=f["pad_inner"]) > config.vector_lines:
            return None
        if window and (lines or rng.random() < 0.5):
            natural = f["in_inner"] - (f["kernel_inner"] - 1) * (f["dilation_inner"] - 1)
            f |= {"slide": 1, "dilation_inner": 1, "in_inner": max(1, natural)}
        if pair:
            f |= {"kernel_outer": 2,
                  "kernel_inner": -(-3 // config.vector_taps) if op is VectorOp.ADD else 1}
        if f["blocks"] * f["out_outer"] * f["out_inner"] * f["kernel_outer"] \
                * f["kernel_inner"] > 4000:
            return None

        unit = self._units(f["in_outer"], f["in_inner"])
        plane = f["in_outer"] * f["in_inner"] + self.spare()
        out_unit = self._units(f["out_outer"], f["out_inner"])
        out_plane = f["out_outer"] * f["out_inner"] + self.spare()
        if max(plane, out_plane) * f["blocks"] > len(self.layout.words) // 2:
            return None
        start = self.at(f["blocks"] * plane)
        f |= {"in_block_step": plane, "out_block_step": out_plane,
              "kernel_outer_step": 0, "kernel_inner_step": 0,
              "in_zero": self.zero(), "second_zero": self.zero(), "out_zero": self.zero()}
        f |= self.clamp()
        for axis in ("outer", "inner"):
            f[f"in_{axis}_step"] = f[f"stride_{axis}"] * unit[axis]
            f[f"out_{axis}_step"] = out_unit[axis]
            if window:
                f[f"kernel_{axis}_step"] = f[f"dilation_{axis}"] * unit[axis]
            start -= f[f"pad_{axis}"] * unit[axis]
        f |= {"in_base": start % LOCAL_ADDRESSES, "out_base": self.at(f["blocks"] * out_plane)}
        in_place = not window and rng.random() < 0.3
        if in_place:
            f |= {f"out_{axis}_step": f[f"in_{axis}_step"] for axis in ("block", "outer", "inner")}
            f["out_base"] = f["in_base"]
        if pair:
            size = f["blocks"] if f["broadcast"] else f["blocks"] * plane
            f["kernel_outer_step"] = (self.at(size) - start) % LOCAL_ADDRESSES
            f["kernel_inner_step"] = rng.choice((0, 1, 2)) if f["broadcast"] else 0

        parameters = (1 if f["shared"] else f["blocks"]) * config.vector_groups
        places = allowed_places(config, f)
        if len(places) > config.vector_entries or \
                self.free + len(places) * config.vector_entry_bytes > Layout.ENTRIES.stop:
            return None
        depth = config.vector_parameter_depth
        f["parameter_base"] = rng.choice((0, depth - parameters,
                                          rng.randint(0, depth - parameters)))
        f["weight_base"], load = self._entries(places)
        command = Command(Opcode.VECTOR, f)
        if in_place and pair:  # the second operand must not be what is written
            own = Command(Opcode.VECTOR, f | {"op": VectorOp.LOOKUP.value, "kernel_outer": 1,
                                              "kernel_inner": 1})
            other = Command(Opcode.VECTOR, own.fields | {
                "in_base": (start + f["kernel_outer_step"]) % LOCAL_ADDRESSES} | (
                    {"in_block_step": f["kernel_inner_step"], "in_outer_step": 0,
                     "in_inner_step": 0} if f["broadcast"] else {}))
            if touches(config, own)["activation"][1] & touches(config, other)["activation"][0]:
                return None
        if not self._fits(command, in_place=in_place):
            return None
        if load:
            entries_fit(config, load, self.places)
            size = load.fields["units"] * config.vector_entry_bytes
            self.free = load.fields["address"] + -(-size // config.axi_bytes) * config.axi_bytes
        return [*([load] if load else []), *self._parts(command)]

    def _parts(self, command: Command) -> list[Command]:
        """A VECTOR, or where it keeps rows some that go on with one another's."""
        f = command.fields
        columns = line_columns(f["out_inner"], kernel=f["kernel_inner"], stride=f["stride_inner"],
                               pad=f["pad_inner"])
        rows = (f["out_outer"] - 1) * f["stride_outer"] - f["pad_outer"]
        if not f["lines"] or f["blocks"] * columns > self.config.vector_lines \
                or rows >= f["in_outer"] or self.rng.random() < 0.3:
            return [command]
        found, first = [], 0
        while first < f["out_outer"]:
            size = min(self.size(3), f["out_outer"] - first)
            top = first * f["stride_outer"] - f["pad_outer"]
            found.append(replace(command, fields=f | {
                "in_base": (f["in_base"] + first * f["in_outer_step"]) % LOCAL_ADDRESSES,
                "in_outer": f["in_outer"] - max(top, 0), "pad_outer": max(-top, 0),
                "out_base": (f["out_base"] + first * f["out_outer_step"]) % LOCAL_ADDRESSES,
                "out_outer": size, "resumes": int(first > 0)}))
            first += size
        return found

    def _units(self, outer: int, inner: int) -> dict[str, int]:
        """Words from position to position along the axes of a plane, whichever is the longer."""
        if self.rng.random() < 0.5:
            return {"outer": inner, "inner": 1}
        return {"outer": 1, "inner": outer}

    def _entries(self, places: list[int]) -> tuple[int, Command | None]:
        """Where weight entries lie, and what loads them if they are not there already."""
        rng, count = self.rng, len(places)
        if not count:
            return rng.choice((0, 65535)), None
        last = self.config.vector_entries - count
        start = rng.choice((0, last, rng.randint(0, last)))
        if rng.random() < 0.4 and all(have & ~may == 0 for have, may in zip(
                self.places[start:start + count], places, strict=True)):
            return start, None
        return start, Command(Opcode.LOAD, {
            "memory": Memory.VECTOR_WEIGHT.value, "lines": 1, "address": self.free, "stride": 0,
            "units": count, "local_address": start, "local_stride": 0}, tuple(places))

    def load(self) -> list[Command] | None:
        rng = self.rng
        memory = rng.choice([memory for memory in memories(self.config)
                             if memory is not Memory.VECTOR_WEIGHT] + 2 * [Memory.ACTIVATION])
        window, unit_bytes = self.layout.units(memory)
        # Scales are near enough to each other as exponentials.
        parameters = memory in (Memory.PARAMETER, Memory.VECTOR_PARAMETER, Memory.ROW_CONSTANT)
        f = self._transfer(window, unit_bytes, Layout.PARAMETERS if parameters else Layout.DATA,
                           align=unit_bytes if parameters else 1)
        if f is None:
            return None
        if f["lines"] > 1 and rng.random() < 0.2:
            f["stride"] = 0
        return [Command(Opcode.LOAD, f | {"memory": memory.value})]

    def turn(self) -> list[Command] | None:
        """Weights and parameters of words."""
        rng, config = self.rng, self.config
        pixels, blocks = self.size(5 * config.rows), rng.choice((1, 1, 2, 3))
        turned = rng.choice((0, 1))
        across = -(-pixels // config.rows)
        rows = across * blocks * config.weight_tile_rows
        entries = (across if turned else blocks) * config.requant_groups
        plane, window = pixels + self.spare(), self.layout.weight_rows
        last_row, last_entry = window.stop - rows, config.parameter_depth - entries
        if blocks * plane > len(self.layout.words) // 2 or last_row < window.start \
                or last_entry < 0:
            return None
        # A float32 that is zero, or positive and normal.
        scale = rng.choice((0, rng.randint(96, 140) << 23 | rng.getrandbits(23)))
        command = Command(Opcode.TURN, {
            "in_base": self.at(blocks * plane), "zero": self.zero(), "in_plane": plane,
            "input_zero": self.zero(), "pixels": pixels, "blocks": blocks,
            "lanes": rng.randint(1, config.rows), "turned": turned,
            "weight_base": rng.choice((window.start, last_row,
                                       rng.randint(window.start, last_row))),
            "parameter_base": rng.choice((0, last_entry, rng.randint(0, last_entry))),
            "bias": rng.randint(-(1 << 31), (1 << 31) - 1) >> rng.choice((0, 8, 16, 24)),
            "scale": scale})
        return [command] if self._fits(command) else None

    def softmax(self) -> list[Command] | None:
        """Shares of rows of words."""
        rng, config = self.rng, self.config
        return self._rows(Opcode.SOFTMAX, rng.choice((1, 1, 2, 3, 5)), {
            "out_zero": self.zero(), "lanes": rng.randint(1, config.rows),
            "factor": rng.choice((1 << 15, (1 << 16) - 1, rng.randint(1 << 15, (1 << 16) - 1))),
            "exponent": rng.choice((7, 8, rng.randint(0, 15)))})

    def normalize(self) -> list[Command] | None:
        """Rows of words normalized by a set of constants, which is loaded some time before."""
        rng, config = self.rng, self.config
        number, most = rng.randrange(SETS), config.normalize_channels // NORMALIZED_LANES
        loaded = NORMALIZED_LANES * rng.choice((1, most, rng.randint(1, most)))
        found = [load_constants(number, loaded)]
        for _ in range(rng.choice((1, 1, 2))):
            if rng.random() < 0.4:
                others = [self.store, self.matrix, *[self.vector] * config.vector, self.turn,
                          *[self.softmax] * config.softmax]
                found += rng.choice(others)() or []
            length = NORMALIZED_LANES * rng.randint(1, loaded // NORMALIZED_LANES)
            blocks = -(-length // config.rows)
            rows = self._rows(Opcode.NORMALIZE, blocks, set_fields(number, length) | {
                "lanes": length - (blocks - 1) * config.rows})
            if rows is None:
                return None
            found += rows
        return found

    def _rows(self, opcode: Opcode, blocks: int, fields: dict[str, int]) -> list[Command] | None:
        """A command on rows of words; now and then it leaves its results where they were."""
        rng = self.rng
        pixels = self.size(5 * self.config.rows)
        planes = [pixels + self.spare() for _ in range(2)]
        if blocks * max(planes) > len(self.layout.words) // 2:
            return None
        command = Command(opcode, fields | {
            "in_base": self.at(blocks * planes[0]), "in_plane": planes[0],
            "out_base": self.at(blocks * planes[1]), "out_plane": planes[1],
            "pixels": pixels, "blocks": blocks})
        if rng.random() < 0.2:
            command.fields.update(out_base=command.fields["in_base"],
                                  out_plane=command.fields["in_plane"])
            return [command] if self._fits(command, in_place=True) else None
        return [command] if self._fits(command) else None

    def store(self) -> list[Command] | None:
        f = self._transfer(self.layout.words, self.config.word_bytes, Layout.DATA)
        return None if f is None else [Command(Opcode.STORE, f)]

    def _transfer(self, window: range, unit_bytes: int, area: range, *,
                  align: int = 1) -> dict[str, int] | None:
        rng, beat = self.rng, self.config.axi_bytes
        burst = max(1, self.config.axi_burst_beats * beat // unit_bytes)
        lines = rng.choice((1, 1, 1, 2, 3, rng.randint(1, 9)))
        units = max(1, rng.choice((1, 1, 2, 3, burst - 1, burst, burst + 1, 2 * burst,
                                   rng.randint(1, 40))))
        local_stride = units + self.spare()
        size = (lines - 1) * local_stride + units
        granule = max(beat, align)
        line_bytes = -(-units * unit_bytes // granule) * granule
        stride = line_bytes + rng.choice((0, 0, 1, 5)) * granule
        span = (lines - 1) * stride + line_bytes
        if size > len(window) or span > len(area):
            return None
        if lines == 1 and rng.random() < 0.3:  # then the strides mean nothing
            stride, local_stride = rng.randrange(0, 1 << 32, granule), rng.getrandbits(24)
        edge = rng.randrange(area.start, area.stop, 4 * KIB) if rng.random() < 0.5 else \
            rng.randrange(area.start, area.stop, granule)
        address = edge + granule * rng.choice((0, 0, -1, -2, 1, -burst))
        address = min(max(area.start, address), area.stop - span) // granule * granule
        local = self.at(size) if window is self.layout.words else \
            rng.choice((window.start, window.stop - size,
                        rng.randint(window.start, window.stop - size)))
        return {"lines": lines, "address": address, "stride": stride, "units": units,
                "local_address": local, "local_stride": local_stride}
