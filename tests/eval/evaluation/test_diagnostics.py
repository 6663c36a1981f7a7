"""The look at a network finds what it was made to find, and leaves the network as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ferd_eval import Threat, score
from ferd_eval.attacks import PGD, Batch, Passes, frozen
from ferd_eval.datasets import LabelledImages
from ferd_eval.evaluation.diagnostics import diagnose
from ferd_eval.io.json import to_json
from ferd_eval.metrics.sanity.network_checks import network_checks
from tests.conftest import TinyNet, tiny_data

K, WIDTH = 4, 6
EPS = "0.06"


class RowSums(nn.Module):
    """Class k's logit is the sum of row k: its L∞ radius is known."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x_BCHW):
        return self.scale * x_BCHW[:, 0].sum(dim=2)


class Around(nn.Module):
    """A network with something done to its input and its output."""

    def __init__(self, network, before=lambda x: x, after=lambda logits: logits):
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x_BCHW):
        return self.after(self.network(self.before(x_BCHW)))


def rows_data(advantage_by_class, per_class=20) -> LabelledImages:
    """Images of `RowSums` at mid-grey whose own row is brighter by a given amount a pixel."""
    labels = np.tile(np.arange(K), per_class)
    images = np.full((len(labels), 1, K, WIDTH), 0.4, np.float32)
    for i, label in enumerate(labels):
        images[i, 0, label] += advantage_by_class[label]
    return LabelledImages(
        name="rows", images_NCHW=images, labels_N=labels, class_names=tuple("abcd"),
        indices_N=np.arange(len(labels)), source="generated",
    )  # fmt: skip


def look(model, data=None, eps=EPS, **options):
    options = {"seed": 0, "batch_size": 64, "device": torch.device("cpu"), **options}
    return diagnose(model.eval(), data or tiny_data(200), Threat(eps), **options)


def found(model, name, data=None, eps=EPS, **options):
    """The check of one name for a network."""
    data = data or tiny_data(200)
    checks = network_checks(look(model, data, eps, **options), data.class_names)
    return next(check for check in checks if check.name == name)


def test_an_ordinary_network_raises_no_alarm():
    data = tiny_data(200)
    diagnosis = look(TinyNet(), data, eps="0.2")
    checks = network_checks(diagnosis, data.class_names)
    assert [check.status for check in checks] == ["ok"] * 7, checks
    assert json.loads(to_json(diagnosis)) == diagnosis
    assert diagnosis["images"] == 200
    for tally in (diagnosis["softmax"], diagnosis["far"], diagnosis["loss"]):
        assert tally["n_by_class"] == data.class_counts.tolist()
        assert sum(tally["count_by_class"]) == tally["count"]
    assert diagnosis["loss"]["mean"] == sorted(diagnosis["loss"]["mean"])


def test_the_sample_is_the_first_of_each_class_in_proportion():
    data = tiny_data(400)
    labels = np.repeat(np.arange(4), [200, 119, 61, 20])
    data = replace(data, labels_N=labels[np.random.default_rng(0).permutation(400)])
    seen = []
    model = Around(TinyNet(), before=lambda x: (seen.append(x), x)[1])
    tally = look(model, data, batch_size=1000, sample=40, by_gradient=False)["softmax"]
    assert tally["n_by_class"] == [20, 12, 6, 2]
    firsts = [np.flatnonzero(data.labels_N == k)[:n] for k, n in enumerate((20, 12, 6, 2))]
    expected = data.images_NCHW[np.sort(np.concatenate(firsts))].astype(np.float32) / 255
    np.testing.assert_array_equal(seen[0], expected)


