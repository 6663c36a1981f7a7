"""Rows of the units of a stage, gathered in any order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.ledger import concatenate


@dataclass
class GatheredRows:
    """Tables joined again and again as they come, so that there are only ever a few.

    Many small ones, each made between a network's large tensors, would lie scattered through the
    heap; glibc's aligned blocks do not fit into the gaps that are left, and memory would grow with
    the data set. Each row is copied at most as often as the number of units can be halved.
    """

    _tables: list[pd.DataFrame] = field(default_factory=list)
    _numbers: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, number: int, rows: pd.DataFrame) -> None:
        """Take the rows of a unit.

        Args:
            number: its place in the stage.
            rows: copied, without their `attrs`.
        """
        self._tables.append(rows)
        self._numbers.append(np.full(len(rows), number))
        while len(self._tables) > 1 and len(self._tables[-2]) <= len(self._tables[-1]):
            self._join(2)

    def in_order(self) -> pd.DataFrame:
        """All rows, by the place of their unit."""
        self._join(len(self._tables))
        order = np.argsort(self._numbers[0], kind="stable")
        return self._tables[0].iloc[order].reset_index(drop=True)

    def _join(self, last: int) -> None:
        self._tables[-last:] = [concatenate(self._tables[-last:])]
        self._numbers[-last:] = [np.concatenate(self._numbers[-last:])]
