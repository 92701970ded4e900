"""Float networks where a command takes int8 ones: ``--quantize``."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from weft.quantize.source import FloatModel
    from weft.report.terminal import Progress

__all__ = ["add_quantize_option", "int8_model", "note_source"]


def add_quantize_option(parser: argparse.ArgumentParser) -> None:
    """The option for a float network; see :func:`int8_model`."""
    parser.add_argument("--quantize", metavar="DATA",
                        help="the network is float: quantize it on the way as weft quantize does, "
                             "calibrated on DATA: a folder of images, an .npz file, or random:N")


def int8_model(options: argparse.Namespace,
               states: Mapping[str, str] | None = None) -> "Path | onnx.ModelProto":
    """The model of a command: its file, or what ``--quantize`` makes of it, which is not kept. Its
    ``states`` are outputs that the next frame reads.

    Raises
    ------
    ModelError, InputError
        If the model is none to be quantized, or the data do not fit it.
    """
    path: Path = options.model
    if options.quantize is None:
        return path
    from weft.quantize import calibration_frames, to_int8
    from weft.quantize.calibration import NOISE, is_noise
    from weft.quantize.source import load_float
    from weft.report.terminal import Progress

    data: str = options.quantize
    with Progress() as progress:
        progress.stage(f"Quantizing {path.name}")
        source = load_float(path, states=states)
        note_source(source, progress, noise=is_noise(data))
        frames = calibration_frames(data, source.shapes)
        model = to_int8(source, frames, step=progress.step)
        given = f"--random {data.removeprefix(NOISE)}" if is_noise(data) \
            else f"--calibrate {shlex.quote(data)}"
        target = path.with_name(f"{path.stem}_int8.onnx")
        given += "".join(f" --state {shlex.quote(f'{output}={name}')}"
                         for output, name in source.states.items())
        progress.note(f"The int8 network is not kept; this does: weft quantize "
                      f"{shlex.quote(str(path))} -o {shlex.quote(str(target))} {given}")
    # What messages and tables call it.
    model.graph.name = path.name
    return model


def note_source(source: "FloatModel", progress: "Progress", *, noise: bool) -> None:
    """Says what is unusual about a float model and its calibration."""
    if source.batch > 1:
        progress.note(f"{source.name} has a batch of {source.batch}: the int8 network takes one "
                      f"frame at a time")
    if noise:
        progress.note("Warning: calibrated with noise, the network will not be accurate; it needs "
                      "real data")
