"""The cascade: parity with the reference, independence of slots, few and many classes."""

import dataclasses
import json

import pandas as pd
import pytest
import torch

from ferd_eval import score
from ferd_eval.attacks import Passes, Search, SlotState, Threat, losses, make_attack, plan_attacks
from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT, checkpoints, dlr_to_target
from ferd_eval.attacks.autoattack.ensemble import SearchAttack, cascade
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.square import Square
from tests.conftest import TinyNet, tiny_data
from tests.eval.attacks.test_sealed import assert_same, make_batch, snapshot

SHORT = (APGDCE(iterations=12), APGDT(iterations=8), FABT(iterations=5), Square(queries=40))


def short_cascade(**options):
    return cascade("aa", *SHORT, **options)


def one_by_one(attack, net, data, threat, **options):
    """Rows of a cascade over tensors, in image order."""
    return score(net, data, [attack], threat=threat, **options).of("aa").reset_index(drop=True)


class InFloat64(torch.nn.Module):
    """Float32 in and out, float64 inside: no rounding that depends on the batch."""

    def __init__(self, network):
        super().__init__()
        self.network = network.double()

    def forward(self, x_BCHW):
        return self.network(x_BCHW.double()).float()


def frozen_net(**sizes):
    return InFloat64(TinyNet(**sizes)).eval().requires_grad_(False)


def test_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_dlr_is_its_formula():
    logits_BK = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels_B, targets_B = torch.arange(50) % 7, (torch.arange(50) + 3) % 7
    for row, label, target, value in zip(
        logits_BK, labels_B, targets_B, dlr_to_target(logits_BK, labels_B, targets_B), strict=True
    ):
        first, _, third, fourth = sorted(row.tolist(), reverse=True)[:4]
        expected = -(row[label] - row[target]) / (first - (third + fourth) / 2 + 1e-12)
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    ("batch_size", "searches"),
    [
        (16, (APGDCE(iterations=20), APGDT(iterations=12), FABT(iterations=10), SHORT[3])),
        (40, (APGDCE(), APGDT(), FABT(), Square(queries=300))),
    ],
    ids=["short", "standard"],
)
def test_the_same_images_stand_as_in_the_reference(batch_size, searches, monkeypatch):
    """After each of the four searches, on the reference's own stream of random numbers."""
    pyautoattack = pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
    net = frozen_net(num_classes=10, channels=3, side=8)
    data = tiny_data(n=40, num_classes=10, channels=3)
    batch = make_batch(net, data)
    threat = Threat("0.012")
    attack = cascade("aa", *searches, reference_stream=True)
    stages = one_by_one(attack, net, data, threat, batch_size=batch_size)["stage"].fillna("")
    reference = pyautoattack.AutoAttack(net, eps=threat.radius, version="standard", seed=0)
    reference.square.n_queries = searches[3].queries
    for part, search in zip(
        (reference.apgd, reference.apgd_targeted, reference.fab), searches, strict=False
    ):
        part.n_iter = search.iterations
    monkeypatch.setattr(reference.logger, "disabled", True)
    standing_B = ours_B = batch.clean_logits_BK.argmax(1) == batch.labels_B
    fallen = 0
    for search in searches:
        reference.attacks_to_run = [search.family]
        rows = standing_B.nonzero().squeeze(1)
        adv, _ = reference.run_standard_evaluation(
            batch.x_BCHW[rows], batch.labels_B[rows], batch_size=batch_size
        )
        standing_B = standing_B.clone()
        standing_B[rows] = net(adv).argmax(1) == batch.labels_B[rows]
        broken = [stage.split(">")[0] == search.family for stage in stages]
        ours_B = ours_B & ~torch.tensor(broken)
        fallen += sum(broken)
        assert torch.equal(ours_B, standing_B), search.family
    assert 0 < fallen < 40, "a test in which all stand or all fall proves little"
    assert bool(standing_B.any())


