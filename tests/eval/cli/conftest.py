"""Made-up runs for commands that need no network."""

from __future__ import annotations
