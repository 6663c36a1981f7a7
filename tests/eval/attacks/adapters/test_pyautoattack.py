"""``--engine autoattack``: ours beside the authors' code, and what that may not leave behind."""

import contextlib
import json
import logging
import random
import subprocess
import sys
import threading
import types
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ferd_eval import score
from ferd_eval.attacks import PGD, Passes, Problem, SearchAttack, Threat, make_attack, plan_attacks
from ferd_eval.attacks.adapters.base import WrappedModel
from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack.ensemble import cascade
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.square import Square
from ferd_eval.attacks.keyed_rng import KeyedRng
from ferd_eval.attacks.plan import PlannedAttack
from ferd_eval.cli import app
from ferd_eval.errors import UserError
from ferd_eval.models.demo import demo_checkpoints
from ferd_eval.runtime.command_line import run
from tests.conftest import TinyNet, tiny_data
from tests.eval.attacks.autoattack.test_ensemble import frozen_net
from tests.eval.attacks.test_sealed import make_batch
from tests.eval.models.test_public_checkpoints import CIFAR, FACTORIES

pyautoattack = pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
from ferd_eval.attacks.adapters import pyautoattack as adapter  # noqa: E402
from ferd_eval.attacks.adapters.pyautoattack import ThroughAutoattack, through_autoattack  # noqa: E402

EPS = "0.012"

#: Fewer iterations than AutoAttack's own, for what does not depend on how many there are.
SHORT = (APGDCE(iterations=20), APGDT(iterations=12), FABT(iterations=10), Square(queries=300))


@pytest.fixture
def short(monkeypatch):
    """Let their package do no more than `SHORT`, and the engine know those constants too."""

    class Short(pyautoattack.AutoAttack):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            ce, targeted, fab, square = SHORT
            self.apgd.n_iter, self.apgd_targeted.n_iter = ce.iterations, targeted.iterations
            self.fab.n_iter, self.square.n_queries = fab.iterations, square.queries

    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)
    monkeypatch.setattr(adapter, "_STANDARD", (*adapter._STANDARD, *SHORT))


def rows_of(net, data, plan, **options):
    """Rows of the plan's second attack, in image order."""
    outcomes = score(net, data, attack_plan=plan, **options)
    return outcomes.of(plan[1].id).reset_index(drop=True)


def shortened(name, **options):
    """The preset with the iterations of `SHORT`."""
    searches = {each.family: SearchAttack(each, **options) for each in SHORT}
    whole = make_attack(name)
    parts = (tuple(searches[each.family] for each in of) for of in (whole.stages, whole.audits))
    return replace(whole, **dict(zip(("stages", "audits"), parts, strict=True)))


def both(net, data, attack, num_classes=10):
    """Rows of an attack in our code and in theirs."""
    plan = plan_attacks([attack], [Threat(EPS)])
    engine = through_autoattack(plan, num_classes)
    return rows_of(net, data, plan), rows_of(net, data, engine)


def flips(ours, theirs):
    assert (ours["index"] == theirs["index"]).all()
    return int((ours["correct"] != theirs["correct"]).sum())


def engine_stage(name):
    (_, planned) = through_autoattack(plan_attacks([name], [Threat(EPS)]), 10)
    return planned.attack.stages[0]


def attack_tiny(attack, net=None, n=12, **options):
    net = net or TinyNet(num_classes=10, channels=3).eval()
    batch = make_batch(TinyNet(num_classes=10, channels=3).eval(), tiny_data(n, 10, 3))
    passes = Passes()
    return batch, passes, attack(net, batch, Threat(EPS), seed=0, passes=passes, **options)


# Verdicts


@pytest.mark.parametrize(
    ("batch_size", "iterations"),
    [(16, "short"), pytest.param(60, "standard", marks=pytest.mark.deep)],
)
def test_on_the_references_stream_each_stage_breaks_the_same_images(
    batch_size, iterations, request
):
    net, data = frozen_net(num_classes=10, channels=3), tiny_data(60, 10, 3)
    ours, theirs = make_attack("aa:reference"), make_attack("aa")
    if iterations == "short":
        request.getfixturevalue("short")
        ours, theirs = shortened("aa", reference_stream=True), shortened("aa")
    plan = (plan_attacks("clean", [Threat(EPS)])[0], PlannedAttack("aa", ours, Threat(EPS)))
    engine = through_autoattack(plan_attacks([theirs], [Threat(EPS)]), 10)
    ours, theirs = (rows_of(net, data, each, batch_size=batch_size) for each in (plan, engine))
    stages = ours["stage"].fillna("").str.split(">").str[0]
    assert stages.tolist() == theirs["stage"].fillna("").tolist()
    assert {"apgd-ce", "apgd-t"} <= set(stages)
    assert flips(ours, theirs) == 0
    assert 0 < ours["correct"].sum() < (ours["clean_pred"] == ours["label"]).sum()


