"""LOAD and STORE: between external memory and the memories on chip."""

from collections.abc import Callable

import numpy as np

from weft.hw.isa.commands import Memory
from weft.hw.isa.memories import geometry
from weft.hw.isa.registers import Counter, Error
from weft.ir import layout

from .core import Command, Core

__all__ = ["load", "store"]


def load(core: Core, command: Command) -> Callable[[], None]:
    number = command.fields["memory"]
    memory = next((memory for memory in core.units if memory.value == number), None)
    if memory is None:
        raise command.fault(Error.ARGUMENT)
    target = core.units[memory]
    its = geometry(memory, core.config)
    spans = _spans(core, command, its.unit_bytes, len(target), Error.READ)
    # Reads all data first and writes it last: other commands may access both in between.
    lines = [layout.bytes_to_units(bytes(core.memory[address:address + size]), its.unit_bytes,
                                   its.unit_data_bytes) for address, size, _ in spans]

    def finish() -> None:
        for (_, _, units), line in zip(spans, lines, strict=True):
            target[units] = line
            if memory is Memory.TABLE and core.config.vector:
                core.units[Memory.LANE_TABLE][units] = line
    return finish


def store(core: Core, command: Command) -> Callable[[], None]:
    word_bytes = core.config.word_bytes
    spans = _spans(core, command, word_bytes, len(core.activation), Error.WRITE)
    lines = [layout.units_to_bytes(core.activation[units].view(np.int8), word_bytes)
             for _, _, units in spans]

    def finish() -> None:
        for (address, size, _), line in zip(spans, lines, strict=True):
            core.memory[address:address + size] = line
    return finish


def _spans(core: Core, command: Command, unit_bytes: int, depth: int, wrong: Error) \
        -> list[tuple[int, int, slice]]:
    """Address, bytes and units of each line, after all checks that the hardware makes."""
    config, fields = core.config, command.fields
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
    core.spend(command, lines * max(units, beats), lines * units)
    if end > len(core.memory):
        raise command.fault(wrong)
    counter = Counter.READ_BEATS if wrong is Error.READ else Counter.WRITE_BEATS
    core.counters[counter] += lines * beats
    spans = []
    for line in range(lines):
        local = fields["local_address"] + line * fields["local_stride"]
        spans.append((fields["address"] + line * stride, line_bytes,
                      slice(local, local + units)))
    return spans
