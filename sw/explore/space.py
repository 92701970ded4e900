"""What a search may choose: values for fields of the configuration."""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import InputError
from weft.hw.isa.config import AcceleratorConfig, ConfigError

__all__ = ["DEFAULT_SPACE", "Space", "load_space"]


_FILE_CHARACTERS = 1 << 16
_K = 1024


@dataclass(frozen=True)
class Space:
    """For each field of the configuration that is searched, the values that it may have; all other
    fields stay as they are where the search begins.

    Parameters
    ----------
    choices : :class:`dict`
        By name of a field of :class:`~weft.hw.isa.config.AcceleratorConfig`, one value or more.
    """

    choices: Mapping[str, tuple[Any, ...]]

    @property
    def size(self) -> int:
        """Number of configurations, those that are none included."""
        size = 1
        for values in self.choices.values():
            size *= len(values)
        return size

    def parameters(self, config: AcceleratorConfig) -> dict[str, Any] | None:
        """The choices that make ``config``; :py:`None` if it is outside the space."""
        found = {name: getattr(config, name) for name in self.choices}
        inside = all(found[name] in values for name, values in self.choices.items())
        return found if inside else None


DEFAULT_SPACE = Space({
    "rows": (4, 8, 12, 16, 24, 32),
    "cols": (4, 8, 12, 16, 24, 32),
    "requant_lanes": (1, 2, 4, 8),
    "activation_bytes": tuple(_K * size for size in (16, 24, 32, 48, 64, 96, 128, 192)),
    "activation_banks": (2, 4, 8),
    "weight_bytes": tuple(_K * size for size in (8, 16, 32, 64, 96, 128, 192)),
    "accumulator_pixels": (128, 256, 512, 1024),
    "parameter_channels": (256, 512, 1024),
    "axi_data_width": (32, 64, 128),
    "queue_depth": (1, 2, 4),
    "vector_taps": (1, 2, 3, 5),
    "vector_lines": (0,),
    "vector_entries": (128, 256, 512, 1024),
})
"""What is searched unless the user says otherwise."""


def load_space(path: Path, base: AcceleratorConfig) -> Space:
    """The space in a TOML file: a list of values for each field, or one value that is kept::

        rows = [8, 16]
        cols = [8, 16]
        vector_taps = 1

    Fields that it does not name stay as in ``base``; but for ``vector_lines``, which is 0 where
    ``vector_taps`` are named, of which some may be too few for them.

    Raises
    ------
    InputError
        If the file is none, names no field, or a field that there is not, or no values for one, or
        one that no configuration can have.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_FILE_CHARACTERS + 1)
        if len(text) > _FILE_CHARACTERS:
            raise InputError(f"Space file {path} must have at most {_FILE_CHARACTERS} characters")
        table = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"Space file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"Space file {path} is not TOML: {error}") from None
    fields = [field.name for field in dataclasses.fields(AcceleratorConfig)
              if field.name != "name"]
    choices: dict[str, tuple[Any, ...]] = {}
    for name, values in table.items():
        if name not in fields:
            raise InputError(f"Space file {path} has an unknown field {name!r}; the fields are "
                             f"{', '.join(sorted(fields))}")
        listed = values if isinstance(values, list) else [values]
        if not listed:
            raise InputError(f"Space file {path} must have a value or more for {name}, not an "
                             f"empty list")
        for value in listed:
            _check(path, base, name, value)
        choices[name] = tuple(dict.fromkeys(listed))
    if not choices:
        raise InputError(f"Space file {path} must have values for a field or more, such as "
                         f"rows = [8, 16]; it has none")
    if "vector_taps" in choices:
        choices.setdefault("vector_lines", (0,))
    return Space(choices)


# Fields whose rules depend on others; these are tried with values that leave them free.
_FREE: Sequence[dict[str, Any]] = (
    {}, {"vector_lines": 0}, {"requant_lanes": 1},
    {"requant_lanes": 1, "parameter_channels": 65536},
    {"rows": 64, "cols": 64}, {"rows": 2, "cols": 2, "requant_lanes": 1, "activation_banks": 1,
                               "axi_data_width": 32},
    {"rows": 2, "cols": 2, "requant_lanes": 1, "axi_burst_beats": 1,
     "parameter_channels": 65536, "activation_bytes": 1 << 20, "weight_bytes": 1 << 20})


def _check(path: Path, base: AcceleratorConfig, name: str, value: Any) -> None:
    """Makes sure that some configuration has this value."""
    first: ConfigError | None = None
    for others in _FREE:
        try:
            base.replace(**{**others, name: value})
            return
        except ConfigError as error:
            first = first or error
    raise InputError(f"Space file {path} has a value of {name} outside its range: {first}")
