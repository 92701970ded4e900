"""Commands with the tokens that order them, from nothing but what each of them touches."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.lib import data

from weft.compiler.assembly.accesses import accesses
from weft.hw.isa.commands import COMMAND_BYTES, COMMANDS, ENGINES, Engine, Header, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode

__all__ = ["Command", "touches", "tokens", "encode_stream"]


@dataclass(frozen=True)
class Command:
    """A command without its tokens.

    Attributes
    ----------
    places : tuple of :class:`int`
        Of a LOAD of weight entries of the vector engine: for each, a mask of the places that are
        not zero.
    raw : :class:`bytes` or :py:`None`
        What it is encoded as, but for its tokens, if that is not what its fields say.
    origin : :class:`dict` or :py:`None`
        Its fields before it was made illegal, which tell what it must wait for.
    """

    opcode: Opcode
    fields: dict[str, int]
    places: tuple[int, ...] = ()
    raw: bytes | None = None
    origin: dict[str, int] | None = None

    @property
    def engine(self) -> Engine:
        return ENGINES[self.opcode]


def touches(config: AcceleratorConfig, command: Command) -> dict[str, tuple[int, int]]:
    """By space, what a command reads and writes, as sets of bits."""
    found: dict[str, tuple[int, int]] = {}
    for access in accesses(config, command.opcode, command.origin or command.fields):
        bits = (1 << access.stop) - (1 << access.start)
        reads, writes = found.get(access.space, (0, 0))
        found[access.space] = (reads, writes | bits) if access.write else (reads | bits, writes)
    return found


def tokens(config: AcceleratorConfig, commands: Sequence[Command], rng: random.Random, *,
           spare: float = 0.1) -> list[tuple[int, int]]:
    """``wait`` and ``post`` of each command, so that all that must be ordered is.

    Parameters
    ----------
    spare : :class:`float`
        Probability, for each command and engine, of a token that is not needed.
    """
    wait, post = [0] * len(commands), [0] * len(commands)
    given: dict[tuple[Engine, Engine], int] = {}  # who gave the last token that was waited for
    touched = [touches(config, command) for command in commands]
    for later, command in enumerate(commands):
        for producer in Engine:
            pair = producer, command.engine
            since = given.get(pair, -1)
            # Only the latest matters: those before it in its engine are done by then.
            wanted = next((earlier for earlier in range(later - 1, since, -1)
                           if commands[earlier].engine is producer
                           and _hazard(commands[earlier], touched[earlier],
                                       command, touched[later])), None)
            if wanted is None and rng.random() >= spare:
                continue
            givers = [earlier for earlier in range(since + 1 if wanted is None else wanted, later)
                      if commands[earlier].engine is producer]
            if givers:
                giver = rng.choice((givers[0], rng.choice(givers)))
                post[giver] |= 1 << command.engine.value
                wait[later] |= 1 << producer.value
                given[pair] = giver
    return list(zip(wait, post, strict=True))


def _hazard(earlier: Command, before: dict[str, tuple[int, int]], later: Command,
            after: dict[str, tuple[int, int]]) -> bool:
    """Whether two commands must be ordered by a token."""
    alone = earlier.engine is later.engine
    if alone and later.engine in (Engine.LOAD, Engine.STORE):
        return False
    for space, (reads, writes) in after.items():
        old_reads, old_writes = before.get(space, (0, 0))
        if old_writes & reads or (not alone and writes & (old_reads | old_writes)):
            return True
    return False


def encode_stream(commands: Sequence[Command], masks: Sequence[tuple[int, int]],
                  rng: random.Random | None = None) -> bytes:
    """The bytes of a stream; with ``rng``, unlisted bits of every other command are random."""
    stream = b""
    for command, (wait, post) in zip(commands, masks, strict=True):
        raw = bytearray(command.raw or encode(command.opcode, **command.fields))
        raw[1] = wait | post << 4
        bits = int.from_bytes(raw, "little")
        if rng and command.raw is None and rng.random() < 0.5:
            bits |= rng.getrandbits(8 * COMMAND_BYTES) & _UNLISTED[command.opcode]
        stream += bits.to_bytes(COMMAND_BYTES, "little")
    return stream


_UNLISTED = {opcode: sum(((1 << field.width) - 1) << field.offset
                         for fields, base in ((data.Layout.cast(layout), 0), (
                             data.Layout.cast(Header), 0))
                         for name, field in fields if name.startswith("_"))
             for opcode, layout in COMMANDS.items()}
"""Of each opcode, the bits that are no field of its."""
