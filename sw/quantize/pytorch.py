"""Networks of PyTorch: exported, quantized, and open for inference."""

import contextlib
import inspect
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from weft.errors import InputError, ModelError, ToolError
from weft.errors.distribution import install_command
from weft.files.output import check_writable, replacing
from weft.frontend.onnx.source import is_quantized
from weft.reference.golden import GoldenSession, first_line
from weft.runtime.session import InferenceSession

from .calibration import CalibrationData, calibration_frames
from .pipeline import Quantization, to_int8
from .source import load_float

if TYPE_CHECKING:
    import torch

__all__ = ["export_module", "from_torch"]


_OPSET = 17
_TOLERANCE = 1e-3   # of the largest output: float32 sums in another order stay far below


def from_torch(module: "torch.nn.Module", example_inputs: Any,
               calibration: CalibrationData | None = None, *,
               settings: Quantization | None = None, output: str | Path | None = None,
               **session: Any) -> InferenceSession:
    """A session to a network of PyTorch, quantized to int8 on the way.

    Parameters
    ----------
    module : :class:`torch.nn.Module`
        In float32; or of quantization-aware training, so that its export quantizes by itself.
    example_inputs : tensor, or :class:`tuple` of tensors
        What the module is called with, for its export. A batch becomes 1.
    calibration : :data:`CalibrationData`
        What a float network is calibrated on: tensors, arrays, batches of a data loader (labels
        are not looked at), a folder of images, an .npz file, ``random:N``.
    settings : :class:`Quantization`
    output : path
        File for the int8 network; by default it is not kept.
    session
        Passed on to :class:`weft.runtime.session.InferenceSession`: ``config``, ``device``...

    Returns
    -------
    :class:`weft.runtime.session.InferenceSession`
        Its inputs have the names that they have in ``forward``; its output is called ``output``,
        or several ``output0``, ``output1``...

    Raises
    ------
    ToolError
        If PyTorch is not installed.
    ModelError, CompileError
        If the module cannot be exported, changes its results by that, or cannot be quantized or
        compiled.
    InputError
        If the inputs are no tensors, or the calibration or an option of the session does not fit.
    """
    if output is not None:
        check_writable(Path(output))
    model = export_module(module, example_inputs)
    name = model.graph.name
    if not is_quantized(model):
        if calibration is None:
            raise InputError(f"{name} is a float network, and must be given data to calibrate on")
        source = load_float(model)
        frames = calibration_frames(calibration, source.shapes)
        if len(frames):
            _check_export(module, source.model, frames[0], name)
        model = to_int8(source, frames, settings)
        model.graph.name = name
    opened = InferenceSession(model, **session)
    if output is not None:
        with replacing(Path(output)) as temporary:
            temporary.write_bytes(model.SerializeToString())
    return opened


def export_module(module: "torch.nn.Module", example_inputs: Any) -> onnx.ModelProto:
    """The module as ONNX, for inference, named after its class.

    Raises
    ------
    ToolError
        If PyTorch is not installed.
    ModelError
        If the module cannot be exported.
    InputError
        If ``module`` is none, or the inputs are no tensors.
    """
    try:
        import torch
    except ImportError:
        raise ToolError(f"PyTorch is not installed: run {install_command('torch')}") from None
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"Module must be a torch.nn.Module, not {type(module).__name__}")
    inputs = tuple(example_inputs) if isinstance(example_inputs, tuple | list) \
        else (example_inputs,)
    for value in inputs:
        if not isinstance(value, torch.Tensor):
            raise InputError(f"Example inputs of {_name(module)} must be tensors, "
                             f"not {type(value).__name__}")
    with tempfile.TemporaryDirectory() as folder, _inference(module), _silent():
        path = Path(folder) / "exported.onnx"
        try:
            with torch.no_grad():
                count = len(_flat(module(*inputs)))
            # The exporter by tracing: the other one needs packages that have no stable release.
            torch.onnx.export(module, inputs, str(path), dynamo=False, opset_version=_OPSET,
                              input_names=_input_names(module, len(inputs)),
                              output_names=_numbered("output", count))
        except Exception as error:  # the exporter's, and whatever forward() raises
            reason = first_line(error).partition("  [Caused by")[0] or type(error).__name__
            raise ModelError(f"{_name(module)} cannot be exported to ONNX: {reason}") from error
        model = onnx.load(path)
    model.graph.name = _name(module)
    return model


def _check_export(module: "torch.nn.Module", model: onnx.ModelProto,
                  frame: Mapping[str, np.ndarray], name: str) -> None:
    """Tracing follows the example: where forward() looks at values, others may go another way."""
    import torch

    place = next((each.device for each in module.parameters()), torch.device("cpu"))
    with _inference(module), torch.no_grad():
        wanted = _flat(module(*(torch.from_numpy(values).to(place) for values in frame.values())))
    session = GoldenSession(model)
    found = session.run(dict(frame))
    for tensor, key in zip(wanted, session.names):
        expected, got = tensor.detach().cpu().numpy(), found[key]
        scale = max(1e-6, float(np.abs(expected).max(initial=0)))
        if expected.shape != got.shape or \
                not np.abs(expected - got).max(initial=0) <= _TOLERANCE * scale:
            raise ModelError(f"{name} gives another '{key}' once it is exported: its forward() "
                             f"must not depend on values, or on chance")


def _flat(outputs: Any) -> list[Any]:
    """The tensors in what a module returns, in the order in which they are exported."""
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    if isinstance(outputs, Sequence):
        return [tensor for each in outputs for tensor in _flat(each)]
    return [] if outputs is None else [outputs]


def _name(module: Any) -> str:
    return type(module).__name__


def _input_names(module: "torch.nn.Module", count: int) -> list[str]:
    parameters = list(inspect.signature(module.forward).parameters.values())
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return names[:count] if len(names) >= count else _numbered("input", count)


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}{each}" for each in range(count)]


@contextlib.contextmanager
def _inference(module: "torch.nn.Module") -> Iterator[None]:
    """The module as it is in use, and afterwards as it was."""
    training = [each for each in module.modules() if each.training]
    module.eval()
    try:
        yield
    finally:
        for each in training:
            each.training = True


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the exporter's warnings, and without the graph that it prints where it fails."""
    sys.stdout.flush()
    # It is printed in C++, past Python's standard output.
    kept = os.dup(1)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
