"""In which order commands are fetched: that in which they are likely to start.

Lowering goes layer by layer, and so would the engines if their commands were fetched like that: a
queue that is full of one layer's commands holds up those of the next, though another engine could
begin with them. Here all commands are played through with estimated durations, and put in the
order of their starts. The order on each engine stays, and no command comes before one that it
must wait for, so the result is the same.
"""

from collections.abc import Sequence

from weft.config import AcceleratorConfig
from weft.hw.commands import Engine, VectorOp

from .allocate import Allocation
from .ops import Op
from .schedule import dependencies

__all__ = ["order"]

_START_CYCLES = {Engine.LOAD: 40, Engine.MATRIX: 10, Engine.VECTOR: 40, Engine.STORE: 40}


def order(ops: Sequence[Op], allocation: Allocation, config: AcceleratorConfig) -> list[Op]:
    """The same ops, as they are to be fetched."""
    starts, ends = [0.0] * len(ops), [0.0] * len(ops)
    free = dict.fromkeys(Engine, 0.0)  # when an engine can begin
    done = dict.fromkeys(Engine, 0.0)  # when its last command is done
    wanted: dict[int, float] = {}      # by LOAD: when the first command that waits for it starts
    for index, (op, needed) in enumerate(zip(ops, dependencies(ops, allocation), strict=True)):
        start = max([free[op.engine], *(ends[producer] for producer in needed.values())])
        busy, rest = _cycles(op, config)
        starts[index] = start
        free[op.engine] = start + busy
        ends[index] = done[op.engine] = max(done[op.engine], start + busy + rest)
        load = needed.get(Engine.LOAD)
        if load is not None:
            wanted[load] = min(wanted.get(load, start), start)

    # A LOAD may start long before it is needed. Right before the first command that waits for it,
    # or for one behind it, is early enough, and holds up nothing if it takes longer than expected.
    keys, following = list(starts), max(starts, default=0.0)
    for index in range(len(ops) - 1, -1, -1):
        if ops[index].engine is Engine.LOAD:
            keys[index] = following = min(following, wanted.get(index, following))
    return [ops[index] for index in sorted(range(len(ops)), key=lambda index: (keys[index], index))]


def _cycles(op: Op, config: AcceleratorConfig) -> tuple[float, float]:
    """Cycles until the engine can begin with the next command, and until this one is done then."""
    fields = {name: value for name, value in op.fields.items() if isinstance(value, int)}
    if op.engine is Engine.MATRIX:
        steps = (fields["col_tiles"] * fields["kernel_h"] * fields["kernel_w"]
                 * fields["channel_blocks"])
        busy = steps * max(fields["out_pixels"], config.pe_rows)
        return busy, fields["tile_pixels"] * config.requant_groups + _START_CYCLES[op.engine]
    if op.engine is Engine.VECTOR:
        words = fields["blocks"] * fields["out_outer"] * fields["out_inner"]
        taps = fields["kernel_outer"] * fields["kernel_inner"]
        if fields["slide"]:
            taps = fields["kernel_outer"] * min(fields["kernel_inner"], fields["stride_inner"])
        if op.fields["op"] not in (VectorOp.MAX, VectorOp.LOOKUP):
            taps = max(taps, config.vector_groups)
        return words * taps + _START_CYCLES[op.engine], 0
    inside = op.writes if op.engine is Engine.LOAD else op.reads
    moved = fields["units"] * inside[0].buffer.space.unit_bytes(config)
    return fields["lines"] * -(-moved // config.axi_bytes), _START_CYCLES[op.engine]
