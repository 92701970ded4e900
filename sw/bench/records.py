"""Files of recorded results."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from weft.errors import InputError

__all__ = ["FORMAT", "read_record"]


FORMAT = 1
"""Of all records; the number that a file has under ``format``."""

Result = TypeVar("Result")


def read_record(path: Path, key: str, make: Callable[[dict[str, Any]], Result], *, what: str,
                program: str, hint: str = "") -> list[Result]:
    """The results in a record.

    Parameters
    ----------
    path : path
    key : :class:`str`
        Under which the results stand.
    make : callable
        Makes a result of its dictionary.
    what, program : :class:`str`
        How a message calls the file and the command that records it.
    hint : :class:`str`
        What to do about a file that cannot be read.

    Raises
    ------
    InputError
        If the file cannot be read, or is none of this command's.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, not {FORMAT}")
        return [make(values) for values in document[key]]
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}{hint}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{what} {path} is not one of this {program} ({error}): remove it, and "
                         f"record one with {program} --record") from None
