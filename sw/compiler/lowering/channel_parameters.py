"""Channel parameters of convolutions, by the rule that a layer asks for."""

import numpy as np

from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, layout

__all__ = ["requantization"]


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
    if not config.fixed_point:
        raise CompileError(f"Layer {layer.name!r} is rounded twice: the configuration "
                           f"{config.name!r} must have fixed_point = true")
    limit = 1 << layout.FIXED_POINT_BIAS_BITS - 1
    reach = int(bias[np.argmax(np.abs(bias.astype(np.int64)))])
    if not -limit <= reach < limit:
        raise CompileError(f"Layer {layer.name!r} has a bias of {reach}, zero points and weights "
                           f"folded in; to be rounded twice it must be within {-limit} to "
                           f"{limit - 1}")
    multiplier, shift = layer.fixed_point
    return layout.pack_fixed_point_parameters(config, bias, lanes(multiplier), lanes(shift))
