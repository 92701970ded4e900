"""What a search has found so far, in SQLite, so that it can be stopped and go on."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from weft.boards.family import Capacity
from weft.errors import InputError

from .trial import NetworkFigures, Outcome

__all__ = ["Study"]


_SECONDS = 1.0      # to wait for another search in the same file
_TABLES = """
CREATE TABLE IF NOT EXISTS problem (identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trials (number INTEGER PRIMARY KEY, parameters TEXT NOT NULL,
                                   outcome TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS compiled (number INTEGER PRIMARY KEY, outcome TEXT NOT NULL);
"""


class Study:
    """The trials of a search, each kept as soon as it is known. One search at a time has the file.

    Parameters
    ----------
    path : path
        SQLite file; made if there is none.
    identity : :class:`str`
        Of the problem. Two with the same one have the same trials.

    Attributes
    ----------
    trials : list
        Choices and outcome of each trial that was kept before, in their order.
    compiled : :class:`dict`
        By number of the trial, the outcome of those that were compiled in full.

    Raises
    ------
    InputError
        If the file is none, is of another problem, or another search has it.
    """

    def __init__(self, path: Path, identity: str):
        self._path = path
        try:
            self._file = sqlite3.connect(path, timeout=_SECONDS, isolation_level=None)
            # What is kept outlives the process, and costs no wait for the disk.
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL",
                            "synchronous = NORMAL"):
                self._file.execute(f"PRAGMA {setting}")
            self._file.executescript(_TABLES)
            found = self._file.execute("SELECT identity FROM problem").fetchone()
            if found is None:
                self._file.execute("INSERT INTO problem VALUES (?)", (identity,))
            self.trials: list[tuple[dict[str, Any], Outcome]] = [
                (json.loads(parameters), _outcome(outcome)) for parameters, outcome in
                self._file.execute("SELECT parameters, outcome FROM trials ORDER BY number")]
            self.compiled: dict[int, Outcome] = {
                number: _outcome(outcome) for number, outcome in
                self._file.execute("SELECT number, outcome FROM compiled")}
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            locked = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            raise InputError(f"Study {path} cannot be opened: " + (
                "another search has it" if locked else
                f"it is none of this version of Weft ({error}); -o with another folder starts "
                f"anew")) from None
        if found is not None and found[0] != identity:
            self.close()
            raise InputError(f"Study {path} must be of the same networks, board, space, "
                             f"objectives and seed to go on; it is of others: -o with another "
                             f"folder starts anew")

    def close(self) -> None:
        """Gives the file free."""
        self._file.close()

    def keep(self, number: int, parameters: Mapping[str, Any], outcome: Outcome) -> None:
        """Keeps a trial."""
        self._insert("trials", number, json.dumps(parameters), json.dumps(asdict(outcome)))

    def keep_compiled(self, number: int, outcome: Outcome) -> None:
        """Keeps what a trial comes to if it is compiled in full."""
        self.compiled[number] = outcome
        self._insert("compiled", number, json.dumps(asdict(outcome)))

    def _insert(self, table: str, *values: int | str) -> None:
        try:
            self._file.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})",
                               values)
        except sqlite3.Error as error:
            raise InputError(f"Study {self._path} cannot be written: {error}") from None


def _outcome(text: str) -> Outcome:
    """The inverse of :func:`dataclasses.asdict`, as JSON."""
    values = json.loads(text)
    used = values["used"]
    return Outcome(**{**values, "used": None if used is None else Capacity(**used),
                      "networks": tuple(NetworkFigures(**each) for each in values["networks"])})
