"""One illegal command in a stream."""

import random
from collections.abc import Sequence
from dataclasses import replace

from fuzz.programs.layout import Layout
from fuzz.programs.order import Command
from weft.hw.isa.commands import Memory, Opcode, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.hw.isa.memories import memories
from weft.hw.isa.subset import engines

__all__ = ["spoil"]


_FIRST_BEYOND = Layout.MEMORY_BYTES     # of external memory
_SIZES = {
    Opcode.LOAD: ("lines", "units"), Opcode.STORE: ("lines", "units"),
    Opcode.MATRIX: ("in_h", "in_w", "channel_blocks", "kernel_h", "kernel_w", "stride_h",
                    "stride_w", "dilation_h", "dilation_w", "out_w", "tile_pixels", "out_pixels",
                    "col_tiles", "last_groups"),
    Opcode.VECTOR: ("blocks", "out_outer", "out_inner", "in_outer", "in_inner", "kernel_outer",
                    "kernel_inner"),
    Opcode.TURN: ("pixels", "blocks", "lanes"),
    Opcode.SOFTMAX: ("pixels", "blocks", "lanes", "factor"),
    Opcode.NORMALIZE: ("pixels", "blocks", "lanes", "length", "rate"),
}


def spoil(rng: random.Random, config: AcceleratorConfig, commands: Sequence[Command]) \
        -> list[Command]:
    """The commands, of which one is changed so that a device must refuse it."""
    index = rng.randrange(len(commands))
    command = commands[index]
    if rng.random() < 0.15:
        raw = bytearray(encode(command.opcode, **command.fields))
        known = {opcode.value for opcode in engines(config)}
        raw[0] = rng.choice((*sorted({*range(len(Opcode) + 2)} - known), 0x11, 0x80, 0xff))
        spoiled = replace(command, raw=bytes(raw), origin=command.fields)
    else:
        changes = rng.choice(_changes(rng, config, command))
        spoiled = replace(command, fields=command.fields | changes, origin=command.fields)
        if "memory" in changes:  # which has no name
            raw = bytearray(encode(command.opcode, **command.fields))
            raw[4] = changes["memory"]
            spoiled = replace(spoiled, raw=bytes(raw))
    return [*commands[:index], spoiled, *commands[index + 1:]]


