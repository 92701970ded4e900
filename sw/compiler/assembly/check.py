"""Last pass: proof that a command stream is sound, from nothing but its bytes.

It shares no code with the passes before it. What is proven: all engines come to the end of the
stream and leave every semaphore at zero; no semaphore overflows; every command stays inside what
it was given; nothing is read that was not written; rows that a command goes on with are there; and
any two commands that meet in a memory, of which one writes, are ordered by tokens.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weft.compiler.program import CommandInfo, Program
from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import COMMAND_BYTES, ENGINES, Engine, Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode

from .accesses import MEMORIES, SPACES, Access, accesses, in_place
from .check_lines import wrong_lines

__all__ = ["ProgramError", "check"]


_CONSTANTS = [space for memory, space in SPACES.items() if memory is not Memory.ACTIVATION]


class ProgramError(Exception):
    """A command stream that would not do what it should: a mistake of the compiler."""


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
    """Checks all that is listed above, of both streams.

    Raises
    ------
    ProgramError
        Names the first command that is not sound.
    """
    commands = _decode(program.commands)
    constants = _check_stream(commands, program, program.infos, {})
    if not program.warm_commands:
        return
    warm = _decode(program.warm_commands)
    loads = {(command.index, access.space) for command in commands
             if command.opcode is Opcode.LOAD for access in
             accesses(program.config, command.opcode, command.fields)
             if access.write and access.space in _CONSTANTS}
    _check_warm(commands, warm, {index for index, _ in loads}, program)
    _check_stream(warm, program, program.warm_infos, constants)


def _decode(stream: bytes) -> list[_Command]:
    commands = []
    for index in range(len(stream) // COMMAND_BYTES):
        try:
            opcode, fields = decode(stream[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES])
        except ValueError as error:
            raise ProgramError(f"Command {index}: {error}") from None
        commands.append(_Command(index, opcode, fields))
    return commands


def _check_stream(commands: Sequence[_Command], program: Program,
                  infos: Sequence[CommandInfo],
                  before: "dict[str, _Segments]") -> "dict[str, _Segments]":
    """Checks one stream; ``before`` and the result are the contents of the constant memories."""
    _check_sums(commands, program.config)
    _check_lines(commands, program.config, infos)
    _check_progress(commands, program.config)
    _check_overflow(commands, program.config)
    known = _happens_before(commands)
    memories = _check_memory(commands, known, program, infos, before)
    return {space: memories[space] for space in _CONSTANTS}


def _check_warm(cold: Sequence[_Command], warm: Sequence[_Command], loads: set[int],
                program: Program) -> None:
    """The warm stream does what the cold one does, but for loads of constants, each of which is
    still there at the end."""
    def work(command: _Command) -> tuple[Opcode, dict[str, int]]:
        return command.opcode, {name: value for name, value in command.fields.items()
                                if name not in ("wait", "post")}

    for engine in Engine:
        wanted = [command for command in cold
                  if command.engine is engine and command.index not in loads]
        found = [command for command in warm if command.engine is engine]
        if len(wanted) != len(found):
            raise ProgramError(f"Warm stream must have {len(wanted)} commands for {engine.name}, "
                               f"not {len(found)}")
        for command, other in zip(wanted, found, strict=True):
            if work(command) != work(other):
                raise ProgramError(f"Warm {other} must do what {command} does")
    written: dict[str, _Segments] = {}
    for command in cold:
        for access in accesses(program.config, command.opcode, command.fields):
            if access.write and access.space in _CONSTANTS:
                segments = written.setdefault(access.space, _Segments())
                if any(writer is not None
                       for writer, _ in segments.over(access.start, access.stop)):
                    raise ProgramError(f"{str(command).capitalize()} overwrites constants in the "
                                       f"{access.space} memory that the warm stream needs")
                segments.write(access.start, access.stop, command.index)


def _check_sums(commands: Sequence[_Command], config: AcceleratorConfig) -> None:
    """Sums that a MATRIX keeps are those that the next one goes on with."""
    kept: _Command | None = None
    for command in commands:
        if command.opcode is not Opcode.MATRIX:
            continue
        fields = command.fields
        if config.sequential and (fields["accumulate"] or fields["keep"] or fields["out_slot"]):
            raise ProgramError(f"{str(command).capitalize()} needs accumulators, and a sequential "
                               f"accelerator has none")
        if fields["out_slot"] * config.requant_lanes >= config.word_lanes:
            raise ProgramError(f"{str(command).capitalize()} begins at part {fields['out_slot']} "
                               f"of a word of {config.word_lanes // config.requant_lanes}")
        if (fields["accumulate"] or fields["keep"]) and (
                fields["col_tiles"] != 1 or fields["out_pixels"] > fields["tile_pixels"]):
            raise ProgramError(f"{str(command).capitalize()} keeps sums or goes on with them, and "
                               f"must have a single column tile and a single pixel tile")
        if fields["accumulate"] and kept is None:
            raise ProgramError(f"{str(command).capitalize()} goes on with sums that no command "
                               f"has kept")
        if kept is not None and not (fields["accumulate"]
                                     and fields["out_pixels"] == kept.fields["out_pixels"]):
            raise ProgramError(f"{str(command).capitalize()} must go on with the "
                               f"{kept.fields['out_pixels']} sums that {kept} has kept")
        kept = command if fields["keep"] else None
    if kept is not None:
        raise ProgramError(f"{str(kept).capitalize()} keeps sums that no command goes on with")


def _check_lines(commands: Sequence[_Command], config: AcceleratorConfig,
                 infos: Sequence[CommandInfo]) -> None:
    """Rows that a VECTOR goes on with are those that it left."""
    mine = [command for command in commands if command.opcode is Opcode.VECTOR]
    wrong = wrong_lines(config, ((command.fields, infos[command.index].layer)
                                 for command in mine))
    if wrong is not None:
        number, why = wrong
        raise ProgramError(f"{str(mine[number]).capitalize()} {why}")


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
            if outstanding > Dispatcher.SEMAPHORE_MAX:
                raise ProgramError(f"Semaphore {Engine(me).name} to {Engine(consumer).name} may "
                                   f"hold {outstanding} tokens after {command}, it holds at most "
                                   f"{Dispatcher.SEMAPHORE_MAX}")


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

    def written(self) -> list[tuple[int, int]]:
        """Ranges that somebody wrote."""
        return [(start, stop) for start, stop, (writer, _) in zip(
            self._starts, self._starts[1:], self._owners) if writer is not None]

    def write(self, start: int, stop: int, writer: int) -> None:
        """Makes a range one segment of the given writer, without readers."""
        first, last = self._split(start), self._split(stop)
        self._starts[first:last] = [start]
        self._owners[first:last] = [(writer, {})]


def _merged(spans: Iterable[tuple[str, int, int]]) -> dict[str, tuple[list[int], list[int]]]:
    """By space: starts and stops of the ranges that the spans make up together, in order."""
    merged: dict[str, tuple[list[int], list[int]]] = {}
    for space, start, stop in sorted(spans):
        starts, stops = merged.setdefault(space, ([], []))
        if stops and start <= stops[-1]:
            stops[-1] = max(stops[-1], stop)
        else:
            starts.append(start)
            stops.append(stop)
    return merged


def _covers(merged: dict[str, tuple[list[int], list[int]]], access: Access) -> bool:
    starts, stops = merged.get(access.space, ([], []))
    at = bisect_right(starts, access.start) - 1
    return at >= 0 and access.stop <= stops[at]


def _overlap(merged: dict[str, tuple[list[int], list[int]]], access: Access) -> bool:
    starts, stops = merged.get(access.space, ([], []))
    at = bisect_left(starts, access.stop) - 1
    return at >= 0 and stops[at] > access.start


def _check_memory(commands: Sequence[_Command], known: Sequence[Sequence[int]], program: Program,
                  infos: Sequence[CommandInfo],
                  before: dict[str, _Segments]) -> dict[str, _Segments]:
    config = program.config
    depths = {SPACES[memory]: kind.depth(config) for memory, kind in MEMORIES.items()}
    depths["external"] = program.memory_bytes
    memories = {space: _Segments() for space in depths}
    for space, segments in before.items():  # whoever wrote it, it was before the first command
        for start, stop in segments.written():
            memories[space].write(start, stop, -1)
    for address, raw in program.image:
        memories["external"].write(address, address + len(raw), -1)
    for slot in program.inputs:
        memories["external"].write(slot.address, slot.address + slot.size, -1)

    def ordered(earlier: int, later: _Command, hazard: str) -> None:
        engine = commands[earlier].engine
        if engine is later.engine and (engine in (Engine.LOAD, Engine.STORE) or hazard != "reads"):
            return  # in order
        if known[later.index][engine.value] < earlier:
            raise ProgramError(f"{str(later).capitalize()} {hazard} {commands[earlier]} in the "
                               f"{access.space} memory, and does not wait for it")

    for command in commands:
        touched = list(accesses(config, command.opcode, command.fields))
        info = infos[command.index]
        allowed = {False: _merged(info.reads), True: _merged(info.writes)}
        own = _merged((access.space, access.start, access.stop) for access in touched
                      if not access.write)
        for access in touched:
            if access.stop > depths[access.space] or not _covers(allowed[access.write], access):
                raise ProgramError(
                    f"{str(command).capitalize()} {'writes' if access.write else 'reads'} "
                    f"{access.space} {access.start} to {access.stop}, outside its buffers")
            if access.write and _overlap(own, access) \
                    and not in_place(command.opcode, command.fields):
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
        for start in range(slot.address, slot.address + slot.size, slot.plane_bytes):
            stop = start + slot.shape[1] * slot.shape[2] * config.word_bytes
            if any(writer is None for writer, _ in memories["external"].over(start, stop)):
                raise ProgramError(f"Output {slot.tensor!r} is not stored")
    return memories
