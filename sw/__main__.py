"""``python -m weft`` is ``weft``."""

import sys

from weft.cli import main

__all__: list[str] = []

sys.exit(main())