def test_passes_are_counted_and_the_network_is_left_as_it_was():
    class Counting(TinyNet):
        forwards = 0

        def forward(self, x_BCHW):
            self.forwards += len(x_BCHW)
            return super().forward(x_BCHW)

    model = Counting()
    model.train()
    model.conv.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    diagnosis = diagnose(
        model, tiny_data(50), Threat(EPS), seed=0, batch_size=16, device=torch.device("cpu")
    )
    cost, survivors = diagnosis["cost"], diagnosis["loss"]["standing"]
    assert cost["forward"] == model.forwards
    # Of each image, and of two random ones at four distances from the ends of the pixel range.
    assert cost["backward"] == 50 * (3 + 1 + 20) + survivors * 20 + 2 * 4
    assert 0 < survivors < 50
    assert cost["seconds"] > 0
    assert model.training
    assert [p.requires_grad for p in model.parameters()][:2] == [False, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_nothing_depends_on_the_batch_size_and_memory_that_runs_out_halves_it():
    data = tiny_data(60)
    whole = look(TinyNet().double(), data)

    class Small(TinyNet):
        def forward(self, x_BCHW):
            if len(x_BCHW) > 16:
                raise RuntimeError("CUDA out of memory")
            return super().forward(x_BCHW)

    halved = look(Small().double(), data)
    for key in ("softmax", "zero_gradients", "far", "randomised"):
        assert whole[key] == halved[key]
    np.testing.assert_allclose(whole["loss"]["mean"], halved["loss"]["mean"])

    class Never(TinyNet):
        def forward(self, x_BCHW):
            raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        look(Never(), data)


def test_the_attack_is_the_runs_own():
    """Loss after 20 steps is that of the images PGD makes in a run with the same seed."""
    data, model = tiny_data(60), TinyNet().eval()
    x = torch.from_numpy(data.images_NCHW).float() / 255
    labels, indices = torch.from_numpy(data.labels_N), torch.from_numpy(data.indices_N)
    batch = Batch(x, labels, indices, model(x).detach())
    verdicts = PGD()(model, batch, Threat(EPS), seed=3, passes=Passes())
    expected = functional.cross_entropy(model(verdicts.adv_RCHW), labels, reduction="none")
    loss = look(model, data, seed=3)["loss"]
    assert loss["mean"][-1] == pytest.approx(expected.mean().item(), rel=1e-5)
    by_class = [expected[labels == k].mean().item() for k in range(4)]
    assert loss["mean_by_class"][-1] == pytest.approx(by_class, rel=1e-5)


def test_saturation_takes_the_gradient_of_cross_entropy_alone():
    """In float32 the loss of a confident network is flat: exp(−200) is 0."""
    data = rows_data([0.4] * K)
    zero = look(RowSums(scale=100.0), data, eps="0.1")["zero_gradients"]
    assert {loss: tally["count"] for loss, tally in zero.items()} == {
        "cross-entropy": 80, "margin": 0, "targeted DLR": 0,
    }  # fmt: skip
    check = found(RowSums(scale=100.0), "Zero gradients", data, eps="0.1")
    assert check.status == "warning"
    assert "80 under cross-entropy, 0 under margin and 0 under targeted DLR" in check.statement
    assert check.statement.endswith("attacks by cross-entropy cannot start there.")
    assert found(RowSums(scale=1.0), "Zero gradients", data, eps="0.1").status == "ok"


def test_zero_gradients_in_one_class_are_found_there():
    """Class c alone is shown to the network through a rounding, whose derivative is 0."""
    data = rows_data([0.1, 0.1, 0.2, 0.1])

    def rounded(x):
        bright = (x[:, 0, 2].mean(dim=1) > 0.55)[:, None, None, None]
        return torch.where(bright, torch.round(x * 10) / 10, x)

    check = found(Around(RowSums(), before=rounded), "Zero gradients", data)
    assert check.classes == ("c",)
    assert check.per_class.count == (0, 0, 20, 0)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_below_four_classes_the_plain_difference_stands_in(num_classes):
    data = tiny_data(40, num_classes)
    zero = look(TinyNet(num_classes), data)["zero_gradients"]
    assert [tally["count"] for tally in zero.values()] == [0, 0, 0]


def test_one_class_has_no_gradient_to_look_at():
    diagnosis = look(TinyNet(1), tiny_data(20, 1))
    assert diagnosis["zero_gradients"] is diagnosis["far"] is diagnosis["loss"] is None


def test_without_gradient_attacks_no_gradient_is_taken():
    model = Around(TinyNet(), after=torch.Tensor.detach)  # a backward pass would raise
    diagnosis = look(model, by_gradient=False)
    assert diagnosis["cost"]["backward"] == 0
    statuses = [check.status for check in network_checks(diagnosis, "abcd")]
    assert statuses == ["not measured"] * 2 + ["ok"] * 3 + ["not measured"] * 2


def test_probabilities_in_place_of_logits():
    softmax = Around(TinyNet(), after=lambda logits: logits.softmax(1))
    assert found(softmax, "Output").status == "warning"
    log = Around(TinyNet(), after=lambda logits: logits.log_softmax(1))
    assert found(log, "Output").status == "ok"


def test_a_randomised_forward_is_found_and_rounding_is_not():
    noisy = Around(TinyNet(), after=lambda z: functional.dropout(z, 0.3, training=True))
    check = found(noisy, "Same image, same output")
    assert check.status == "warning"
    assert "the network is randomised" in check.statement
    assert found(noisy, "Alone as in a batch").status == "not measured"
    rounding = Around(TinyNet(), after=lambda z: z * (1 + 1e-6 * torch.rand(())))
    assert found(rounding, "Same image, same output").status == "ok"


def test_batch_statistics_let_neighbours_speak():
    model = TinyNet()
    model.bn = nn.BatchNorm2d(6, track_running_stats=False)
    check = found(model, "Alone as in a batch")
    assert check.status == "warning"
    assert "8 of 8 images" in check.statement
    assert found(model, "Same image, same output").status == "ok"
    assert found(TinyNet(), "Alone as in a batch").status == "ok"
    assert found(TinyNet(), "Alone as in a batch", batch_size=1).status == "not measured"


def test_accuracy_at_four_times_eps_is_the_closed_form_by_class():
    """`RowSums` falls when 2ε exceeds the row's advantage: at 4ε = 0.16, from 0.32 on it stands."""
    data = rows_data([0.05, 0.3, 0.34, 0.39])
    far = look(RowSums(), data, eps="0.04")["far"]
    assert far["eps_text"] == "0.16"
    assert far["count_by_class"] == [0, 0, 20, 20]
    check = found(RowSums(), "Accuracy at 4ε", data, eps="0.04")
    assert check.status == "warning"
    assert check.classes == ("c", "d")
    assert found(RowSums(), "Accuracy at 4ε", data, eps="0.1").status == "ok"
    assert look(RowSums(), data, eps="0.5")["far"]["eps_text"] == "1"


def test_one_prediction_for_all_is_chance_overall_but_not_in_its_class():
    """A constant network keeps 1/K at any ε; that is chance. Its one class is what stands out."""
    constant = Around(RowSums(), after=lambda z: 1e-3 * z + torch.tensor([0.0, 9, 0, 0]))
    check = found(constant, "Accuracy at 4ε", rows_data([0.1] * K))
    assert "25.0%" in check.statement
    assert check.classes == ("b",)


def test_a_masked_network_is_found_out():
    """Rounding the image to 32 levels shatters the gradient: it is 0 everywhere."""
    masked = Around(RowSums(), before=lambda x: torch.round(x * 32) / 32)
    data = rows_data([0.2] * K)
    checks = network_checks(look(masked, data, eps="0.08"), data.class_names)
    warned = {check.name for check in checks if check.status == "warning"}
    assert warned == {"Zero gradients", "Accuracy at 4ε", "Loss over steps"}
    plain = network_checks(look(RowSums(), data, eps="0.08"), data.class_names)
    assert not [check for check in plain if check.status == "warning"]


def test_shattered_gradients_do_not_climb():
    """The gradient's sign changes from pixel value to pixel value: many steps lead nowhere."""

    class Shattered(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(_, gradient):
            flips = torch.rand(gradient.shape, generator=torch.Generator().manual_seed(0)) < 0.5
            return torch.where(flips, gradient, -gradient)

    data = rows_data([0.2] * K)
    shattered = Around(RowSums(), before=Shattered.apply)
    check = found(shattered, "Loss over steps", data, eps="0.08")
    assert check.status == "warning"
    assert found(RowSums(), "Loss over steps", data, eps="0.08").status == "ok"


@pytest.mark.parametrize(("images", "status"), [(6, "not measured"), (8, "ok")])
def test_a_few_images_tell_that_a_loss_rises_only_if_all_do(images, status):
    assert found(TinyNet(), "Loss over steps", tiny_data(images)).status == status


def test_more_images_are_measured_only_where_something_looks_odd():
    data = rows_data([0.1] * K)
    assert look(RowSums(), data, sample=8, most=40)["images"] == 8
    rounded = Around(RowSums(), before=lambda x: torch.round(x * 32) / 32)
    grown, whole = (look(rounded, data, sample=n, most=40) for n in (8, 40))
    assert grown["cost"].pop("forward") > whole["cost"].pop("forward")
    assert {**grown, "cost": 0} == {**whole, "cost": 0}
    assert whole["images"] == 40


@pytest.mark.parametrize(("images", "attacks"), [(64, "pgd"), (1000, "clean,fgsm,pgd")])
def test_a_run_spends_little_on_it(images, attacks):
    """At most 3 % of the passes or 8 images, where nothing looks odd."""
    data = tiny_data(images)
    manifest = score(TinyNet(), data, attacks, "0.2").manifest
    run = [sum(each[key] for each in manifest["cost"].values()) for key in ("forward", "backward")]
    cost = manifest["diagnosis"]["cost"]
    share = (cost["forward"] + 2 * cost["backward"]) / (run[0] + 2 * run[1])
    assert manifest["diagnosis"]["images"] == 8 or share <= 0.03


def test_a_network_that_is_frozen_already_can_be_looked_at():
    model = TinyNet()
    with frozen(model):
        assert look(model)["images"] == 200


def test_every_run_can_be_reported_with_it():
    """The look's result, put where the runner puts it, is read from the manifest."""
    from ferd_eval import scorecard

    data = tiny_data(60)
    outcomes = score(TinyNet(), data, "fgsm,pgd", EPS)
    manifest = {**outcomes.manifest, "diagnosis": look(TinyNet(), data)}
    checks = scorecard(replace(outcomes, manifest=manifest)).trust.checks
    assert [check.status for check in checks][-6:] == ["ok"] * 6
