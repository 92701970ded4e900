"""What layers became, one by one, so that one that is planned alike again is not lowered anew."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from weft.compiler.ops import Buffer, Op, Region

__all__ = ["LoweringMemory", "Part"]


@dataclass(frozen=True, eq=False)
class Part:
    """What a layer, or a group of them, becomes.

    Attributes
    ----------
    ops : :class:`list` of :class:`Op`
    placed : :class:`dict`
        Addresses of activations, by buffer.
    sections : :class:`dict` of :class:`Buffer` to :py:`None`
        Constants in external memory, each once, in the order of their loads.
    slots : :class:`dict`
        Where tensors are in external memory, by name.
    entered : :class:`dict`
        Inputs that are loaded, by name: as far as this row.
    """

    ops: list[Op] = field(default_factory=list)
    placed: dict[Buffer, int] = field(default_factory=dict)
    sections: dict[Buffer, None] = field(default_factory=dict)
    slots: dict[str, Region] = field(default_factory=dict)
    entered: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Part") -> None:
        """Goes on with another one."""
        self.ops.extend(other.ops)
        self.placed.update(other.placed)
        self.sections.update(other.sections)
        self.slots.update(other.slots)
        self.entered.update(other.entered)


class LoweringMemory:
    """What lowerings have in common whose plans have tensors at the same places: buffers, and the
    parts that layers became, by what is planned for them."""

    def __init__(self) -> None:
        self.storages: dict[str, Buffer] = {}
        self.sections: dict[tuple[str, bytes], Buffer] = {}
        self.sources: dict[str, Buffer] = {}    # slots by storage or tensor
        self.slots: dict[str, Region] = {}
        self.parts: dict[Hashable, Part] = {}
