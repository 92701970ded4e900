"""``weft quantize``: from a float network to an int8 one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import InputError
from weft.files.output import check_outputs
from weft.hw.isa.presets import load_config

from .float_model import note_source
from .options import Commands, add_config_option, add_state_option, state_pairs

if TYPE_CHECKING:
    from weft.quantize import Frames
    from weft.quantize.source import FloatModel

__all__ = ["add_parser"]


_PIXELS = ("size", "mean", "std", "layout", "channels")
"""Options that say how an image becomes an input."""


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "quantize", help="make an int8 network of a float one",
        description="Quantizes a float network with onnxruntime, makes sure that the accelerator "
                    "takes the result, and tells what each layer has lost.")
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="float network")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.onnx",
                        help="int8 network to write, in QDQ form")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--calibrate", type=Path, metavar="DATA",
                        help="folder of images, or .npz file: array 'input' [frames, ...], or one "
                             "array for each input under its name")
    source.add_argument("--random", type=int, metavar="N",
                        help="calibrate with N frames of noise: to try, not for accuracy")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="seed of the noise (default: 0)")
    parser.add_argument("--labels", type=Path, metavar="FILE",
                        help="text file with the class of each frame, a number per line")
    parser.add_argument("--input-shape", action="append", default=[], type=_shape,
                        metavar="NAME=1,3,224,224",
                        help="shape of an input with dynamic dimensions; can be given several "
                             "times")
    add_state_option(parser, "an output that the next frame reads as an input: the frames are "
                             "steps of one sequence, and both get one scale")
    parser.add_argument("--per-tensor", action="store_true",
                        help="one weight scale for all output channels, not one for each")
    parser.add_argument("--method", choices=("minmax", "entropy", "percentile"), default="minmax",
                        help="how the ranges of activations are chosen (default: minmax)")
    parser.add_argument("--exclude", nargs="+", action="extend", default=[], metavar="NODE",
                        help="nodes that stay float, and run on the host")
    add_config_option(parser)
    images = parser.add_argument_group(
        "images", "A network's input is (pixel / 255 - mean) / std.")
    images.add_argument("--size", type=int, metavar="N",
                        help="scale the shorter side to N pixels before the middle is cut out "
                             "(default: as little as the network needs)")
    images.add_argument("--mean", type=_numbers, metavar="R,G,B",
                        help="one, or one for each channel (default: 0)")
    images.add_argument("--std", type=_numbers, metavar="R,G,B",
                        help="one, or one for each channel (default: 1)")
    images.add_argument("--layout", choices=("nchw", "nhwc"),
                        help="order of the network's input (default: as its shape tells)")
    images.add_argument("--channels", type=int, choices=(1, 3),
                        help="1 for grey, 3 for colours (default: as the network's input has)")
    parser.set_defaults(program=_quantize)


def _quantize(options: argparse.Namespace) -> int:
    from weft.quantize import Quantization, quantize
    from weft.quantize.source import load_float
    from weft.report.quantization import print_quantized
    from weft.report.terminal import Progress, terminal

    config = load_config(options.config)
    if options.labels is not None and options.random is not None:
        raise InputError("Option --labels needs --calibrate: noise is of no class")
    check_outputs({"--output": options.output},
                  {"the model": options.model, "--config": options.config,
                   "--labels": options.labels, "--calibrate": options.calibrate})
    labels = None if options.labels is None else _labels(options.labels)
    with Progress() as progress:
        progress.stage(f"Reading {options.model.name}")
        source = load_float(options.model, dict(options.input_shape), states=state_pairs(options))
        note_source(source, progress, noise=options.random is not None)
        quantized = quantize(
            source, _frames(source, options), output=options.output, labels=labels, config=config,
            settings=Quantization(per_channel=not options.per_tensor, method=options.method,
                                  exclude=tuple(options.exclude)),
            stage=progress.stage, step=progress.step)
    print_quantized(quantized, options.output, config.name, terminal())
    return 0


def _frames(source: "FloatModel", options: argparse.Namespace) -> "Frames":
    from weft.quantize import Pixels, calibration_frames, random_frames

    pixels = {name: getattr(options, name) for name in _PIXELS
              if getattr(options, name) is not None}
    if pixels and (options.random is not None or options.calibrate.is_file()):
        raise InputError(f"Option --{next(iter(pixels))} needs --calibrate with a folder of images")
    if options.random is not None:
        return random_frames(source.shapes, options.random, seed=options.seed)
    return calibration_frames(options.calibrate, source.shapes, Pixels(**pixels))


def _labels(path: Path) -> list[int]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise InputError(f"Labels {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"Labels {path} must be a text file") from None
    labels = []
    for number, line in enumerate(lines, 1):
        if not (line.isascii() and line.isdecimal()):
            raise InputError(f"Label {number} of {path} must be a number, not {line!r}")
        labels.append(int(line))
    return labels


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"must be like NAME=1,3,224,224, not {text!r}")
    return name, shape


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between, "
                                         f"not {text!r}") from None
