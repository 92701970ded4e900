"""Fully connected layers of a batch, computed for all frames at once.

A convolution of one pixel takes a step of the array for each weight tile, and a step takes as long
as for ``pe_rows`` pixels. So where the copies of such a layer for all frames of a batch read and
write tensors of one pixel, these tensors lie together as the pixels of one plane, and one
convolution over that plane computes them all: weights are used once for all frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from weft.compiler.channel_layout import ChannelLayout
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import NO_PADS, Convolution

__all__ = ["Joints", "Plane", "find_joints"]


@dataclass(frozen=True)
class Plane:
    """Tensors of one pixel that lie together.

    Attributes
    ----------
    roots : :class:`tuple` of :class:`str`
        Of the tensors, frame by frame; see :class:`~weft.compiler.channel_layout.Home`.
    blocks : :class:`int`
        Channel blocks of each.
    loaded : :class:`bool`
        They are inputs of the graph. These lie one behind the other, as in external memory, so that
        they are loaded in one go; what is computed lies channel block by channel block, as the
        matrix engine writes it.
    """

    roots: tuple[str, ...]
    blocks: int
    loaded: bool

    @property
    def words(self) -> int:
        """Of all frames."""
        return self.blocks * len(self.roots)

    @property
    def block_step(self) -> int:
        """Words from channel block to channel block of a frame."""
        return 1 if self.loaded else len(self.roots)

    @property
    def frame_step(self) -> int:
        """Words from frame to frame."""
        return self.blocks if self.loaded else 1


@dataclass(frozen=True, eq=False)
class Joints:
    """What is computed for all frames at once.

    Attributes
    ----------
    layers : :class:`dict`
        By index of the copy for frame 0, those of all frames.
    planes : :class:`dict`
        By root, the plane that a tensor lies in, and its frame.
    """

    layers: dict[int, range]
    planes: dict[str, tuple[Plane, int]]


def find_joints(laid_out: ChannelLayout, config: AcceleratorConfig) -> Joints:
    """The convolutions of a batch that can be computed for all frames at once."""
    graph = laid_out.graph
    layers: dict[int, range] = {}
    planes: dict[str, tuple[Plane, int]] = {}
    if graph.frames == 1:
        return Joints(layers, planes)
    members: dict[str, list[str]] = {}
    for name, home in laid_out.homes.items():
        members.setdefault(home.root, []).append(name)
    given = graph.given

    def plane(names: list[str]) -> Plane | None:
        """Where tensors can lie, one for each frame."""
        roots = tuple(laid_out.homes[name].root for name in names)
        blocks = laid_out.channels[names[0]].blocks(config)
        # Other layers may read or write pieces of them.
        if any(laid_out.homes[name].block for name in names) \
                or any(laid_out.channels[root].blocks(config) != blocks for root in roots) \
                or any(graph.tensors[name].shape[1:] != (1, 1)
                       for root in roots for name in members[root]):
            return None
        found = Plane(roots, blocks, not given.isdisjoint(roots))
        known = {planes.get(root, (found, 0))[0] for root in roots}
        return found if len(set(roots)) == len(roots) and known == {found} else None

    for copies in _copies(laid_out):
        convolutions = [graph.layers[index] for index in copies]
        pair = [plane([layer.inputs[0] for layer in convolutions]),
                plane([layer.output for layer in convolutions])]
        if None not in pair:
            layers[copies.start] = copies
            for each in pair:
                assert each is not None
                planes |= {root: (each, frame) for frame, root in enumerate(each.roots)}
    return Joints(layers, planes)


def _copies(laid_out: ChannelLayout) -> Iterator[range]:
    """Convolutions of one pixel that follow each other, one for each frame, with the same
    weights."""
    graph = laid_out.graph
    frames = graph.frames
    start = 0
    while start + frames <= len(graph.layers):
        first = graph.layers[start]
        run = graph.layers[start:start + frames]
        if isinstance(first, Convolution) and first.weights.shape[2:] == (1, 1) \
                and first.pads == NO_PADS and first.strides == (1, 1) \
                and all(isinstance(layer, Convolution) and layer.weights is first.weights
                        for layer in run) \
                and laid_out.origins[start] % frames == 0:
            yield range(start, start + frames)
            start += frames
        else:
            start += 1
