"""The Python API: what is measured, that it depends on nothing else, and that it survives."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ferd_eval import Attack, LabelledImages, Outcomes, Threat, UserError, score
from ferd_eval.attacks import CW, FGSM, PGD, Batch, Passes, TargetedPGD
from ferd_eval.results.outcomes import COLUMNS
from tests.conftest import Killed, StopAfter, TinyNet, tiny_data

EPS = "0.06"
KEY = ["attack", "index", "target"]


def take(data: LabelledImages, order) -> LabelledImages:
    """The same images in another order, or fewer of them."""
    return replace(
        data,
        images_NCHW=data.images_NCHW[order],
        labels_N=data.labels_N[order],
        indices_N=data.indices_N[order],
    )


def by_image(outcomes: Outcomes) -> pd.DataFrame:
    return outcomes.table.sort_values(KEY).reset_index(drop=True)


def refused(*parts: str):
    """One line that says all of the parts."""
    pattern = "".join(f"(?=.*{re.escape(part)})" for part in parts)
    return pytest.raises(UserError, match=rf"\A{pattern}[^\n]*\Z")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# What is measured


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=3), CW(steps=3), TargetedPGD(steps=2)])
def test_rows_are_what_the_attack_itself_says(attack, net, data):
    outcomes = score(net, data, [attack], EPS, seed=3)
    name = attack.family
    x = torch.from_numpy(data.images_NCHW).float() / 255
    labels, indices = torch.from_numpy(data.labels_N), torch.from_numpy(data.indices_N)
    with torch.no_grad():
        clean = net(x)
    batch = Batch(x, labels, indices, clean)
    said = attack(net, batch, Threat(EPS), seed=3, passes=Passes())
    rows = outcomes.of(name).reset_index(drop=True)
    assert len(rows) == len(data) * (3 if attack.family == "targeted" else 1)
    np.testing.assert_array_equal(rows["adv_pred"], said.adv_pred_R)
    np.testing.assert_array_equal(rows["index"], indices[said.rows_R])
    np.testing.assert_array_equal(rows["label"], labels[said.rows_R])
    np.testing.assert_array_equal(rows["clean_pred"], clean.argmax(1)[said.rows_R])
    np.testing.assert_array_equal(rows["correct"], said.adv_pred_R == labels[said.rows_R])
    np.testing.assert_allclose(rows["margin"], said.margin_R, atol=1e-5)
    np.testing.assert_allclose(rows["linf"], said.linf_R, atol=1e-7)
    np.testing.assert_allclose(rows["confidence"], said.confidence_R, atol=1e-6)
    assert (rows["steps"] == attack.steps).all()
    # The verdicts again from the images alone, without any of our code.
    with torch.no_grad():
        logits = net(said.adv_RCHW)
    np.testing.assert_array_equal(rows["adv_pred"], logits.argmax(1))
    truth = logits[torch.arange(len(logits)), labels[said.rows_R]]
    others = logits.scatter(1, labels[said.rows_R].unsqueeze(1), -torch.inf).amax(1)
    np.testing.assert_allclose(rows["margin"], truth - others, atol=1e-5)


def test_the_table_has_its_columns_and_types_and_one_row_each(net, data):
    table = score(net, data, "fgsm,targeted", EPS, steps=2).table
    assert {name: str(kind) for name, kind in table.dtypes.items()} == {
        name: pd.array([], dtype=kind).dtype.name for name, kind in COLUMNS.items()
    }
    assert not table.duplicated(KEY).any()
    assert table["attack"].value_counts().to_dict() == {"clean": 40, "fgsm": 40, "targeted": 120}
    clean = table[table["attack"] == "clean"]
    assert (clean["adv_pred"] == clean["clean_pred"]).all()
    assert (clean["linf"] == 0).all()
    assert (table["linf"] <= 0.06 + 1e-6).all()
    assert (table["target"].isna() == (table["attack"] != "targeted")).all()


@pytest.mark.parametrize("num_classes", [2, 3, 5, 10, 100])
def test_targets_are_every_other_class_or_the_likeliest_nine(num_classes):
    net = TinyNet(num_classes).eval()
    data = tiny_data(num_classes + 4, num_classes)
    rows = score(net, data, "targeted", EPS, steps=1).of("targeted")
    targets = 9 if num_classes == 100 else num_classes - 1
    with torch.no_grad():
        clean = net(torch.from_numpy(data.images_NCHW).float() / 255).numpy()
    for position, (index, group) in enumerate(rows.groupby("index", sort=False)):
        assert index == position
        likeliest = [k for k in np.argsort(-clean[index]) if k != data.labels_N[index]]
        assert list(group["target"]) == likeliest[:targets]


def test_several_eps_give_a_profile_and_clean_once(net, data):
    profile = score(net, data, "fgsm,pgd", "2/255,8/255", steps=2)
    assert profile.attacks == (
        "clean", "fgsm@2/255", "fgsm@8/255", "pgd@2/255", "pgd@8/255",
    )  # fmt: skip
    for radius in ("2/255", "8/255"):
        alone = score(net, data, "fgsm,pgd", radius, steps=2)
        assert alone.manifest["attacks"]["pgd"]["eps_text"] == radius
        for attack in ("fgsm", "pgd"):
            many, one = profile.of(f"{attack}@{radius}"), alone.of(attack)
            np.testing.assert_array_equal(many["margin"], one["margin"])
    also = score(net, data, "fgsm,pgd", [Threat("2/255"), 8 / 255], steps=2)
    assert also.attacks[1] == "fgsm@2/255"


def test_data_sets_are_taken_in_every_form(net, data):
    x = torch.from_numpy(data.images_NCHW)
    labels = torch.from_numpy(data.labels_N)
    expected = score(net, data, "pgd", EPS, steps=2).table
    for pair in ((x, labels), (x / 255, labels), (x.double() / 255, labels.int().tolist())):
        pd.testing.assert_frame_equal(score(net, pair, "pgd", EPS, steps=2).table, expected)
    demo = score(TinyNet(10, 1, 28).eval(), "demo", "clean")
    assert len(demo.table) == 1000
    assert demo.manifest["dataset"]["name"] == "demo"


def test_manifest_says_how_it_came_about(net, data):
    manifest = score(net, data, "pgd", EPS, steps=2, seed=5, batch_size=16).manifest
    assert manifest["status"] == "finished"
    assert manifest["seed"] == 5
    assert manifest["precision"]["dtype"] == "float32"
    assert manifest["precision"]["tf32"] is False
    assert manifest["dataset"]["n"] == 40
    assert sum(manifest["dataset"]["class_counts"]) == 40
    assert manifest["packages"]["torch"] == torch.__version__.partition("+")[0]
    pgd = manifest["attacks"]["pgd"]
    assert (pgd["steps"], pgd["eps_text"], pgd["step_size"]) == (2, "0.06", 0.015)
    # Two steps and a look at the result; clean is a look.
    assert manifest["cost"]["pgd"]["backward"] == 2 * 40
    assert manifest["cost"]["pgd"]["forward"] == 3 * 40
    assert manifest["cost"]["clean"]["forward"] == 40


# What it does not depend on


@pytest.fixture(scope="module")
def reference():
    """A network in float64, images near its boundaries, and their verdicts."""
    net, data = TinyNet().double().eval(), tiny_data(40)
    return net, data, score(net, data, "fgsm,pgd,cw,targeted", EPS, steps=3)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 40])
def test_verdicts_in_float64_do_not_depend_on_the_batch_size(reference, batch_size):
    net, data, expected = reference
    got = score(net, data, "fgsm,pgd,cw,targeted", EPS, steps=3, batch_size=batch_size)
    pd.testing.assert_frame_equal(by_image(got), by_image(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_verdicts_in_float64_do_not_depend_on_the_order(reference, seed):
    net, data, expected = reference
    order = np.random.default_rng(seed).permutation(len(data))
    got = score(net, take(data, order), "fgsm,pgd,cw,targeted", EPS, steps=3, batch_size=16)
    assert list(got.of("pgd")["index"]) == list(order)
    pd.testing.assert_frame_equal(by_image(got), by_image(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("subset", ["limit", "per class"])
def test_verdicts_in_float64_do_not_depend_on_the_other_images(reference, subset):
    net, data, expected = reference
    part = data.first(23) if subset == "limit" else data.first_per_class(5)
    got = score(net, part, "fgsm,pgd,cw,targeted", EPS, steps=3)
    kept = expected.table[expected.table["index"].isin(part.indices_N)]
    kept = kept.sort_values(KEY).reset_index(drop=True)
    pd.testing.assert_frame_equal(by_image(got), kept, rtol=0, atol=1e-6)


def test_another_seed_is_another_random_start(reference):
    net, data, expected = reference
    got = score(net, data, "fgsm,pgd,cw,targeted", EPS, steps=3, seed=1)
    assert (got.of("pgd")["margin"].array != expected.of("pgd")["margin"].array).any()
    np.testing.assert_array_equal(got.of("fgsm")["margin"], expected.of("fgsm")["margin"])


def test_flips_in_float32_are_few_and_at_margins_near_0():
    net, data = TinyNet(num_classes=10, seed=1).eval(), tiny_data(200, 10)
    runs = [
        by_image(score(net, data, "fgsm,pgd,cw", EPS, steps=5, batch_size=size))
        for size in (3, 16, 200)
    ]
    flips = [
        (float(a["margin"].iloc[row]), float(b["margin"].iloc[row]))
        for a, b in zip(runs, runs[1:], strict=False)
        for row in np.flatnonzero(a["correct"].to_numpy() != b["correct"].to_numpy())
    ]
    print(f"{len(flips)} flips in {2 * len(runs[0])} comparisons")
    assert len(flips) <= 0.005 * 2 * len(runs[0])
    assert all(abs(margin) < 1e-3 for pair in flips for margin in pair)


class Small(nn.Module):
    """Raises as the CPU allocator does where a batch is larger than it has room for."""

    def __init__(self, net: nn.Module, room: int, text: str) -> None:
        super().__init__()
        self.net, self.room, self.text = net, room, text

    def forward(self, x_BCHW):
        if len(x_BCHW) > self.room:
            raise RuntimeError(self.text)
        return self.net(x_BCHW)


@pytest.mark.parametrize("room", [1, 5, 16])
@pytest.mark.parametrize("text", ["DefaultCPUAllocator: can't allocate memory: tried 8 bytes",
                                  "CUDA out of memory. Tried to allocate 2.00 GiB"])  # fmt: skip
def test_memory_errors_halve_the_batch_and_go_on(reference, room, text):
    net, data, expected = reference
    notes: list[str] = []

    class Noting(StopAfter):
        def note(self, text):
            notes.append(text)

    got = score(
        Small(net, room, text), data, "fgsm,pgd,cw,targeted", EPS, steps=3, batch_size=64,
        reporter=Noting(0),
    )  # fmt: skip
    pd.testing.assert_frame_equal(by_image(got), by_image(expected), rtol=0, atol=1e-6)
    assert notes[0] == "out of memory at batch size 64; going on with 32"
    assert max(got.manifest["batch_sizes_used"]) <= room
    assert got.manifest["batch_size"] == 64


def test_no_room_for_one_image_is_said(net, data):
    with refused("not even one image fits", "--device"):
        score(Small(net, 1, "out of memory"), data, [Hungry()], EPS)


class Hungry(Attack):
    family, steps = "hungry", 1

    def perturb(self, problem):
        raise MemoryError


# The network is as it was


def state(net: nn.Module):
    return (
        [module.training for module in net.modules()],
        [p.requires_grad for p in net.parameters()],
        {name: tensor.clone() for name, tensor in net.state_dict().items()},
        [p.grad for p in net.parameters()],
        torch.random.get_rng_state(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
    )


def assert_same(before, after):
    for a, b in zip(before, after, strict=True):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)
        elif isinstance(a, torch.Tensor):
            assert torch.equal(a, b)
        else:
            assert a == b


class Failing(Attack):
    family, steps, name = "failing", 1, "failing"

    def perturb(self, problem):
        problem.gradient(problem.x_BCHW, lambda logits: logits.sum(1))
        torch.rand(5)
        raise ValueError("a bug\nof the user's")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_network_is_left_as_it_was(training, fails):
    net, data = TinyNet().train(training), tiny_data()
    net.bn.train(not training)
    net.conv.weight.requires_grad_(False)
    before = state(net)
    if fails:
        with refused("failing", "ValueError: a bug of the user's", "perturb", "--debug"):
            score(net, data, ["pgd", Failing()], EPS, steps=2)
    else:
        score(net, data, "pgd,targeted", EPS, steps=2)
    assert_same(before, state(net))


# Networks that cannot be scored


class Odd(nn.Module):
    def __init__(self, change) -> None:
        super().__init__()
        self.net, self.change = TinyNet(), change

    def forward(self, x_BCHW):
        return self.change(self.net(x_BCHW))


def fails_with(error):
    def change(_):
        raise error

    return change


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda z: (z, z), ("returns a tuple", "(1, K)", "Wrap it")),
        (lambda z: {"logits": z}, ("returns a dict", "Wrap it")),
        (lambda z: z[:, :, None], ("shape (1, 4, 1)", "(1, K)", "Wrap it")),
        (lambda z: z.flatten(), ("shape (4,)", "Wrap it")),
        (lambda z: z[:1], ("shape (1, 4) for 2 images", "(2, K)")),
        (lambda z: z.argmax(1, keepdim=True), ("torch.int64", "floating-point")),
        (lambda z: z * torch.nan, ("NaN or infinity", "images 0 to 39", "--normalize")),
        (lambda z: z / 0, ("NaN or infinity",)),
        (lambda z: z.detach(), ("no gradient", "--attacks clean")),
        (lambda z: torch.cat([z] * 25, 1), ("100 logits", "tiny has 4 classes", "belong together")),
        (lambda z: z[:, :3], ("3 logits", "4 classes", "belong together")),
        (fails_with(RuntimeError("two\nlines")), ("1×8×8", "RuntimeError: two lines", "--arch")),
        (fails_with(ValueError()), ("does not accept", "ValueError")),
        (lambda z: z if len(z) == 1 else z / "2", ("2 images at a time", "TypeError")),
        (fails_with(AssertionError("want 32")), ("want 32",)),
        (lambda z: z.half(), None),
        (lambda z: z.softmax(1), None),
    ],
)  # fmt: skip
def test_outputs_that_are_not_logits(data, change, parts):
    if parts is None:
        assert len(score(Odd(change), data, "fgsm", EPS).table) == 80
    else:
        with refused(*parts):
            score(Odd(change), data, "fgsm", EPS)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"dataset": tiny_data(channels=3)}, ("tiny (3×8×8)", "to have 1 channels", "--dataset")),
        ({"dataset": "cifar11"}, ("cifar11", "Did you mean cifar10")),
        ({"dataset": (torch.rand(3, 8, 8), torch.zeros(3).long())}, ("(3, 8, 8)", "N×C×H×W")),
        ({"dataset": (torch.rand(3, 1, 8, 8), torch.zeros(2).long())}, ("(3, 1, 8, 8)", "(2,)")),
        ({"dataset": (torch.rand(0, 1, 8, 8), torch.zeros(0).long())}, ("N >= 1",)),
        ({"dataset": (torch.rand(3, 1, 8, 8), torch.zeros(3))}, ("torch.float32", "integers")),
        ({"dataset": (torch.rand(3, 1, 8, 8) + 1, torch.zeros(3).long())}, ("[0, 1]",)),
        ({"dataset": (torch.rand(3, 1, 8, 8), torch.full((3,), 4))}, ("from 4 to 4", "4 classes")),
        ({"dataset": [1, 2, 3]}, ("a list", "(images, labels)")),
        ({"model": lambda x: x}, ("function", "torch.nn.Module")),
        ({"model": TinyNet().half()}, ("float16", "model.float()")),
        ({"model": TinyNet().bfloat16()}, ("bfloat16",)),
        ({"attacks": "fgms"}, ("fgms", "Did you mean fgsm?")),
        ({"attacks": ["pgd", PGD(steps=3)]}, ("two attacks", "pgd")),
        ({"model": TinyNet(1), "dataset": tiny_data(num_classes=1)}, ("1 class", "two classes")),
        ({"threat": 8}, ("8", "8/255")),
        ({"threat": "0"}, ("0 <",)),
        ({"threat": "1e-400"}, ("0 <",)),
        ({"threat": "8/255,8/255"}, ("fgsm@8/255", "once")),
        ({"threat": "0.1234567,0.1234568"}, ("share a name",)),
        ({"batch_size": 0}, ("batch_size is 0", "1 or more")),
        ({"batch_size": -1}, ("batch_size is -1",)),
        ({"steps": 0}, ("steps is 0",)),
        ({"step_size": "fast"}, ("step_size", "fast", "8/255")),
        ({"device": "cdua"}, ("cdua", "Did you mean cuda?")),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(change, parts):
    arguments = {
        "model": TinyNet(), "dataset": tiny_data(), "attacks": "fgsm,pgd", "threat": EPS, **change,
    }  # fmt: skip
    with refused(*parts):
        score(**arguments)


def test_step_sizes_are_taken_as_they_are_written(net, data):
    for step in ("2/255", 2 / 255, Fraction(2, 255)):
        run = score(net, data, "pgd", EPS, steps=1, step_size=step)
        assert run.manifest["attacks"]["pgd"]["step_size"] == pytest.approx(2 / 255)


# The user's own attack


class Away(Attack):
    """Leaves the ball and the pixel range on purpose: the base brings it back."""

    family, steps, name = "away", 0, "away"

    def perturb(self, problem):
        return problem.x_BCHW + 3 * problem.noise.uniform((1, 8, 8), problem.x_BCHW.dtype)


def test_an_attack_of_the_users_is_held_to_the_threat(net, data):
    outcomes = score(net, data, ["pgd", Away()], EPS, steps=1)
    assert outcomes.attacks == ("clean", "pgd", "away")
    assert (outcomes.of("away")["linf"] <= 0.06 + 1e-6).all()
    assert outcomes.of("away")["linf"].min() > 0


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("clean", ("called 'clean'", "another name")),
        ("pgd-rslad", ("pgd:rslad", "pgd-rslad", "share a name")),
        ("PGD:RSLAD", ("share a name",)),
        ("..", ("'..'",)),
        ("", ("''",)),
        ("a\nb", (r"'a\nb'",)),
    ],
)
def test_names_that_would_collide_are_refused(net, data, tmp_path, name, parts):
    own = Away()
    own.name = name
    with refused(*parts):
        score(net, data, ["pgd:rslad", own], EPS, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("returned", "part"),
    [
        (lambda x: x[:1], "shape (1, 1, 8, 8)"),
        (lambda x: None, "NoneType"),
        (lambda x: x.numpy(), "ndarray"),
    ],
)
def test_an_attack_that_returns_something_else(net, data, tmp_path, returned, part):
    class Wrong(Away):
        def perturb(self, problem):
            return returned(problem.x_BCHW)

    with refused("away", part, "finished shards are kept"):
        score(net, data, [Wrong()], EPS, out=tmp_path / "run")
    assert (tmp_path / "run" / "units" / "clean" / "00000.parquet").is_file()


# Adversarial images


def test_saved_images_are_allowed_and_reproduce_the_verdicts(net, data, tmp_path):
    outcomes = score(
        net, data, "fgsm,pgd,targeted", "2/255,8/255", steps=2,
        out=tmp_path, save_adv=True, batch_size=7,
    )  # fmt: skip
    files = sorted(file.name for file in (tmp_path / "adversarial").iterdir())
    attacks = [attack for attack in outcomes.attacks if attack != "clean"]
    assert files == sorted(f"{attack.replace('/', '_')}.npz" for attack in attacks)
    clean = data.images_NCHW.astype(np.float32) / 255
    for attack in attacks:
        rows = outcomes.of(attack)
        saved = np.load(tmp_path / "adversarial" / f"{attack.replace('/', '_')}.npz")
        assert set(saved.files) == {"images", "index", "label", "prediction"}
        np.testing.assert_array_equal(saved["index"], rows["index"])
        np.testing.assert_array_equal(saved["label"], rows["label"])
        np.testing.assert_array_equal(saved["prediction"], rows["adv_pred"])
        radius = outcomes.manifest["attacks"][attack]["eps"]
        assert np.abs(saved["images"] - clean[saved["index"]]).max() <= radius + 1e-6
        assert saved["images"].min() >= 0
        assert saved["images"].max() <= 1
        with torch.no_grad():
            again = net(torch.from_numpy(saved["images"])).argmax(1)
        np.testing.assert_array_equal(again, rows["adv_pred"])


# Folders: stop anywhere, continue, end the same


LARGE = {"attacks": "fgsm,pgd,targeted", "threat": EPS, "steps": 2, "batch_size": 64}


@pytest.fixture(scope="module")
def many() -> LabelledImages:
    return tiny_data(300)  # three units an attack


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    score(TinyNet().eval(), many, **LARGE, out=folder, save_adv=True)
    return folder


def stopped(folder: Path, many: LabelledImages, units: int, save_adv: bool = True) -> None:
    with pytest.raises(Killed):
        score(
            TinyNet().eval(), many, **LARGE, out=folder, save_adv=save_adv,
            reporter=StopAfter(units),
        )  # fmt: skip


def assert_same_end(folder: Path, whole: Path) -> None:
    assert (folder / "outcomes.parquet").read_bytes() == (whole / "outcomes.parquet").read_bytes()
    for file in (whole / "adversarial").iterdir():
        ours, theirs = np.load(folder / "adversarial" / file.name), np.load(file)
        for key in theirs.files:
            np.testing.assert_array_equal(ours[key], theirs[key])
    assert not (folder / "units").exists()


@pytest.mark.parametrize("units", [1, 3, 4, 8, 11])
def test_stopped_anywhere_it_continues_to_the_same_end(whole, many, tmp_path, units):
    stopped(tmp_path, many, units)
    done = contents(tmp_path / "units")
    assert len(done) == units + max(units - 3, 0)  # clean images are not kept
    counted: list[str] = []

    class Count(StopAfter):
        def note(self, text):
            counted.append(text)

        def advance(self, text, cost, left):
            counted.append(text)

    score(TinyNet().eval(), many, **LARGE, out=tmp_path, save_adv=True, reporter=Count(0))
    assert counted[0] == f"TinyNet: continuing after {units} finished shards"
    assert len(counted) == 1 + 12 - units
    assert_same_end(tmp_path, whole)


def tear(file: Path, how: str, generator: random.Random, others: list[Path]) -> None:
    content = file.read_bytes()
    match how:
        case "deleted":
            file.unlink()
        case "empty":
            file.write_bytes(b"")
        case "truncated":
            file.write_bytes(content[: generator.randrange(len(content))])
        case "zeroed":
            half = len(content) // 2
            file.write_bytes(content[:half] + bytes(len(content) - half))
        case "flipped":
            torn = bytearray(content)
            for _ in range(3):
                torn[generator.randrange(len(torn))] ^= 1 << generator.randrange(8)
            file.write_bytes(bytes(torn))
        case "noise":
            file.write_bytes(generator.randbytes(len(content)))
        case "foreign":
            same = [other for other in others if other.suffix == file.suffix and other != file]
            wrong = [other for other in same if other.parent != file.parent]
            file.write_bytes(generator.choice(wrong).read_bytes())
        case "another table":
            pd.DataFrame({"a": [1]}).to_parquet(file)
        case "folder":
            file.unlink()
            file.mkdir()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", ["deleted", "empty", "truncated", "zeroed", "flipped", "noise",
                                 "foreign", "another table"])  # fmt: skip
def test_damaged_units_are_made_again(whole, many, tmp_path, how, seed):
    shutil.copytree(_half_done(many, tmp_path.parent), tmp_path, dirs_exist_ok=True)
    generator = random.Random(f"{how}{seed}")
    units = sorted(
        file for file in (tmp_path / "units").rglob("*.*")
        if how != "foreign" or file.suffix == ".parquet"
    )  # fmt: skip
    for file in generator.sample(units, 4):
        tear(file, how, generator, units)
    score(TinyNet().eval(), many, **LARGE, out=tmp_path, save_adv=True)
    assert_same_end(tmp_path, whole)


def _half_done(many: LabelledImages, base: Path) -> Path:
    folder = base / "half-done"
    if not folder.exists():
        stopped(folder, many, 8)
    return folder


def test_a_finished_run_repeated_changes_nothing(whole, many):
    before = contents(whole)
    outcomes = score(TinyNet().eval(), many, **LARGE, out=whole, save_adv=True)
    assert contents(whole) == before
    pd.testing.assert_frame_equal(
        outcomes.table, pd.read_parquet(whole / "outcomes.parquet"), check_dtype=False
    )


def test_units_left_by_a_kill_at_the_very_end_are_swept(whole, many, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.copytree(_half_done(many, tmp_path.parent) / "units", tmp_path / "units")
    score(TinyNet().eval(), many, **LARGE, out=tmp_path, save_adv=True)
    assert_same_end(tmp_path, whole)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"seed": 1}, ("seed is 0", "asked for is 1")),
        ({"threat": "0.05"}, ("attacks.fgsm.eps is 0.06", "asked for is 0.05")),
        ({"steps": 3}, ("attacks.pgd.steps is 2", "asked for is 3")),
        ({"step_size": "0.01"}, ("attacks.pgd.step_size is 0.015", "asked for is 0.01")),
        ({"attacks": "fgsm,pgd"}, ("attacks is clean,fgsm,pgd,targeted", "is clean,fgsm,pgd.")),
        ({"attacks": "pgd,fgsm,targeted"}, ("attacks is", "asked for is clean,pgd,fgsm,targeted")),
        ({"batch_size": 32}, ("batch_size_asked is 64", "asked for is 32")),
        ({"batch_size": None}, ("batch_size_asked is 64", "asked for is auto")),
        ({"save_adv": False}, ("save_adv is True", "asked for is False")),
        ({"dataset": tiny_data(299)}, ("dataset.fingerprint is",)),
        ({"dataset": replace(tiny_data(300), name="other")}, ("dataset.name is tiny", "is other")),
        ({"model": TinyNet(seed=1).eval()}, ("checkpoint.sha256 is",)),
        ({"model": TinyNet().double().eval()}, ("checkpoint.sha256 is",)),
        ({"facts": {"engine": "torchattacks"}}, ("engine is native", "is torchattacks")),
        ({"facts": {"dataset": {"selection": "first 3"}}}, ("selection is all", "is first 3")),
        ({"facts": {"groups": {"g": ["a"] * 4}}}, ("groups is None",)),
        ({"facts": {"attack_file_sha256": "ab"}}, ("attack_file_sha256 is None", "is ab")),
        ({"facts": {"model": {"normalization": "x"}}}, ("model.normalization is None", "is x")),
    ],
)  # fmt: skip
def test_another_configuration_is_refused(whole, many, tmp_path, change, parts, finished):
    folder = whole if finished else _half_done(many, tmp_path.parent)
    before = contents(folder)
    asked = {"model": TinyNet().eval(), "dataset": many, **LARGE, "save_adv": True, **change}
    with refused(str(folder), "another configuration", "--out", *parts):
        score(**asked, out=folder)
    assert contents(folder) == before


def test_other_versions_may_read_a_finished_run_but_not_continue_one(
    whole, many, tmp_path, monkeypatch
):
    monkeypatch.setattr("ferd_eval.results.manifest.__version__", "99.0")
    score(TinyNet().eval(), many, **LARGE, out=whole, save_adv=True)
    with refused("ferd_eval is 0.", "asked for is 99.0"):
        score(TinyNet().eval(), many, **LARGE, out=_half_done(many, tmp_path.parent), save_adv=True)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'"a"', b"\xff\x00", b'{"status": "finished"}']
)
def test_a_damaged_manifest_is_refused(whole, many, tmp_path, content):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "manifest.json").write_bytes(content)
    with refused("manifest.json", "--out"):
        score(TinyNet().eval(), many, **LARGE, out=tmp_path, save_adv=True)
    assert (tmp_path / "manifest.json").read_bytes() == content


@pytest.mark.parametrize("content", [None, b"", b"PAR1"])
def test_a_finished_run_without_its_outcomes_is_refused(whole, many, tmp_path, content):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "outcomes.parquet").unlink()
    if content is not None:
        (tmp_path / "outcomes.parquet").write_bytes(content)
    with refused("outcomes.parquet is missing or damaged", "Remove the folder", "--out"):
        score(TinyNet().eval(), many, **LARGE, out=tmp_path, save_adv=True)


# Disks


@pytest.mark.parametrize("out", ["file", "file/below", "x" * 300, "/proc/no/such"])
def test_folders_that_cannot_be_made(net, data, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a folder")
    with refused(out, "--out"):
        score(net, data, "clean", out=out)
    assert Path("file").read_text() == "not a folder"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("writes", [0, 1, 3, 8, 21, 24])
def test_a_full_disk_keeps_what_is_finished(whole, many, tmp_path, monkeypatch, writes, code):
    left = writes
    fsync = os.fsync

    def full(descriptor):
        nonlocal left
        if left == 0:
            raise OSError(code, os.strerror(code))
        left -= 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    if code == errno.EROFS:  # such a disk lets no file be removed either
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: full(-1))
    with refused("cannot write", os.strerror(code), "--out", "finished work is kept"):
        score(TinyNet().eval(), many, **LARGE, out=tmp_path, save_adv=True)
    monkeypatch.undo()
    units = [file for file in tmp_path.rglob("*.parquet") if file.parent.parent.name == "units"]
    # The manifest, twice; rows of three clean units; of each other attack the images and rows of
    # three units, and the joined images.
    whole_attacks, more = divmod(max(writes - 5, 0), 7)
    assert len(units) == min(max(writes - 2, 0), 3) + 3 * whole_attacks + min(more // 2, 3)
    assert all(pd.read_parquet(file)["index"].nunique() > 0 for file in units)
    score(TinyNet().eval(), many, **LARGE, out=tmp_path, save_adv=True)
    assert_same_end(tmp_path, whole)


def test_saving_images_needs_a_folder(net, data):
    with refused("save_adv", "give out"):
        score(net, data, ["fgsm"], EPS, save_adv=True)
