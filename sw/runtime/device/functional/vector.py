"""VECTOR: what does not mix channels."""

from collections.abc import Callable, Mapping

from weft.hw.isa.commands import Engine, Memory, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_KERNELS, WINDOW_GROUPS
from weft.hw.isa.registers import Error
from weft.hw.isa.vector_rules import (
    LINE_STRIDES,
    PAIRS,
    POSITIVE,
    REQUANTIZED,
    SUBTRACTIONS,
    WEIGHTED,
    WINDOWS,
    add_entries,
    kernel_shapes,
    line_columns,
    line_groups,
)
from weft.reference import vector as vector_model

from .core import Command, Core, rules

__all__ = ["vector"]


def vector(core: Core, command: Command) -> Callable[[], None]:
    _check(core, command)
    try:
        address, values = vector_model.evaluate(
            core.config, command.fields, core.activation,
            weights=core.units[Memory.VECTOR_WEIGHT],
            parameters=core.units[Memory.VECTOR_PARAMETER],
            tables=core.units[Memory.LANE_TABLE], lines=core.lines)
    except IndexError:
        raise command.fault(Error.ADDRESS) from None
    if (address >= core.config.activation_depth).any():
        raise command.fault(Error.ADDRESS)

    def finish() -> None:
        core.activation[address] = values
    return finish


def _check(core: Core, command: Command) -> None:
    """All checks that the hardware makes, but for addresses of words."""
    config, fields = core.config, command.fields
    kernel = fields["kernel_outer"], fields["kernel_inner"]
    if not all(fields[name] for name in POSITIVE) \
            or fields["op"] not in {op.value for op in VectorOp} \
            or fields["rule"] not in rules(config, Engine.VECTOR) \
            or fields["clamp_min"] > fields["clamp_max"]:
        raise command.fault(Error.ARGUMENT)
    op = VectorOp(fields["op"])
    window = op in WINDOWS
    if (not _keeps_lines(config, fields) if fields["lines"]
            else fields["resumes"] or fields["quarter"]):
        raise command.fault(Error.ARGUMENT)
    if not window:
        entries = add_entries(config)
    elif fields["lines"]:
        entries = len(line_groups(config, kernel[0]))
    else:
        entries = kernel[0] * -(-kernel[1] // config.vector_taps)
    if kernel != kernel_shapes(config).get(op, kernel) or (fields["slide"] and (
            not window or not fields["stride_inner"] or fields["dilation_inner"] != 1
            or entries > WINDOW_GROUPS)) \
            or (fields["broadcast"] and op not in PAIRS) \
            or (fields["subtract"] and op not in SUBTRACTIONS) \
            or (fields["rule"] and op not in REQUANTIZED) \
            or (not fields["table"] and (fields["table_step"] or op is VectorOp.LOOKUP)):
        raise command.fault(Error.ARGUMENT)
    last_table = fields["table"] + fields["table_step"] * (fields["blocks"] - 1)
    blocks = 1 if fields["shared"] else fields["blocks"]
    weights = fields["weight_base"] + blocks * entries
    parameters = fields["parameter_base"] + blocks * config.vector_groups
    if (op in WEIGHTED and weights > config.vector_entries) \
            or (op in REQUANTIZED and parameters > config.vector_parameter_depth) \
            or last_table > config.vector_tables:
        raise command.fault(Error.ADDRESS)
    positions = fields["blocks"] * fields["out_outer"] * fields["out_inner"]
    core.spend(command, positions, positions * kernel[0] * kernel[1])


def _keeps_lines(config: AcceleratorConfig, fields: Mapping[str, int]) -> bool:
    """Whether a command with ``lines`` is right in what they ask for."""
    size = fields["kernel_outer"]
    return bool(
        fields["slide"] and size in LINE_KERNELS and fields["kernel_inner"] == size
        and fields["dilation_outer"] == 1 and fields["stride_outer"]
        and fields["stride_inner"] in LINE_STRIDES
        and line_columns(fields["out_inner"], kernel=size, stride=fields["stride_inner"],
                         pad=fields["pad_inner"]) <= config.vector_lines)
