"""Makes the helpers that sit beside the tests importable: ``from stream_bench import ...``; and
has simulators built quickly, since a test runs few cycles on each."""

import os
import sys
from pathlib import Path

os.environ.setdefault("WEFT_OPTIMIZE", "1")
sys.path.insert(0, str(Path(__file__).parent))
