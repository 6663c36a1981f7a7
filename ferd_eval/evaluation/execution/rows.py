"""Verdicts as rows of the outcomes table; a cascade's stages merged to one row an image.

R rows: B images, or B × targets. C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.attacks import Batch, Verdicts
from ferd_eval.results.outcomes import conform


def rows_of(batch: Batch, verdicts: Verdicts, attack: str) -> pd.DataFrame:
    """The rows of a batch under an attack's id, for `conform`."""
    rows_R = verdicts.rows_R.cpu()
    labels_R = batch.labels_B.cpu()[rows_R].numpy()
    pred_R = verdicts.adv_pred_R.cpu().numpy()
    targets = None if verdicts.targets_R is None else verdicts.targets_R.cpu().numpy()
    return pd.DataFrame(
        {
            "index": batch.indices_B.cpu()[rows_R].numpy(),
            "label": labels_R,
            "attack": attack,
            "target": pd.array(
                [pd.NA] * len(rows_R) if targets is None else targets, dtype="Int32"
            ),
            "clean_pred": batch.clean_logits_BK.argmax(1).cpu()[rows_R].numpy(),
            "adv_pred": pred_R,
            "correct": pred_R == labels_R,
            "margin": verdicts.margin_R.float().cpu().numpy(),
            "confidence": verdicts.confidence_R.float().cpu().numpy(),
            "stage": pd.array([stage or pd.NA for stage in verdicts.stages], dtype="string"),
            "steps": verdicts.steps_R.cpu().numpy(),
            "linf": verdicts.linf_R.float().cpu().numpy(),
        }
    )


def finalize(rows: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Rows of a stage, with final verdicts by the rules of a cascade.

    An image misclassified without attack is not robust, whatever rounding makes of it in another
    batch; one misclassified after the stage was broken by it, even if only by rounding.
    """
    final = rows.copy()
    wrong_N = (rows["clean_pred"] != rows["label"]).to_numpy()
    final.loc[wrong_N, "adv_pred"] = rows.loc[wrong_N, "clean_pred"]
    final["correct"] = final["adv_pred"] == final["label"]
    unnamed_N = (~final["correct"] & final["stage"].isna()).to_numpy() & ~wrong_N
    final.loc[unnamed_N, "stage"] = stage
    return final


def merge_stages(stages: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """One row an image, of the stage that broke it or else came closest, and that stage's number.

    Later stages see the survivors of earlier ones; rows are in the order of the first stage. Steps
    are summed.
    """
    everything = concatenate([rows.assign(source=number) for number, rows in enumerate(stages)])
    everything = everything.sort_values(["correct", "margin", "source"], kind="stable")
    decisive = everything.drop_duplicates("index").set_index("index")
    decisive["steps"] = everything.groupby("index")["steps"].sum()
    decisive = decisive.loc[stages[0]["index"]].reset_index()
    return conform(decisive), decisive["source"].to_numpy()


def concatenate(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames of the same columns below each other, without their `attrs`."""
    for frame in frames[1:]:
        assert list(frame.columns) == list(frames[0].columns)
    bare = [frame.copy(deep=False) for frame in frames]
    for frame in bare:
        frame.attrs = {}
    return pd.concat(bare, ignore_index=True)