@pytest.mark.parametrize("name", ["aa", "apgd-ce", "apgd-t", "fab-t", "square", "aa-audited"])
def test_ours_and_theirs_agree_but_for_the_random_numbers(name, request, capsys):
    """AutoAttack as it is; its parts and order with fewer iterations."""
    data, attack = tiny_data(60, 10, 3), "aa"
    if name != "aa":
        request.getfixturevalue("short")
        attack = shortened(name)
    ours, theirs = both(TinyNet(num_classes=10, channels=3).eval(), data, attack)
    differ = flips(ours, theirs)
    # A random search that stops in the middle of its success is decided by its random numbers.
    allowed = 6 if name == "square" else 2
    with capsys.disabled():
        print(f"\n{name}: {differ} flips, {ours['correct'].sum()} and {theirs['correct'].sum()}/60")
    assert differ <= allowed
    assert 5 < theirs["correct"].sum() < 58
    assert (theirs["linf"] <= float(Threat(EPS).eps) + 1e-6).all()
    families = set(theirs["stage"].dropna())
    assert families <= {"apgd-ce", "apgd-t", "fab-t", "square"}
    assert families


@pytest.mark.parametrize("num_classes", [2, 3, 5, 10, 100])
def test_any_number_of_classes(num_classes, short):
    net = TinyNet(num_classes=num_classes).eval()
    data = tiny_data(max(12, num_classes), num_classes).first(12)
    names = ["aa"] if num_classes >= 4 else ["apgd-ce", "fab-t", "square"]
    for name in names:
        ours, theirs = both(net, data, shortened(name), num_classes)
        assert flips(ours, theirs) <= 1, name
    if num_classes < 4:
        for name in ("aa", "apgd-t", "aa-audited"):
            with pytest.raises(UserError, match=f"needs four classes.*there are {num_classes}"):
                through_autoattack(plan_attacks([shortened(name)], [Threat(EPS)]), num_classes)


def test_what_is_misclassified_anyway_is_left_alone():
    batch, _, verdicts = attack_tiny(engine_stage("apgd-t"), n=40)
    wrong_B = batch.clean_logits_BK.argmax(1) != batch.labels_B
    assert 0 < wrong_B.sum() < 40
    assert torch.equal(verdicts.adv_RCHW[wrong_B], batch.x_BCHW[wrong_B])
    assert (verdicts.steps_R[wrong_B] == 0).all()
    assert (verdicts.steps_R[~wrong_B] == 9 * 101).all()
    fell_B = verdicts.adv_pred_R != batch.labels_B
    assert [stage is not None for stage in verdicts.stages] == (fell_B & ~wrong_B).tolist()
    assert set(verdicts.stages) == {"apgd-t", None}

    nobody = make_batch(TinyNet(num_classes=10, channels=3).eval(), tiny_data(10, 10, 3))
    nobody.labels_B.copy_((nobody.clean_logits_BK.argmax(1) + 1) % 10)
    net = TinyNet(num_classes=10, channels=3).eval()
    verdicts = engine_stage("apgd-ce")(net, nobody, Threat(EPS), seed=0, passes=Passes())
    assert torch.equal(verdicts.adv_RCHW, nobody.x_BCHW)


def test_passes_are_those_the_network_saw():
    seen = {"forward": 0, "backward": 0}
    net = TinyNet(num_classes=10, channels=3).eval()

    def note(module, inputs, output):
        seen["forward"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda g: seen.update(backward=seen["backward"] + len(g)))

    net.register_forward_hook(note)
    for name in ("apgd-ce", "fab-t", "square"):
        seen.update(forward=0, backward=0)
        _, passes, _ = attack_tiny(engine_stage(name), net)
        assert vars(passes) == seen, name
        assert (passes.backward > 0) == (name != "square")


def test_no_pass_is_larger_than_asked_for():
    sizes = []
    net = TinyNet(num_classes=10, channels=3).eval()
    net.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    attack_tiny(engine_stage("apgd-ce"), net, n=40, slots=7)
    assert max(sizes) == 7


