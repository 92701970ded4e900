"""What quantization costs: noise of every layer, and results that change."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from weft.errors import InputError, ModelError
from weft.reference.golden import GoldenSession, first_line

from .frames import Frames

__all__ = ["LayerLoss", "TopResult", "layer_losses", "overflowing", "top_result"]


# How the quantizer names what it adds around a tensor.
_BEFORE, _AFTER = "_QuantizeLinear_Input", "_DequantizeLinear_Output"


@dataclass(frozen=True, kw_only=True)
class LayerLoss:
    """A layer of the quantized model beside the same in the float model.

    Attributes
    ----------
    name, op : :class:`str`
        Of its node; ``Input`` for an input of the graph.
    snr : :class:`float`
        Signal-to-noise ratio of its output in dB: the power of the float activations over that of
        the difference. Infinite where nothing differs.
    loss : :class:`float`
        How much lower that is than the lowest of its inputs, in dB; 0 if it is not lower.
    """

    name: str
    op: str
    snr: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class TopResult:
    """The class that comes first, in both models.

    Attributes
    ----------
    frames : :class:`int`
    agreeing : :class:`int`
        Frames for which both give the same.
    float_right, right : :class:`int` or :py:`None`
        Frames for which each model gives the label.
    """

    frames: int
    agreeing: int
    float_right: int | None
    right: int | None


def layer_losses(float_model: onnx.ModelProto, quantized: onnx.ModelProto,
                 frames: Frames) -> tuple[LayerLoss, ...]:
    """The loss of every layer whose activations both models have, in the order of the model.

    Both run without any fusion, in float32: what differs is the quantization.
    """
    pairs = _pairs(float_model, quantized)
    originals, results = list(dict.fromkeys(pairs)), list(dict.fromkeys(pairs.values()))
    sessions = (_session(float_model, originals), _session(quantized, results))
    signal, noise = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)
    for feeds in frames:
        wanted, found = (dict(zip(names, session.run(names, dict(feeds)))) for names, session in
                         zip((originals, results), sessions))
        for name, result in pairs.items():
            values = wanted[name].astype(np.float64)
            signal[name] += float(np.sum(values ** 2))
            noise[name] += float(np.sum((values - found[result]) ** 2))
    snrs = {name: _decibels(signal[name], noise[name]) for name in pairs}

    makers = {name: node for node in quantized.graph.node for name in node.output}
    losses = []
    for name in pairs:
        node = makers.get(name) or makers.get(f"{name}{_BEFORE}")
        if node is not None and node.op_type == "DequantizeLinear":
            node = makers[f"{name}{_BEFORE}"]
        if node is None:
            losses.append(LayerLoss(name=name, op="Input", snr=snrs[name], loss=0.0))
            continue
        sources = [snrs[source] for source in (_original(each, makers) for each in node.input)
                   if source in snrs]
        loss = max(0.0, min(sources) - snrs[name]) if sources else 0.0
        losses.append(LayerLoss(name=node.name or name, op=node.op_type, snr=snrs[name],
                                loss=loss if math.isfinite(loss) else 0.0))
    return tuple(losses)


def top_result(float_model: onnx.ModelProto, quantized: onnx.ModelProto, frames: Frames,
               labels: Sequence[int] | None = None) -> TopResult | None:
    """Compares the first results of a classifier; :py:`None` if the first output is not of one.

    Raises
    ------
    InputError
        If a label, of which there is one for each frame, is of no class.
    """
    sessions = GoldenSession(float_model), GoldenSession(quantized)
    output = sessions[0].names[0]
    agreeing = float_right = right = 0
    for position, feeds in enumerate(frames):
        first, second = (np.asarray(session.run(feeds)[output]) for session in sessions)
        if first.size < 2 or max(first.shape) != first.size:
            return None
        wanted, found = int(first.argmax()), int(second.argmax())
        agreeing += wanted == found
        if labels is not None:
            if not 0 <= labels[position] < first.size:
                raise InputError(f"Label {position + 1} must be 0 to {first.size - 1}, "
                                 f"not {labels[position]}")
            float_right += wanted == labels[position]
            right += found == labels[position]
    given = labels is not None
    return TopResult(frames=len(frames), agreeing=agreeing,
                     float_right=float_right if given else None, right=right if given else None)


def overflowing(model: onnx.ModelProto, frames: Frames) -> onnx.NodeProto | None:
    """The first node of a float model whose output is not finite on one of the frames."""
    makers = {name: node for node in model.graph.node for name in node.output if name}
    session = _session(model, list(makers))
    for feeds in frames:
        for name, values in zip(makers, session.run(list(makers), dict(feeds))):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return makers[name]
    return None


def _pairs(float_model: onnx.ModelProto, quantized: onnx.ModelProto) -> dict[str, str]:
    """The quantized model's tensor for tensors of the float model, in the order of the former."""
    known = {value.name for value in float_model.graph.input}
    known |= {name for node in float_model.graph.node for name in node.output}
    types = {value.name: value.type.tensor_type.elem_type
             for value in (*float_model.graph.value_info, *float_model.graph.output)}
    pairs: dict[str, str] = {}
    for node in quantized.graph.node:
        for name in node.output:
            original = name.removesuffix(_AFTER) if node.op_type == "DequantizeLinear" else name
            if original in known and types.get(original, 1) == onnx.TensorProto.FLOAT:
                pairs[original] = name
    return pairs


def _original(name: str, makers: dict[str, onnx.NodeProto]) -> str:
    """The float model's name of a tensor that quantizers may have been put behind."""
    while name in makers and makers[name].op_type in ("QuantizeLinear", "DequantizeLinear"):
        name = makers[name].input[0]
    return name.removesuffix(_BEFORE)


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _session(model: onnx.ModelProto, names: Sequence[str]) -> onnxruntime.InferenceSession:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names
                             if name not in present)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(copy.SerializeToString(), options,
                                            providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen exception classes
        raise ModelError(f"onnxruntime cannot load the model: {first_line(error)}") from error
