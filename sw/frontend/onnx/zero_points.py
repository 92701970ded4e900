"""Integer products whose zero points are known only when the model runs, as those of activations
that a DynamicQuantizeLinear makes: brought to fixed ones.

Activations and weights are numbers of 8 bits; less the middle of their range, which is 128 or 0,
they are the int8 values ``x`` and ``w`` of the accelerator. With their zero points ``zx`` and
``zw``, moved likewise, ::

    sum((x - zx) * (w - zw)) = sum(x * w) - zx * sum(w - zw) - zw * sum(x)

where sums are over the taps inside the input: a ConvInteger pads with the zero point. The first sum
is left to the operator. The second one is known beforehand, at every position. The third one is
another product, with weights of 1, and only where weights less their zero point do not fit int8. It
is a matter of int32, whose sums may wrap: equality holds anyway.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from weft.errors import ModelError

from .geometry import of_planes, window
from .nodes import attributes, label

__all__ = ["Product", "fix_zero_points", "is_integer_product", "middle"]


_PRODUCTS = ("ConvInteger", "MatMulInteger")


def is_integer_product(node: onnx.NodeProto) -> bool:
    """Whether a node gives the sums of products of integers, int32."""
    return node.op_type in _PRODUCTS and node.domain in ("", "ai.onnx")


def middle(kind: np.dtype[np.generic]) -> int:
    """What 8-bit numbers of a type are moved by to be those of the accelerator."""
    return 128 if kind == np.uint8 else 0


@dataclass(frozen=True, eq=False)
class Product:
    """What takes the place of an integer product.

    Parameters
    ----------
    sums : :class:`onnx.NodeProto`
        The same of fixed zero points.
    others : :class:`tuple` of :class:`onnx.NodeProto`
        All that makes of it what the node has made; a second product comes first.
    constants : :class:`tuple` of :class:`onnx.TensorProto`
    """

    sums: onnx.NodeProto
    others: tuple[onnx.NodeProto, ...]
    constants: tuple[onnx.TensorProto, ...]

    def copies(self) -> Iterator[onnx.NodeProto]:
        """The integer products among its nodes, without names."""
        for node in (self.sums, *self.others):
            if is_integer_product(node):
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.ClearField("name")
                yield copy


def fix_zero_points(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto],
                    types: Mapping[str, onnx.TypeProto.Tensor]) -> Product | None:
    """What takes the place of an integer product; :py:`None` if its zero points are fixed.

    Parameters
    ----------
    constants : :class:`dict`
        Initializers of the model.
    types : :class:`dict`
        Types and shapes of its tensors, as far as they are known.

    Raises
    ------
    ModelError
        If the node is one for the host.
    """
    return _Fixing(node, constants, types).product()


class _Fixing:
    def __init__(self, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto],
                 types: Mapping[str, onnx.TypeProto.Tensor]):
        self._node = node
        self._constants = constants
        self._types = types
        self._base = node.output[0]
        self._made: list[onnx.TensorProto] = []
        self._conv = node.op_type == "ConvInteger"
        self._weights = self._constant(1, "weights")
        kind = types[node.input[0]].elem_type if node.input[0] in types else TensorProto.UNDEFINED
        if kind not in (TensorProto.INT8, TensorProto.UINT8):
            raise ModelError(f"{label(node)} must read int8 or uint8 activations")
        self._kind = helper.tensor_dtype_to_np_dtype(kind)

    def product(self) -> Product | None:
        node, base = self._node, self._base
        weights = self._weights
        axis = 0 if self._conv else weights.ndim - 1
        centre = middle(weights.dtype)
        zero = self._constant(3, "weight zero points") if self._input(3) \
            else np.zeros((), weights.dtype)
        across = zero.astype(np.int32).reshape(
            [-1 if index == axis and zero.size > 1 else 1 for index in range(weights.ndim)])
        moved = weights.astype(np.int32) - across   # -255..255
        shift, fixed = self._shift()
        if fixed and not (across - centre).any():
            return None
        fits = moved.min(initial=0) >= -128 and moved.max(initial=0) <= 127
        kept = (moved + centre).astype(weights.dtype) if fits else weights
        sums = self._product(kept, "", node.name or base)
        others = [*shift, helper.make_node(
            "Mul", [f"{base}/shift", self._add("reach", self._reach(moved))], [f"{base}/moved"])]
        result = f"{base}/sums"
        if not fits:
            # One filter for all output channels, or for each its own where they read other inputs.
            group = attributes(node).get("group", 1)
            ones = np.ones_like(weights if group > 1 else weights.take([0], axis))
            others.insert(0, self._product((ones + centre).astype(weights.dtype), "_of_x",
                                           f"{node.name or base}/activations"))
            factors = (across - centre).reshape((-1, *(1,) * (weights.ndim - 2)) if self._conv
                                                else -1)
            others += [
                helper.make_node("Mul", [f"{base}/sums_of_x",
                                         self._add("zeros", factors.astype(np.int32))],
                                 [f"{base}/moved_by_x"]),
                helper.make_node("Sub", [result, f"{base}/moved_by_x"], [f"{base}/partly"])]
            result = f"{base}/partly"
        others.append(helper.make_node("Sub", [result, f"{base}/moved"], [base]))
        return Product(sums, tuple(others), tuple(self._made))

    def _input(self, index: int) -> str:
        return self._node.input[index] if index < len(self._node.input) else ""

    def _constant(self, index: int, what: str) -> np.ndarray:
        tensor = self._constants.get(self._input(index))
        if tensor is None:
            raise ModelError(f"{label(self._node)} must have constant {what}")
        return numpy_helper.to_array(tensor)

    def _add(self, name: str, values: np.ndarray) -> str:
        """Name of a new constant."""
        self._made.append(numpy_helper.from_array(np.asarray(values), f"{self._base}/{name}"))
        return self._made[-1].name

    def _product(self, weights: np.ndarray, suffix: str, name: str) -> onnx.NodeProto:
        return helper.make_node(
            self._node.op_type,
            [self._node.input[0], self._add(f"weights{suffix}", weights),
             self._add(f"middle{suffix}", np.asarray(middle(self._kind), self._kind)),
             self._add(f"weight_middle{suffix}",
                       np.asarray(middle(weights.dtype), weights.dtype))],
            [f"{self._base}/sums{suffix}"], name=name, **attributes(self._node))

    def _shift(self) -> tuple[list[onnx.NodeProto], bool]:
        """Nodes that find ``zx``, and whether it is always 0."""
        base, zero, centre = self._base, self._input(2), middle(self._kind)
        if not zero or zero in self._constants:
            value = self._constant(2, "") if zero else np.zeros((), self._kind)
            if value.size != 1:
                raise ModelError(f"{label(self._node)} must have one zero point for all "
                                 f"activations, not {value.size}")
            shift = value.astype(np.int32).reshape(()) - centre
            return [helper.make_node("Identity", [self._add("constant_shift", shift)],
                                     [f"{base}/shift"])], not shift.any()
        kind = self._types.get(zero)
        size = 0 if kind is None or not kind.HasField("shape") else \
            int(np.prod([dim.dim_value for dim in kind.shape.dim]))
        if size != 1:
            raise ModelError(f"{label(self._node)} must have one zero point for all activations")
        return [
            helper.make_node("Cast", [zero], [f"{base}/zero"], to=TensorProto.INT32),
            helper.make_node("Sub", [f"{base}/zero",
                                     self._add("shift_middle", np.asarray(centre, np.int32))],
                             [f"{base}/shift"])], False

    def _reach(self, moved: np.ndarray) -> np.ndarray:
        """int32: at every position the sum of the weights that are inside the input, less their
        zero points; in a shape that broadcasts against the output."""
        if not self._conv:
            return np.asarray(moved.sum(axis=-2), np.int32)
        shape = tuple(dim.dim_value for dim in self._types[self._node.input[0]].shape.dim)
        if len(shape) not in (3, 4) or len(shape) != moved.ndim or 0 in shape:
            raise ModelError(f"{label(self._node)} must have an input of 3 or 4 known dimensions")
        moved = moved.reshape((*moved.shape, 1)[:4])
        size = (*shape[2:], 1)[:2]
        geometry = window(self._node, of_planes(shape, attributes(self._node)), size,
                          moved.shape[2:])
        rows, columns = (
            np.array(list(_inside(size[axis], geometry.output[axis], moved.shape[2 + axis],
                                  geometry.strides[axis], geometry.dilations[axis],
                                  geometry.pads[axis]))) for axis in (0, 1))
        sums = np.einsum("yk,xl,nkl->nyx", rows, columns, moved.sum(axis=1))
        whole = rows.all() and columns.all()
        reach = np.asarray(sums[:, :1, :1] if whole else sums, np.int32)
        return reach.reshape(reach.shape[:len(shape) - 1])


def _inside(size: int, count: int, taps: int, stride: int, dilation: int,
            before: int) -> Iterator[list[int]]:
    """For each position of a window, which of its taps lie inside the input."""
    for position in range(count):
        first = position * stride - before
        yield [int(0 <= first + tap * dilation < size) for tap in range(taps)]
