"""The matrix engine in time: weight tiles, pixels, accumulator banks and their drain."""

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
        self._released = -1000, -1000  # by the drain, of the last two tiles
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
        # A search for the best split spends most of its time here: what the loop needs is local.
        config, rows, least, early = self._config, self._rows, self._least, self._early
        lead = max(0, rows - 1 - self._lead)
        cooldown, feed, reuse = self._cooldown, WeightFeeder.LATENCY, AccumulatorColumn.REUSE
        steps = fields["kernel_h"] * fields["kernel_w"] * fields["channel_blocks"]
        total, columns, keep = fields["out_pixels"], fields["col_tiles"], fields["keep"]
        looks_up = fields.get("table", 0) != 0
        to_done = self._to_done + (ResultTable.LATENCY if looks_up else 0)
        drained = self._drained
        if self._looked_up and not looks_up:
            drained += Drain.PARTING
        self._looked_up = looks_up
        older, newer = self._released
        accepted, shifted, pixels = self._accepted, self._shifted, self._pixels
        fed = max(start + StepSequencer.LATENCY, accepted + 1)
        begin = None
        for column in range(columns):
            groups = fields["last_groups"] if column == columns - 1 else config.requant_groups
            for first in range(0, total, fields["tile_pixels"]):
                if begin is not None:
                    fed = accepted + 1
                shifted = max(fed + feed, shifted + rows, accepted + cooldown)
                # The bank that it wants has been drained.
                accepted = max(shifted + lead, accepted + (pixels if pixels > reuse else reuse),
                               older + 1)
                if begin is None:
                    begin = accepted + 1  # the cycle of its first pixel
                pixels = min(fields["tile_pixels"], total - first)
                if steps > 1:
                    cycles = pixels if pixels > least else least    # step_cycles
                    accepted += (steps - 2) * cycles
                    if steps > 2:
                        shifted = accepted - cycles + cooldown
                    fed = accepted + 1
                    shifted = max(fed + feed, shifted + rows, accepted + cooldown)
                    accepted += cycles
                read = max(accepted + pixels + self._to_drain, drained + 1)
                older = newer
                if keep:  # nothing is drained, in a cycle
                    newer = drained = read + 1
                else:
                    drained = read + pixels * groups
                    newer = drained + 1 - (pixels if pixels < early else early)
                    self.writes.add(read + to_done, drained + to_done, _WRITES)
        assert begin is not None
        self._accepted, self._shifted, self._pixels = accepted, shifted, pixels
        self._released, self._drained = (older, newer), drained
        self.busy += steps * total * columns
        cycles = self.streamed - begin
        self.reads.add(begin, self.streamed,
                       _reads(fields["stride_w"] % config.activation_banks),
                       min(1.0, steps * total * columns / cycles))
        return fed + StepSequencer.TURNAROUND, drained + to_done, (begin, self.streamed)
