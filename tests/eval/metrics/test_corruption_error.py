"""Mean corruption errors against the formula of the paper, written out image by image."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from ferd_eval.datasets.corruptions import BENCHMARK, Cell
from ferd_eval.metrics.corruption_error import CellResult, CorruptionErrors, alexnet, measured

NAMES = ("cat", "dog", "owl", "nobody")
LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2]

#: Table of the paper's appendix on ImageNet-C, in per cent: AlexNet's row, as printed there.
PRINTED = (88.6, 89.4, 92.3, 82.0, 82.6, 78.6, 79.8, 86.7, 82.7, 81.9, 56.5, 85.3, 64.6, 71.8, 60.7)


def right(seed, cells):
    """Whether each image is right in each cell."""
    rng = np.random.default_rng(seed)
    return {cell: (rng.random(len(LABELS)) < 0.6).tolist() for cell in cells}


def results(of):
    counted = []
    for cell, right_N in of.items():
        images_K = np.array([LABELS.count(k) for k in range(len(NAMES))])
        right_K = np.array(
            [sum(r for r, y in zip(right_N, LABELS, strict=True) if y == k) for k in range(4)]
        )
        counted.append(CellResult(cell, images_K, right_K))
    return tuple(counted)


ALL = [Cell(name, s) for name in (*BENCHMARK, "spatter") for s in range(1, 6)]


def errors(seed=0, cells=ALL, **more):
    return CorruptionErrors("net", "cifar10-c", NAMES, results(right(seed, cells)), **more)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_mean_error_is_over_the_fifteen():
    of = right(0, ALL)
    wrong = {cell: mean(not r for r in right_N) for cell, right_N in of.items()}
    expected = mean(mean(wrong[Cell(name, s)] for s in range(1, 6)) for name in BENCHMARK)
    assert errors().mean_error == pytest.approx(expected)
    assert errors().mce is None
    assert errors().is_whole
    assert not errors(cells=ALL[1:]).is_whole
    assert errors(cells=[Cell("spatter", 1)]).counted == ("spatter",)


def test_mce_divides_sums_by_the_baselines():
    ours, base = errors(0), errors(1)
    made = CorruptionErrors(
        "net", "cifar10-c", NAMES, ours.results, measured(ours, base.to_dict(), "base")
    )
    mine, theirs = right(0, ALL), right(1, ALL)
    ratios = []
    for name in BENCHMARK:
        above = sum(1 - mean(mine[Cell(name, s)]) for s in range(1, 6))
        below = sum(1 - mean(theirs[Cell(name, s)]) for s in range(1, 6))
        ratios.append(above / below)
        assert made.corruption_error(name) == pytest.approx(above / below)
    assert made.mce == pytest.approx(mean(ratios))
    assert made.corruption_error("spatter") is None
    assert CorruptionErrors(
        "net", "cifar10-c", NAMES, base.results, measured(base, base.to_dict(), "base")
    ).mce == pytest.approx(1)


def test_class_accuracies():
    of, made = right(0, ALL), errors()
    for k in range(3):
        rows = [i for i, y in enumerate(LABELS) if y == k]
        of_fog = mean(mean(of[Cell("fog", s)][i] for i in rows) for s in range(1, 6))
        assert made.class_accuracy("fog")[k] == pytest.approx(of_fog)
        of_all = mean(mean(of[cell][i] for i in rows) for cell in ALL[:-5])
        assert made.class_accuracy()[k] == pytest.approx(of_all)
    assert np.isnan(made.class_accuracy()[3])
    assert made.worst_class() == int(np.argmin(made.class_accuracy()[:3]))
    record = json.loads(json.dumps(made.to_dict()))
    assert record["class_accuracy"]["nobody"] is None
    assert record["worst_class"] == NAMES[made.worst_class()]


def imagenet(accuracies, cells=ALL[:75]):
    """All of 50 000 images and 1000 classes, right as often as each corruption says."""
    images_K = np.full(1000, 50)
    counted = []
    for cell in cells:
        right_K = np.full(1000, round(50 * accuracies[BENCHMARK.index(cell.corruption)]))
        counted.append(CellResult(cell, images_K, right_K))
    return CorruptionErrors("net", "imagenet-c", tuple(map(str, range(1000))), tuple(counted))


def test_alexnets_errors_are_those_printed_in_the_paper():
    made = imagenet([0.5] * 15)
    baseline = alexnet(made)
    assert baseline.name == "AlexNet"
    for name, printed in zip(BENCHMARK, PRINTED, strict=True):
        assert 100 * baseline.errors[name] == pytest.approx(printed, abs=0.06)
    against = CorruptionErrors(made.network, made.dataset, made.class_names, made.results, baseline)
    # A network wrong half the time, by the printed table.
    assert against.mce == pytest.approx(mean(50 / printed for printed in PRINTED), abs=1e-3)


def test_baselines_that_do_not_fit(refused):
    with refused("1000 classes of ImageNet-C", "9 images and 4 classes of cifar10-c"):
        alexnet(errors())
    with refused("AlexNet", "other severities", "gaussian_noise"):
        alexnet(imagenet([0.5] * 15, ALL[1:75]))
    ours, record = errors(), errors(1).to_dict()
    with refused("images 8", "these have 9"):
        measured(ours, {**record, "images": 8}, "base")
    with refused("other severities", "fog"):
        measured(ours, {**record, "errors": {**record["errors"], "fog": {"1": 0.5}}}, "base")
    with refused("makes no error under fog"):
        of_fog = {str(s): 0.0 for s in range(1, 6)}
        measured(ours, {**record, "errors": {**record["errors"], "fog": of_fog}}, "base")
    for broken in ({}, {**record, "errors": 3}, {**record, "errors": {"fog": {"1": "x"}}}):
        with refused("no record of ferd-eval corruptions"):
            measured(ours, broken, "base")


def test_the_interval_of_the_worst_class_is_of_its_images_not_of_the_cells():
    of, made = right(0, ALL), errors()
    low, high = 1.0, 1.0
    for k in range(3):
        rows = [i for i, y in enumerate(LABELS) if y == k]
        n = len(rows)
        share = mean(
            mean(mean(of[Cell(name, s)][i] for i in rows) for s in range(1, 6))
            for name in BENCHMARK
        )
        least = binomtest(math.floor(share * n + 1e-9), n).proportion_ci(0.95, "exact")
        most = binomtest(math.ceil(share * n - 1e-9), n).proportion_ci(1 - 0.05 / 3, "exact")
        low, high = min(low, least.low), min(high, most.high)
    assert made.worst_class_interval() == pytest.approx((low, high))
    assert made.to_dict()["worst_class95"] == pytest.approx((low, high))


def test_the_interval_covers_where_images_are_the_same_in_all_cells():
    """Simulated: an image is right in all cells or in none, the hardest case."""
    rng, covered = np.random.default_rng(0), 0
    truth_K = np.array([0.3, 0.35, 0.8])
    for _ in range(300):
        right_K = rng.binomial(40, truth_K)
        of = tuple(CellResult(cell, np.full(3, 40), right_K) for cell in ALL)
        low, high = CorruptionErrors("n", "cifar10-c", NAMES[:3], of).worst_class_interval()
        covered += low <= truth_K.min() <= high
    assert covered >= 0.95 * 300
