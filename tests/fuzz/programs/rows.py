"""Constants of random NORMALIZE commands: some sets, which external memory always holds."""

import math
from collections.abc import Iterator

import numpy as np

from fuzz.programs.layout import Layout
from fuzz.programs.order import Command
from weft import reference
from weft.hw.isa.commands import Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import RowConstant
from weft.hw.isa.limits import NORMALIZED_LANES
from weft.ir import Tensor, layout

__all__ = ["SETS", "areas", "constants_fit", "load_constants", "set_fields"]


SETS = 5


def _set(number: int) -> tuple[np.random.Generator, Tensor, Tensor, float]:
    """What a set is of: where its other numbers come from, the tensors in front and behind, and
    epsilon."""
    rng = np.random.default_rng([number, 41])
    source, target = (Tensor(
        name="", shape=(1, 1, 1), scale=float(np.float32(np.exp(rng.uniform(*exponents)))),
        zero_point=int(rng.choice([-128, 0, 127, rng.integers(-128, 128)])))
        for exponents in ((-10, 5), (-8, 0)))
    return rng, source, target, float(np.float32(10.0 ** rng.integers(-12, 1)))


def _packed(config: AcceleratorConfig, number: int) -> bytes:
    """A set as it lies in external memory, for all channels."""
    rng, source, target, _ = _set(number)
    scale, shift = (rng.normal(mean, 1, config.normalize_channels)
                    * rng.choice([0, 1, 1, 1], config.normalize_channels) for mean in (1, 0))
    return layout.pack_normalization(
        reference.normalized_values(source),
        reference.thresholds(target.scale, target.zero_point),
        scale.astype(np.float32), shift.astype(np.float32)).tobytes()


def _address(number: int) -> int:
    size = len(Layout.CONSTANTS) // SETS
    return Layout.CONSTANTS.start + number * (size - size % 64)


def areas(config: AcceleratorConfig) -> Iterator[tuple[int, bytes]]:
    """Address and contents of each set, if there are any."""
    for number in range(SETS if config.normalize_channels else 0):
        yield _address(number), _packed(config, number)


def set_fields(number: int, length: int) -> dict[str, int]:
    """The fields that a NORMALIZE of a set and a length must have."""
    _, source, target, epsilon = _set(number)
    fraction, exponent = math.frexp(1 / target.scale)
    return {
        "out_zero": target.zero_point, "rate": int(fraction * (1 << 16)),
        "rate_exponent": exponent - 1, "epsilon": int(np.float32(epsilon).view(np.uint32)),
        "sum_exponent": math.frexp(source.scale)[1] - 1 + 127,
        "length": length << 16 - length.bit_length(), "length_exponent": length.bit_length() - 1}


def load_constants(number: int, length: int) -> Command:
    """What brings a set on chip, for rows of a length."""
    return Command(Opcode.LOAD, {
        "memory": Memory.ROW_CONSTANT.value, "lines": 1, "address": _address(number), "stride": 0,
        "units": RowConstant.CHANNELS + 2 * length, "local_address": 0, "local_stride": 0})


def constants_fit(config: AcceleratorConfig, command: Command, lengths: list[int]) -> bool:
    """Whether a NORMALIZE finds its constants, and rows that are as long as it says. Keeps
    ``lengths`` up to date: of each set, how long a row it is on chip for."""
    fields = command.fields
    if command.opcode is Opcode.LOAD and fields["memory"] == Memory.ROW_CONSTANT.value:
        lengths[:] = [(fields["units"] - RowConstant.CHANNELS) // 2
                      if fields == load_constants(number, 0).fields | {"units": fields["units"]}
                      else 0 for number in range(SETS)]
    if command.opcode is not Opcode.NORMALIZE:
        return True
    length = (fields["blocks"] - 1) * config.rows + fields["lanes"]
    return length % NORMALIZED_LANES == 0 and any(
        length <= most and fields == fields | set_fields(number, length)
        for number, most in enumerate(lengths))
