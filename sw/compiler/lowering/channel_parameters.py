"""Channel parameters of layers, by the rule that a layer asks for."""

from collections.abc import Callable

import numpy as np

from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, Depthwise, layout

from .vector_constants import pack_fixed_point, pack_scales

__all__ = ["requantization", "vector_requantization"]


def _need_bias(layer: Convolution | Depthwise, bias: np.ndarray) -> None:
    limit = 1 << layout.FIXED_POINT_BIAS_BITS - 1
    reach = int(bias[np.argmax(np.abs(bias.astype(np.int64)))])
    if not -limit <= reach < limit:
        raise CompileError(f"Layer {layer.name!r} has a bias of {reach}, zero points and weights "
                           f"folded in; to be rounded in fixed point it must be within {-limit} "
                           f"to {limit - 1}")


def requantization(config: AcceleratorConfig, layer: Convolution, bias: np.ndarray,
                   channels: layout.ChannelMap) -> np.ndarray:
    """Parameter entries of a layer, int8 [column tiles, requant_groups, parameter_entry_bytes].

    Parameters
    ----------
    bias : int32 [lanes]
        With everything folded in, where the channels lie.
    channels : :class:`ChannelMap`
        Where they lie.

    Raises
    ------
    CompileError
        If the hardware lacks the layer's rule, or a bias does not fit the rule's parameters.
    """
    def lanes(values: np.ndarray) -> np.ndarray:
        return values if channels.plain(config) else channels.spread(config, values)

    if layer.fixed_point is None:
        return layout.pack_parameters(config, bias,
                                      lanes(layout.hardware_scale(layer.multiplier)))
    _need_bias(layer, bias)
    multiplier, shift = layer.fixed_point
    return layout.pack_fixed_point_parameters(config, bias, lanes(multiplier), lanes(shift))


def vector_requantization(config: AcceleratorConfig, layer: Depthwise, bias: np.ndarray,
                          spread: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Parameter entries of a depthwise layer, int8 [channel blocks, vector_groups,
    parameter_entry_bytes].

    Parameters
    ----------
    bias : int32 [C]
        With everything folded in.
    spread
        Puts values of channels where these lie, and zeros elsewhere.

    Raises
    ------
    CompileError
        As :func:`requantization`.
    """
    if layer.fixed_point is None:
        return pack_scales(config, spread(bias), spread(layout.hardware_scale(layer.multiplier)))
    _need_bias(layer, bias)
    multiplier, shift = layer.fixed_point
    return pack_fixed_point(config, spread(bias), spread(multiplier), spread(shift))
