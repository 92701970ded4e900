"""The example network: handwritten digits, small enough to simulate in seconds.

Its images are those that scikit-learn carries in its package, so nothing has to be downloaded.
:py:`python -m weft.digits` runs them through the simulated accelerator, and
:py:`python -m weft.digits.train` trains the network again.
"""

from importlib import resources
from pathlib import Path

import numpy as np

from weft.errors import ToolError
from weft.errors.distribution import install_command

__all__ = ["MODEL", "load", "load_training"]


MODEL = Path(str(resources.files("weft.digits").joinpath("digits_int8.onnx")))
"""The quantized network: float32 [1, 1, 8, 8] of 0..16 in, float32 [1, 10] of logits out."""

_SPLIT_SEED = 2024


def load() -> tuple[np.ndarray, np.ndarray]:
    """The held-out images, which training never sees.

    Returns
    -------
    images : float32 [450, 1, 8, 8]
        Pixels of 0 (paper) to 16 (ink).
    labels : int64 [450]
        The digit on each image, 0..9.

    Raises
    ------
    ToolError
        If scikit-learn, which carries the images, is not installed.
    """
    return _split()[1]


def load_training() -> tuple[np.ndarray, np.ndarray]:
    """The other 1347 images, shaped like those of :func:`load`."""
    return _split()[0]


def _split() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ToolError(f"The digit images come with scikit-learn, which is not installed: run "
                        f"{install_command('digits')}") from None
    data, labels = load_digits(return_X_y=True)
    images = data.astype(np.float32).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)

    # A quarter of each digit is held out. `RandomState` and not `default_rng`: only the former
    # promises the same numbers in every version of numpy, and a split that moved would put images
    # that the committed network was trained on among the held-out ones.
    rng = np.random.RandomState(_SPLIT_SEED)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(labels == digit))
        held_out[members[:round(len(members) / 4)]] = True
    return ((images[~held_out], labels[~held_out]), (images[held_out], labels[held_out]))
