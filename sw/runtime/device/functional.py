"""The device as a model in numpy: executes command streams as the hardware does, without a clock.

It knows what commands do and in which orders they may happen, not how long they take. Of all
orders that queues and tokens allow it picks one at random, so that a stream that forgets a token
gives wrong values sooner or later.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from amaranth.utils import ceil_log2

from weft import reference
from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import (
    COMMAND_BYTES,
    Engine,
    Memory,
    Opcode,
    Rounding,
    RowConstant,
    VectorOp,
    decode,
    engines,
    roundings,
)
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_KERNELS, LOCAL_ADDRESSES, MAX_COMMANDS, WINDOW_GROUPS
from weft.hw.isa.memories import geometry, memories
from weft.hw.isa.registers import (
    CONFIG_BASE,
    COUNTER_BASE,
    DEVICE_ID,
    VERSION,
    Control,
    Counter,
    Error,
    Register,
    Status,
    config_words,
)
from weft.hw.isa.vector_rules import (
    LINE_STRIDES,
    PAIRS,
    POSITIVE,
    REQUANTIZED,
    SUBTRACTIONS,
    WEIGHTED,
    WINDOWS,
    add_entries,
    kernel_shapes,
    line_columns,
    line_groups,
)
from weft.ir import layout
from weft.reference import vector as vector_model

from .base import DeviceTimeout, Event

__all__ = ["FunctionalDevice"]


_TAPS_EXACT_IN_FLOAT32 = (1 << 24) // (128 * 128)
_FIRST_BIT = 1 << 15    # of the numbers of 16 bits whose first bit is set
_MATRIX_IN_FLIGHT = 2  # commands that the matrix engine works on at a time
# Fields of a MATRIX of which the sequential core keeps no more bits than its memories call for.
_SEQUENTIAL_SIZES = ("in_h", "in_w", "channel_blocks", "out_w", "out_pixels", "col_tiles")
_STEPS_PER_WORD = 1024  # of a command, for each word of the activation memory: a bound on arrays


class _Fault(Exception):
    def __init__(self, error: Error, index: int):
        self.error = error
        self.index = index


@dataclass(frozen=True)
class _Command:
    index: int
    opcode: Opcode
    fields: dict[str, int]

    def fault(self, error: Error) -> _Fault:
        return _Fault(error, self.index)


class FunctionalDevice:
    """A :class:`weft.runtime.device.base.Device` without a notion of time.

    A command stream runs to its end, or to its first error, at the doorbell. Counters other than
    ``READ_BEATS`` and ``WRITE_BEATS`` stay zero, and there are no events. A deadlock is reported
    as the watchdog would. A command is refused with ``CYCLE_LIMIT`` if its engine needs more cycles
    than that, from the doorbell on, even if it never waits; and so is, whatever the limit, one of
    more than 1024 steps (pixels times weight tiles, or words read) for each word of the
    activation memory, which would take hours and all memory.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        The accelerator.
    memory_bytes : :class:`int`
        Size of the external memory. A command that reaches beyond it gets an error response.
    seed : :class:`int`
        Chooses among the possible orders of execution.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int, seed: int = 0):
        if memory_bytes < 1:
            raise ValueError(f"Memory bytes must be at least 1, not {memory_bytes!r}")
        self._config = config
        self._engines = engines(config)
        self._memory = bytearray(memory_bytes)
        self._random = random.Random(seed)
        self._registers = dict.fromkeys(Register, 0)
        self._counters = dict.fromkeys(Counter, 0)
        self._status = Status(0)
        self._pending = False
        self._spent = dict.fromkeys(Engine, 0)  # cycles since the doorbell, at least
        self._kept: np.ndarray | None = None    # sums that a MATRIX has left to the next one
        self._lines = vector_model.no_lines(config)
        self._units = {memory: np.zeros((its.depth, its.unit_data_bytes), np.int8)
                       for memory, its in memories(config).items()}
        self._activation = self._units[Memory.ACTIVATION].view(config.activation_type.dtype)
        self._weight = self._units[Memory.WEIGHT].view(config.weight_type.dtype)

    # Device protocol --------------------------------------------------------------------------

    @property
    def config(self) -> AcceleratorConfig:
        """The configuration that is modelled."""
        return self._config

    @property
    def memory_bytes(self) -> int:
        """Size of the external memory."""
        return len(self._memory)

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to external memory."""
        self._check_window(address, len(data))
        self._memory[address:address + len(data)] = data

    def read_memory(self, address: int, count: int) -> bytes:
        """``count`` bytes of external memory."""
        self._check_window(address, count)
        return bytes(self._memory[address:address + count])

    def _check_window(self, address: int, count: int) -> None:
        if address < 0 or count < 0 or address + count > len(self._memory):
            raise ValueError(f"Memory access must be inside 0 to {len(self._memory)}, not "
                             f"{address} to {address + count}")

    def write_register(self, register: int, value: int) -> None:
        """Write a register; the doorbell runs the whole command stream."""
        if register == Register.CONTROL:
            if value & Control.RESET:
                self._reset()
            elif value & Control.START and not self._status & Status.ERROR:
                self._start()
        elif register == Register.IRQ_CLEAR:
            if value & 1:
                self._pending = False
                self._status &= ~Status.DONE
        elif register in (Register.COMMAND_ADDR, Register.COMMAND_ADDRH, Register.COMMAND_COUNT,
                          Register.WATCHDOG, Register.CYCLE_LIMIT):
            self._registers[Register(register)] = value & 0xffff_ffff
        elif register == Register.IRQ_ENABLE:
            self._registers[Register.IRQ_ENABLE] = value & 1

    def read_register(self, register: int) -> int:
        """Read a register, a counter or a word of the configuration ROM."""
        constants = {Register.ID: DEVICE_ID, Register.VERSION: VERSION,
                     Register.STATUS: int(self._status | Status.QUIET)}
        if register in constants:
            return constants[Register(register)]
        words = list(config_words(self._config).values())
        if CONFIG_BASE <= register < CONFIG_BASE + 4 * len(words):
            return words[(register - CONFIG_BASE) // 4]
        if COUNTER_BASE <= register < COUNTER_BASE + 4 * len(Counter):
            if not self._config.counters:
                return 0
            return self._counters[Counter((register - COUNTER_BASE) // 4)] & 0xffff_ffff
        if register in (Register.CONTROL, Register.IRQ_CLEAR):
            return 0
        return self._registers.get(register, 0)  # type: ignore[call-overload]

    def wait(self, timeout_cycles: int | None = None) -> None:
        """Return if the interrupt is up.

        Raises
        ------
        DeviceTimeout
            If it is not: nothing that could raise it is under way.
        """
        if not (self._pending and self._registers[Register.IRQ_ENABLE]):
            raise DeviceTimeout("Device does not raise its interrupt: it is idle, or the "
                                "interrupt is not enabled")

    def events(self) -> Sequence[Event]:
        """Nothing: there is no clock to time events by."""
        return ()

    def close(self) -> None:
        """Nothing to close."""

    # Control ----------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._status = Status(0)
        self._pending = False
        self._kept = None
        self._registers[Register.ERROR] = Error.NONE
        self._registers[Register.ERROR_INDEX] = 0

    def _start(self) -> None:
        self._status &= ~Status.DONE
        self._pending = False
        self._registers[Register.COMPLETED] = 0
        self._counters = dict.fromkeys(Counter, 0)
        self._spent = dict.fromkeys(Engine, 0)
        try:
            self._run()
        except _Fault as fault:
            self._status |= Status.ERROR
            self._registers[Register.ERROR] = fault.error
            self._registers[Register.ERROR_INDEX] = fault.index
        else:
            self._status |= Status.DONE
        self._pending = True

    def _fetch(self, index: int, address: int) -> _Command:
        beats = COMMAND_BYTES // self._config.axi_bytes
        if address + COMMAND_BYTES > len(self._memory):
            raise _Fault(Error.READ, index)
        self._counters[Counter.READ_BEATS] += beats
        try:
            opcode, fields = decode(bytes(self._memory[address:address + COMMAND_BYTES]))
        except ValueError:
            raise _Fault(Error.OPCODE, index) from None
        if opcode not in self._engines:
            raise _Fault(Error.OPCODE, index)
        return _Command(index, opcode, fields)

    def _run(self) -> None:
        """Queues, semaphores and engines, one step of one of them at a time."""
        address = self._registers[Register.COMMAND_ADDR] \
            | self._registers[Register.COMMAND_ADDRH] << 32
        count = self._registers[Register.COMMAND_COUNT]
        if not 1 <= count <= MAX_COMMANDS:
            raise _Fault(Error.ARGUMENT, 0)
        if address % self._config.axi_bytes \
                or address + count * COMMAND_BYTES > 1 << self._config.axi_addr_width:
            raise _Fault(Error.ADDRESS, 0)

        queues: dict[Engine, deque[_Command]] = {
            engine: deque() for engine in self._engines.values()}
        # Commands that have started, with what is left to do of each.
        working: dict[Engine, deque[tuple[_Command, Callable[[], None]]]] = {
            engine: deque() for engine in queues}
        tokens = {(producer, consumer): 0 for producer in Engine for consumer in Engine}
        fetched: _Command | None = None
        coming = 0

        def awaited(command: _Command) -> list[Engine]:
            return [engine for engine in Engine if command.fields["wait"] >> engine.value & 1]

        def ready(engine: Engine) -> bool:
            room = _MATRIX_IN_FLIGHT if engine is Engine.MATRIX else 1
            return bool(queues[engine]) and len(working[engine]) < room and all(
                tokens[producer, engine] for producer in awaited(queues[engine][0]))

        def start(engine: Engine) -> None:
            command = queues[engine].popleft()
            for producer in awaited(command):
                tokens[producer, engine] -= 1
            working[engine].append((command, self._begin(command)))

        def finish(engine: Engine) -> None:
            command, rest = working[engine].popleft()
            rest()
            self._registers[Register.COMPLETED] += 1
            for consumer in queues:
                if command.fields["post"] >> consumer.value & 1:
                    if tokens[engine, consumer] == Dispatcher.SEMAPHORE_MAX:
                        raise command.fault(Error.SEMAPHORE)
                    tokens[engine, consumer] += 1

        # Some engines run far ahead of others, and which ones changes with every doorbell.
        pace = {(step, engine): self._random.choice((1, 4, 16)) for step in (start, finish)
                for engine in queues}
        while True:
            if fetched is None and coming < count:
                fetched = self._fetch(coming, address + coming * COMMAND_BYTES)
                coming += 1
            if fetched is not None:
                queue = queues[self._engines[fetched.opcode]]
                if len(queue) < self._config.queue_depth:
                    queue.append(fetched)
                    fetched = None
                    continue
            steps = [(start, engine) for engine in queues if ready(engine)]
            steps += [(finish, engine) for engine in queues if working[engine]]
            if not steps:
                break
            (step, engine), = self._random.choices(steps, [pace[choice] for choice in steps])
            step(engine)

        left = [queue[0].index for queue in queues.values() if queue]
        if left:
            raise _Fault(Error.WATCHDOG, min(left))

    def _begin(self, command: _Command) -> Callable[[], None]:
        """Does what an engine does first, and returns what it does last."""
        if command.opcode is Opcode.LOAD:
            return self._load(command)
        if command.opcode is Opcode.STORE:
            return self._store(command)
        if command.opcode is Opcode.VECTOR:
            return self._vector(command)
        if command.opcode is Opcode.TURN:
            return self._turn(command)
        if command.opcode is Opcode.SOFTMAX:
            return self._softmax(command)
        if command.opcode is Opcode.NORMALIZE:
            return self._normalize(command)
        return self._matrix(command)

    def _spend(self, command: _Command, cycles: int, steps: int) -> None:
        """Refuses a legal command that takes too long."""
        engine = self._engines[command.opcode]
        self._spent[engine] += cycles
        limit = self._registers[Register.CYCLE_LIMIT]
        if (limit and self._spent[engine] > limit) \
                or steps > _STEPS_PER_WORD * self._config.activation_depth:
            raise command.fault(Error.CYCLE_LIMIT)

    # Load and store ---------------------------------------------------------------------------

    def _spans(self, command: _Command, unit_bytes: int, depth: int, wrong: Error) \
            -> list[tuple[int, int, slice]]:
        """Address, bytes and units of each line, after all checks that the hardware makes."""
        config, fields = self._config, command.fields
        lines, units, stride = fields["lines"], fields["units"], fields["stride"]
        if not lines or not units:
            raise command.fault(Error.ARGUMENT)
        line_bytes = units * unit_bytes
        beats = -(-line_bytes // config.axi_bytes)
        end = fields["address"] + (lines - 1) * stride + beats * config.axi_bytes
        local_end = fields["local_address"] + (lines - 1) * fields["local_stride"] + units
        if fields["address"] % config.axi_bytes or stride % config.axi_bytes \
                or end > 1 << config.axi_addr_width or local_end > depth:
            raise command.fault(Error.ADDRESS)
        self._spend(command, lines * max(units, beats), lines * units)
        if end > len(self._memory):
            raise command.fault(wrong)
        counter = Counter.READ_BEATS if wrong is Error.READ else Counter.WRITE_BEATS
        self._counters[counter] += lines * beats
        spans = []
        for line in range(lines):
            local = fields["local_address"] + line * fields["local_stride"]
            spans.append((fields["address"] + line * stride, line_bytes,
                          slice(local, local + units)))
        return spans

    def _load(self, command: _Command) -> Callable[[], None]:
        number = command.fields["memory"]
        memory = next((memory for memory in self._units if memory.value == number), None)
        if memory is None:
            raise command.fault(Error.ARGUMENT)
        target = self._units[memory]
        its = geometry(memory, self._config)
        spans = self._spans(command, its.unit_bytes, len(target), Error.READ)
        # Reads all data first and writes it last: other commands may access both in between.
        lines = [layout.bytes_to_units(bytes(self._memory[address:address + size]), its.unit_bytes,
                                       its.unit_data_bytes) for address, size, _ in spans]

        def finish() -> None:
            for (_, _, units), line in zip(spans, lines, strict=True):
                target[units] = line
                if memory is Memory.TABLE and self._config.vector:
                    self._units[Memory.LANE_TABLE][units] = line
        return finish

    def _store(self, command: _Command) -> Callable[[], None]:
        word_bytes = self._config.word_bytes
        spans = self._spans(command, word_bytes, len(self._activation), Error.WRITE)
        lines = [layout.units_to_bytes(self._activation[units].view(np.int8), word_bytes)
                 for _, _, units in spans]

        def finish() -> None:
            for (address, size, _), line in zip(spans, lines, strict=True):
                self._memory[address:address + size] = line
        return finish

    # Turn -------------------------------------------------------------------------------------

    def _turn(self, command: _Command) -> Callable[[], None]:
        config, fields = self._config, command.fields
        pixels, blocks, lanes = (fields[name] for name in ("pixels", "blocks", "lanes"))
        if not pixels or not blocks or not 0 < lanes <= config.word_lanes:
            raise command.fault(Error.ARGUMENT)
        size = config.word_lanes
        pixel_blocks = -(-pixels // size)
        columns, depth = (pixel_blocks, blocks) if fields["turned"] else (blocks, pixel_blocks)
        first_row, entry = fields["weight_base"], fields["parameter_base"]
        stop_row = first_row + columns * depth * config.weight_tile_rows
        stop_entry = entry + columns * config.requant_groups
        if stop_row > config.weight_depth or stop_entry > config.parameter_depth:
            raise command.fault(Error.ADDRESS)
        steps = pixel_blocks * blocks * size
        self._spend(command, steps, steps)
        address = (fields["in_base"] + np.arange(pixels)
                   + fields["in_plane"] * np.arange(blocks)[:, None]) % LOCAL_ADDRESSES
        if (address >= config.activation_depth).any():
            raise command.fault(Error.ADDRESS)

        values = np.full((blocks, pixel_blocks * size, size), fields["zero"], np.int64)
        values[:, :pixels] = self._activation[address]
        values[-1, :, lanes:] = fields["zero"]
        found = values.transpose(1, 0, 2).reshape(pixel_blocks * size, blocks * size)
        if fields["turned"]:
            found = found.T     # [channels of the input, of the result]
        # Column tile, channel block, PE row from the last to the first; column, weight of the PE.
        rows = found.reshape(depth, config.pe_rows, config.pe_weights, columns, size) \
            .transpose(3, 0, 1, 4, 2)[:, :, ::-1].reshape(-1, config.weight_row_lanes)
        input_zero = fields["input_zero"]
        taken = ((found[0::2] + input_zero) * (found[1::2] + input_zero) if config.fip
                 else found * input_zero).sum(axis=0)
        parameters = np.empty((columns * config.cols, 2), "<i4")
        parameters[:, 0] = _wrap(fields["bias"] - taken, 32)
        parameters[:, 1] = np.array(fields["scale"], "<u4").view("<i4")
        entries = parameters.view(np.int8).reshape(-1, config.parameter_entry_data_bytes)

        def finish() -> None:
            self._weight[first_row:stop_row] = rows
            self._units[Memory.PARAMETER][entry:stop_entry] = entries
        return finish

    # Rows -------------------------------------------------------------------------------------

    def _softmax(self, command: _Command) -> Callable[[], None]:
        fields = command.fields
        if fields["factor"] < _FIRST_BIT:
            raise command.fault(Error.ARGUMENT)

        def shares(rows: np.ndarray) -> np.ndarray:
            terms = layout.unpack_exponentials(
                self._units[Memory.ROW_CONSTANT][:RowConstant.THRESHOLDS])
            found = reference.shares(rows, terms, fields["factor"], fields["exponent"] - 15)
            return np.minimum(found + fields["out_zero"], 127)
        return self._rows(command, shares, passes=2)

    def _normalize(self, command: _Command) -> Callable[[], None]:
        fields = command.fields
        if fields["blocks"] > self._config.normalize_channels // self._config.word_lanes \
                or min(fields["length"], fields["rate"]) < _FIRST_BIT:
            raise command.fault(Error.ARGUMENT)

        def normalized(rows: np.ndarray) -> np.ndarray:
            values, thresholds, scale, shift = layout.unpack_normalization(
                self._units[Memory.ROW_CONSTANT], rows.shape[1])
            epsilon = float(np.uint32(fields["epsilon"]).view(np.float32))
            found = reference.normalize(values[rows.astype(np.int16) + 128], scale, shift, epsilon)
            return np.searchsorted(thresholds, found, side="right") - 128
        return self._rows(command, normalized, passes=3)

    def _rows(self, command: _Command, compute: Callable[[np.ndarray], np.ndarray],
              passes: int) -> Callable[[], None]:
        """What a command does to rows, int8 [pixels, length], in some passes over them."""
        config, fields = self._config, command.fields
        pixels, blocks, lanes = (fields[name] for name in ("pixels", "blocks", "lanes"))
        if not pixels or not blocks or not 0 < lanes <= config.word_lanes:
            raise command.fault(Error.ARGUMENT)
        size = config.word_lanes
        length = (blocks - 1) * size + lanes
        self._spend(command, passes * pixels * length, passes * pixels * length)
        planes = np.arange(blocks)[:, None]
        source, target = ((fields[f"{side}_base"] + np.arange(pixels)
                           + fields[f"{side}_plane"] * planes) % LOCAL_ADDRESSES
                          for side in ("in", "out"))
        if max(source.max(), target.max()) >= config.activation_depth:
            raise command.fault(Error.ADDRESS)
        values = self._activation[source].transpose(1, 0, 2).reshape(pixels, blocks * size)
        found = np.full(values.shape, fields["out_zero"], np.int8)
        found[:, :length] = compute(values[:, :length])
        results = found.reshape(pixels, blocks, size).transpose(1, 0, 2)

        def finish() -> None:
            self._activation[target] = results
        return finish

    # Matrix -----------------------------------------------------------------------------------

    def _matrix(self, command: _Command) -> Callable[[], None]:
        config, fields = self._config, command.fields
        positive = ("in_h", "in_w", "channel_blocks", "kernel_h", "kernel_w", "stride_h",
                    "stride_w", "dilation_h", "dilation_w", "out_w", "tile_pixels", "out_pixels",
                    "col_tiles", "last_groups")
        if not all(fields[name] for name in positive) \
                or (fields["tile_pixels"] > config.accumulator_pixels and not config.sequential) \
                or fields["last_groups"] > config.requant_groups \
                or self._partial_wrong(fields) \
                or fields["rule"] not in _rules(config, Engine.MATRIX) \
                or fields["clamp_min"] > fields["clamp_max"] \
                or fields["table"] > config.drain_tables:
            raise command.fault(Error.ARGUMENT)
        if config.sequential and any(fields[name] >= 2 << ceil_log2(config.activation_depth)
                                     for name in _SEQUENTIAL_SIZES):
            raise command.fault(Error.ADDRESS)
        steps = math.prod(fields[name] for name in (
            "out_pixels", "kernel_h", "kernel_w", "channel_blocks", "col_tiles"))
        self._spend(command, steps, steps)
        sums = self._accumulate(command)
        if fields["accumulate"]:
            sums = _wrap(sums + self._kept, config.accumulator_width)
        self._kept = sums if fields["keep"] else None
        return (lambda: None) if fields["keep"] else lambda: self._drain(command, sums)

    def _partial_wrong(self, fields: dict[str, int]) -> bool:
        """Whether a MATRIX uses the accumulators in a way that it must not."""
        accumulate, keep = fields["accumulate"], fields["keep"]
        if self._config.sequential:
            return bool(accumulate or keep or fields["out_slot"])
        kept = None if self._kept is None else self._kept.shape[1]
        single = fields["col_tiles"] == 1 and fields["out_pixels"] <= fields["tile_pixels"]
        return (fields["out_slot"] >= self._config.word_slots
                or bool(accumulate) != (kept is not None)
                or bool(accumulate and fields["out_pixels"] != kept)
                or bool((accumulate or keep) and not single))

    def _tile_weights(self, command: _Command) -> np.ndarray:
        """int8 [kernel_h, kernel_w, channels, columns] of all column tiles."""
        config, fields = self._config, command.fields
        tiles, blocks = fields["col_tiles"], fields["channel_blocks"]
        kernel = fields["kernel_h"], fields["kernel_w"]
        first = fields["weight_base"]
        stop = first + tiles * kernel[0] * kernel[1] * blocks * config.weight_tile_rows
        if stop > config.weight_depth:
            raise command.fault(Error.ADDRESS)
        rows = self._weight[first:stop].reshape(
            tiles, *kernel, blocks, config.pe_rows, config.cols, config.pe_weights)
        rows = rows[:, :, :, :, ::-1]  # the last PE row comes first
        # kernel, block, PE row, weight of the PE; then tile, column
        return rows.transpose(1, 2, 3, 4, 6, 0, 5).reshape(
            *kernel, blocks * config.rows, tiles * config.cols)

    def _accumulate(self, command: _Command) -> np.ndarray:
        """What the accumulators hold in the end, alpha already subtracted: int64
        [columns, pixels]."""
        config, fields = self._config, command.fields
        weights = self._tile_weights(command)
        row, column = np.divmod(np.arange(fields["out_pixels"]), fields["out_w"])
        blocks = np.arange(fields["channel_blocks"])[:, None] * fields["in_plane"]
        base = fields["in_base"] + row * fields["pixel_row_step"] + column * fields["stride_w"]
        channels = weights.shape[2]
        dtype = np.float32 if channels <= _TAPS_EXACT_IN_FLOAT32 else np.float64
        sums = np.zeros((len(row), weights.shape[3]))
        inputs = np.zeros(len(row))    # their sums
        for kernel_y in range(fields["kernel_h"]):
            y = row * fields["stride_h"] + kernel_y * fields["dilation_h"] - fields["pad_top"]
            for kernel_x in range(fields["kernel_w"]):
                x = (column * fields["stride_w"] + kernel_x * fields["dilation_w"]
                     - fields["pad_left"])
                inside = (y >= 0) & (x >= 0) & (y < fields["in_h"]) & (x < fields["in_w"])
                address = (base + kernel_y * fields["kernel_row_step"]
                           + kernel_x * fields["dilation_w"] + blocks) % LOCAL_ADDRESSES
                if (address[:, inside] >= config.activation_depth).any():
                    raise command.fault(Error.ADDRESS)
                words = self._activation[np.where(inside, address, 0)]
                words[:, ~inside] = fields["in_zero"]
                pixels = words.transpose(1, 0, 2).reshape(len(row), channels)
                sums += pixels.astype(dtype) @ weights[kernel_y, kernel_x].astype(dtype)
                inputs += pixels.sum(axis=1, dtype=np.int64)
        total = sums.T.astype(np.int64)
        if config.fip:
            # The fast inner product minus alpha still contains beta, which the bias subtracts.
            wide = weights.astype(np.int64)
            beta = (wide[:, :, 0::2] * wide[:, :, 1::2]).sum(axis=(0, 1, 2))
            total += beta[:, None]
        if config.products:
            # What the column that corrects yields beside alpha.
            zero, taps = fields["weight_zero"], channels * math.prod(weights.shape[:2])
            total -= zero * inputs.astype(np.int64)
            total -= config.fip * zero * zero * taps // 2
        return _wrap(total, config.accumulator_width)

    def _drain(self, command: _Command, sums: np.ndarray) -> None:
        config, fields = self._config, command.fields
        groups = (fields["col_tiles"] - 1) * config.requant_groups + fields["last_groups"]
        first = fields["parameter_base"]
        if first + groups > config.parameter_depth:
            raise command.fault(Error.ADDRESS)
        entries = self._units[Memory.PARAMETER][first:first + groups]
        clamp = fields["clamp_min"], fields["clamp_max"]
        channels = groups * config.requant_lanes

        def total(bias: np.ndarray) -> np.ndarray:
            return _wrap(sums[:channels] + bias[:, None].astype(np.int64), 32).astype(np.int32)

        rule = Rounding(fields["rule"])
        if rule in (Rounding.FIXED_POINT, Rounding.FIXED_POINT_ONCE):
            bias, multiplier, shift = layout.unpack_fixed_point_parameters(entries)
            values = reference.requantize_fixed_point(
                total(bias), multiplier, shift, fields["out_zero"], clamp, rounding=rule)
        else:
            words = np.ascontiguousarray(entries).view("<i4").reshape(-1, 2)
            acc = total(words[:, 0])
            if rule is Rounding.BYTE:
                acc = reference.sum_bytes(acc, words[:, 1] % reference.SUM_BYTES)
            scale = np.ascontiguousarray(words[:, 1]).view("<f4")
            scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(0), scale)
            values = reference.requantize(acc, scale, fields["out_zero"], clamp)
        if fields["table"]:
            entries = values.view(np.uint8).astype(int) + 256 * (fields["table"] - 1)
            if config.drain_lane_tables:
                lanes = np.arange(channels)[:, None] % config.word_lanes
                values = self._units[Memory.LANE_TABLE][entries, lanes]
            else:
                values = self._units[Memory.TABLE][entries, 0]
        pixels = np.arange(fields["out_pixels"])
        skipped = fields["out_slot"] * config.requant_lanes     # lanes of the first word
        for block in range(-(-(skipped + channels) // config.word_lanes)):
            first = block * config.word_lanes - skipped
            lanes = values[max(first, 0):first + config.word_lanes]
            start = max(-first, 0)
            address = (fields["out_base"] + block * fields["out_plane"] + pixels) % LOCAL_ADDRESSES
            if (address >= config.activation_depth).any():
                raise command.fault(Error.ADDRESS)
            self._activation[address, start:start + len(lanes)] = lanes.T

    # Vector -----------------------------------------------------------------------------------

    def _vector(self, command: _Command) -> Callable[[], None]:
        self._check_vector(command)
        try:
            address, values = vector_model.evaluate(
                self._config, command.fields, self._activation,
                weights=self._units[Memory.VECTOR_WEIGHT],
                parameters=self._units[Memory.VECTOR_PARAMETER],
                tables=self._units[Memory.LANE_TABLE], lines=self._lines)
        except IndexError:
            raise command.fault(Error.ADDRESS) from None
        if (address >= self._config.activation_depth).any():
            raise command.fault(Error.ADDRESS)

        def finish() -> None:
            self._activation[address] = values
        return finish

    def _check_vector(self, command: _Command) -> None:
        """All checks that the hardware makes, but for addresses of words."""
        config, fields = self._config, command.fields
        kernel = fields["kernel_outer"], fields["kernel_inner"]
        if not all(fields[name] for name in POSITIVE) \
                or fields["op"] not in {op.value for op in VectorOp} \
                or fields["rule"] not in _rules(config, Engine.VECTOR) \
                or fields["clamp_min"] > fields["clamp_max"]:
            raise command.fault(Error.ARGUMENT)
        op = VectorOp(fields["op"])
        window = op in WINDOWS
        if (not self._keeps_lines(fields) if fields["lines"]
                else fields["resumes"] or fields["quarter"]):
            raise command.fault(Error.ARGUMENT)
        if not window:
            entries = add_entries(config)
        elif fields["lines"]:
            entries = len(line_groups(config, kernel[0]))
        else:
            entries = kernel[0] * -(-kernel[1] // config.vector_taps)
        if kernel != kernel_shapes(config).get(op, kernel) or (fields["slide"] and (
                not window or not fields["stride_inner"] or fields["dilation_inner"] != 1
                or entries > WINDOW_GROUPS)) \
                or (fields["broadcast"] and op not in PAIRS) \
                or (fields["subtract"] and op not in SUBTRACTIONS) \
                or (fields["rule"] and op not in REQUANTIZED) \
                or (not fields["table"] and (fields["table_step"] or op is VectorOp.LOOKUP)):
            raise command.fault(Error.ARGUMENT)
        last_table = fields["table"] + fields["table_step"] * (fields["blocks"] - 1)
        blocks = 1 if fields["shared"] else fields["blocks"]
        weights = fields["weight_base"] + blocks * entries
        parameters = fields["parameter_base"] + blocks * config.vector_groups
        if (op in WEIGHTED and weights > config.vector_entries) \
                or (op in REQUANTIZED and parameters > config.vector_parameter_depth) \
                or last_table > config.vector_tables:
            raise command.fault(Error.ADDRESS)
        positions = fields["blocks"] * fields["out_outer"] * fields["out_inner"]
        self._spend(command, positions, positions * kernel[0] * kernel[1])

    def _keeps_lines(self, fields: Mapping[str, int]) -> bool:
        """Whether a command with ``lines`` is right in what they ask for."""
        size = fields["kernel_outer"]
        return bool(
            fields["slide"] and size in LINE_KERNELS and fields["kernel_inner"] == size
            and fields["dilation_outer"] == 1 and fields["stride_outer"]
            and fields["stride_inner"] in LINE_STRIDES
            and line_columns(fields["out_inner"], kernel=size, stride=fields["stride_inner"],
                             pad=fields["pad_inner"]) <= self._config.vector_lines)


def _rules(config: AcceleratorConfig, engine: Engine) -> tuple[int, ...]:
    return tuple(rule.value for rule in roundings(config, engine))


def _wrap(values: np.ndarray, width: int) -> np.ndarray:
    """Two's complement of ``width`` bits."""
    half = 1 << (width - 1)
    return ((values + half) & ((1 << width) - 1)) - half
