"""Which commands may go on with sums, and which must."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.commands import MatrixCommand
from weft.hw.isa.config import AcceleratorConfig

__all__ = ["KeptSums"]


class KeptSums(wiring.Component):
    """Remembers whether the command before has left its sums in the accumulators, and of how many
    pixels.

    Members
    -------
    command : :py:`In(MatrixCommand)`
    taken : :py:`In(1)`
        The last step of the command has been taken: it is now the one before.
    wrong : :py:`Out(5)`
        Bits none of which must be set, each of few enough bits for a cycle: the command does not go
        on with the sums that are there, or with as many, or with none; or it has more than one tile
        and keeps sums or goes on with them.
    """

    def __init__(self, config: AcceleratorConfig):
        self._bits = config.accumulator_pixels.bit_length()
        super().__init__({
            "command": In(MatrixCommand),
            "taken":   In(1),
            "wrong":   Out(5),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        command = self.command
        pixels  = command.out_pixels[:self._bits]
        kept    = Signal()
        count   = Signal(self._bits, reset_less=True)
        with m.If(self.taken):
            m.d.sync += [kept.eq(command.keep), count.eq(pixels)]

        partial = command.accumulate | command.keep
        m.d.comb += self.wrong.eq(Cat(
            command.accumulate != kept,
            command.accumulate & (pixels != count),
            partial & (command.col_tiles != 1),
            partial & command.out_pixels[self._bits:].any(),
            partial & (command.tile_pixels[:self._bits] < pixels)))
        return m
