"""The buffers for the tiles of a tensor that is in external memory."""

from weft.compiler.ops import Buffer, Space
from weft.compiler.planning.tiles import TileBuffer

__all__ = ["Rotation"]


class Rotation:
    """The tile buffers of a tensor, taken in turn."""

    def __init__(self, name: str, room: TileBuffer, layer: str):
        self.buffers = [Buffer(name=f"{name} tile buffer {number}", space=Space.ACTIVATION,
                               size=room.words, layer=layer)
                        for number in range(len(room.addresses))]
        self.contents: list[tuple[range, range, range] | None] = [None] * len(self.buffers)
        self._next = 0

    def take(self, key: tuple[range, range, range]) -> Buffer:
        """The buffer whose contents are the oldest, for other contents."""
        at = self._next
        self._next = (at + 1) % len(self.buffers)
        self.contents[at] = key
        return self.buffers[at]
