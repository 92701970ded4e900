"""What goes through a network: the frames of a file, or random ones."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from weft.runtime.session import InferenceSession

__all__ = ["add_frame_options", "choose_frames", "files_read", "given_arrays"]


def add_frame_options(parser: argparse.ArgumentParser, *, default: str) -> None:
    """The options that say what goes through a network."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--inputs", type=Path, metavar="X.npz",
                        help="frames: array 'input' [frames, ...], or one array for each input "
                             "under its name")
    source.add_argument("--random", type=int, metavar="N",
                        help=f"run N random frames instead (default: {default})")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="seed of the random frames (default: 0)")
    parser.add_argument("--batch", type=int, default=1, metavar="N",
                        help="compute N frames together, which share loads of weights "
                             "(default: 1)")
    parser.add_argument("--verify", action="store_true",
                        help="compare every layer of every frame with onnxruntime, or of a "
                             "TFLite network with LiteRT's reference kernels; on a board, the "
                             "outputs")


def files_read(options: argparse.Namespace) -> dict[str, str | Path | None]:
    """The files that a run reads, none of which it may write to."""
    return {"the model": options.model, "--inputs": options.inputs, "--config": options.config,
            "--quantize": options.quantize}


def given_arrays(options: argparse.Namespace) -> "dict[str, np.ndarray] | None":
    """The arrays of ``--inputs``, if it was given.

    Raises
    ------
    InputError
        If the file is none of arrays, or fewer than one random frame is asked for.
    """
    if options.random is not None and options.random < 1:
        raise InputError(f"Number of random frames must be at least 1, not {options.random}")
    if options.inputs is None:
        return None
    from weft.files.arrays import read_arrays

    return read_arrays(options.inputs)


def choose_frames(session: "InferenceSession", arrays: "dict[str, np.ndarray] | None",
                  options: argparse.Namespace, *, default: int) -> "dict[str, np.ndarray]":
    """The frames to run, by name of the input: those of ``--inputs``, or ``default`` random ones
    unless ``--random`` says how many."""
    from weft.runtime.runner import random_frames

    if arrays is None:
        return random_frames(session, options.random or default, seed=options.seed)
    names = [info.name for info in session.get_inputs()]
    return _choose_inputs(arrays, names, options.inputs)


def _choose_inputs(arrays: "dict[str, np.ndarray]", names: list[str], path: Path) \
        -> "dict[str, np.ndarray]":
    """The arrays that the model's inputs stand for; further ones in the file do no harm."""
    keys = {name: name for name in names}
    if len(names) == 1 and names[0] not in arrays:
        keys[names[0]] = "input"
    for key in keys.values():
        if key not in arrays:
            found = ", ".join(f"'{name}'" for name in arrays) or "none"
            raise InputError(f"Inputs {path} must have an array '{key}'; it has {found}")
    return {name: arrays[key] for name, key in keys.items()}
