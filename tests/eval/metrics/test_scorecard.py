"""The scorecard against scikit-learn, and its shape."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from ferd_eval.errors import UserError
from ferd_eval.io.json import to_json
from ferd_eval.metrics import TargetConfusion, scorecard
from ferd_eval.metrics.intervals import (
    gap_interval,
    lowest_percent_interval,
    possibly_worst,
    simultaneous,
    worst_class_interval,
)
from ferd_eval.results.outcomes import Outcomes
from tests.eval.metrics.simulated_run import CIFAR10, constants, rows, run, simulate


@st.composite
def predictions(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    K = draw(st.integers(1, 12))
    present = draw(st.lists(st.integers(0, K - 1), min_size=1, unique=True))
    n = draw(st.integers(1, 50))
    labels = draw(st.lists(st.sampled_from(present), min_size=n, max_size=n))
    return K, labels, draw(st.lists(st.integers(0, K - 1), min_size=n, max_size=n))


@settings(deadline=None, max_examples=60)
@given(predictions())
def test_figures_are_those_of_scikit_learn(drawn: tuple[int, list[int], list[int]]) -> None:
    K, labels, predicted = drawn
    names = [f"c{i}" for i in range(K)]
    scores = scorecard(run([rows("pgd", labels, predicted, clean=labels)], names)).attacks["pgd"]
    recall = recall_score(
        labels, predicted, labels=range(K), average=None, zero_division=np.nan
    )  # fmt: skip
    n = np.bincount(labels, minlength=K)
    recall = np.where(n == 0, np.nan, recall)
    assert scores.average == pytest.approx(accuracy_score(labels, predicted))
    np.testing.assert_allclose(
        [np.nan if c.accuracy is None else c.accuracy for c in scores.per_class], recall
    )
    assert [c.n for c in scores.per_class] == n.tolist()
    np.testing.assert_array_equal(
        scores.confusion, confusion_matrix(labels, predicted, labels=range(K))
    )
    present = recall[n > 0]
    assert scores.worst_class is not None
    assert scores.worst_class.index == np.nanargmin(recall)
    shared = np.flatnonzero(recall == np.nanmin(recall)).tolist()
    assert [scores.worst_class.index, *scores.worst_class.tied] == shared
    assert scores.gap == pytest.approx(np.ptp(present))
    assert scores.sd == pytest.approx(present.std())
    assert scores.nsd == (pytest.approx(present.std() / present.mean()) if present.any() else None)
    assert scores.floor95 == pytest.approx(
        min(
            binomtest(int(correct), int(total), alternative="greater").proportion_ci(0.95).low
            for correct, total in zip(scores.confusion.diagonal(), n, strict=True)
            if total
        ),
        abs=1e-12,
    )
    for each in scores.per_class:
        if each.n:
            assert each.drop == pytest.approx(1 - each.accuracy)
        else:
            assert each.accuracy is each.wilson95 is each.drop is None


def test_the_json_form_has_the_promised_keys_and_no_nan() -> None:
    outcomes = simulate(targeted=True, profile=True, empty=[4])
    groups = {"kind": tuple("machine" if name in ("ship", "truck") else "rest" for name in CIFAR10)}
    plain = json.loads(to_json(scorecard(outcomes, groups).to_dict()))
    assert list(plain) == [
        "attacks", "groups", "profile", "dataset", "checkpoint", "model", "seed", "precision",
        "versions",
        "flags", "trust",
    ]  # fmt: skip
    figures = [
        "n", "average", "per_class", "worst_class", "worst_10pct", "nsd", "nsd_ddof1", "sd", "gap",
        "gini", "nsd_debiased", "sd_debiased", "floor95", "average95", "worst_class95",
        "worst_10pct95", "gap95", "possibly_worst", "confusion",
    ]  # fmt: skip
    beside = {"target", "toward", "constants", "audit"}
    assert set(plain["attacks"]["pgd"]) == {*figures} | beside
    assert set(plain["groups"]["kind"]["pgd"]) == {*figures}
    cat = plain["attacks"]["pgd"]["per_class"][3]
    assert list(cat) == ["index", "name", "n", "accuracy", "wilson95", "simultaneous95", "drop"]
    assert plain["attacks"]["pgd"]["per_class"][4] == {
        "index": 4, "name": "deer", "n": 0, "accuracy": None, "wilson95": None,
        "simultaneous95": None, "drop": None,
    }  # fmt: skip
    assert plain["attacks"]["targeted"]["target"]["success"][0][0] is None
    assert plain["attacks"]["pgd"]["constants"]["eps_text"] == "8/255"
    assert plain["versions"] == {"ferd_eval": "0.1.0", "torch": "2.6.0", "numpy": "2.4.6"}


def test_the_clean_baseline_stands_beside_the_attack() -> None:
    card = scorecard(simulate())
    pgd, clean = card.attacks["pgd"].target, card.attacks["clean"].target
    assert isinstance(pgd, TargetConfusion)
    assert isinstance(clean, TargetConfusion)
    assert pgd.clean is not None
    assert pgd.clean.worst_pair == clean.worst_pair
    assert pgd.clean.targets == clean.targets
    assert pgd.errors > pgd.clean.errors


def test_unknown_clean_predictions_leave_no_drop_and_no_baseline() -> None:
    scores = scorecard(run([rows("pgd", [0, 1], [0, 0], clean=[-1, -1])], "ab")).attacks["pgd"]
    assert [each.drop for each in scores.per_class] == [None, None]
    assert isinstance(scores.target, TargetConfusion)
    assert scores.target.clean is None


def test_a_group_is_right_only_where_its_class_is() -> None:
    labels, predicted = [0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 2, 2]
    outcomes = run([rows("pgd", labels, predicted, clean=labels)], ["cat", "dog", "car"])
    groups = scorecard(outcomes, {"kind": ("animal", "animal", "machine")}).groups["kind"]["pgd"]
    assert [each.name for each in groups.per_class] == ["animal", "machine"]
    assert [each.accuracy for each in groups.per_class] == [0.5, 1.0]  # cat as dog is wrong
    assert [each.drop for each in groups.per_class] == [0.5, 0.0]
    assert groups.confusion.tolist() == [[3, 1], [0, 2]]
    assert groups.average == pytest.approx(4 / 6)


def test_budgets_are_collected_in_order_with_the_plain_attack_among_them() -> None:
    card = scorecard(simulate(profile=True))
    profile = card.profile["pgd"]
    assert profile.attacks == ("pgd@2/255", "pgd@4/255", "pgd", "pgd@16/255")
    assert profile.eps_text == ("2/255", "4/255", "8/255", "16/255")
    assert profile.average == tuple(card.attacks[attack].average for attack in profile.attacks)
    assert profile.per_class[2] == tuple(c.accuracy for c in card.attacks["pgd"].per_class)


def test_a_profile_holds_the_intervals_of_each_budget() -> None:
    card = scorecard(simulate(profile=True))
    profile = card.profile["pgd"]
    scores = [card.attacks[attack] for attack in profile.attacks]
    assert profile.average95 == tuple(each.average95 for each in scores)
    assert profile.worst_class95 == tuple(each.worst_class95 for each in scores)


def test_intervals_of_a_run_are_those_of_its_counts() -> None:
    outcomes = simulate(empty=[4])
    scores = scorecard(outcomes).attacks["pgd"]
    correct, n = scores.confusion.diagonal(), scores.confusion.sum(axis=1)
    pooled = binomtest(int(correct.sum()), int(n.sum())).proportion_ci(0.95, method="wilson")
    assert scores.average95 == pytest.approx(tuple(pooled))
    assert scores.worst_class95 == worst_class_interval(correct, n)
    assert scores.worst_10pct95 == lowest_percent_interval(correct, n)
    assert scores.gap95 == gap_interval(correct, n)
    assert scores.possibly_worst == tuple(possibly_worst(correct, n))
    assert scores.possibly_worst[0] == scores.worst_class.index
    low, high = simultaneous(correct, n)
    for i, each in enumerate(scores.per_class):
        assert each.simultaneous95 == ((low[i], high[i]) if each.n else None)


def test_an_audit_lowers_the_lower_ends_and_takes_what_has_no_limit() -> None:
    groups = {"kind": tuple("machine" if name in ("ship", "truck") else "rest" for name in CIFAR10)}
    attacks = ("clean", "pgd", "aa-audited")
    seen = simulate(attacks=attacks)
    audited = replace(
        seen, manifest={**seen.manifest, "audits": {"aa-audited": [*range(0, 400, 9)]}}
    )
    plain, card = (scorecard(each, groups) for each in (seen, audited))
    whole, scores = plain.attacks["aa-audited"], card.attacks["aa-audited"]
    least = min(bound.low95 for bound in scores.audit.per_class)
    assert scores.worst_class95 == (least, whole.worst_class95[1])
    assert scores.worst_10pct95 == (least, whole.worst_10pct95[1])
    assert least < whole.worst_class95[0]
    assert scores.average95 == (scores.audit.overall.low95, whole.average95[1])
    assert scores.gap95 is scores.possibly_worst is scores.per_class[0].simultaneous95 is None
    for name in (
        "floor95",
        "average95",
        "worst_class95",
        "worst_10pct95",
        "gap95",
        "possibly_worst",
    ):
        assert getattr(card.groups["kind"]["aa-audited"], name) is None
        assert getattr(card.groups["kind"]["pgd"], name) is not None
    assert {each.wilson95 for each in card.groups["kind"]["aa-audited"].per_class} == {None}
    everyone = replace(seen, manifest={**seen.manifest, "audits": {"aa-audited": [*range(400)]}})
    assert scorecard(everyone).attacks["aa-audited"].possibly_worst == whole.possibly_worst


def test_one_budget_is_no_profile_and_an_id_tells_a_missing_budget() -> None:
    one = run([rows("pgd@2/255", [0], [0])], "a")
    assert not scorecard(one).profile
    tables = [rows("fab@0.1", [0], [0]), rows("fab@1/5", [0], [0])]
    two = run(tables, "a", {"fab@0.1": {}, "fab@1/5": {}})
    assert scorecard(two).profile["fab"].eps == (0.1, 0.2)
    assert scorecard(two).profile["fab"].eps_text == ("0.1", "0.2")


def test_an_attack_without_rows_has_no_figures() -> None:
    outcomes = run([rows("clean", [0, 1], [0, 1])], "ab", {"clean": {}, "pgd": constants("pgd")})
    scores = scorecard(outcomes).attacks["pgd"]
    assert scores.n == 0
    assert scores.average is scores.worst_class is scores.floor95 is scores.nsd is None


def test_imported_outcomes_need_only_names_and_attacks() -> None:
    table = run([rows("pgd", [0, 1], [0, 0])], "ab").table
    outcomes = Outcomes(table, {"dataset": {"class_names": ["a", "b"]}, "attacks": {"pgd": {}}})
    card = scorecard(outcomes)
    assert card.attacks["pgd"].average == 0.5
    assert (card.seed, card.model, card.versions) == (None, {}, {})


def test_two_hundred_classes() -> None:
    outcomes = simulate([f"c{i}" for i in range(200)], per_class=5)
    scores = scorecard(outcomes).attacks["aa"]
    accuracy = outcomes.of("aa").groupby("label")["correct"].mean()
    assert scores.worst_10pct == pytest.approx(accuracy.nsmallest(20).mean())
    assert scores.nsd == pytest.approx(accuracy.std(ddof=0) / accuracy.mean())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (rows("pgd", [0, 2], [0, 1]), "label 2, but there are 2 classes"),
        (rows("pgd", [0, 1], [0, 5]), "adv_pred 5"),
        (rows("pgd", [0, 1], [0, 1], clean=[0, 7]), "clean_pred 7"),
        (rows("pgd", [0, 1], [0, 1], indices=[3, 3]), "more than once"),
        (rows("pgd", [0, 1], [0, 1], targets=pd.array([1, None], dtype="Int32")), "mixes rows"),
        (rows("pgd", [0, 1], [0, 1]).assign(correct=False), "contradicts"),
    ],
)
def test_rows_that_cannot_be_are_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scorecard(run([table], "ab"))


def test_a_grouping_of_another_length_is_refused() -> None:
    with pytest.raises(UserError, match="names 1 groups for 2 classes"):
        scorecard(run([rows("pgd", [0, 1], [0, 1])], "ab"), {"kind": ("x",)})


def test_neither_torch_nor_scipy_stats_is_imported() -> None:
    check = (
        "import sys, ferd_eval.metrics, ferd_eval.report; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy.stats', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
