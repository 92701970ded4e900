"""Constants that the frames of a batch share."""

from weft.compiler.ops import Buffer, Space
from weft.hw.isa.config import AcceleratorConfig

__all__ = ["Sharing"]


class Sharing:
    """What a layer need not load, because its copy for the frame before has left it on chip.

    The constants of a layer are kept if they take at most half of their memory, so that those of
    the next one can be loaded meanwhile. What is kept in a memory is all from one layer: as soon
    as another one has something to load, be it a copy that is tiled in another way, nothing that
    was kept is used again. So there is always as much room as without.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._loaders: dict[Space, int] = {}  # index of the layer that has loaded what is kept
        self._kept: dict[Space, dict[bytes, Buffer]] = {}

    def find(self, index: int, space: Space, raw: bytes) -> Buffer | None:
        """Where the constants ``raw`` are, if layer ``index`` finds them on chip; else it must
        load them."""
        found = self._kept.get(space, {}).get(raw)
        if found is None and self._loaders.get(space) != index:
            self._loaders[space] = index
            self._kept[space] = {}
        return found

    def keep(self, space: Space, raw: bytes, buffer: Buffer, units: int) -> None:
        """Keeps what was not found and is loaded to ``buffer``, if the ``units`` that the layer
        has in all are not too many."""
        if 2 * units <= space.depth(self._config):
            self._kept[space][raw] = buffer