@pytest.mark.parametrize("search", SHORT)
def test_verdicts_do_not_depend_on_slots(search):
    net = frozen_net(num_classes=10, channels=3, side=8)
    batch = make_batch(net, tiny_data(n=60, num_classes=10, channels=3))
    verdicts = [
        SearchAttack(search)(net, batch, Threat("0.012"), seed=1, passes=Passes(), slots=slots)
        for slots in (3, 7, 60)
    ]
    for other in verdicts[1:]:
        assert other.stages == verdicts[0].stages
        assert torch.equal(other.adv_pred_R, verdicts[0].adv_pred_R)
        assert torch.equal(other.steps_R, verdicts[0].steps_R)
        assert torch.equal(other.adv_RCHW, verdicts[0].adv_RCHW)
    assert 0 < sum(stage is not None for stage in verdicts[0].stages) < 60


@pytest.fixture(scope="module")
def in_double():
    """A network in float64, images, and the rows of a run in batches as they come."""
    net, data = TinyNet(num_classes=10).double().eval(), tiny_data(n=60, num_classes=10)
    return net, data, one_by_one(short_cascade(), net, data, "0.012")


@pytest.mark.parametrize("unit", [5, 17])
@pytest.mark.parametrize("batch_size", [7, 64, 300])
def test_verdicts_of_a_run_do_not_depend_on_batches_and_units(
    batch_size, unit, in_double, monkeypatch
):
    net, data, expected = in_double
    monkeypatch.setattr("ferd_eval.evaluation.run_manifest.search_unit", lambda *_: unit)
    got = one_by_one(short_cascade(), net, data, "0.012", batch_size=batch_size)
    pd.testing.assert_frame_equal(got, expected, rtol=0, atol=1e-6)
    assert len(expected["stage"].str.split(">").str[0].unique()) >= 3


def test_forward_passes_stay_full_while_images_wait():
    net = frozen_net(num_classes=10, channels=3, side=8)
    batch = make_batch(net, tiny_data(n=60, num_classes=10, channels=3))
    sizes = []
    net.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    attack = SearchAttack(APGDCE(iterations=12))
    attack(net, batch, Threat("0.012"), seed=0, passes=Passes(), slots=10)
    steps = [size for size in sizes if size > 5]
    assert max(sizes) == 10
    assert sum(size == 10 for size in steps) > 0.6 * len(steps)


@pytest.mark.parametrize("num_classes", [2, 3, 5, 10, 100, 200])
def test_any_number_of_classes(num_classes):
    net = TinyNet(num_classes=num_classes).eval()
    data = tiny_data(n=max(24, num_classes), num_classes=num_classes).first(24)
    with torch.no_grad():  # labels as predicted: all but the last four images are to be attacked
        predicted = net(torch.from_numpy(data.images_NCHW).float() / 255).argmax(1).numpy()
    predicted[-4:] = (predicted[-4:] + 1) % num_classes
    data = dataclasses.replace(data, labels_N=predicted)
    outcomes = score(net, data, [short_cascade()], threat="0.01")
    rows = outcomes.of("aa")
    assert len(rows) == 24
    fell = rows["stage"].notna()
    assert (rows.loc[fell, "adv_pred"] != rows.loc[fell, "label"]).all()
    wrong = rows["clean_pred"] != rows["label"]
    assert (rows.loc[wrong, "steps"] == 0).all()
    assert wrong.sum() == 4
    assert (rows.loc[~wrong, "steps"] > 0).all()
    assert (rows["linf"] <= 0.01 + 1e-6).all()
    assert (~rows["correct"] == (fell | wrong)).all()
    assert fell.any()


@pytest.mark.parametrize("search", SHORT)
def test_each_search_alone_leaves_the_network_as_it_was(search):
    net = TinyNet().train()
    net.bn.eval()
    before = snapshot(net)
    batch = make_batch(TinyNet().eval(), tiny_data())
    SearchAttack(search)(net, batch, Threat("0.05"), seed=0, passes=Passes())
    assert_same(before, snapshot(net))


