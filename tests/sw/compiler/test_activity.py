"""Counts of events."""

import numpy as np
from graph_builder import GraphBuilder

from weft import compiler
from weft.compiler.activity import Activity, stream_activity
from weft.hw.isa.commands import COMMAND_BYTES, Opcode
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import PRESETS


def test_sums_that_are_kept_are_drained_once():
    """A convolution that is cut by input channels adds and writes as much as in one piece."""
    builder = GraphBuilder(np.random.default_rng(0), (96, 3, 3))
    graph = builder.graph(builder.conv(builder.input, 6, kernel=(3, 3), pads=(1, 1, 1, 1)))

    def found(weight_bytes):
        config = PRESETS["tiny"].replace(weight_bytes=weight_bytes)
        raw = compiler.compile(graph, config).commands
        fields = [decode(raw[at:at + COMMAND_BYTES]) for at in range(0, len(raw), COMMAND_BYTES)]
        kept = sum(values["keep"] for opcode, values in fields if opcode is Opcode.MATRIX)
        total = Activity.sum(stream_activity(config, raw))
        return kept, {name: getattr(total, name) for name in (
            "products", "requantized", "parameter_reads", "activation_writes",
            "accumulator_reads", "accumulator_writes")}

    (none, whole), (some, cut) = found(16 * 1024), found(1024)
    assert none == 0 < some
    assert whole == cut