def _changes(rng: random.Random, config: AcceleratorConfig,
             command: Command) -> list[dict[str, int]]:
    """Changes of fields, each of which makes a command illegal."""
    f = command.fields
    wrong: list[dict[str, int]] = [{rng.choice(_SIZES[command.opcode]): 0}]
    if command.opcode in (Opcode.LOAD, Opcode.STORE):
        beat = config.axi_bytes
        wrong += [
            {"address": f["address"] + rng.randint(1, beat - 1)},
            {"stride": f["stride"] + rng.randint(1, beat - 1)},
            {"address": _FIRST_BEYOND},
            {"lines": 1, "local_address": (1 << 24) - 1},
        ]
        if command.opcode is Opcode.LOAD:
            wrong += [{"memory": 7}] if Memory.ROW_CONSTANT not in memories(config) else []
        else:
            wrong += [{"local_address": config.activation_depth - f["units"] + 1, "lines": 1},
                      {"address": _FIRST_BEYOND - beat, "units": 2 * beat, "lines": 1,
                       "local_address": 0}]
        return wrong
    if command.opcode is Opcode.TURN:
        return [*wrong, {"lanes": rng.randint(config.rows + 1, 255)},
                {"in_base": config.activation_depth - f["pixels"] + 1}, {"in_base": (1 << 24) - 1},
                {"weight_base": config.weight_depth - rng.randrange(config.weight_tile_rows)},
                {"parameter_base": config.parameter_depth - config.requant_groups + 1}]
    if command.opcode in (Opcode.SOFTMAX, Opcode.NORMALIZE):
        if command.opcode is Opcode.SOFTMAX:
            wrong.append({"factor": rng.randrange(1 << 15)})
        else:
            most = config.normalize_channels // config.rows
            wrong += [{"length": rng.randrange(1 << 15)}, {"rate": rng.randrange(1 << 15)},
                      {"blocks": rng.choice((most + 1, 65535))}]
        return [*wrong, {"lanes": rng.randint(config.rows + 1, 255)},
                *({f"{side}_base": base} for side in ("in", "out") for base in (
                    config.activation_depth - f["pixels"] + 1, (1 << 24) - 1))]
    wrong.append({"clamp_min": f["clamp_max"], "clamp_max": f["clamp_min"]}
                 if f["clamp_min"] < f["clamp_max"] else {"clamp_min": 1, "clamp_max": 0})
    if command.opcode is Opcode.MATRIX:
        wrong += [
            {"last_groups": rng.randint(config.requant_groups + 1, 255)},
            {"weight_base": config.weight_depth - rng.randrange(config.weight_tile_rows)},
            {"accumulate": 1 - f["accumulate"]},
            {"out_slot": 1 if config.sequential else rng.randint(config.word_slots, 255)},
            {"table": rng.randint(config.drain_tables + 1, 511)},
        ]
        if config.sequential:
            wrong.append({"keep": 1})
        elif f["keep"] or f["accumulate"] or rng.random() < 0.5:
            wrong += [{"keep": 1, "col_tiles": 2},
                      {"keep": 1, "tile_pixels": 1, "out_pixels": 2},
                      {"keep": 1, "out_pixels": 1 << 20}]
        if f["accumulate"]:
            wrong.append({"out_pixels": f["out_pixels"] % config.accumulator_pixels + 1,
                          "tile_pixels": config.accumulator_pixels})
        if not f["keep"]:
            wrong += [{"parameter_base": config.parameter_depth - f["last_groups"] + 1},
                      {"out_base": config.activation_depth - f["out_pixels"] + 1},
                      {"out_base": (1 << 24) - 1}]
        if not config.fixed_point:
            wrong += [{"rule": 1}, {"rule": 2}]
        if config.sequential:
            wrong.append({"rule": 3})
            wrong += [{name: 1 << 15} for name in ("in_h", "out_w", "col_tiles")]
        else:  # it has pixel tiles
            wrong.append({"tile_pixels": rng.randint(config.accumulator_pixels + 1, 65535)})
        return wrong
    op = VectorOp(f["op"])
    wrong += [{"out_base": config.activation_depth}, {"out_base": (1 << 24) - 1}]
    if op in (VectorOp.CONV, VectorOp.ADD):
        wrong.append({"weight_base": rng.choice((config.vector_entries, 65535))})
    if op in (VectorOp.CONV, VectorOp.ADD, VectorOp.MULTIPLY):
        wrong.append({"parameter_base": config.vector_parameter_depth - config.vector_groups + 1})
    wrong += [{"table": config.vector_tables + 1}, {"table": 0, "table_step": 1},
              {"table": config.vector_tables, "table_step": 1, "blocks": 2}]
    if op is VectorOp.LOOKUP:
        wrong.append({"table": 0})
    if op not in (VectorOp.CONV, VectorOp.MAX):
        wrong += [{"slide": 1}, {"kernel_outer": 3}, {"kernel_inner": 7}]
    elif f["slide"]:
        wrong += [{"stride_inner": 0}, {"dilation_inner": 2}, {"kernel_outer": 33}]
    if not config.vector_lines or op not in (VectorOp.CONV, VectorOp.MAX):
        wrong.append({"lines": 1})
    if not f["lines"]:
        wrong += [{"resumes": 1}, {"quarter": 3}]
    elif config.vector_lines:
        wrong += [{"slide": 0}, {"stride_outer": 0}, {"stride_inner": 3}, {"dilation_outer": 2},
                  {"kernel_inner": 4}, {"out_inner": 2 * config.vector_lines}]
    if op not in (VectorOp.ADD, VectorOp.MULTIPLY):
        wrong.append({"broadcast": 1})
    if op is not VectorOp.ADD:
        wrong.append({"subtract": 1})
    if not config.fixed_point or op in (VectorOp.MAX, VectorOp.LOOKUP):
        wrong += [{"rule": 1}, {"rule": 2}]
    wrong.append({"rule": 3})
    return wrong
