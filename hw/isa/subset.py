"""What of the command set an accelerator has."""

from .commands import ENGINES, Engine, Opcode, Rounding
from .config import AcceleratorConfig

__all__ = ["engines", "roundings"]


def engines(config: AcceleratorConfig) -> dict[Opcode, Engine]:
    """What of :data:`ENGINES` an accelerator has; other opcodes are illegal."""
    return {opcode: engine for opcode, engine in ENGINES.items()
            if (config.vector or engine is not Engine.VECTOR)
            and (config.products or opcode is not Opcode.TURN)
            and (config.softmax or opcode is not Opcode.SOFTMAX)
            and (config.normalize_channels or opcode is not Opcode.NORMALIZE)}


def roundings(config: AcceleratorConfig, engine: Engine) -> tuple[Rounding, ...]:
    """The rules that an engine of an accelerator has; a command with another is illegal."""
    return (Rounding.FLOAT32,
            *((Rounding.FIXED_POINT, Rounding.FIXED_POINT_ONCE) if config.fixed_point else ()),
            *((Rounding.BYTE,) if engine is Engine.MATRIX and not config.sequential else ()))
