"""Clean accuracy: why it is near chance, and whether it is what a checkpoint records."""

import numpy as np
import pandas as pd
import pytest

from ferd_eval.io.recorded_accuracy import (
    is_accuracy,
    recorded_accuracies,
    says_clean_test,
)
from ferd_eval.metrics.sanity.clean import clean_checks
from ferd_eval.results.outcomes import Outcomes, conform

CLEAN = [
    "acc",
    "accuracy",
    "ACC",
    "nature_acc",
    "natural_acc",
    "nat_acc",
    "clean_acc",
    "acc_clean",
    "std_acc",
    "test_acc",
    "testAcc",
    "test/acc",
    "test_accuracy",
    "best_acc",
    "bestAcc",
    "best_acc1",
    "best_prec1",
    "prec@1",
    "top1",
    "top1_acc",
    "val_acc",
    "val_acc1",
    "best_val_acc",
    "best_test_acc",
    "test_clean",
    "final_acc",
]
OTHER = [
    "robust_acc",
    "test_robust",
    "test_robust_acc",
    "best_robust_acc",
    "adv_acc",
    "test_adv_acc",
    "pgd_acc",
    "acc_pgd20",
    "aa_acc",
    "certified_acc",
    "corruption_acc",
    "train_acc",
    "train_nature_acc",
    "tr_acc",
    "acc5",
    "best_prec5",
    "top5",
    "precision",
    "prec",
    "test_std",
    "std",
    "epoch",
    "best",
    "test",
    "clean",
    "val",
    "teacher_acc",
    "ema_acc",
    "test_loss",
    "best_epoch",
    "accumulate",
    "test1",
    "1",
]


@pytest.mark.parametrize("name", CLEAN)
def test_names_of_clean_accuracies(name):
    assert is_accuracy(name)


@pytest.mark.parametrize("name", OTHER)
def test_names_of_other_figures(name):
    assert not is_accuracy(name)


@pytest.mark.parametrize(
    ("value", "share"),
    [
        (0.8492, 0.8492), (84.92, 0.8492), ("84.92", 0.8492), ("84.92%", 0.8492),
        ("0.85", 0.85), (100, 1.0), (1, 1.0), ("0.5 %", 0.005),
        (0, None), (0.0, None), (-1, None), (101, None), (True, None), ("high", None),
        (float("nan"), None), (float("inf"), None), (10**400, None), ([84.9], None), ("", None),
    ],
)  # fmt: skip
def test_shares_and_percentages(value, share):
    expected = {} if share is None else {"acc": pytest.approx(share)}
    assert recorded_accuracies({"acc": value, "epoch": 90}) == expected


def test_names_that_tell_of_clean_images():
    assert says_clean_test("nature_acc")
    assert says_clean_test("best_test_acc")
    assert not says_clean_test("best_acc")
    assert not says_clean_test("val_acc")


