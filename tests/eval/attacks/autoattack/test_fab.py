"""FAB-T against pyautoattack's FAB, a linear program, and a network whose radius is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyautoattack.fab_pt
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from ferd_eval.attacks import KeyedRng, Passes, Problem, Threat, frozen, losses
from ferd_eval.attacks.autoattack.batched_search import Breaks, run_search
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.projection import shortest_move
from ferd_eval.datasets import load_dataset
from ferd_eval.models import build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.models.demo import demo_checkpoints
from tests.conftest import TinyNet, tiny_data

CIFAR_MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
CIFAR_STD = torch.tensor([0.2471, 0.2435, 0.2616]).view(3, 1, 1)


class DoubleInside(nn.Module):
    """Images and logits in float32, but rounding no longer depends on the size of a batch.

    Contiguous inside: the reference passes its images on in a layout some networks choke on.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()
        self.forwards = 0

    def forward(self, x_BCHW):
        self.forwards += len(x_BCHW)
        return self.network(x_BCHW.contiguous().double()).float()


class Normalized(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BCHW):
        return self.network((x_BCHW - CIFAR_MEAN.to(x_BCHW)) / CIFAR_STD.to(x_BCHW))


def search(model, x_BCHW, labels_B, eps: str, fab: FABT | None = None, capacity: int = 500):
    """Run FAB-T toward the nine (or fewer) best rivals of each label, and count the passes."""
    with frozen(model):
        logits_BK = model(x_BCHW).detach()
        indices_B = torch.arange(len(x_BCHW))
        passes = Passes()
        problem = Problem(
            model=model,
            judge=model,
            x_BCHW=x_BCHW,
            labels_B=labels_B,
            targets_B=None,
            clean_logits_BK=logits_BK,
            threat=Threat(eps),
            noise=KeyedRng(0, FABT.family, indices_B),
            passes=passes,
            slots=capacity,
        )
        # The reference's order, ties included: a full ascending sort, read from the back.
        targets_BM = logits_BK.sort(dim=1).indices.flip(1)[:, 1:10]
        return run_search(fab or FABT(), problem, targets_BM, capacity), passes


def stands(model, adv_BCHW, labels_B) -> torch.Tensor:
    with torch.no_grad():
        return model(adv_BCHW).argmax(dim=1) == labels_B


def reference_search(
    model, x_BCHW, labels_B, eps: str, num_classes: int = 10, iterations: int = 100
) -> torch.Tensor:
    """The perturbed images of pyautoattack's targeted FAB, as AutoAttack sets it up."""
    reference = pyautoattack.fab_pt.FABAttack_PT(
        model,
        norm="Linf",
        n_restarts=1,
        n_iter=iterations,
        eps=Threat(eps).radius,
        alpha_max=0.1,
        eta=1.05,
        beta=0.9,
        seed=0,
        targeted=True,
        n_target_classes=min(9, num_classes - 1),
        device=str(x_BCHW.device),
    )
    return reference.perturb(x_BCHW, labels_B)


