"""Which rows of its inputs a layer needs for some rows of its output, and which columns."""

from dataclasses import dataclass

from weft.ir import Convolution, Depthwise, Interleave, Layer, Pool, Resize

__all__ = ["Window", "needed", "window"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """How output rows, or columns, depend on those of the input: output row ``y`` reads the input
    rows ``y * stride - before + tap * dilation``, for ``tap`` in ``range(kernel)``; with
    ``repeat``, row ``y // repeat`` alone. With ``one``, an input of one row is read for all."""

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    repeat: int = 1
    one: bool = False

    def needs(self, out: range, size: int) -> tuple[range, int]:
        """Input rows for the output rows ``out``, and rows of padding in front of them.

        Parameters
        ----------
        out : :class:`range`
            Output rows, at least one.
        size : :class:`int`
            Input rows that there are.

        Returns
        -------
        :class:`range`, :class:`int`
            At least one row. The first output row reads its first tap ``padding`` rows before the
            first of them, so that they and the padding can stand for the whole input.
        """
        if self.repeat > 1:
            return range(out.start // self.repeat, (out.stop - 1) // self.repeat + 1), 0
        start = out.start * self.stride - self.before
        stop = (out.stop - 1) * self.stride - self.before + self.dilation * (self.kernel - 1) + 1
        if start >= size:  # all behind the input, which is as good as all in front of it
            return range(1), stop - start
        rows = range(max(start, 0), min(max(stop, 1), size))
        return rows, rows.start - start


def window(layer: Layer, axis: int) -> Window:
    """The window of a layer, on each of its inputs: of rows, or with ``axis`` 1 of columns."""
    if isinstance(layer, Convolution | Depthwise | Pool):
        kernel = layer.kernel if isinstance(layer, Pool) else layer.weights.shape[-2:]
        return Window(kernel=kernel[axis], stride=layer.strides[axis],
                      dilation=layer.dilations[axis],
                      before=layer.pads.left if axis else layer.pads.top)
    if isinstance(layer, Resize | Interleave):
        return Window(repeat=layer.factors[axis])
    return Window(one=True)


def needed(shape: Window, out: range, size: int) -> tuple[range, int]:
    """What :meth:`Window.needs` tells of an input of a layer, of ``size`` rows, or columns; of one
    that has one for all of the output, that one."""
    if size == 1 and shape.one:
        return range(1), 0
    return shape.needs(out, size)
