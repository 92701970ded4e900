"""Streams the held-out digits through the simulated accelerator: ``python -m weft.digits``."""

import argparse
import sys

import numpy as np

from weft.cli.session import add_session_options, open_session, session_target
from weft.errors import InputError
from weft.errors.guard import EXIT_MISMATCH, guarded
from weft.report.terminal import Progress, print_run, terminal
from weft.runtime.runner import run_frames

from . import MODEL, load

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs, compares every layer with onnxruntime, and prints cycles, accuracy and differences.

    Returns
    -------
    :class:`int`
        0; 1 if a byte differs from onnxruntime; 2 after an error; 130 after Ctrl-C.
    """
    return guarded(_main, arguments)


def _main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m weft.digits", description=__doc__)
    add_session_options(parser)
    parser.add_argument("--frames", type=int, metavar="N",
                        help="run only the first N held-out images")
    options = parser.parse_args(arguments)
    target = session_target(options)
    images, labels = load()
    if options.frames is not None:
        if not 1 <= options.frames <= len(images):
            raise InputError(f"Number of frames must be between 1 and {len(images)}, "
                             f"not {options.frames}")
        images, labels = images[:options.frames], labels[:options.frames]
    with Progress() as progress, \
            open_session(MODEL, MODEL.name, target, progress) as session:
        progress.stage(f"Running {len(images)} images of handwritten digits")
        name = session.get_inputs()[0].name
        run = run_frames(session, {name: images}, model=MODEL.name, device=target.device,
                         verify=True, progress=progress.step)
    console = terminal()
    print_run(run, console)
    right = int(np.count_nonzero(run.outputs[0].argmax(axis=1) == labels))
    console.print(f"accuracy: {right / len(labels):.2%} ({right} of {len(labels)} held-out images)",
                  highlight=False)
    return EXIT_MISMATCH if run.differing else 0


if __name__ == "__main__":
    sys.exit(main())
