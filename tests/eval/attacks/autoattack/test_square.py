"""Square against pyautoattack's SquareAttack, and against what its paper promises."""

from dataclasses import replace

import numpy as np
import pyautoattack.square
import pytest
import torch
from scipy import stats
from torch import nn

from ferd_eval.attacks import KeyedRng, Passes, Problem, Threat, frozen
from ferd_eval.attacks.autoattack.batched_search import Breaks, run_search
from ferd_eval.attacks.autoattack.square import Square, window_sides
from ferd_eval.attacks.keyed_rng import ReferenceRng
from ferd_eval.datasets import load_dataset
from ferd_eval.models import build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.models.demo import demo_checkpoints
from tests.conftest import TinyNet, tiny_data

CIFAR_MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
CIFAR_STD = torch.tensor([0.2471, 0.2435, 0.2616]).view(3, 1, 1)


class DoubleInside(nn.Module):
    """Images come and go in float32, but rounding no longer depends on the size of a batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x_BCHW):
        return self.network(x_BCHW.double())


class Flat(nn.Module):
    """A small network for images of any shape; `grain` rounds its logits, so that they tie."""

    def __init__(self, num_classes: int, pixels: int, grain: float | None = None, seed: int = 0):
        super().__init__()
        self.grain = grain
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(pixels, 32, generator=generator) / pixels**0.5)
        self.last = nn.Parameter(torch.randn(32, num_classes, generator=generator))

    def forward(self, x_BCHW):
        logits_BK = torch.relu((x_BCHW - 0.5).flatten(1) @ self.first) @ self.last
        return logits_BK if self.grain is None else (logits_BK / self.grain).round() * self.grain


class Scores(nn.Module):
    """Records what is asked of a network, and what it answers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x_BCHW):
        logits_BK = self.network(x_BCHW)
        self.asked.append((x_BCHW, logits_BK.clone()))
        return logits_BK


def cnn_a(path) -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(3, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2048, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    network.load_state_dict(torch.load(path, weights_only=True))
    # The normalisation x ↦ (x − m) / s as a layer of its own.
    scale = nn.BatchNorm2d(3, eps=0, affine=False)
    scale.running_mean, scale.running_var = CIFAR_MEAN.flatten(), CIFAR_STD.flatten() ** 2
    return nn.Sequential(scale, network)


def tiny(num_classes: int, channels: int = 1, side: int = 8, n: int = 40):
    data = tiny_data(n, num_classes, channels, side)
    x_BCHW = torch.from_numpy(data.images_NCHW).float() / 255
    return x_BCHW, torch.from_numpy(data.labels_N)


def flat(num_classes: int, n: int):
    x_BCHW = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    network = DoubleInside(Flat(num_classes, x_BCHW[0].numel()))
    return x_BCHW, network(x_BCHW).argmax(dim=1), network


def problem_of(network, x_BCHW, labels_B, eps, noise=KeyedRng, seed=0) -> Problem:
    with torch.no_grad():
        clean_logits_BK = network(x_BCHW)
    source = noise(seed, "square", torch.arange(len(x_BCHW)))
    return Problem(
        model=network,
        judge=network,
        x_BCHW=x_BCHW,
        labels_B=labels_B,
        targets_B=None,
        clean_logits_BK=clean_logits_BK,
        threat=Threat(eps),
        noise=source,
        passes=Passes(),
        slots=len(x_BCHW),
    )


def search(
    network, x_BCHW, labels_B, eps, *, queries, noise=KeyedRng, seed=0, capacity=10_000
) -> tuple[Breaks, torch.Tensor, Passes]:
    """What the search found, whether each image stands, and the passes it took."""
    with frozen(network):
        torch.manual_seed(seed)
        problem = problem_of(network, x_BCHW, labels_B, eps, noise, seed)
        found = run_search(Square(queries=queries), problem, None, capacity)
        stands_N = network(found.adv_NCHW).argmax(dim=1) == labels_B
    return found, stands_N, problem.passes


def reference(network, x_BCHW, labels_B, eps, *, queries, seed=0):
    """pyautoattack's images, clean ones where it failed, and whether each image stands."""
    theirs = pyautoattack.square.SquareAttack(
        network,
        p_init=0.8,
        n_queries=queries,
        eps=Threat(eps).radius,
        norm="Linf",
        n_restarts=1,
        seed=seed,
        verbose=False,
        resc_schedule=False,
    )
    with frozen(network), torch.no_grad():
        adv_NCHW = x_BCHW.clone()
        correct_N = network(x_BCHW).argmax(dim=1) == labels_B
        adv_NCHW[correct_N] = theirs.perturb(x_BCHW[correct_N], labels_B[correct_N])
        return adv_NCHW, network(adv_NCHW).argmax(dim=1) == labels_B


def assert_parity(network, x_BCHW, labels_B, eps, queries) -> None:
    """The reference's flags, and its images where they fell, up to the last bit of a pixel."""
    found, stands_N, passes = search(
        network, x_BCHW, labels_B, eps, queries=queries, noise=ReferenceRng
    )
    adv_NCHW, their_stands_N = reference(network, x_BCHW, labels_B, eps, queries=queries)
    assert (stands_N != their_stands_N).sum() == 0
    assert (found.adv_NCHW - adv_NCHW)[~stands_N].abs().max() < 1e-7
    assert passes.backward == 0
    correct_N = network(x_BCHW).argmax(dim=1) == labels_B
    assert 0 < stands_N.sum() < correct_N.sum(), "nothing falls or nothing stands: tells nothing"


def test_the_window_is_the_published_list_at_32_pixels():
    sides = window_sides(5000, 0.8, 32, 32)
    first = {0: 29, 11: 20, 51: 14, 201: 10, 501: 7, 1001: 5, 2001: 4, 4001: 3}
    assert {q: s for q, s in enumerate(sides) if q == 0 or s != sides[q - 1]} == first


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (8, 8), (64, 64), (3, 40), (1, 1)])
@pytest.mark.parametrize("p_init", [0.8, 0.3, 1.0])
def test_the_window_is_the_reference_schedule(size, p_init):
    theirs = pyautoattack.square.SquareAttack(None, p_init=p_init, resc_schedule=False)
    for query, side in enumerate(window_sides(9000, p_init, *size)):
        share = theirs.p_selection(query)
        assert side == min(max(round((share * size[0] * size[1]) ** 0.5), 1), *size)


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "queries"), [("2/255", 150), ("8/255", 250)])
def test_parity_on_a_public_robust_network(shared, eps, queries):
    network = DoubleInside(cnn_a(shared / "checkpoints" / "cifar10_cnn_a_mix4.pt")).eval()
    exact = np.load(shared / "data" / "cifar10_official_test1017.npz")
    x_BCHW = torch.from_numpy(exact["images"][:64].transpose(0, 3, 1, 2).copy()).float() / 255
    assert_parity(
        network, x_BCHW, torch.from_numpy(exact["labels"][:64]).long(), eps, queries=queries
    )


