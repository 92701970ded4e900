"""A float network in, an int8 network out that compiles, and what it has lost."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from weft.errors import InputError, ModelError
from weft.files.output import replacing
from weft.frontend.onnx.model import note_states
from weft.frontend.onnx.nodes import label
from weft.frontend.onnx.source import is_quantized
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import load_config
from weft.ir import Partition, Where
from weft.reference.golden import first_line
from weft.runtime.placing import place

from .frames import Frames, array_frames
from .headroom import make_room
from .interpolation import part_scales
from .loss import LayerLoss, TopResult, layer_losses, overflowing, top_result
from .source import FloatModel, load_float
from .states import StateFrames
from .static import METHODS, quantize_frames
from .steps import share_scales

__all__ = ["Quantization", "Quantized", "quantize", "to_int8"]


_SAMPLE = 16    # frames of which all activations are compared


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How to quantize.

    Attributes
    ----------
    per_channel : :class:`bool`
        A weight scale for each output channel, else one for all.
    method : :class:`str`
        How the range of an activation is chosen: ``minmax``, ``entropy`` or ``percentile``.
    exclude : :class:`tuple` of :class:`str`
        Nodes that stay float, by name.
    """

    per_channel: bool = True
    method: str = "minmax"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"Method must be one of {', '.join(METHODS)}, not {self.method!r}")


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized model and how it compares.

    Attributes
    ----------
    model : :class:`onnx.ModelProto`
        Int8, in QDQ format.
    name : :class:`str`
        Of the float model.
    frames, sample : :class:`int`
        Frames of the calibration, and how many of them the layers were compared on.
    layers : :class:`tuple` of :class:`LayerLoss`
    top : :class:`TopResult` or :py:`None`
        If the model is a classifier.
    plan : :class:`weft.ir.Partition`
        What runs where.
    settings : :class:`Quantization`
    """

    model: onnx.ModelProto
    name: str
    frames: int
    sample: int
    layers: tuple[LayerLoss, ...]
    top: TopResult | None
    plan: Partition
    settings: Quantization

    @property
    def worst(self) -> tuple[LayerLoss, ...]:
        """Up to three layers that lose most, from at least 3 dB on."""
        losing = [layer for layer in self.layers if layer.loss >= 3]
        return tuple(sorted(losing, key=lambda layer: -layer.loss)[:3])

    @property
    def accelerated(self) -> tuple[int, int]:
        """Operators on the accelerator, and in all, quantizers not counted."""
        places = [place.where for place in self.plan.placements
                  if place.op not in ("QuantizeLinear", "DequantizeLinear")]
        return places.count(Where.ACCELERATOR), len(places)


def quantize(model: str | Path | onnx.ModelProto | FloatModel,
             frames: Frames | Mapping[str, np.ndarray], *, output: str | Path | None = None,
             settings: Quantization | None = None,
             shapes: Mapping[str, Sequence[int]] | None = None,
             states: Mapping[str, str] | None = None,
             labels: Sequence[int] | None = None, config: AcceleratorConfig | str = "base",
             stage: Callable[[str], None] = lambda text: None,
             step: Callable[[str], None] = lambda text: None) -> Quantized:
    """Quantizes a float model to int8, and makes sure that the accelerator takes the result.

    Parameters
    ----------
    model : path or :class:`onnx.ModelProto`, or what :func:`weft.quantize.source.load_float` gives
    frames : :data:`Frames`, or arrays by input name
        What the model is calibrated on, and compared.
    output : path
        File to write.
    settings : :class:`Quantization`
    shapes : mapping
        Of inputs with dynamic dimensions, by name.
    states : mapping
        Outputs that are inputs of the next frame, see :func:`weft.quantize.source.load_float`.
    labels : sequence of :class:`int`
        The class of each frame.
    config : :class:`AcceleratorConfig` or :class:`str`
        For which the result has to compile.
    stage, step : callable
        Told what begins.

    Raises
    ------
    ModelError
        If the model cannot be read, or is quantized already; if the accelerator can run nothing of
        it.
    InputError
        If frames, labels, shapes or settings do not fit the model, or ``output`` cannot be
        written.
    CompileError
        If the result does not fit the configuration.
    """
    settings = settings or Quantization()
    config = load_config(config) if isinstance(config, str) else config
    source = model if isinstance(model, FloatModel) else load_float(model, shapes,
                                                                          states=states)
    if isinstance(frames, Mapping):
        frames = array_frames(frames, source.shapes)
    frames = StateFrames.of(source, frames)
    if labels is not None and len(labels) != len(frames):
        raise InputError(f"Labels must be {len(frames)}, one for each frame, not {len(labels)}")
    _check_excluded(source, settings.exclude)

    stage(f"Calibrating {source.name} on {len(frames)} frames")
    result = to_int8(source, frames, settings, step)
    stage("Checking what the accelerator takes")
    plan = _plan(result, source.name, config)
    stage("Comparing with the float model")
    sample = _sample(frames)
    layers = layer_losses(source.model, result, sample)
    top = top_result(source.model, result, frames, labels)
    if output is not None:
        with replacing(Path(output)) as temporary:
            temporary.write_bytes(result.SerializeToString())
    return Quantized(model=result, name=source.name, frames=len(frames), sample=len(sample),
                     layers=layers, top=top, plan=plan, settings=settings)


def to_int8(source: FloatModel, frames: Frames, settings: Quantization | None = None,
            step: Callable[[str], None] = lambda text: None) -> onnx.ModelProto:
    """The int8 model in QDQ format, and no more: whether the accelerator takes it, and what it has
    lost, is not looked at.

    Raises
    ------
    InputError
        If there are no frames, or they cannot be read.
    ModelError
        If onnxruntime cannot quantize the model.
    """
    settings = settings or Quantization()
    if not len(frames):
        raise InputError("Calibration must have at least 1 frame, not 0")
    frames = StateFrames.of(source, frames)
    try:
        result = quantize_frames(
            source.model, frames, per_channel=settings.per_channel, method=settings.method,
            nodes_to_exclude=list(settings.exclude),
            step=lambda position: step(f"Frame {position + 1} of {len(frames)}"))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # onnxruntime raises whatever it comes across
        _check_overflow(source, frames)
        raise ModelError(f"onnxruntime cannot quantize {source.name}: "
                         f"{first_line(error)}") from error
    # Some methods take an infinite range as any other.
    if not all(np.isfinite(numpy_helper.to_array(tensor)).all()
               for tensor in result.graph.initializer if tensor.name.endswith("_scale")):
        _check_overflow(source, frames)
    share_scales(result, source.steps)
    make_room(result)
    part_scales(result)
    if source.states:
        note_states(result, source.states)
    return result


def _check_overflow(source: FloatModel, frames: Frames) -> None:
    node = overflowing(source.model, frames)
    if node is not None:
        raise ModelError(f"{label(node)} of {source.name} is not finite on the data of the "
                         f"calibration")


def _sample(frames: Frames) -> Frames:
    return [frames[position] for position in range(min(len(frames), _SAMPLE))]


def _plan(model: onnx.ModelProto, name: str, config: AcceleratorConfig) -> Partition:
    """What runs where; an error if nothing runs on the accelerator."""
    if not is_quantized(model):
        raise ModelError(f"{name} has no operator that can be quantized and is not excluded")
    plan = place(model, config)
    plan.accelerated()
    return plan


def _check_excluded(source: FloatModel, exclude: Sequence[str]) -> None:
    names = [node.name for node in source.model.graph.node]
    for name in exclude:
        if name in names:
            continue
        if name in source.folded:
            raise InputError(f"Excluded node '{name}' is part of another one after folding; the "
                             f"model has {', '.join(names[:20])}")
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]
        raise InputError(f"Excluded node '{name}' must be one of the model's, such as "
                         f"{', '.join(close)}")
