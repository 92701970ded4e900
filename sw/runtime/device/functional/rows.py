"""SOFTMAX and NORMALIZE: rows of channels, each by itself."""

from collections.abc import Callable

import numpy as np

from weft import reference
from weft.hw.isa.commands import Memory
from weft.hw.isa.constants import RowConstant
from weft.hw.isa.limits import LOCAL_ADDRESSES
from weft.hw.isa.registers import Error
from weft.ir import layout

from .core import Command, Core

__all__ = ["normalize", "softmax"]


_FIRST_BIT = 1 << 15    # of the numbers of 16 bits whose first bit is set


def softmax(core: Core, command: Command) -> Callable[[], None]:
    fields = command.fields
    if fields["factor"] < _FIRST_BIT:
        raise command.fault(Error.ARGUMENT)

    def shares(rows: np.ndarray) -> np.ndarray:
        terms = layout.unpack_exponentials(
            core.units[Memory.ROW_CONSTANT][:RowConstant.THRESHOLDS])
        found = reference.shares(rows, terms, fields["factor"], fields["exponent"] - 15)
        return np.minimum(found + fields["out_zero"], 127)
    return _rows(core, command, shares, passes=2)


def normalize(core: Core, command: Command) -> Callable[[], None]:
    fields = command.fields
    if fields["blocks"] > core.config.normalize_channels // core.config.word_lanes \
            or min(fields["length"], fields["rate"]) < _FIRST_BIT:
        raise command.fault(Error.ARGUMENT)

    def normalized(rows: np.ndarray) -> np.ndarray:
        values, thresholds, scale, shift = layout.unpack_normalization(
            core.units[Memory.ROW_CONSTANT], rows.shape[1])
        epsilon = float(np.uint32(fields["epsilon"]).view(np.float32))
        found = reference.normalize(values[rows.astype(np.int16) + 128], scale, shift, epsilon)
        return np.searchsorted(thresholds, found, side="right") - 128
    return _rows(core, command, normalized, passes=3)


def _rows(core: Core, command: Command, compute: Callable[[np.ndarray], np.ndarray],
          passes: int) -> Callable[[], None]:
    """What a command does to rows, int8 [pixels, length], in some passes over them."""
    config, fields = core.config, command.fields
    pixels, blocks, lanes = (fields[name] for name in ("pixels", "blocks", "lanes"))
    if not pixels or not blocks or not 0 < lanes <= config.word_lanes:
        raise command.fault(Error.ARGUMENT)
    size = config.word_lanes
    length = (blocks - 1) * size + lanes
    core.spend(command, passes * pixels * length, passes * pixels * length)
    planes = np.arange(blocks)[:, None]
    source, target = ((fields[f"{side}_base"] + np.arange(pixels)
                       + fields[f"{side}_plane"] * planes) % LOCAL_ADDRESSES
                      for side in ("in", "out"))
    if max(source.max(), target.max()) >= config.activation_depth:
        raise command.fault(Error.ADDRESS)
    values = core.activation[source].transpose(1, 0, 2).reshape(pixels, blocks * size)
    found = np.full(values.shape, fields["out_zero"], np.int8)
    found[:, :length] = compute(values[:, :length])
    results = found.reshape(pixels, blocks, size).transpose(1, 0, 2)

    def finish() -> None:
        core.activation[target] = results
    return finish