def weakest(model, x_BCHW, labels_B, ranks: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Correctly classified images by rank of their margin: a few of them hold most of the news."""
    with torch.no_grad():
        margin_B = -losses.margin(model(x_BCHW), labels_B)
    order = margin_B.argsort()
    chosen = order[margin_B[order] > 0][ranks]
    return x_BCHW[chosen], labels_B[chosen]


def parity(
    model, x_BCHW, labels_B, eps: str, num_classes: int = 10, iterations: int = 100
) -> dict[str, int]:
    """Compare robust flags, image by image, and count what they cost."""
    breaks, passes = search(model, x_BCHW, labels_B, eps, FABT(iterations=iterations))
    ours_B = stands(model, breaks.adv_NCHW, labels_B)
    before = model.forwards
    adv_BCHW = reference_search(model, x_BCHW, labels_B, eps, num_classes, iterations)
    reference_B = stands(model, adv_BCHW, labels_B)
    return {
        "clean": int(stands(model, x_BCHW, labels_B).sum()),
        "robust": int(ours_B.sum()),
        "differences": int((ours_B != reference_B).sum()),
        "forwards": passes.forward,
        "backwards": passes.backward,
        "reference_forwards": model.forwards - before,
    }


def cnn_a(shared: Path) -> DoubleInside:
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10)),
    )
    weights = shared / "checkpoints" / "cifar10_cnn_a_mix4.pt"
    network.load_state_dict(torch.load(weights, weights_only=True))
    return DoubleInside(Normalized(network)).eval()


def cifar10(shared: Path, count: int, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(shared / "data" / "cifar10_official_test1017.npz") as file:
        images = file["images"][start : start + count].transpose(0, 3, 1, 2)
        labels = file["labels"][start : start + count].astype(np.int64)
    return torch.from_numpy(images.copy()).float() / 255, torch.from_numpy(labels)


def demo(count: int) -> tuple[DoubleInside, torch.Tensor, torch.Tensor]:
    """A robust network with batch norm, and images it is not always right about."""
    with demo_checkpoints() as files:
        network, _ = build_classifier(load_checkpoint(files[0]))
    images = load_dataset("demo")
    x_BCHW = torch.from_numpy(images.images_NCHW[:count]).float() / 255
    return DoubleInside(network).eval(), x_BCHW, torch.from_numpy(images.labels_N[:count])


def tiny(num_classes: int, count: int = 40) -> tuple[DoubleInside, torch.Tensor, torch.Tensor]:
    data = tiny_data(count, num_classes)
    x_BCHW = torch.from_numpy(data.images_NCHW).float() / 255
    return DoubleInside(TinyNet(num_classes)).eval(), x_BCHW, torch.from_numpy(data.labels_N)


# --- the projection -------------------------------------------------------------------------------


def random_planes(seed: int, slots: int = 12, pixels: int = 20):
    """Points (some pixels at 0 or 1, some weights 0 or huge) and planes near, far and beyond."""
    generator = np.random.default_rng(seed)
    at = generator.uniform(size=(slots, pixels))
    at[generator.uniform(size=at.shape) < 0.2] = 0
    at[generator.uniform(size=at.shape) < 0.2] = 1
    normal = generator.normal(size=at.shape) * 10 ** generator.uniform(-seed, 0, size=at.shape)
    normal[generator.uniform(size=at.shape) < 0.2] = 0
    share = generator.choice([0.0, 0.01, 0.3, 0.7, 0.999], size=slots)
    sign = generator.choice([-1.0, 1.0], size=slots)
    room = np.where(sign[:, None] * normal < 0, 1 - at, at)
    level = sign * share * (np.abs(normal) * room).sum(axis=1)
    return tuple(torch.from_numpy(array) for array in (at, normal, level))


@pytest.mark.parametrize("seed", range(6))
def test_a_move_is_as_short_as_the_linear_program_says(seed):
    at, normal, level = random_planes(seed)
    move = shortest_move(at, normal, level)
    assert ((at + move) >= 0).all()
    assert ((at + move) <= 1 + 1e-15).all()
    assert (move[normal == 0] == 0).all()
    torch.testing.assert_close((normal * move).sum(dim=1), -level, rtol=1e-9, atol=1e-12)
    pixels = at.shape[1]
    for slot in range(len(at)):
        # Variables: the move, and t with −t ≤ move ≤ t; minimise t.
        ones = np.ones((pixels, 1))
        best = linprog(
            c=[*[0] * pixels, 1],
            A_ub=np.block([[np.eye(pixels), -ones], [-np.eye(pixels), -ones]]),
            b_ub=np.zeros(2 * pixels),
            A_eq=[[*normal[slot].tolist(), 0]],
            b_eq=[-float(level[slot])],
            bounds=[*((-p, 1 - p) for p in at[slot].tolist()), (0, None)],
        )
        assert best.status == 0
        assert float(move[slot].abs().max()) == pytest.approx(best.fun, rel=1e-6, abs=1e-9)


def test_away_from_the_bounds_a_move_is_the_level_over_the_l1_norm():
    generator = torch.Generator().manual_seed(0)
    at = 0.4 + 0.2 * torch.rand(30, 50, generator=generator, dtype=torch.float64)
    normal = torch.randn(30, 50, generator=generator, dtype=torch.float64)
    length = torch.linspace(-0.39, 0.39, 30, dtype=torch.float64)
    move = shortest_move(at, normal, length * normal.abs().sum(dim=1))
    torch.testing.assert_close(move, -length.unsqueeze(1) * normal.sign())


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_plane_out_of_reach_is_approached_as_far_as_pixels_go(sign):
    at, normal, _ = random_planes(3)
    move = shortest_move(at, normal, sign * 2 * normal.abs().sum(dim=1))
    corner = torch.where(sign * normal < 0, 1.0, 0.0).double()
    torch.testing.assert_close(at + move, torch.where(normal == 0, at, corner))


def test_no_weights_no_move_and_no_neighbour_is_harmed():
    at, normal, level = random_planes(2)
    alone = shortest_move(at[1:], normal[1:], level[1:])
    for spoilt in (0.0, float("nan"), float("inf")):
        normal[0] = spoilt
        move = shortest_move(at, normal, level.index_fill(0, torch.tensor([0]), 1.0))
        torch.testing.assert_close(move[1:], alone, rtol=0, atol=0)
        if spoilt == 0:
            assert (move[0] == 0).all()


# --- the search -----------------------------------------------------------------------------------


class RowSums(nn.Module):
    """Logit k is the sum of row k."""

    def forward(self, x_BCHW):
        return x_BCHW[:, 0].sum(dim=2)


def test_on_a_linear_network_the_nearest_misclassified_image_is_at_the_closed_form_radius():
    # As in test_closed_form: against one rival, ε raises its row and lowers the label's.
    classes, width, radius = 10, 6, 0.02
    generator = torch.Generator().manual_seed(0)
    x = 0.4 + 0.01 * torch.rand(20, 1, classes, width, generator=generator, dtype=torch.float64)
    labels, slots = torch.arange(20) % classes, torch.arange(20)
    logits = RowSums()(x)
    strongest = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(dim=1)
    lift = (strongest + 2 * width * radius - logits[slots, labels]) / width
    x[slots, 0, labels] += lift.unsqueeze(1)

    short = FABT(iterations=10)
    just_below, _ = search(RowSums(), x, labels, f"{radius * 0.9999}", short)
    assert (just_below.step_N == 9 * 10).all()
    assert torch.equal(just_below.adv_NCHW, x)

    # The overshoot (5 %) and the way back (10 %) settle within one percent of the boundary.
    just_above, _ = search(RowSums(), x, labels, f"{radius * 1.01}", short)
    assert (just_above.step_N == 2).all()
    assert torch.equal(just_above.target_N, logits.scatter(1, labels[:, None], -9).argmax(dim=1))
    distance = (just_above.adv_NCHW - x).abs().flatten(1).amax(dim=1)
    assert ((distance > radius) & (distance <= radius * 1.01)).all()

    # With next to no overshoot, one step finds the radius itself.
    exact, _ = search(RowSums(), x, labels, f"{radius * (1 + 1e-6)}", FABT(eta=1.0 + 1e-7))
    assert (exact.step_N == 1).all()


def test_a_hit_is_misclassified_and_inside():
    model, x, labels = tiny(5)
    breaks, _ = search(model, x, labels, "0.02")
    fell = breaks.target_N >= 0
    assert 5 < fell.sum() < len(x)
    assert not stands(model, breaks.adv_NCHW[fell], labels[fell]).any()
    distance = (breaks.adv_NCHW - x).abs().flatten(1).amax(dim=1)
    assert (distance <= 0.02 + 1e-7).all()
    # What stands, and what was wrong from the start, is left as it was.
    assert torch.equal(breaks.adv_NCHW[~fell], x[~fell])


def test_a_larger_radius_keeps_every_hit():
    model, x, labels = tiny(5)
    small, _ = search(model, x, labels, "0.01")
    large, _ = search(model, x, labels, "0.02")
    assert ((large.target_N >= 0) | (small.target_N < 0)).all()
    assert (large.target_N >= 0).sum() > (small.target_N >= 0).sum()


@pytest.mark.parametrize(("num_classes", "iterations"), [(2, 100), (3, 100), (5, 25), (10, 25)])
def test_same_robust_flags_as_the_reference_whatever_the_number_of_classes(num_classes, iterations):
    model, x, labels = tiny(num_classes)
    found = parity(model, x, labels, "0.01", num_classes, iterations)
    assert found["differences"] == 0
    assert 0 < found["robust"] < found["clean"]


# Ranks around the one at which images begin to stand; `parity` takes as many as there is time for.
@pytest.mark.parametrize(
    ("eps", "ranks", "iterations"),
    [("2/255", slice(6, 13), 100), ("8/255", slice(47, 55), 25)],
)
def test_same_robust_flags_as_the_reference_on_cifar10(shared, eps, ranks, iterations):
    model = cnn_a(shared)
    images = weakest(model, *cifar10(shared, 100), ranks)
    found = parity(model, *images, eps, iterations=iterations)
    assert found["differences"] == 0
    assert 0 < found["robust"] < found["clean"]


def test_same_robust_flags_as_the_reference_on_a_residual_network_with_batch_norm():
    model, x, labels = demo(60)
    found = parity(model, *weakest(model, x, labels, slice(2, 4)), "0.1", iterations=25)
    assert found["differences"] == 0
    assert (found["robust"], found["clean"]) == (1, 2)


def test_refilled_slots_change_nothing():
    model, x, labels = tiny(3, 70)
    model, x = model.network, x.double()
    runs = [search(model, x, labels, "0.015", capacity=capacity)[0] for capacity in (7, 64, 70)]
    fell = runs[0].target_N >= 0
    assert 0 < fell.sum() < len(x)
    for run in runs[1:]:
        assert isinstance(run, Breaks)
        assert torch.equal(run.step_N, runs[0].step_N)
        assert torch.equal(run.target_N, runs[0].target_N)
        torch.testing.assert_close(run.adv_NCHW, runs[0].adv_NCHW, rtol=0, atol=1e-12)


def test_a_surviving_image_costs_two_forward_passes_and_one_backward_pass_a_step():
    model, x, labels = tiny(5)
    breaks, passes = search(model, x, labels, "0.0001")
    standing = int((breaks.target_N < 0).sum() - (breaks.step_N == 0).sum())
    assert (breaks.target_N < 0).all()
    # Once for a network: two images at four distances from the ends of the pixel range.
    once = 2 * 4
    assert passes.backward == 4 * 100 * standing + once
    # And one look at where the walk toward each class ended.
    assert passes.forward == 2 * 4 * 100 * standing + 4 * standing + once
