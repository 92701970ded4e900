"""Which layer moves how many bytes through the memory port."""

from weft.compiler.ops import Space
from weft.hw.isa.commands import COMMAND_BYTES, Opcode, decode
from weft.hw.isa.config import AcceleratorConfig
from weft.runtime.segment import Execution

__all__ = ["Traffic", "traffic"]


class Traffic:
    """Bytes of one execution, in whole beats.

    Attributes
    ----------
    layers : list of :class:`int`
        Of each layer of the program: constants, and tensors or parts of them.
    inputs : :class:`int`
        Of loads and stores that belong to no layer.
    commands : :class:`int`
        Of the command stream.
    """

    def __init__(self, layers: int):
        self.layers = [0] * layers
        self.inputs = 0
        self.commands = 0

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.layers) + self.inputs + self.commands


def traffic(execution: Execution) -> Traffic:
    """The traffic of an execution, out of its commands."""
    config = execution.program.config
    result = Traffic(len(execution.program.layers))
    result.commands = len(execution.commands)
    units = {space.memory.value: space.unit_bytes(config) for space in Space
             if space is not Space.EXTERNAL}
    for index, info in enumerate(execution.infos):
        raw = execution.commands[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES]
        count = _bytes(raw, units, config)
        if info.layer is None:
            result.inputs += count
        else:
            result.layers[info.layer] += count
    return result


def _bytes(raw: bytes, units: dict[int, int], config: AcceleratorConfig) -> int:
    if raw[0] not in (Opcode.LOAD.value, Opcode.STORE.value):
        return 0
    opcode, fields = decode(raw)
    unit = units[fields["memory"]] if opcode is Opcode.LOAD else config.word_bytes
    beats = -(-fields["units"] * unit // config.axi_bytes)
    return fields["lines"] * beats * config.axi_bytes
