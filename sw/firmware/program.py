"""A compiled program as C: constants and commands as an array, tensors as ``weft_driver.h`` has
them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod

import numpy as np

from weft.compiler import Program, Slot
from weft.errors import InputError
from weft.errors.text import printable
from weft.hw.isa.commands import COMMAND_BYTES
from weft.hw.isa.registers import CONFIG_NAMES, config_words
from weft.ir import Edge

__all__ = ["identifier", "program_files"]


_PER_LINE = 16


def identifier(name: str) -> str:
    """``name`` as a part of an identifier in C."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def program_files(program: Program, name: str) -> dict[str, str]:
    """Header and source, by file name, that define ``weft_program_NAME``.

    Parameters
    ----------
    program : :class:`~weft.compiler.Program`
        Compiled for addresses from 0; the driver moves it to where it finds memory.
    name : :class:`str`
        What :func:`identifier` makes of it names the program.

    Raises
    ------
    InputError
        If activations are not of 8 bits, a tensor at an end is not int8 or uint8, or enters or
        leaves in an order that no steps along channels, rows and columns describe.
    """
    if program.config.activation_width != 8:
        raise InputError(f"Activations of a program in C must have 8 bits, not "
                         f"{program.config.activation_width}")
    name = identifier(name)
    inputs = {slot.tensor: slot for slot in program.inputs}
    tensors = {
        "input": [_tensor(program, edge, inputs[edge.tensor], _entering(program, edge))
                  for edge in program.graph.inputs if edge.tensor in inputs],
        "output": [_tensor(program, edge, slot, _leaving(program, edge))
                   for edge, slot in zip(program.graph.outputs, program.outputs, strict=True)]}
    words = config_words(program.config)
    title = f"/* {printable(program.graph.name)} for {printable(program.config.name)} */"
    guard = f"WEFT_PROGRAM_{name.upper()}_H"
    header = [title, "", f"#ifndef {guard}", f"#define {guard}", "", '#include "weft_driver.h"', "",
              f"#define WEFT_MEMORY_{name.upper()} {program.memory_bytes}u", "",
              f"extern const struct weft_program weft_program_{name};", "", "#endif"]
    source = [title, "", f'#include "{name}.h"', "",
              *_array("uint32_t", "config", [words.get(name, 0) for name in CONFIG_NAMES]), "",
              *_array("uint8_t", "image", _image(program))]
    for kind, group in tensors.items():
        for number, (arrays, _) in enumerate(group):
            for array, (ctype, values) in arrays.items():
                source += ["", *_array(ctype, f"{kind}{number}_{array}", values)]
        source += ["", f"static const struct weft_tensor {kind}s[] = {{"]
        for number, (arrays, fields) in enumerate(group):
            members = fields | {array: f"{kind}{number}_{array}" for array in arrays}
            source += ["    {", *(f"        .{key} = {value}," for key, value in members.items()),
                       "    },"]
        source += ["};"]
    source += ["", *_description(program, name, tensors)]
    return {f"{name}.h": "\n".join(header) + "\n", f"{name}.c": "\n".join(source) + "\n"}


def _description(program: Program, name: str, tensors: Mapping[str, Sequence[object]]) -> list[str]:
    members = {
        "name": _string(program.graph.name), "config": "config", "image": "image",
        "image_bytes": "sizeof image", "memory_bytes": program.memory_bytes,
        "command_address": program.command_address, "command_count": program.count,
        "warm_address": program.warm_address,
        "warm_count": len(program.warm_commands) // COMMAND_BYTES,
        "inputs": "inputs", "outputs": "outputs",
        "input_count": len(tensors["input"]), "output_count": len(tensors["output"])}
    return [f"const struct weft_program weft_program_{name} = {{",
            *(f"    .{key} = {value}," for key, value in members.items()), "};"]


