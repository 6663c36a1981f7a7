"""The fold over attacks."""

from __future__ import annotations

import pytest

from ferd_eval.errors import UserError
from ferd_eval.metrics import scorecard
from ferd_eval.metrics.worst_case import WORST_CASE, worst_case
from tests.eval.metrics.simulated_run import constants, rows, run, simulate


def test_an_image_stands_only_if_it_stands_under_each_attack() -> None:
    outcomes = simulate(targeted=True)
    untargeted = outcomes.table[outcomes.table["target"].isna()]
    expected = untargeted.groupby("index")["correct"].all()
    folded = worst_case(outcomes)
    found = folded.of(WORST_CASE).set_index("index")["correct"]
    assert found.to_dict() == expected.to_dict()
    assert scorecard(folded).attacks[WORST_CASE].average == pytest.approx(expected.mean())
    assert folded.manifest["attacks"][WORST_CASE]["attacks"] == ["clean", "fgsm", "pgd", "aa"]
    assert WORST_CASE not in outcomes.attacks


def test_the_row_kept_is_that_of_the_lowest_margin_among_those_that_broke_it() -> None:
    tables = [
        rows("pgd", [0, 0, 0], [0, 1, 1], margins=[0.5, -0.1, -0.3]),
        rows("cw", [0, 0, 0], [0, 0, 2], margins=[0.2, -0.9, -0.2]),
    ]
    kept = worst_case(run(tables, "abc")).of(WORST_CASE).sort_values("index")
    assert kept["stage"].tolist() == ["cw", "pgd", "pgd"]
    assert kept["adv_pred"].tolist() == [0, 1, 1]


def test_budgets_above_the_threat_model_stay_out() -> None:
    folded = worst_case(simulate(profile=True)).manifest["attacks"][WORST_CASE]
    assert "pgd@16/255" not in folded["attacks"]
    assert "pgd@2/255" in folded["attacks"]
    assert folded["eps_text"] == "8/255"


def test_folding_twice_changes_nothing() -> None:
    once = worst_case(simulate())
    assert worst_case(once).table.equals(once.table)


def test_attacks_on_different_images_are_refused() -> None:
    tables = [rows("pgd", [0, 0], [0, 0]), rows("cw", [0], [0])]
    with pytest.raises(UserError, match="1 of 2 images did not meet all of pgd, cw"):
        worst_case(run(tables, "a"))


def test_a_targeted_attack_alone_is_refused() -> None:
    table = rows("targeted", [0], [0], targets=[1])
    with pytest.raises(UserError, match="at least one untargeted attack"):
        worst_case(run([table], "ab", {"targeted": constants("targeted")}))