def test_the_seed_is_passed_on(short):
    net = TinyNet(num_classes=10, channels=3).eval()
    batch = make_batch(net, tiny_data(40, 10, 3))
    stage = engine_stage(shortened("square"))
    first, again, other = (
        stage(net, batch, Threat("0.03"), seed=seed, passes=Passes()).adv_RCHW for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# Networks of every kind


def lent(net, x_BCHW):
    logits_BK = net(x_BCHW).detach()
    labels_B = torch.zeros(len(x_BCHW), dtype=torch.long)
    noise, passes = KeyedRng(0, "it", labels_B), Passes()
    return WrappedModel(
        Problem(
            net, net, x_BCHW, labels_B, None, logits_BK, Threat(EPS), noise, passes, len(x_BCHW)
        )
    )


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_a_channels_last_network(name):
    net = TinyNet(num_classes=10, channels=3).eval()
    batch = make_batch(net, tiny_data(12, 10, 3))
    expected = engine_stage(name)(net, batch, Threat(EPS), seed=0, passes=Passes())
    last = net.to(memory_format=torch.channels_last)
    x_BCHW = batch.x_BCHW.contiguous(memory_format=torch.channels_last)
    batch = type(batch)(x_BCHW, batch.labels_B, batch.indices_B, batch.clean_logits_BK)
    if name == "apgd-t":  # the failure this guards against
        bare = pyautoattack.AutoAttack(last, eps=0.012, seed=0, version="standard")
        bare.attacks_to_run = [name]
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            bare.run_standard_evaluation(x_BCHW, batch.labels_B)
    got = engine_stage(name)(last, batch, Threat(EPS), seed=0, passes=Passes())
    assert got.stages == expected.stages


def test_gradients_are_laid_out_afresh():
    class Turned(TinyNet):
        def forward(self, x_BCHW):
            return super().forward(x_BCHW.transpose(2, 3).contiguous())

    net = Turned(num_classes=10, channels=3).eval()
    x_BCHW = torch.rand(4, 3, 8, 8, requires_grad=True)
    (bare_BCHW,) = torch.autograd.grad(net(x_BCHW).sum(), x_BCHW)
    wrapped = lent(net, x_BCHW)
    (gradient_BCHW,) = torch.autograd.grad(wrapped(x_BCHW).sum(), x_BCHW)
    assert not bare_BCHW.is_contiguous()
    assert gradient_BCHW.is_contiguous()
    assert torch.equal(gradient_BCHW, bare_BCHW)


def test_what_a_package_writes_into_logits_stays_its_own():
    class Kept(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits_BK = torch.zeros(2, 3)

        def forward(self, x_BCHW):
            return self.logits_BK

    net = Kept()
    lent(net, torch.rand(2, 1, 4, 4))(torch.rand(2, 1, 4, 4))[0, 0] = -torch.inf
    assert net.logits_BK.isfinite().all()


def test_a_network_in_double_precision(short):
    net = TinyNet(num_classes=10, channels=3).eval().double()
    ours, theirs = both(net, tiny_data(20, 10, 3), shortened("aa"))
    assert flips(ours, theirs) <= 1
    assert 0 < theirs["correct"].sum() < 20


# What is left behind: nothing


class Unruly(TinyNet):
    """Draws from every generator while the package looks at it, and fails if told to."""

    def __init__(self, fails_at=None):
        super().__init__(num_classes=10, channels=3)
        self.calls, self.fails_at = 0, fails_at

    def forward(self, x_BCHW):
        self.calls += 1
        if self.calls < 50:  # the verdict's own pass is no longer in the package
            random.random()
            np.random.rand()  # noqa: NPY002
        if self.calls == self.fails_at:
            raise RuntimeError("the network's fault")
        return super().forward(x_BCHW) + 1e-3 * torch.rand(len(x_BCHW), 10)


def tracer(frame, event, argument):
    return None


@pytest.fixture
def traced():
    """A debugger at work."""
    before = sys.gettrace(), threading.gettrace()
    threading.settrace(tracer)
    sys.settrace(tracer)
    yield
    sys.settrace(before[0])
    threading.settrace(before[1])


def world():
    return (
        random.getstate(),
        tuple(map(str, np.random.get_state())),  # noqa: NPY002
        torch.get_rng_state().tolist(),
        [state.tolist() for state in torch.cuda.get_rng_state_all()],
        sys.gettrace(),
        threading.gettrace(),
        logging.getLogger("auto-attack").disabled,
        sys.stdout,
    )


@pytest.mark.parametrize("fails_at", [None, 3, 40])
def test_the_world_is_as_before(fails_at, traced, caplog, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = world()
    fails = pytest.raises(RuntimeError, match="fault") if fails_at else contextlib.nullcontext()
    with fails:
        attack_tiny(engine_stage("apgd-ce"), Unruly(fails_at).eval())
    after = world()
    assert after == before
    assert sys.gettrace() is tracer
    assert capsys.readouterr() == ("", "")
    assert not caplog.records
    assert not list(tmp_path.iterdir())


def test_uncontained_the_package_stops_the_trace_and_logs(traced, caplog, monkeypatch):
    """The faults that the test above would see."""
    module = "ferd_eval.attacks.adapters.pyautoattack"
    monkeypatch.setattr(f"{module}.isolated_globals", lambda *names: contextlib.nullcontext())
    monkeypatch.setattr(logging.getLogger("auto-attack"), "disabled", False)
    drawn = random.getstate()
    attack_tiny(engine_stage("apgd-ce"), Unruly().eval())
    assert sys.gettrace() is None
    assert random.getstate() != drawn
    assert "randomized defense" in caplog.text


def test_importing_ours_imports_neither_package():
    code = (
        "import ferd_eval.evaluation.evaluate, ferd_eval.pipeline, sys\n"
        "import ferd_eval.attacks.adapters.base\n"
        "import ferd_eval.attacks.adapters.pyautoattack, ferd_eval.attacks.adapters.torchattacks\n"
        "print({'pyautoattack', 'autoattack', 'torchattacks'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# The plan


def test_the_record_says_who_ran_it():
    plan = plan_attacks("clean,pgd,aa,aa-audited,apgd-ce", [Threat(EPS)])
    engine = {each.id: each for each in through_autoattack(plan, 10)}
    assert list(engine) == [each.id for each in plan]
    assert engine["pgd"].attack == PGD()
    described, ours = engine["aa"].describe(), plan[2].describe()
    for stage, constants in described["stages"].items():
        assert constants["engine"] == "autoattack"
        assert constants["package"] == "pyautoattack"
        assert constants["package_version"] == metadata.version("pyautoattack")
        theirs = {"engine", "package", "package_version", "random_numbers"}
        rest = {key: value for key, value in constants.items() if key not in theirs}
        native = {k: v for k, v in ours["stages"][stage].items() if k not in theirs}
        assert rest == native
    audited = engine["aa-audited"].attack
    assert [type(attack) for attack in audited.audits] == [ThroughAutoattack] * 2
    json.dumps(described)


def test_the_recorded_constants_are_the_packages():
    whole = pyautoattack.AutoAttack(TinyNet().eval(), eps=0.1, version="standard")
    assert whole.attacks_to_run == [stage.family for stage in make_attack("aa").stages]
    assert (whole.apgd.n_iter, whole.apgd.n_restarts) == (APGDCE().iterations, 1)
    assert (whole.apgd_targeted.n_iter, whole.apgd_targeted.n_restarts) == (APGDT().iterations, 1)
    fab = FABT()
    assert (whole.fab.n_iter, whole.fab.alpha_max, whole.fab.eta, whole.fab.beta) == (
        fab.iterations, fab.alpha_max, fab.eta, fab.beta,
    )  # fmt: skip
    square = Square()
    assert (whole.square.n_queries, whole.square.p_init, whole.square.rescale_schedule) == (
        square.queries, square.p_init, square.rescaled,
    )  # fmt: skip
    assert whole.fab.n_target_classes == whole.apgd_targeted.n_target_classes == 9


def test_what_it_has_no_part_in_is_refused():
    with pytest.raises(UserError, match="no part in clean, fgsm, pgd, cw"):
        through_autoattack(plan_attacks("fast", [Threat(EPS)]), 10)
    with pytest.raises(UserError, match=r"no aa-torchattacks.*constants are fixed"):
        through_autoattack(plan_attacks("aa-torchattacks", [Threat(EPS)]), 10)
    short = cascade("aa", APGDCE(iterations=5))
    with pytest.raises(UserError, match="constants are fixed"):
        through_autoattack((PlannedAttack("short", short, Threat(EPS)),), 10)
    own = SearchAttack(APGDCE(), reference_stream=True)
    with pytest.raises(UserError, match="constants are fixed"):
        through_autoattack((PlannedAttack("own", own, Threat(EPS)),), 10)


def test_without_pyautoattack_the_package_from_their_repository_is_used(monkeypatch, capsys):
    """Its interface (fra31/auto-attack): `bs`, prints, and images alone as the answer."""

    class Printing(pyautoattack.AutoAttack):
        def run_standard_evaluation(self, x_orig, y_orig, bs=250, return_labels=False):
            print("initial accuracy")
            return super().run_standard_evaluation(x_orig, y_orig, batch_size=bs)[0]

    _, _, expected = attack_tiny(engine_stage("apgd-t"))
    theirs = types.ModuleType("autoattack")
    theirs.AutoAttack = Printing
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    monkeypatch.setitem(sys.modules, "autoattack", theirs)
    stage = engine_stage("apgd-t")
    assert (stage.package, stage.version) == ("autoattack", "unknown")
    _, _, got = attack_tiny(stage)
    assert torch.equal(got.adv_RCHW, expected.adv_RCHW)
    assert capsys.readouterr().out == ""


# As people type it


@pytest.fixture
def ferd_eval(capsys):
    def command(*arguments):
        capsys.readouterr()
        status = run(app, arguments, "ferd-eval")
        return status, *capsys.readouterr()

    return command


@pytest.mark.slow
def test_the_command_scores_through_it(ferd_eval, tmp_path, monkeypatch, short):
    monkeypatch.chdir(tmp_path)
    with demo_checkpoints() as files:
        words = ["score", str(files[1]), "--dataset", "demo", "--limit", "10", "--attacks", "aa"]
        words += ["--out", "run"]
        status, out, err = ferd_eval(*words, "--engine", "autoattack")
        assert (status, out.splitlines()[-1]) == (0, "run/report.html")
        # Nothing but our own lines: progress and, on a slow machine, the forecast.
        ours = (files[1].stem, "This will take about ")
        assert all(line.startswith(ours) for line in err.splitlines()), err
        manifest = json.loads(Path("run/manifest.json").read_text())
        assert manifest["engine"] == "autoattack"
        for constants in manifest["attacks"]["aa"]["stages"].values():
            assert constants["package"] == "pyautoattack"
        status, _, err = ferd_eval(*words)
    assert (status, err.count("\n")) == (2, 1)
    assert "another configuration" in err


def test_a_missing_package_is_one_line(ferd_eval, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    monkeypatch.setitem(sys.modules, "autoattack", None)
    with demo_checkpoints() as (checkpoint, _):
        words = ["score", str(checkpoint), "--dataset", "demo", "--attacks", "aa"]
        status, _, err = ferd_eval(*words, "--engine", "autoattack")
    assert (status, err.count("\n")) == (2, 1)
    assert "pip install --no-deps pyautoattack" in err


@pytest.mark.deep
@pytest.mark.parametrize(("attacks", "engine"), [("aa", "autoattack"), ("aa-torchattacks", None)])
def test_a_public_network_in_both_engines(
    attacks, engine, ferd_eval, shared, prepared, tmp_path, monkeypatch, capsys
):
    file = shared / "checkpoints" / "cifar10_cnn_a_mix4.pt"
    if not file.is_file():
        pytest.skip(f"no public checkpoint {file}")
    if engine is None:
        engine = "torchattacks"
        pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(FACTORIES)
    words = [
        "score", str(file), "--model-file", "nets.py:cnn_a", "--dataset", "cifar10",
        "--data-dir", str(prepared / "cifar10-official1017"), "--normalize", CIFAR,
        "--eps", "2/255", "--limit", "12", "--attacks", attacks,
    ]  # fmt: skip
    tables, passes = {}, {}
    for name in ("native", engine):
        status, _, err = ferd_eval(*words, "--engine", name, "--out", name)
        assert status == 0, err
        table = pd.read_parquet(f"{name}/outcomes.parquet")
        tables[name] = table[table["attack"] == attacks].reset_index(drop=True)
        passes[name] = json.loads(Path(name, "manifest.json").read_text())["cost"][attacks]
    differ = flips(*tables.values())
    with capsys.disabled():
        right = {name: int(table["correct"].sum()) for name, table in tables.items()}
        print(f"\n{file.name}, {attacks}: {differ} flips, robust {right} of 12, passes {passes}")
    assert differ <= 1
    assert 0 < tables[engine]["correct"].sum() < 12
