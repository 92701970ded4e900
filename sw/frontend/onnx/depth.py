"""Channels that become neighbours in the plane: DepthToSpace, the end of many networks that enlarge
images."""

import numpy as np
import onnx

from weft.ir import Interleave, Layer, Selection

from .builder import Builder
from .elementwise import plain
from .nodes import BrokenModel, label
from .values import Pending, Quantized, Value, View
from .windows import image, known, real_input

__all__ = ["depth_to_space"]


def depth_to_space(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """The channels of each place in a block are copied, and all copies dealt out in turn."""
    data = image(node, plain(node, real_input(builder, node)))
    given = known(node, "blocksize", "mode")
    block, mode = int(given.get("blocksize", 0)), given.get("mode", "DCR")
    _, channels, height, width = data.view.shape
    if block < 1 or channels % (block * block) or mode not in ("DCR", "CRD"):
        raise BrokenModel(f"{label(node)} must have a blocksize whose square divides its "
                          f"{channels} channels, and mode DCR or CRD, not {block} and {mode}")
    count = channels // (block * block)
    if mode == "DCR":
        places = np.arange(channels).reshape(block * block, count)
    else:
        places = np.arange(channels).reshape(count, block * block).T
    tensor, stage = builder.place(node, data.source, data.view.reshape((channels, height, width)))
    shape = (count, height * block, width * block)

    def make(output: str, target: Quantized, pending: Pending) -> Layer:
        def deal_out(output: str, clamp: tuple[int, int]) -> Interleave:
            parts = []
            for number, chosen in enumerate(places):
                part = Selection.of(chosen, channels, name=f"{builder.name(node)}/{number}",
                                    op=builder.op(node), input=tensor,
                                    output=f"{output}@{number}", clamp=clamp)
                builder.add_step(part, pending.stage, data.source, (count, height, width))
                parts.append(part.output)
            return Interleave(name=builder.name(node), op=builder.op(node), output=output,
                              sources=tuple(parts), factors=(block, block))
        return builder.keep_scale(deal_out, output, data.source, target, pending)

    return Pending(node=node, stage=stage, shape=shape, view=View((1, *shape)), make=make)
