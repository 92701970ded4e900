"""``weft stream``: from a network along time to the step that a stream takes."""

import argparse
from pathlib import Path

from weft.files.output import check_outputs

from .options import Commands

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "stream", help="make the step of a stream of a network along time",
        description="Rewrites an int8 network of convolutions along time: the result takes a few "
                    "samples at a time, keeps the last ones as states, and makes the same bytes.")
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="int8 network")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.onnx",
                        help="network to write: a step, with its states as inputs and outputs")
    parser.add_argument("--hop", type=int, default=1, metavar="N",
                        help="samples of a step (default: 1)")
    parser.set_defaults(program=_stream)


def _stream(options: argparse.Namespace) -> int:
    import numpy as np

    from weft.errors.text import printable
    from weft.files.output import replacing
    from weft.frontend.onnx.model import OnnxModel
    from weft.frontend.onnx.streaming import streaming

    check_outputs({"--output": options.output}, {"the model": options.model})
    step = streaming(options.model, hop=options.hop)
    with replacing(options.output) as temporary:
        temporary.write_bytes(step.model.SerializeToString())
    size = sum(int(np.prod(info.shape)) for info in OnnxModel(step.model).inputs
               if info.name in step.states.values())
    print(f"{options.output}: {step.hop:,} samples a step, {len(step.states):,} states of "
          f"{size:,} bytes")
    for name, delay in step.delays.items():
        if delay:
            print(f"output {printable(name)}: the first {delay:,} samples come before those of "
                  f"{options.model.name}")
    return 0
