"""Channel blocks that a convolution need not read, because all their weights are zero.

Channels that are only moved, and those of other groups, have no part in an output: each output word
reads the input blocks from the first to the last one that it depends on.
"""

from dataclasses import dataclass

import numpy as np

from weft.compiler.channel_layout import ChannelLayout
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, layout

from .columns import column_step

__all__ = ["Run", "runs"]


# Commands take time, too: read all blocks if that is less than a tenth more.
_WORTHWHILE = 0.9


@dataclass(frozen=True)
class Run:
    """Column tiles one behind the other that read the same channel blocks."""
    columns: range
    blocks: range


def runs(config: AcceleratorConfig, laid_out: ChannelLayout,
         layer: Convolution) -> tuple[Run, ...]:
    """All column tiles of a convolution, in order."""
    sources, targets = (laid_out.channels[name] for name in (layer.input, layer.output))
    lanes: np.ndarray = np.any(layer.weights, axis=(2, 3))      # [outputs, inputs]
    if not sources.plain(config):
        lanes = sources.spread(config, lanes.T).T
    if not targets.plain(config):
        lanes = targets.spread(config, lanes)
    outputs, inputs = lanes.shape
    tiles, blocks = layout.col_tiles(config, outputs), layout.channel_blocks(config, inputs)
    step = column_step(config)      # tiles that share an output word stay together
    used = np.zeros((-(-tiles // step) * step * config.cols, blocks * config.word_lanes), bool)
    used[:outputs, :inputs] = lanes
    groups: np.ndarray = np.any(
        used.reshape(-1, step * config.cols, blocks, config.word_lanes), axis=(1, 3))
    found: list[Run] = []
    for number, present in enumerate(groups):
        where = np.flatnonzero(present)
        reads = range(int(where[0]), int(where[-1]) + 1) if where.size else range(1)
        columns = range(number * step, min((number + 1) * step, tiles))
        if found and found[-1].blocks == reads:
            columns = range(found.pop().columns.start, columns.stop)
        found.append(Run(columns, reads))
    if sum(len(run.columns) * len(run.blocks) for run in found) > _WORTHWHILE * tiles * blocks:
        return (Run(range(tiles), range(blocks)),)
    return tuple(found)
