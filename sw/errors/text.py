"""Text of others, names in a model for instance, as it can be shown on one line."""

import unicodedata

__all__ = ["printable"]


# Controls (a line's end, an escape sequence), formats (which turn the direction of writing), lone
# surrogates, and the two separators that end a line.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """``text`` on one line and without effect on a terminal: what is not a character to be seen
    is written as in Python, ``\\x1b`` or ``\\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(repr(character)[1:-1] if unicodedata.category(character) in _UNSHOWN
                   else character for character in text)