def _image(program: Program) -> bytes:
    """All that lies in memory before a run, from address 0."""
    image = bytearray(max(address + len(raw) for address, raw in program.image))
    for address, raw in program.image:
        image[address:address + len(raw)] = raw
    return bytes(image)


def _entering(program: Program, edge: Edge) -> np.ndarray:
    """int64 [C, H, W]: for each value on the accelerator its number among the model's."""
    shape = program.graph.tensors[edge.tensor].shape
    flat = np.arange(prod(edge.shape)) if edge.gather is None else edge.gather
    return flat.reshape(shape)


def _leaving(program: Program, edge: Edge) -> np.ndarray:
    shape = program.graph.tensors[edge.tensor].shape
    if edge.gather is None:
        return np.arange(prod(shape)).reshape(shape)
    numbers = np.empty(prod(shape), np.int64)
    numbers[edge.gather] = np.arange(edge.gather.size)
    return numbers.reshape(shape)


def _tensor(program: Program, edge: Edge, slot: Slot, numbers: np.ndarray) \
        -> tuple[dict[str, tuple[str, Iterable[int]]], dict[str, object]]:
    """The arrays and the other members of a ``struct weft_tensor``."""
    config, tensor = program.config, program.graph.tensors[edge.tensor]
    if tensor.dtype.itemsize != 1:
        raise InputError(f"Tensor '{printable(edge.name)}' must be int8 or uint8 in a program in "
                         f"C, not {tensor.dtype}")
    if slot.transposed:
        numbers = numbers.swapaxes(1, 2)
    if slot.packing is None:
        _, height, width = slot.shape
        rows, columns = np.arange(height)[None], np.arange(width)[None]
    else:
        rows, columns = slot.packing.rows, slot.packing.columns
    steps = [int(np.take(numbers, 1, axis).flat[0]) - int(numbers.flat[0])
             if numbers.shape[axis] > 1 else 0 for axis in range(3)]
    expected = sum(np.arange(size).reshape([-1 if axis == other else 1 for other in range(3)])
                   * step for axis, (size, step) in enumerate(zip(numbers.shape, steps)))
    if min(steps) < 0 or (numbers != expected).any():
        raise InputError(f"Tensor '{printable(edge.name)}' must keep its channels, rows and "
                         f"columns on the way to the accelerator, not be reshaped into others: "
                         f"a program in C cannot describe that")
    _, height, width = slot.shape
    plane = max(slot.plane_bytes, height * width * config.word_bytes)
    lanes = slot.channels.lanes(config)
    places = lanes // config.word_lanes * plane + lanes % config.word_lanes
    zero = tensor.zero_point + (128 if tensor.unsigned else 0)
    return ({"places": ("uint32_t", places.tolist()), "rows": ("int32_t", rows.flatten().tolist()),
             "columns": ("int32_t", columns.flatten().tolist())},
            {"name": _string(edge.name), "count": prod(edge.shape),
             "scale": f"{float(tensor.scale).hex()}f", "zero_point": zero,
             "is_unsigned": str(tensor.unsigned).lower(), "address": slot.address,
             "size": slot.size, "channels": numbers.shape[0], "row_parts": rows.shape[0],
             "column_parts": columns.shape[0], "height": height, "width": width,
             "word_bytes": config.word_bytes, "channel_step": steps[0], "row_step": steps[1],
             "column_step": steps[2]})


def _array(ctype: str, name: str, values: Iterable[int]) -> list[str]:
    values = list(values)
    lines = [", ".join(map(str, values[first:first + _PER_LINE]))
             for first in range(0, len(values), _PER_LINE)]
    return [f"static const {ctype} {name}[] = {{", *(f"    {line}," for line in lines), "};"]


def _string(text: str) -> str:
    """``text`` as a literal of C, in UTF-8."""
    def escaped(byte: int) -> str:
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        return chr(byte) if plain else f"\\{byte:03o}"

    return '"' + "".join(map(escaped, text.encode())) + '"'
