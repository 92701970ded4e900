"""Last pass: proof that a command stream is sound, from nothing but its bytes.

It shares no code with the passes before it. What is proven: all engines come to the end of the
stream and leave every semaphore at zero; no semaphore overflows; every command stays inside what
it was given; nothing is read that was not written; and any two commands that meet in a memory, of
which one writes, are ordered by tokens.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weft.config import AcceleratorConfig
from weft.hw.commands import ENGINES, Engine, Memory, Opcode, decode
from weft.hw.dispatch import SEMAPHORE_MAX

from .program import Program

__all__ = ["ProgramError", "check", "accesses"]


class ProgramError(Exception):
    """A command stream that would not do what it should: a mistake of the compiler."""


@dataclass(frozen=True)
class Access:
    """Units, or bytes of external memory, from ``start`` up to ``stop``."""
    write: bool
    space: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Command:
    index: int
    opcode: Opcode
    fields: dict[str, int]

    @property
    def engine(self) -> Engine:
        return ENGINES[self.opcode]

    def waits(self) -> list[int]:
        return [e for e in range(len(Engine)) if self.fields["wait"] >> e & 1]

    def posts(self) -> list[int]:
        return [e for e in range(len(Engine)) if self.fields["post"] >> e & 1]

    def __str__(self) -> str:
        return f"command {self.index} ({self.opcode.name})"


def check(program: Program) -> None:
    """Checks all that is listed above.

    Raises
    ------
    ProgramError
        Names the first command that is not sound.
    """
    commands = []
    for index in range(program.count):
        try:
            opcode, fields = decode(program.command(index))
        except ValueError as error:
            raise ProgramError(f"Command {index}: {error}") from None
        commands.append(_Command(index, opcode, fields))
    _check_progress(commands, program.config)
    _check_overflow(commands, program.config)
    known = _happens_before(commands)
    _check_memory(commands, known, program)


# Semaphores -----------------------------------------------------------------------------------

def _check_progress(commands: Sequence[_Command], config: AcceleratorConfig) -> None:
    """Runs queues and semaphores alone.

    One order of execution stands for all: a token has one consumer and queues are in order, so a
    step that is possible stays possible until it is taken.
    """
    queues: list[deque[_Command]] = [deque() for _ in Engine]
    tokens = [[0] * len(Engine) for _ in Engine]  # [producer][consumer]
    fetched = 0
    moved = True
    while moved:
        moved = False
        while fetched < len(commands):
            queue = queues[commands[fetched].engine.value]
            if len(queue) == config.queue_depth:
                break
            queue.append(commands[fetched])
            fetched += 1
            moved = True
        for me, queue in enumerate(queues):
            while queue and all(tokens[producer][me] for producer in queue[0].waits()):
                command = queue.popleft()
                for producer in command.waits():
                    tokens[producer][me] -= 1
                for consumer in command.posts():
                    tokens[me][consumer] += 1
                moved = True
    stuck = [queue[0] for queue in queues if queue]
    if stuck:
        raise ProgramError("Deadlock: " + ", ".join(
            f"{command} waits for " + "+".join(Engine(producer).name for producer in
                                               command.waits()
                                               if not tokens[producer][command.engine.value])
            for command in stuck))
    for giver in Engine:
        for taker in Engine:
            left = tokens[giver.value][taker.value]
            if left:
                raise ProgramError(f"Semaphore {giver.name} to {taker.name} must be zero at the "
                                   f"end, not {left}")


def _check_overflow(commands: Sequence[_Command], config: AcceleratorConfig) -> None:
    """Bounds the tokens that can be outstanding.

    When a command is done, all before it were fetched, so at most ``queue_depth`` of each engine
    are still in a queue, and the others have taken their tokens.
    """
    posted = [[0] * len(Engine) for _ in Engine]
    taken: list[list[list[int]]] = [[[0] * len(Engine)] for _ in Engine]  # after n commands
    for command in commands:
        me = command.engine.value
        counts = list(taken[me][-1])
        for producer in command.waits():
            counts[producer] += 1
        taken[me].append(counts)
        for consumer in command.posts():
            posted[me][consumer] += 1
            started = max(0, len(taken[consumer]) - 1 - config.queue_depth)
            outstanding = posted[me][consumer] - taken[consumer][started][me]
            if outstanding > SEMAPHORE_MAX:
                raise ProgramError(f"Semaphore {Engine(me).name} to {Engine(consumer).name} may "
                                   f"hold {outstanding} tokens after {command}, it holds at most "
                                   f"{SEMAPHORE_MAX}")


def _happens_before(commands: Sequence[_Command]) -> list[list[int]]:
    """For each command, the latest command of each engine that is done before it starts."""
    nothing = [-1] * len(Engine)
    posts: dict[tuple[int, int], deque[int]] = {}
    starts: list[list[int]] = []
    ends: list[list[int]] = []
    engine_start, engine_end = [nothing] * len(Engine), [nothing] * len(Engine)
    for command in commands:
        me = command.engine.value
        start = engine_start[me]
        for producer in command.waits():
            queue = posts.get((producer, me))
            if not queue:
                raise ProgramError(f"{str(command).capitalize()} waits for a token that "
                                   f"{Engine(producer).name} only gives later in the stream")
            start = [max(pair) for pair in zip(start, ends[queue.popleft()], strict=True)]
        end = [max(pair) for pair in zip(engine_end[me], start, strict=True)]
        end[me] = command.index
        engine_start[me], engine_end[me] = start, end
        starts.append(start)
        ends.append(end)
        for consumer in command.posts():
            posts.setdefault((me, consumer), deque()).append(command.index)
    return starts


# Memories -------------------------------------------------------------------------------------

def accesses(config: AcceleratorConfig, opcode: Opcode,
             fields: dict[str, int]) -> Iterator[Access]:
    """All that a command touches, from its fields; reads come first."""
    if opcode is Opcode.MATRIX:
        yield from _matrix_accesses(config, fields)
        return
    memory = Memory(fields["memory"]) if opcode is Opcode.LOAD else Memory.ACTIVATION
    unit_bytes = {Memory.ACTIVATION: config.word_bytes, Memory.WEIGHT: config.weight_row_bytes,
                  Memory.PARAMETER: config.parameter_entry_bytes}[memory]
    outside, inside = [], []
    for line in range(fields["lines"]):
        address = fields["address"] + line * fields["stride"]
        local = fields["local_address"] + line * fields["local_stride"]
        outside.append(("external", address, address + fields["units"] * unit_bytes))
        inside.append((memory.name.lower(), local, local + fields["units"]))
    reads, writes = (outside, inside) if opcode is Opcode.LOAD else (inside, outside)
    for span in reads:
        yield Access(False, *span)
    for span in writes:
        yield Access(True, *span)


def _matrix_accesses(config: AcceleratorConfig, fields: dict[str, int]) -> Iterator[Access]:
    padding = fields["pad_top"] * fields["in_w"] + fields["pad_left"]
    first = (fields["in_base"] + padding) % (1 << 24)
    for block in range(fields["channel_blocks"]):
        start = first + block * fields["in_plane"]
        yield Access(False, "activation", start, start + fields["in_h"] * fields["in_w"])
    rows = (fields["col_tiles"] * fields["kernel_h"] * fields["kernel_w"]
            * fields["channel_blocks"] * config.weight_tile_rows)
    yield Access(False, "weight", fields["weight_base"], fields["weight_base"] + rows)
    groups = (fields["col_tiles"] - 1) * config.requant_groups + fields["last_groups"]
    yield Access(False, "parameter", fields["parameter_base"], fields["parameter_base"] + groups)
    for block in range(-(-groups * config.requant_lanes // config.word_lanes)):
        start = fields["out_base"] + block * fields["out_plane"]
        yield Access(True, "activation", start, start + fields["out_pixels"])


class _Segments:
    """Who wrote and read each part of a memory last, as disjoint segments in order."""

    def __init__(self) -> None:
        self._starts: list[int] = [0]
        # Writer (None: nobody; -1: the host), and the latest reader of each engine since.
        self._owners: list[tuple[int | None, dict[Engine, int]]] = [(None, {})]

    def _split(self, at: int) -> int:
        """Index of the segment that starts at ``at``."""
        index = bisect_right(self._starts, at) - 1
        if self._starts[index] != at:
            writer, readers = self._owners[index]
            index += 1
            self._starts.insert(index, at)
            self._owners.insert(index, (writer, dict(readers)))
        return index

    def over(self, start: int, stop: int) -> list[tuple[int | None, dict[Engine, int]]]:
        """The segments that make up a range."""
        first = self._split(start)
        return self._owners[first:self._split(stop)]

    def write(self, start: int, stop: int, writer: int) -> None:
        """Makes a range one segment of the given writer, without readers."""
        first, last = self._split(start), self._split(stop)
        self._starts[first:last] = [start]
        self._owners[first:last] = [(writer, {})]


def _check_memory(commands: Sequence[_Command], known: Sequence[Sequence[int]],
                  program: Program) -> None:
    config = program.config
    depths = {"activation": config.activation_depth, "weight": config.weight_depth,
              "parameter": config.parameter_depth, "external": program.memory_bytes}
    memories = {space: _Segments() for space in depths}
    for address, raw in program.image:
        memories["external"].write(address, address + len(raw), -1)
    for slot in program.inputs:
        memories["external"].write(slot.address, slot.address + slot.size, -1)

    def ordered(earlier: int, later: _Command, hazard: str) -> None:
        engine = commands[earlier].engine
        if engine is later.engine and (engine is not Engine.MATRIX or hazard == "writes after"):
            return  # done in order
        if known[later.index][engine.value] < earlier:
            raise ProgramError(f"{str(later).capitalize()} {hazard} {commands[earlier]} in the "
                               f"{access.space} memory, and does not wait for it")

    for command in commands:
        touched = list(accesses(config, command.opcode, command.fields))
        info = program.infos[command.index]
        for access in touched:
            allowed = info.writes if access.write else info.reads
            if access.stop > depths[access.space] or not any(
                    space == access.space and start <= access.start and access.stop <= stop
                    for space, start, stop in allowed):
                raise ProgramError(
                    f"{str(command).capitalize()} {'writes' if access.write else 'reads'} "
                    f"{access.space} {access.start} to {access.stop}, outside its buffers")
            for other in touched:
                if access.write and not other.write and access.space == other.space \
                        and access.start < other.stop and other.start < access.stop:
                    raise ProgramError(f"{str(command).capitalize()} overwrites its own input")
            for writer, readers in memories[access.space].over(access.start, access.stop):
                if writer is None and not access.write:
                    raise ProgramError(f"{str(command).capitalize()} reads {access.space} "
                                       f"{access.start} to {access.stop}, not all of it written")
                if writer is not None and writer >= 0:
                    ordered(writer, command, "writes after" if access.write else "reads")
                if access.write:
                    for reader in readers.values():
                        ordered(reader, command, "overwrites the input of")
                else:
                    readers[command.engine] = command.index
        for access in touched:
            if access.write:
                memories[access.space].write(access.start, access.stop, command.index)
    for slot in (*program.outputs, *program.kept):
        if any(writer is None for writer, _ in memories["external"].over(
                slot.address, slot.address + slot.size)):
            raise ProgramError(f"Output {slot.tensor!r} is not stored")
