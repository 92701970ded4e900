"""What the engines of the functional device share: memories, counters, errors of commands."""

from dataclasses import dataclass

import numpy as np

from weft.hw.isa.commands import Engine, Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.memories import memories
from weft.hw.isa.registers import Counter, Error
from weft.hw.isa.subset import engines, roundings
from weft.reference import vector as vector_model

__all__ = ["Command", "Core", "Fault", "rules", "wrap"]


_STEPS_PER_WORD = 1024  # of a command, for each word of the activation memory: a bound on arrays


class Fault(Exception):
    """What stops the device.

    Attributes
    ----------
    error : :class:`Error`
        The reason.
    index : :class:`int`
        Of the command.
    """

    def __init__(self, error: Error, index: int):
        self.error = error
        self.index = index


@dataclass(frozen=True)
class Command:
    """A command that has been fetched.

    Attributes
    ----------
    index : :class:`int`
        Its place in the stream.
    opcode : :class:`Opcode`
        What it does.
    fields : :class:`dict`
        Name to value, as :func:`weft.hw.isa.encoding.decode` finds them.
    """

    index: int
    opcode: Opcode
    fields: dict[str, int]

    def fault(self, error: Error) -> Fault:
        """What stops the device if the command is wrong."""
        return Fault(error, self.index)


class Core:
    """Memories and counters, on which the engines work.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        The accelerator.
    memory_bytes : :class:`int`
        Size of the external memory.

    Attributes
    ----------
    memory : :class:`bytearray`
        The external memory.
    units : :class:`dict`
        Each :class:`Memory` on chip as int8 [depth, bytes of a unit].
    activation, weight : :class:`numpy.ndarray`
        Those two, as [depth, lanes] of the type of their values.
    lines : :class:`numpy.ndarray`
        Words that the vector engine has kept of its windows, int8 [lines, words, lanes].
    kept : :class:`numpy.ndarray` or None
        Sums that a MATRIX has left to the next one, int64 [columns, pixels].
    counters : :class:`dict`
        Beats of the memory port; all others stay zero.
    cycle_limit : :class:`int`
        Cycles of an engine from a doorbell on, 0 for any number.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int):
        if memory_bytes < 1:
            raise ValueError(f"Memory bytes must be at least 1, not {memory_bytes!r}")
        self.config = config
        self.engines = engines(config)
        self.memory = bytearray(memory_bytes)
        self.units = {memory: np.zeros((its.depth, its.unit_data_bytes), np.int8)
                      for memory, its in memories(config).items()}
        self.activation = self.units[Memory.ACTIVATION].view(config.activation_type.dtype)
        self.weight = self.units[Memory.WEIGHT].view(config.weight_type.dtype)
        self.lines = vector_model.no_lines(config)
        self.kept: np.ndarray | None = None
        self.cycle_limit = 0
        self.start()

    def start(self) -> None:
        """Begins to count anew, at a doorbell."""
        self.counters = dict.fromkeys(Counter, 0)
        self._spent = dict.fromkeys(Engine, 0)  # cycles since the doorbell, at least

    def spend(self, command: Command, cycles: int, steps: int) -> None:
        """Refuses a legal command that takes too long.

        Parameters
        ----------
        command : :class:`Command`
        cycles : :class:`int`
            That it takes at least.
        steps : :class:`int`
            That it takes in numpy: pixels times weight tiles, or words.

        Raises
        ------
        Fault
            ``CYCLE_LIMIT``.
        """
        engine = self.engines[command.opcode]
        self._spent[engine] += cycles
        if (self.cycle_limit and self._spent[engine] > self.cycle_limit) \
                or steps > _STEPS_PER_WORD * self.config.activation_depth:
            raise command.fault(Error.CYCLE_LIMIT)


def rules(config: AcceleratorConfig, engine: Engine) -> tuple[int, ...]:
    """Codes of the roundings that an engine knows."""
    return tuple(rule.value for rule in roundings(config, engine))


def wrap(values: np.ndarray, width: int) -> np.ndarray:
    """Two's complement of ``width`` bits."""
    half = 1 << (width - 1)
    return ((values + half) & ((1 << width) - 1)) - half
