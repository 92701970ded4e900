"""The normalization engine: rows of words in the activation memory, normalized layer by layer."""

from weft.hw.isa.config import AcceleratorConfig

__all__ = ["NormalizeEngine"]


class NormalizeEngine:
    """Executes NORMALIZE commands, one after the other."""

    @staticmethod
    def cycles(config: AcceleratorConfig, pixels: int, blocks: int) -> int:
        """Cycles of a command from when it is accepted to ``done``, if nobody is in the way."""
        lanes, batches = config.word_lanes, -(-pixels // 4)
        return pixels + batches * (3 * blocks * (4 * lanes + 1) + 200) + 60