@pytest.mark.slow
def test_parity_on_the_packaged_network():
    with demo_checkpoints() as (resnet8, _):
        classifier, _ = build_classifier(load_checkpoint(resnet8))
    data = load_dataset("demo")
    x_BCHW = torch.from_numpy(data.images_NCHW).float() / 255
    labels_B = torch.from_numpy(data.labels_N)
    with torch.no_grad():
        confidence_BK = classifier.eval()(x_BCHW).softmax(dim=1)
    # The images that are classified rightly with the least confidence: some fall at once.
    doubt_B = (confidence_BK.amax(dim=1) - confidence_BK[range(len(labels_B)), labels_B]) * 10
    weakest = (confidence_BK.amax(dim=1) + doubt_B).argsort()[:16]
    assert_parity(DoubleInside(classifier), x_BCHW[weakest], labels_B[weakest], "0.1", queries=60)


@pytest.mark.parametrize(
    ("num_classes", "eps"), [(2, "0.03"), (3, "0.03"), (5, "0.02"), (100, "0.02")]
)
def test_parity_with_any_number_of_classes(num_classes, eps):
    x_BCHW, labels_B, network = flat(num_classes, n=60)
    labels_B[:5] = (labels_B[:5] + 1) % num_classes  # nobody attacks these
    assert_parity(network, x_BCHW, labels_B, eps, queries=250)


@pytest.mark.parametrize("size", [(6, 11), (11, 6), (4, 40)])
def test_parity_on_images_that_are_not_square(size):
    x_BCHW = torch.rand(60, 2, *size, generator=torch.Generator().manual_seed(1))
    network = DoubleInside(Flat(4, x_BCHW[0].numel()))
    assert_parity(network, x_BCHW, network(x_BCHW).argmax(dim=1), "0.03", queries=120)


