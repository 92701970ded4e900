"""The matrix engine in time: weight tiles, pixels, accumulator banks and their drain."""

from collections import deque
from functools import cache

from weft.compiler.ops import FieldValues
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.matrix.accumulators import AccumulatorColumn
from weft.hw.matrix.drain import Drain
from weft.hw.matrix.engine import MatrixEngine
from weft.hw.matrix.pixel_streamer import PixelStreamer
from weft.hw.matrix.result_table import ResultTable
from weft.hw.matrix.sequencer import StepSequencer
from weft.hw.matrix.systolic_array import SystolicArray
from weft.hw.matrix.weight_feeder import WeightFeeder
from weft.hw.requantize.requantizer import Requantizer

from .banks import Spans, Stream

__all__ = ["MatrixTiming", "step_cycles"]


_WRITES = Stream(step=1, every=1)


@cache
def _reads(step: int) -> Stream:
    return Stream(step=step, every=1)


@cache
def _cooldown() -> int:
    """Cycles from a step that the streamer accepts to the first row that is read for the next."""
    return 1 + WeightFeeder.cooldown(PixelStreamer.ACCEPT_TO_SWITCH, SystolicArray.switch_to_shift)


def step_cycles(config: AcceleratorConfig, pixels: int) -> int:
    """Cycles from one weight tile to the next while ``pixels`` stream through each."""
    return max(pixels, config.pe_rows, AccumulatorColumn.REUSE, _cooldown())


class MatrixTiming:
    """Sequencer, weight feeder, pixel streamer, accumulator banks and drain.

    Attributes
    ----------
    busy : :class:`int`
        Cycles in which a pixel entered the array, so far.
    streamed : :class:`int`
        When the last pixel has left the pixel streamer.
    reads, writes : :class:`Spans`
        Of the activation memory.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._rows = config.pe_rows
        # Rows that may still be unread when a step is handed over.
        self._lead = WeightFeeder.lead(PixelStreamer.ACCEPT_TO_SWITCH,
                                       SystolicArray.shift_to_switch)
        self._cooldown = _cooldown()
        self._least = step_cycles(config, 0)
        # From the last pixel of a tile to the first read of its sums.
        self._to_drain = MatrixEngine.job_latency(config)
        # From the last read of a sum to the word in activation memory.
        self._to_done = (AccumulatorColumn.DRAIN_LATENCY + Drain.CHOICE_LATENCY
                         + Requantizer.latency + Drain.WRITE_LATENCY)
        # Of the step before: in which cycle it was accepted by the streamer, and its first row of
        # weights was read; and its pixels.
        self._accepted, self._shifted, self._pixels = -1000, -1000, 0
        self._released = deque([-1000, -1000], maxlen=2)  # by the drain, of the last two tiles
        self._drained = -1000  # the last sum of the last tile has been read
        self._looked_up = False  # that tile's results go through a table
        # A bank is released so many cycles before that, less one.
        self._early = MatrixEngine.release_to_write(config)
        self.busy = 0
        self.reads, self.writes = Spans(), Spans()

    @property
    def streamed(self) -> int:
        return self._accepted + self._pixels + 1

    def run(self, start: int, fields: FieldValues) -> tuple[int, int, tuple[int, int]]:
        """For the command that is accepted in cycle ``start``: when the next one can be accepted,
        when it is done, and from when to when pixels stream."""
        config, rows = self._config, self._rows
        lead = max(0, rows - 1 - self._lead)
        cooldown, feed = self._cooldown, WeightFeeder.LATENCY
        fed = max(start + StepSequencer.LATENCY, self._accepted + 1)
        shifted = max(fed + feed, self._shifted + rows, self._accepted + cooldown)
        accepted = max(shifted + lead,
                       self._accepted + max(self._pixels, AccumulatorColumn.REUSE))
        begin, busy = None, self.busy
        steps = fields["kernel_h"] * fields["kernel_w"] * fields["channel_blocks"]
        looks_up = fields.get("table", 0) != 0
        to_done = self._to_done + (ResultTable.LATENCY if looks_up else 0)
        tile, total = fields["tile_pixels"], fields["out_pixels"]
        columns = fields["col_tiles"]
        for column in range(columns):
            groups = (fields["last_groups"] if column == columns - 1 else config.requant_groups)
            for first in range(0, total, tile):
                pixels = min(tile, total - first)
                # The bank that it wants has been drained.
                accepted = max(accepted, self._released[0] + 1)
                if begin is None:
                    begin = accepted + 1  # the cycle of its first pixel
                cycles = max(pixels, self._least)  # step_cycles
                if steps > 1:
                    accepted += (steps - 2) * cycles
                    if steps > 2:
                        shifted = accepted - cycles + cooldown
                    fed = accepted + 1
                    shifted = max(fed + feed, shifted + rows, accepted + cooldown)
                    accepted += cycles
                parting = Drain.PARTING if self._looked_up and not looks_up else 0
                drained = max(accepted + pixels + self._to_drain, self._drained + 1 + parting)
                self._looked_up = looks_up
                if fields["keep"]:  # nothing is drained, in a cycle
                    end = self._drained = drained + 1
                    self._released.append(end)
                else:
                    end = self._drained = drained + pixels * groups
                    self._released.append(end + 1 - min(pixels, self._early))
                    self.writes.add(drained + to_done, end + to_done, _WRITES)
                self._accepted, self._shifted, self._pixels = accepted, shifted, pixels
                self.busy += steps * pixels
                # Of the next step, if there is one.
                if first + tile < total or column < columns - 1:
                    fed = accepted + 1
                    shifted = max(fed + feed, shifted + rows, accepted + cooldown)
                    accepted = max(shifted + lead, accepted + max(pixels, AccumulatorColumn.REUSE))
        assert begin is not None
        cycles = self.streamed - begin
        self.reads.add(begin, self.streamed,
                       _reads(fields["stride_w"] % config.activation_banks),
                       min(1.0, (self.busy - busy) / cycles))
        return fed + StepSequencer.TURNAROUND, self._drained + to_done, (begin, self.streamed)