def test_names_resolve_to_the_standard_constants():
    planned = {p.id: p for p in plan_attacks("aa,apgd-ce,apgd-t,fab-t,square", [Threat("8/255")])}
    assert list(planned) == ["clean", "aa", "apgd-ce", "apgd-t", "fab-t", "square"]
    stages = planned["aa"].describe()["stages"]
    assert stages["apgd-ce"]["iterations"] == 100
    assert stages["apgd-ce"]["checkpoints"] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert stages["square"]["queries"] == 5000
    # Passes of an image that survives everything, beside the reference's 7856 and 1910.
    forward, backward = make_attack("aa").passes_per_image(10)
    assert (forward, backward) == (102 + 918 + 1809 + 5002 + 5, 101 + 909 + 900)


def test_constants_are_plain_and_the_same_after_a_run():
    """A second checkpoint is planned with attacks that have run before."""
    attack = short_cascade()
    before = attack.constants(Threat("0.05"))
    score(TinyNet(), tiny_data().first(8), [attack], threat="0.05")
    assert attack.constants(Threat("0.05")) == before
    json.dumps(before)


def test_steps_count_all_targets_up_to_the_fall():
    net = frozen_net(num_classes=10, channels=3, side=8)
    batch = make_batch(net, tiny_data(n=300, num_classes=10, channels=3))
    verdicts = SearchAttack(APGDT(iterations=2))(
        net, batch, Threat("0.02"), seed=0, passes=Passes(), slots=60
    )
    targets_BM = batch.clean_logits_BK.argsort(dim=1, descending=True)[:, 1:10]
    later = 0
    for image, stage in enumerate(verdicts.stages):
        steps = int(verdicts.steps_R[image])
        if stage is not None:
            rounds = targets_BM[image].tolist().index(int(stage.split(">")[1]))
            assert rounds * 3 < steps <= rounds * 3 + 3
            later += rounds > 0
        elif batch.clean_logits_BK[image].argmax() == batch.labels_B[image]:
            assert steps == 9 * 3
    assert later > 0, "no image fell to a later target: the test would prove nothing"


@pytest.mark.parametrize("look_every", [2, 5, 1000])
@pytest.mark.parametrize("search", SHORT)
def test_looking_less_often_changes_nothing(search, look_every, monkeypatch):
    net = frozen_net(num_classes=10, channels=3, side=8)
    batch = make_batch(net, tiny_data(n=40, num_classes=10, channels=3))

    def run():
        attack = SearchAttack(search)
        return attack(net, batch, Threat("0.012"), seed=1, passes=Passes(), slots=7)

    often = run()
    monkeypatch.setattr(
        "ferd_eval.attacks.autoattack.batched_search.LOOK_EVERY", {"cpu": look_every}
    )
    seldom = run()
    assert seldom.stages == often.stages
    assert torch.equal(seldom.steps_R, often.steps_R)
    assert torch.equal(seldom.adv_RCHW, often.adv_RCHW)


@dataclasses.dataclass(frozen=True)
class Downhill(Search):
    """A search as a user would write it: signed steps, gradients from the problem."""

    family = "downhill"
    targeted = False
    steps = 8

    def begin(self, problem):
        return SlotState(problem.x_BCHW)

    def advance(self, problem, state, step_L):
        gradient = problem.gradient(
            state.adv_LCHW, lambda logits: losses.cross_entropy(logits, problem.labels_B)
        )
        low, high = problem.box
        adv = (state.adv_LCHW + problem.threat.radius / 4 * gradient.sign()).clamp(low, high)
        return SlotState(adv), problem.logits(adv).argmax(1) != problem.labels_B


def test_a_search_of_ones_own_has_gradients():
    rows = score(frozen_net(), tiny_data(), [cascade("own", Downhill())], "0.03").of("own")
    assert (rows["stage"] == "downhill").any()
