"""Makes a batch that fails smaller."""

from collections.abc import Iterator
from dataclasses import replace

from fuzz.programs.batch import CONFIGS, Batch
from fuzz.programs.layout import entries_fit
from fuzz.programs.order import Command
from fuzz.programs.rows import SETS, constants_fit
from fuzz.programs.run import Difference, Make, compare, rtl
from weft.errors import WeftError
from weft.hw.isa.commands import Opcode

__all__ = ["shrink"]


def _is_legal(batch: Batch) -> bool:
    """Whether every VECTOR finds weights in the form that it needs, and every NORMALIZE its
    constants."""
    config = CONFIGS[batch.config]
    places, lengths = [0] * config.vector_entries, [0] * SETS
    for stream in batch.streams:
        if not all(entries_fit(config, command, places) and constants_fit(config, command, lengths)
                   for command in stream):
            return False
        if any(command.origin for command in stream):
            places, lengths = [0] * config.vector_entries, [0] * SETS
    return True


def _smaller(batch: Batch) -> Iterator[Batch]:
    """Batches with something less, the boldest first."""
    for last in (1, 2, len(batch.streams) // 2):
        if last < len(batch.streams):
            yield replace(batch, streams=batch.streams[-last:])
    for number in range(len(batch.streams)):
        yield replace(batch, streams=batch.streams[:number] + batch.streams[number + 1:])
    for number, stream in enumerate(batch.streams):
        def changed(stream: tuple[Command, ...], number: int = number) -> Batch:
            return replace(batch, streams=(*batch.streams[:number], stream,
                                           *batch.streams[number + 1:]))
        for index in range(len(stream) if len(stream) > 1 else 0):
            yield changed(stream[:index] + stream[index + 1:])
        for index, command in enumerate(stream):
            if command.origin is None and command.fields.get("keep"):
                yield changed(_without_kept(stream, index))
        for index, command in enumerate(stream):
            if command.origin is not None:
                continue
            for name, value in command.fields.items():
                least = 0 if name in _ZEROS else 1
                for target in sorted({least, value // 2, value - 1}):
                    if name in (*_ZEROS, *_SIZES) and least <= target < value:
                        smaller = replace(command, fields=command.fields | {name: target})
                        yield changed((*stream[:index], smaller, *stream[index + 1:]))
    if batch.memory != {}:
        yield replace(batch, memory={})


def _without_kept(stream: tuple[Command, ...], index: int) -> tuple[Command, ...]:
    """A stream without a command that keeps its sums: the one that goes on with them begins where
    this one did."""
    begins, rest = stream[index].fields["accumulate"], list(stream[index + 1:])
    for place, command in enumerate(rest):
        if command.opcode is Opcode.MATRIX and command.origin is None:
            rest[place] = replace(command, fields=command.fields | {"accumulate": begins})
            break
    return (*stream[:index], *rest)


_ZEROS = ("in_zero", "out_zero", "second_zero", "pad_top", "pad_left", "pad_outer", "pad_inner",
          "resumes", "quarter", "slide", "broadcast", "subtract", "shared", "rule",
          "table")
_SIZES = ("lines", "units", "out_pixels", "tile_pixels", "col_tiles", "last_groups", "kernel_h",
          "kernel_w", "channel_blocks", "blocks", "out_outer", "out_inner")


def shrink(batch: Batch, error: Difference, make: Make = rtl, *,
           attempts: int = 200) -> tuple[Batch, Difference]:
    """A smaller batch that fails as well, and how."""
    batch = replace(batch, streams=batch.streams[:error.stream + 1])
    improved = True
    while improved:
        improved = False
        for smaller in _smaller(batch):
            if attempts == 0:
                return batch, error
            attempts -= 1
            if not _is_legal(smaller):
                continue
            try:
                compare(smaller, make)
            except Difference as found:
                batch, error, improved = smaller, found, True
                break
            except WeftError:
                continue
    return batch, error