def checks(labels, predictions, classes=10, dataset="cifar10", **manifest):
    """The checks of a run with these clean predictions."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    table = pd.DataFrame(
        {
            "index": np.arange(len(labels)), "label": labels, "attack": "clean",
            "target": pd.array([pd.NA] * len(labels), "Int32"), "clean_pred": predictions,
            "adv_pred": predictions, "correct": predictions == labels, "margin": 0.0,
            "confidence": 0.5, "stage": pd.array([pd.NA] * len(labels), "string"), "steps": 0,
            "linf": 0.0,
        }
    )  # fmt: skip
    names = [f"c{k}" for k in range(classes)]
    manifest = {
        "dataset": {"name": dataset, "class_names": names},
        "attacks": {"clean": {}},
        **manifest,
    }
    return {c.name: c for c in clean_checks(Outcomes(conform(table), manifest))}


LABELS = np.repeat(np.arange(10), 20)
RIGHT_160 = np.where(np.arange(200) % 5 > 0, LABELS, (LABELS + 1) % 10)
ONE_CLASS = np.zeros(200, dtype=int)


def on_record(predictions=RIGHT_160, n=200, trained_on=None, dataset="cifar10", **recorded):
    checkpoint = {"recorded_accuracy": recorded, "trained_on": trained_on}
    found = checks(LABELS[:n], predictions[:n], checkpoint=checkpoint, dataset=dataset)
    return found["Accuracy on record"]


def test_a_figure_on_record_that_is_far_is_said_with_both():
    found = on_record(nature_acc=0.95)
    assert found.status == "warning"
    assert "80.0% on 200 images" in found.statement
    assert "nature_acc = 95.0%" in found.statement
    assert on_record(best_acc=0.95).status == "warning"
    assert on_record(test_acc=0.5).status == "warning"


def test_a_figure_on_record_that_agrees_is_no_warning():
    assert on_record(nature_acc=0.84).status == "ok"
    # too few images to tell
    assert on_record(nature_acc=0.95, n=10).status == "ok"
    # one of several is of this network
    assert on_record(acc=0.8, best_acc=0.95).status == "ok"
    assert "Accuracy on record" not in checks(LABELS, RIGHT_160)


def test_what_may_be_robust_accuracy_is_not_taken_for_clean():
    found = on_record(best_acc=0.52)
    assert found.status == "ok"
    assert "under attack" in found.statement
    # what agrees by its vaguer name does not hide what disagrees by its clear one
    assert on_record(nature_acc=0.95, best_acc=0.8).status == "warning"


def test_a_figure_of_another_data_set_is_not_compared():
    assert on_record(acc=0.95, trained_on="svhn").status == "not measured"
    assert on_record(acc=0.95, trained_on="svhn", dataset="npz:x.npz").status == "warning"


KNOWN = {
    "decided_by": "recorded in the checkpoint's metadata, verified against its keys and shapes",
    "normalization_decided_by": "recorded in the checkpoint's metadata",
    "same_keys": [],
}
GUESSED = {
    "decided_by": "detected from the checkpoint's keys and shapes",
    "normalization_decided_by": "none found: the network is given images in [0, 1]",
    "same_keys": ["resnet18-maxpool"],
}


def why(predictions=ONE_CLASS, **manifest):
    found = checks(LABELS, predictions, **manifest)["Clean accuracy"]
    assert found.status == "warning"
    assert "near chance" in found.statement
    return found.statement


def in_order(text, *parts):
    places = [text.index(part) for part in parts]
    return places == sorted(places)


def test_a_barely_trained_student_is_not_told_of_its_normalisation():
    said = why(model=KNOWN, checkpoint={"trained_on": "cifar10"})
    assert "records its own normalisation, so this is not the cause" in said
    assert "--normalize" not in said
    assert "same keys" not in said
    assert in_order(said, "likeliest first", "hardly learnt", "another order")


def test_what_nobody_told_is_the_likeliest_cause():
    said = why(model=GUESSED)
    assert in_order(said, "--normalize", "same keys", "hardly learnt", "another order")
    assert "hardly learnt" not in why(
        model=GUESSED, checkpoint={"recorded_accuracy": {"acc": 0.95}}
    )
    said = why(model=KNOWN, checkpoint={"trained_on": "svhn"})
    assert in_order(said, "trained on svhn", "hardly learnt")


def test_a_trial_decides_what_is_still_likely():
    others = {"--normalize cifar10": 0.11, "--arch resnet18-maxpool": 0.12}
    trial = {"images": 128, "accuracy": 0.1, "others": others, "better": None}
    said = why(model=GUESSED, trial=trial)
    assert "None of 2 other readings" in said
    assert "(--normalize)" not in said
    assert "same keys" not in said
    others["--arch resnet18-maxpool"] = 0.98
    said = why(model=GUESSED, trial={**trial, "better": "--arch resnet18-maxpool"})
    assert "98.0% with --arch resnet18-maxpool" in said


def test_classes_in_another_order_are_found_by_matching_them():
    said = why((RIGHT_160 + 3) % 10, model=GUESSED)
    assert "80.0% would be right" in said
    assert "another order" in said
    few = checks([0, 1, 2], [1, 2, 0], classes=3)["Clean accuracy"]
    assert "would be right" not in few.statement  # three images match in any case


def test_imported_predictions_have_no_normalisation():
    assert "--normalize" not in why(engine="imported")
