"""Proof that the rows that commands go on with are those that earlier ones have kept."""

from collections.abc import Iterable, Mapping

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_QUARTERS

__all__ = ["wrong_lines"]


_SHAPE = ("op", "in_zero", "kernel_outer", "kernel_inner", "stride_outer", "stride_inner",
          "pad_inner", "in_inner", "out_inner", "blocks")


def wrong_lines(config: AcceleratorConfig,
                commands: Iterable[tuple[Mapping[str, int], int | None]]) -> tuple[int, str] | None:
    """The first command that resumes with lines that are not its own, and what is wrong with it.

    Parameters
    ----------
    commands
        Fields of all VECTORs in the order of the stream, each with its layer. They use lines in
        that order, so no tokens are needed.
    """
    owners: dict[int, object] = {}
    for number, (fields, layer) in enumerate(commands):
        if not fields["lines"]:
            continue
        columns = ((fields["out_inner"] - 1) * fields["stride_inner"] + fields["kernel_inner"]
                   - min(fields["pad_inner"], fields["kernel_inner"] - 1))
        first = fields["quarter"] * config.vector_lines // LINE_QUARTERS
        shape = layer, *(fields[name] for name in _SHAPE)
        used = {(first + block * columns + column) % config.vector_lines: (shape, block, column)
                for block in range(fields["blocks"]) for column in range(columns)}
        if fields["resumes"]:
            if len(used) < fields["blocks"] * columns:
                return number, "has more columns than there are lines"
            if any(owners.get(line) != owner for line, owner in used.items()):
                return number, "goes on with lines that another command has overwritten"
        owners |= used
    return None
