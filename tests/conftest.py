"""Makes the helpers that sit beside the tests importable: ``from stream_bench import ...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
