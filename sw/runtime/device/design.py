"""Does a board hold the design that this release of Weft builds for it?"""

from weft.boards.board import Board
from weft.boards.system.design_hash import design_hash

from .base import DeviceError
from .serial import SerialDevice

__all__ = ["OtherDesign", "check_design"]


class OtherDesign(DeviceError):
    """A board whose bitstream was built from something else."""


def check_design(board: Board, device: SerialDevice) -> str:
    """Compares the hash of what ``device`` was built from with that of ``board``.

    Of another configuration a :class:`~weft.runtime.device.Driver` names the field that differs; so
    it is made first.

    Returns
    -------
    :class:`str`
        What was found.

    Raises
    ------
    OtherDesign
        If they differ.
    """
    wanted = design_hash(board)
    if device.design != wanted:
        raise OtherDesign(f"Board holds another design, {device.design:08x}, than {board.name} of "
                          f"this release of Weft, {wanted:08x}: build its bitstream again and load "
                          f"it")
    return f"hash {wanted:08x}"
