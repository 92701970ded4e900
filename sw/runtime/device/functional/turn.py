"""TURN: words of activations become weights, biases and scales."""

from collections.abc import Callable

import numpy as np

from weft.hw.isa.commands import Memory
from weft.hw.isa.limits import LOCAL_ADDRESSES
from weft.hw.isa.registers import Error

from .core import Command, Core, wrap

__all__ = ["turn"]


def turn(core: Core, command: Command) -> Callable[[], None]:
    config, fields = core.config, command.fields
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
    core.spend(command, steps, steps)
    address = (fields["in_base"] + np.arange(pixels)
               + fields["in_plane"] * np.arange(blocks)[:, None]) % LOCAL_ADDRESSES
    if (address >= config.activation_depth).any():
        raise command.fault(Error.ADDRESS)

    values = np.full((blocks, pixel_blocks * size, size), fields["zero"], np.int64)
    values[:, :pixels] = core.activation[address]
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
    parameters[:, 0] = wrap(fields["bias"] - taken, 32)
    parameters[:, 1] = np.array(fields["scale"], "<u4").view("<i4")
    entries = parameters.view(np.int8).reshape(-1, config.parameter_entry_data_bytes)

    def finish() -> None:
        core.weight[first_row:stop_row] = rows
        core.units[Memory.PARAMETER][entry:stop_entry] = entries
    return finish
