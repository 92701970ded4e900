"""Batches of random command streams: drawn, filled with data, kept in files."""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from configs import LINES, ODD, PRODUCTS, PRODUCTS_PLAIN

from fuzz.programs.layout import Layout
from fuzz.programs.order import Command, encode_stream, tokens
from fuzz.programs.rows import areas
from fuzz.programs.spoil import spoil
from fuzz.programs.streams import Painter
from weft.boards.registry import BOARDS
from weft.hw.isa.commands import COMMAND_BYTES, Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import disassemble
from weft.hw.isa.memories import memories
from weft.hw.isa.presets import PRESETS

__all__ = ["BATCH", "CONFIGS", "Batch", "draw", "image", "entries", "opening", "dump", "save",
           "load"]


CONFIGS = {"tiny": PRESETS["tiny"], "odd": ODD, "base": PRESETS["base"],
           "fixed_point": PRESETS["tiny"].replace(
               name="fixed_point", fip=False, fixed_point=True, vector_taps=2, queue_depth=1,
               axi_burst_beats=2, activation_banks=1, accumulator_pixels=16),
           "products": PRODUCTS, "products_plain": PRODUCTS_PLAIN, "lines": LINES,
           "sequential": BOARDS["icebreaker"].config.replace(axi_addr_width=20)}
BATCH = 20  # streams that run on the same devices

_ILLEGAL = 0.12  # share of the streams


@dataclass(frozen=True)
class Batch:
    """Streams that run on the same devices, one after the other, and all that they depend on.

    Attributes
    ----------
    seed : :class:`str`
        Of the contents of the memories, of tokens and of stalls.
    """

    config: str
    seed: str
    words: range
    weight_rows: range
    memory: dict[str, Any]
    streams: tuple[tuple[Command, ...], ...]

    @property
    def layout(self) -> Layout:
        return Layout(CONFIGS[self.config], self.words, self.weight_rows)


def draw(config: str, seed: str, count: int = BATCH) -> Batch:
    """A batch; the same for the same seed."""
    rng = random.Random(f"{config} {seed}")
    layout = Layout.draw(rng, CONFIGS[config])
    painter = Painter(rng, layout)
    streams = []
    for _ in range(count):
        stream = painter.stream()
        if rng.random() < _ILLEGAL:
            stream = spoil(rng, CONFIGS[config], stream)
            painter.forget()
        streams.append(tuple(stream))
    memory = {"latency": rng.choice((1, 5, 32, rng.randint(1, 90))),
              "stall_probability": rng.choice((0, 0, 0.2, 0.5)), "seed": rng.getrandbits(32)}
    if rng.random() < 0.2:
        memory["bandwidth"] = rng.choice((0.2, 1.0))
    return Batch(config, seed, layout.words, layout.weight_rows, memory, tuple(streams))


# What the memories hold at first --------------------------------------------------------------

def _parameters(rng: np.random.Generator, count: int) -> bytes:
    """Biases and scales: many of which leave something of the sums, some extreme."""
    entries = np.zeros((count, 2), "<u4")
    bias = rng.integers(-(1 << 31), 1 << 31, count) >> rng.choice((0, 8, 16, 24, 31), count)
    scale = np.ldexp(rng.uniform(1, 2, count), rng.choice((-1, -4, -8, -8, -12, -16, -20, -126,
                                                           20), count)).astype("<f4")
    scale[rng.random(count) < 0.05] = 0
    entries[:, 0] = bias.astype("<i4").view("<u4")
    entries[:, 1] = scale.view("<u4")
    return entries.tobytes()


def image(batch: Batch) -> bytearray:
    rng = np.random.default_rng(list(batch.seed.encode()))
    image = bytearray(Layout.MEMORY_BYTES)
    for area in (Layout.DATA, Layout.DUMP):
        image[area.start:area.stop] = rng.bytes(len(area))
    area = Layout.PARAMETERS
    image[area.start:area.stop] = _parameters(rng, len(area) // 8)
    for address, raw in areas(CONFIGS[batch.config]):
        image[address:address + len(raw)] = raw
    return image


def entries(config: AcceleratorConfig, command: Command, seed: str) -> bytes:
    """The weight entries that a LOAD fetches."""
    rng = np.random.default_rng([*seed.encode(), command.fields["address"]])
    count = len(command.places)
    raw = rng.integers(0, 256, (count, config.vector_taps, config.rows), np.uint8)
    for entry, places in enumerate(command.places):
        for place in range(config.vector_taps):
            if not places >> place & 1:
                raw[entry, place] = 0
    padded = np.zeros((count, config.vector_entry_bytes), np.uint8)
    padded[:, :config.vector_entry_data_bytes] = raw.reshape(count, -1)
    return padded.tobytes()


def opening(layout: Layout) -> list[Command]:
    """Fills the windows on chip."""
    config = layout.config
    sources = {Memory.PARAMETER: Layout.PARAMETERS, Memory.VECTOR_PARAMETER: Layout.PARAMETERS,
               Memory.VECTOR_WEIGHT: Layout.ENTRIES, Memory.ROW_CONSTANT: Layout.PARAMETERS}
    commands = []
    for memory in memories(config):
        window, unit_bytes = layout.units(memory)
        area = sources.get(memory, Layout.DATA)
        at_once = len(area) // unit_bytes
        for start in range(window.start, window.stop, at_once):
            commands.append(Command(Opcode.LOAD, {
                "memory": memory.value, "lines": 1, "address": area.start, "stride": 0,
                "units": min(at_once, window.stop - start), "local_address": start,
                "local_stride": 0}))
    return commands


def dump(layout: Layout) -> Command:
    """Stores the activation window."""
    return Command(Opcode.STORE, {
        "lines": 1, "address": Layout.DUMP.start, "stride": 0, "units": len(layout.words),
        "local_address": layout.words.start, "local_stride": 0})


# Files ----------------------------------------------------------------------------------------

def save(batch: Batch, error: Exception, folder: Path) -> Path:
    """Writes a batch as JSON and, beside it, as text; returns the file of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{batch.config}-{batch.seed.replace('/', '-')}.json"
    value = asdict(batch) | {
        "words": [batch.words.start, batch.words.stop],
        "weight_rows": [batch.weight_rows.start, batch.weight_rows.stop],
        "streams": [[{"opcode": command.opcode.name, "fields": command.fields,
                      "places": command.places,
                      "raw": None if command.raw is None else command.raw.hex(),
                      "origin": command.origin}
                     for command in stream] for stream in batch.streams]}
    path.write_text(json.dumps(value, indent=1))
    lines = [str(error)]
    for number, stream in enumerate(batch.streams):
        spare = random.Random(f"{batch.seed} {number}")
        raw = encode_stream(stream, tokens(CONFIGS[batch.config], stream, spare), spare)
        lines.append(f"Stream {number}")
        for index in range(len(stream)):
            one = raw[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES]
            try:
                lines.append(f"{index:4} {disassemble(one)}")
            except ValueError as reason:
                lines.append(f"{index:4} {reason}: {one.hex()}")
    path.with_suffix(".txt").write_text("\n".join(lines) + "\n")
    return path


def load(path: Path) -> Batch:
    """A batch that :func:`save` wrote."""
    value = json.loads(path.read_text())
    return Batch(**value | {
        "words": range(*value["words"]), "weight_rows": range(*value["weight_rows"]),
        "streams": tuple(tuple(Command(
            Opcode[command["opcode"]], command["fields"], tuple(command["places"]),
            None if command["raw"] is None else bytes.fromhex(command["raw"]), command["origin"])
            for command in stream) for stream in value["streams"])})