def test_a_tie_ends_the_search_as_in_the_reference():
    x_BCHW = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    network = DoubleInside(Flat(4, 64, grain=0.25))
    labels_B = network(x_BCHW).argmax(dim=1)
    assert_parity(network, x_BCHW, labels_B, "0.04", queries=150)

    problem = problem_of(network, x_BCHW, labels_B, "0.04")
    state = Square(queries=150).begin(problem)
    ended_B = torch.zeros(200, dtype=torch.bool)
    for step in range(151):
        ended_B |= state.best_margin_L == 0
        before_BCHW = state.best_LCHW.clone()
        state, hit_B = Square().advance(problem, state, torch.full((200,), step))
        assert not hit_B[ended_B].any()
        assert torch.equal(state.best_LCHW[ended_B], before_BCHW[ended_B])
    tied_B = network(state.best_LCHW).topk(2, dim=1).values.diff(dim=1).squeeze(1) == 0
    unharmed_B = network(state.best_LCHW).argmax(dim=1) == labels_B
    assert (ended_B & tied_B & unharmed_B).any(), "no tie was met: tells nothing"


def test_every_proposal_is_one_window_inside_the_box_and_kept_only_if_it_helps():
    x_BCHW, labels_B = tiny(4, channels=3, side=12, n=30)
    network = Scores(TinyNet(4, channels=3, side=12).eval())
    problem, square = problem_of(network, x_BCHW, labels_B, "0.05"), Square(queries=1300)
    low_BCHW, high_BCHW = Threat("0.05").bounds(x_BCHW)
    state = square.begin(problem)
    sides = window_sides(1300, 0.8, 12, 12)
    kept = rejected = 0
    # Slots are at steps of their own: each starts with the stripes and goes ahead in strides.
    stride_B = 1 + torch.arange(30)
    for turn in range(40):
        step_B = stride_B * turn
        before = replace(state, best_LCHW=state.best_LCHW.clone())
        state, hit_B = square.advance(problem, state, step_B)
        tried_BCHW, logits_BK = network.asked[-1]
        assert (tried_BCHW >= low_BCHW).all()
        assert (tried_BCHW <= high_BCHW).all()
        assert torch.equal(hit_B & (before.best_margin_L != 0), logits_BK.argmax(1) != labels_B)
        assert torch.equal(tried_BCHW, state.adv_LCHW)

        rivals_BK = logits_BK.clone()
        rivals_BK[torch.arange(30), labels_B] = -torch.inf
        lead_B = logits_BK[torch.arange(30), labels_B] - rivals_BK.amax(dim=1)
        for i in range(30):
            changed_HW = (tried_BCHW[i] != before.best_LCHW[i]).any(dim=0)
            if step_B[i] == 0:
                assert not changed_HW.any()
                continue
            rows, columns = changed_HW.nonzero().unbind(1)
            side = sides[int(step_B[i]) - 1]
            for places in (rows, columns):
                assert len(places) == 0 or places.max() - places.min() < side
                assert len(places) == 0 or places.max() < 11  # the last one is never reached
            helps = bool(lead_B[i] < -before.best_margin_L[i]) and before.best_margin_L[i] != 0
            expected = tried_BCHW[i] if helps else before.best_LCHW[i]
            assert torch.equal(state.best_LCHW[i], expected)
            assert state.best_margin_L[i] == (-lead_B[i] if helps else before.best_margin_L[i])
            kept, rejected = kept + helps, rejected + (not helps)
    assert min(kept, rejected) > 50


def test_the_search_starts_from_vertical_stripes_on_the_border():
    x_BCHW = 0.4 + 0.2 * torch.rand(50, 3, 9, 9, dtype=torch.float64)
    state = Square().begin(problem_of(lambda x: x.flatten(1), x_BCHW, torch.zeros(50), "0.1"))
    moved_BCHW = (state.adv_LCHW - x_BCHW) / 0.1
    assert torch.allclose(moved_BCHW.abs(), torch.ones_like(moved_BCHW))
    assert torch.allclose(moved_BCHW, moved_BCHW[:, :, :1].expand_as(moved_BCHW))
    ups = int((moved_BCHW[:, :, 0] > 0).sum())
    assert stats.binomtest(ups, 50 * 3 * 9).pvalue > 1e-3


