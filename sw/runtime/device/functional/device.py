"""The device as a model in numpy: executes command streams as the hardware does, without a clock.

It knows what commands do and in which orders they may happen, not how long they take. Of all
orders that queues and tokens allow it picks one at random, so that a stream that forgets a token
gives wrong values sooner or later.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence

from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import COMMAND_BYTES, Engine, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode
from weft.hw.isa.limits import MAX_COMMANDS
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

from ..base import DeviceTimeout, Event
from .core import Command, Core, Fault
from .matrix import matrix
from .rows import normalize, softmax
from .transfer import load, store
from .turn import turn
from .vector import vector

__all__ = ["FunctionalDevice"]


_MATRIX_IN_FLIGHT = 2  # commands that the matrix engine works on at a time
_EXECUTE: dict[Opcode, Callable[[Core, Command], Callable[[], None]]] = {
    Opcode.LOAD: load, Opcode.STORE: store, Opcode.MATRIX: matrix, Opcode.VECTOR: vector,
    Opcode.TURN: turn, Opcode.SOFTMAX: softmax, Opcode.NORMALIZE: normalize,
}


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

    Attributes
    ----------
    core : :class:`weft.runtime.device.functional.core.Core`
        Its memories.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int, seed: int = 0):
        self.core = Core(config, memory_bytes=memory_bytes)
        self._random = random.Random(seed)
        self._registers = dict.fromkeys(Register, 0)
        self._status = Status(0)
        self._pending = False

    # Device protocol --------------------------------------------------------------------------

    @property
    def config(self) -> AcceleratorConfig:
        """The configuration that is modelled."""
        return self.core.config

    @property
    def memory_bytes(self) -> int:
        """Size of the external memory."""
        return len(self.core.memory)

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to external memory."""
        self._check_window(address, len(data))
        self.core.memory[address:address + len(data)] = data

    def read_memory(self, address: int, count: int) -> bytes:
        """``count`` bytes of external memory."""
        self._check_window(address, count)
        return bytes(self.core.memory[address:address + count])

    def _check_window(self, address: int, count: int) -> None:
        if address < 0 or count < 0 or address + count > len(self.core.memory):
            raise ValueError(f"Memory access must be inside 0 to {len(self.core.memory)}, not "
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
        words = list(config_words(self.core.config).values())
        if CONFIG_BASE <= register < CONFIG_BASE + 4 * len(words):
            return words[(register - CONFIG_BASE) // 4]
        if COUNTER_BASE <= register < COUNTER_BASE + 4 * len(Counter):
            if not self.core.config.counters:
                return 0
            return self.core.counters[Counter((register - COUNTER_BASE) // 4)] & 0xffff_ffff
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
        self.core.kept = None
        self._registers[Register.ERROR] = Error.NONE
        self._registers[Register.ERROR_INDEX] = 0

    def _start(self) -> None:
        self._status &= ~Status.DONE
        self._pending = False
        self._registers[Register.COMPLETED] = 0
        self.core.cycle_limit = self._registers[Register.CYCLE_LIMIT]
        self.core.start()
        try:
            self._run()
        except Fault as fault:
            self._status |= Status.ERROR
            self._registers[Register.ERROR] = fault.error
            self._registers[Register.ERROR_INDEX] = fault.index
        else:
            self._status |= Status.DONE
        self._pending = True

    def _fetch(self, index: int, address: int) -> Command:
        beats = COMMAND_BYTES // self.core.config.axi_bytes
        if address + COMMAND_BYTES > len(self.core.memory):
            raise Fault(Error.READ, index)
        self.core.counters[Counter.READ_BEATS] += beats
        try:
            opcode, fields = decode(bytes(self.core.memory[address:address + COMMAND_BYTES]))
        except ValueError:
            raise Fault(Error.OPCODE, index) from None
        if opcode not in self.core.engines:
            raise Fault(Error.OPCODE, index)
        return Command(index, opcode, fields)

    def _run(self) -> None:
        """Queues, semaphores and engines, one step of one of them at a time."""
        address = self._registers[Register.COMMAND_ADDR] \
            | self._registers[Register.COMMAND_ADDRH] << 32
        count = self._registers[Register.COMMAND_COUNT]
        if not 1 <= count <= MAX_COMMANDS:
            raise Fault(Error.ARGUMENT, 0)
        if address % self.core.config.axi_bytes \
                or address + count * COMMAND_BYTES > 1 << self.core.config.axi_addr_width:
            raise Fault(Error.ADDRESS, 0)

        queues: dict[Engine, deque[Command]] = {
            engine: deque() for engine in self.core.engines.values()}
        # Commands that have started, with what is left to do of each.
        working: dict[Engine, deque[tuple[Command, Callable[[], None]]]] = {
            engine: deque() for engine in queues}
        tokens = {(producer, consumer): 0 for producer in Engine for consumer in Engine}
        fetched: Command | None = None
        coming = 0

        def awaited(command: Command) -> list[Engine]:
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
                queue = queues[self.core.engines[fetched.opcode]]
                if len(queue) < self.core.config.queue_depth:
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
            raise Fault(Error.WATCHDOG, min(left))

    def _begin(self, command: Command) -> Callable[[], None]:
        """Does what an engine does first, and returns what it does last."""
        return _EXECUTE[command.opcode](self.core, command)
