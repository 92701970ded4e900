"""Named configurations, and how a user names one, or writes one down."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from .config import AcceleratorConfig, ConfigError

__all__ = ["PRESETS", "load_config"]


_FILE_CHARACTERS = 1 << 16  # of a configuration file


PRESETS: dict[str, AcceleratorConfig] = {
    config.name: config for config in (
        AcceleratorConfig(
            name="tiny", rows=4, cols=4, requant_lanes=2, activation_bytes=64 * 1024,
            weight_bytes=16 * 1024, accumulator_pixels=128, parameter_channels=256,
            axi_data_width=32),
        AcceleratorConfig(
            name="small", rows=8, cols=8, requant_lanes=4, activation_bytes=96 * 1024,
            weight_bytes=64 * 1024),
        AcceleratorConfig(
            name="wide", rows=8, cols=12, requant_lanes=4, activation_bytes=96 * 1024,
            weight_bytes=96 * 1024),
        AcceleratorConfig(
            name="base", rows=16, cols=16, requant_lanes=16, activation_bytes=128 * 1024,
            weight_bytes=128 * 1024, accumulator_pixels=512, vector_taps=10, vector_lines=512,
            vector_entries=256),
    )
}
"""Named configurations, smallest first."""


def load_config(source: str) -> AcceleratorConfig:
    """The preset named ``source``, or the configuration in the TOML file at ``source``; with other
    values for the fields that follow it, as in ``base,fixed_point=true,vector_taps=5``.

    A TOML file holds the fields of :class:`AcceleratorConfig`; with ``preset = "base"`` it starts
    from that preset and changes only what it names.

    Raises
    ------
    ConfigError
        If there is no such preset or file, the file is not TOML, or a field is unknown or wrong.
    """
    start, *changes = source.split(",")
    config = PRESETS[start] if start in PRESETS else _read(start)
    values: dict[str, Any] = {}
    for change in changes:
        try:
            one = _table(change, f"Config {source}")
        except ConfigError:
            raise
        except (ValueError, RecursionError):
            one = {}
        if len(one) != 1:
            raise ConfigError(f"Config {source} must have field=value behind each comma, "
                              f"not {change!r}")
        values |= one
    return config.replace(**{"name": "custom", **values}) if values else config


def _read(source: str) -> AcceleratorConfig:
    """The configuration in a TOML file."""
    path = Path(source)
    if path.suffix != ".toml":
        raise ConfigError(f"Config must be one of {', '.join(PRESETS)} or a .toml file, "
                          f"not {source!r}")
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_FILE_CHARACTERS + 1)
        if len(text) > _FILE_CHARACTERS:
            raise ConfigError(f"Config file {source} must have at most {_FILE_CHARACTERS} "
                              f"characters")
        values = _table(text, f"Config file {source}", "preset")
    except OSError as error:
        raise ConfigError(f"Config file {source} cannot be read: {error.strerror}") from None
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"Config file {source} is not TOML: {error}") from None

    preset = values.pop("preset", None)
    values.setdefault("name", path.stem if path.stem.isidentifier() else "custom")
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ConfigError(f"Preset must be one of {', '.join(PRESETS)}, not {preset!r}")
        return PRESETS[preset].replace(**values)
    missing = [field.name for field in dataclasses.fields(AcceleratorConfig)
               if field.default is dataclasses.MISSING and field.name not in values]
    if missing:
        raise ConfigError(f"Config file {source} must have {', '.join(missing)}, or a preset")
    return AcceleratorConfig(**values)


def _table(text: str, source: str, *others: str) -> dict[str, Any]:
    """Fields of a configuration, and ``others``, from TOML."""
    values = tomllib.loads(text)
    fields = {field.name for field in dataclasses.fields(AcceleratorConfig)}
    for key, value in values.items():
        if isinstance(value, int) and value.bit_length() > 64:
            raise ConfigError(f"{source} must have numbers of at most 64 bits; {key} has "
                              f"{value.bit_length()}")
        if key not in fields and key not in others:
            raise ConfigError(f"{source} has an unknown field {key!r}; the fields are "
                              f"{', '.join((*others, *sorted(fields)))}")
    return values