def test_windows_are_uniform_and_each_image_has_its_own():
    x_BCHW = torch.zeros(40, 3, 8, 10)
    problem = problem_of(lambda x: x.flatten(1), x_BCHW, torch.zeros(40), "0.1")
    state = Square(queries=2000).begin(problem)
    late = slice(1002, 2001)  # windows of one pixel by then
    assert (state.edge_LS4[:, late, 2:] - state.edge_LS4[:, late, :2] == 1).all()
    for axis, room in ((0, 7), (1, 9)):
        offsets_LT = state.edge_LS4[:, late, axis]
        counts = torch.bincount(offsets_LT.flatten().long(), minlength=room).numpy()
        assert len(counts) == room
        assert stats.chisquare(counts).pvalue > 1e-3
        same = int((offsets_LT[0] == offsets_LT[1]).sum())
        assert stats.binomtest(same, 999, 1 / room).pvalue > 1e-3
    signs_LTC = state.sign_LSC[:, late]
    assert signs_LTC.abs().eq(1).all()
    patterns = torch.bincount(((signs_LTC > 0) * torch.tensor([1, 2, 4])).sum(dim=2).flatten())
    assert stats.chisquare(patterns.numpy()).pvalue > 1e-3


def test_no_number_is_used_twice(monkeypatch):
    drawn = []
    uniform = KeyedRng.uniform

    def recorded(noise, shape, dtype, draw=0):
        drawn.append(draw)
        return uniform(noise, shape, dtype, draw)

    monkeypatch.setattr(KeyedRng, "uniform", recorded)
    x_BCHW = torch.zeros(3, 2, 8, 8)
    Square(queries=2300).begin(problem_of(lambda x: x.flatten(1), x_BCHW, torch.zeros(3), "0.1"))
    assert len(drawn) > 1
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("queries", [1, 700, 1000, 1200])
def test_a_search_with_fewer_queries_is_the_beginning_of_a_longer_one(queries):
    problem = problem_of(lambda x: x.flatten(1), torch.zeros(5, 2, 8, 8), torch.zeros(5), "0.1")
    short, long = (Square(queries=q).begin(problem) for q in (queries, 2300))
    assert short.edge_LS4.shape[1] == short.sign_LSC.shape[1] == queries + 1
    assert torch.equal(short.edge_LS4, long.edge_LS4[:, : queries + 1])
    assert torch.equal(short.sign_LSC, long.sign_LSC[:, : queries + 1])
    assert torch.equal(short.adv_LCHW, long.adv_LCHW)


def test_verdicts_and_images_do_not_depend_on_the_slots():
    x_BCHW, labels_B, network = flat(5, n=100)
    x_BCHW = x_BCHW.double()
    whole, stands_N, passes = search(network, x_BCHW, labels_B, "0.03", queries=120)
    assert 20 < stands_N.sum() < 80
    for capacity in (7, 64):
        found, again_N, again = search(
            network, x_BCHW, labels_B, "0.03", queries=120, capacity=capacity
        )
        assert torch.equal(again_N, stands_N)
        assert torch.equal(found.adv_NCHW, whole.adv_NCHW)
        assert torch.equal(found.step_N, whole.step_N)
        assert again.forward == passes.forward
        assert again.backward == 0
    other = search(network, x_BCHW, labels_B, "0.03", queries=120, seed=1)[0]
    assert not torch.equal(other.adv_NCHW, whole.adv_NCHW)


def test_an_image_costs_one_pass_for_each_query_and_one_for_the_stripes():
    x_BCHW, labels_B = tiny(5, channels=3, n=30)
    network = TinyNet(5, channels=3).eval()
    found, stands_N, passes = search(network, x_BCHW, labels_B, "0.0001", queries=60)
    correct_N = network(x_BCHW).argmax(dim=1) == labels_B
    assert torch.equal(stands_N, correct_N)
    assert passes.forward == (61 + 1) * int(correct_N.sum())  # and a look at the nearest miss
    assert passes.backward == 0
    assert torch.equal(found.step_N, 61 * correct_N.long())


def test_keyed_numbers_fool_as_many_as_the_reference():
    """Means over seeds; in the reference all images share windows, so its counts scatter more."""
    x_BCHW, labels_B, network = flat(5, n=150)

    def standing(run, queries):
        return [
            int(run(network, x_BCHW, labels_B, "0.03", queries=queries, seed=seed)[1].sum())
            for seed in range(12)
        ]

    theirs = standing(reference, 40)
    assert 30 < np.mean(theirs) < 120
    assert stats.ttest_ind(standing(search, 40), theirs, equal_var=False).pvalue > 1e-3
    # The comparison would see a search that is half as long.
    assert stats.ttest_ind(standing(search, 20), theirs, equal_var=False).pvalue < 1e-3
