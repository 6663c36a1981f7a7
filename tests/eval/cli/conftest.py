"""Made-up runs for commands that need no network."""

from __future__ import annotations

import sys
from pathlib import Path

# The made-up run lives beside the tests of the metrics.
sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
