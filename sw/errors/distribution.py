"""The distribution that this package comes in, whose name is not that of the import."""

import re
from collections.abc import Iterable
from importlib import metadata
from importlib.metadata import packages_distributions

__all__ = ["install_command", "installed_versions", "version"]


_PACKAGE = __name__.partition(".")[0]


def install_command(extra: str) -> str:
    """The command that installs what an extra of the distribution consists of.

    The distribution is named as it is installed: its name on a package index may be another
    project's. From a clone that is not installed, the command is that for its folder.
    """
    return f"pip install '{_name() or '.'}[{extra}]'"


def version() -> str:
    """The version of the distribution, or ``0+source`` from a clone that is not installed."""
    name = _name()
    return "0+source" if name is None else metadata.version(name)


def installed_versions(extras: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """The versions of the packages that the distribution asks for.

    Parameters
    ----------
    extras : iterable of :class:`str`
        The optional dependencies of interest.

    Returns
    -------
    dict
        For ``""`` and each extra, the packages in the order of their declaration; :data:`None` for
        one that is not installed. Empty from a clone that is not installed.
    """
    name = _name()
    if name is None:
        return {}
    groups: dict[str, dict[str, str | None]] = {"": {}, **{extra: {} for extra in extras}}
    for requirement in metadata.requires(name) or ():
        package, _, condition = requirement.partition(";")
        extra = re.search(r"""\bextra\s*==\s*["']([^"']+)""", condition)
        group = groups.get(extra[1] if extra else "")
        found = re.match(r"[\w.-]+", package)
        if group is not None and found is not None:
            group[found[0]] = _version(found[0])
    return groups


def _name() -> str | None:
    """The distribution's name, if it is installed."""
    names = packages_distributions().get(_PACKAGE, ())
    # A distribution that is called as the import is what an older installation left behind.
    return min(names, key=lambda name: (name == _PACKAGE, name), default=None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
