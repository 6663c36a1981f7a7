"""``ferd-eval import``: other tools' results end as the run that ours would be."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ferd_eval.attacks.adapters import pyautoattack as autoattack_engine
from ferd_eval.cli import app
from ferd_eval.errors import UserError
from ferd_eval.runtime.command_line import run
from tests.conftest import TinyNet, tiny_data

IMAGES = 60
NETWORK = ["--model-file", "nets.py:TinyNet", "--dataset", "npz:images.npz"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    """A folder with a network, its images and a run of ours with its adversarial images."""
    folder = tmp_path_factory.mktemp("scored")
    data = tiny_data(IMAGES)
    np.savez(folder / "images.npz", images=data.images_NCHW[:, 0], labels=data.labels_N)
    (folder / "nets.py").write_text("from tests.conftest import TinyNet\n")
    torch.save(TinyNet().state_dict(), folder / "tiny.pt")
    before = Path.cwd()
    os.chdir(folder)
    try:
        words = ["--attacks", "fgsm,pgd,targeted", "--eps", "0.06", "--steps", "2", "--save-adv"]
        status = run(app, ["score", "tiny.pt", *NETWORK, *words, "--out", "ours"], "ferd-eval")
    finally:
        os.chdir(before)
    assert status == 0
    return folder


@pytest.fixture
def ferd_eval(scored, run_command, monkeypatch):
    """Run a command in the folder; its status, output and error output."""
    monkeypatch.chdir(scored)
    return run_command


def ours() -> pd.DataFrame:
    table = pd.read_parquet("ours/outcomes.parquet").rename(columns={"adv_pred": "pred"})
    return table[["index", "label", "pred", "attack", "target"]]


def figures(card: dict) -> dict:
    """What is measured, without what is known of the attacks and the network."""
    return {
        attack: {key: value for key, value in of.items() if key != "constants"}
        for attack, of in card["attacks"].items()
    }


def card_of(folder: object) -> dict:
    return json.loads(Path(str(folder), "scorecard.json").read_text())


REPORTS = {
    "outcomes.parquet", "manifest.json", "scorecard.json", "report.md", "report.csv",
    "report_wide.csv", "report.html", "SHA256SUMS",
}  # fmt: skip


# Predictions


def as_csv(path: Path) -> list[object]:
    ours().sample(frac=1, random_state=0).to_csv(path / "all.csv", sep=";", index=False)
    return [path / "all.csv"]


def as_files(path: Path) -> list[object]:
    words = []
    for attack, rows in ours().groupby("attack"):
        rows.drop(columns="attack").to_csv(path / f"of {attack}.csv", index=False)
        words.append(f"{path}/of {attack}.csv={attack}")
    return words


def as_archives(path: Path) -> list[object]:
    for attack, rows in ours().groupby("attack"):
        columns = {name: rows[name].to_numpy() for name in ("index", "label", "pred")}
        if attack == "targeted":
            columns["target"] = rows["target"].to_numpy(dtype=np.int64)
        np.savez(path / f"{attack}.npz", **columns)
    return sorted(path.glob("*.npz"))


@pytest.mark.parametrize("export", [as_csv, as_files, as_archives])
def test_predictions_exported_and_imported_have_the_same_figures(ferd_eval, tmp_path, export):
    words = export(tmp_path)
    status, out, err = ferd_eval("import", *words, "--out", tmp_path / "run", "--eps", "0.06")
    assert status == 0, err
    assert out.splitlines()[-1] == str(tmp_path / "run" / "report.html")
    assert {file.name for file in (tmp_path / "run").iterdir()} == REPORTS
    assert figures(card_of(tmp_path / "run")) == figures(card_of("ours"))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["status"], manifest["engine"]) == ("finished", "imported")
    assert len(manifest["source"]) == len(words)
    assert manifest["threat"] == {"norm": "linf", "eps": 0.06, "eps_text": "0.06"}
    assert not {"seed", "precision", "device", "model", "cost", "diagnosis"} & {*manifest}


def test_json_is_all_there_is_on_stdout_and_report_makes_the_same(ferd_eval, tmp_path):
    folder = tmp_path / "run"
    status, out, _ = ferd_eval("import", *as_csv(tmp_path), "--out", folder, "--json")
    assert status == 0
    assert json.loads(out) == card_of(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert ferd_eval("report", folder)[0] == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_an_import_can_be_gated(ferd_eval, tmp_path):
    ferd_eval("import", *as_csv(tmp_path), "--out", tmp_path / "run")
    floor = card_of(tmp_path / "run")["attacks"]["pgd"]["floor95"]
    words = ["gate", tmp_path / "run", "--attack", "pgd", "--floor"]
    assert ferd_eval(*words, floor * 0.99 or 1e-9)[0] == (0 if floor else 1)
    assert ferd_eval(*words, 0.999)[0] == 1


def test_what_was_not_measured_is_not_claimed(ferd_eval, tmp_path):
    """AutoAttack's predictions alone: no search is named, the network was not looked at."""
    Path(tmp_path, "aa.csv").write_text("label,pred\n" + "0,1\n1,1\n" * 40)
    status, _, err = ferd_eval("import", tmp_path / "aa.csv", "--out", tmp_path / "run")
    assert status == 0
    assert "no index" in err
    assert "clean predictions are unknown" in err
    checks = {each["name"]: each for each in card_of(tmp_path / "run")["trust"]["checks"]}
    assert {each["status"] for each in checks.values()} == {"not measured"}
    assert "Square broke" not in Path(tmp_path, "run", "report.md").read_text()


def test_where_nothing_fell_no_search_is_claimed_to_have_run(ferd_eval, tmp_path):
    rows = "".join(f"{i},{i % 2},{i % 2},{a}\n" for a in ("clean", "aa") for i in range(80))
    Path(tmp_path, "all.csv").write_text("index,label,pred,attack\n" + rows)
    assert ferd_eval("import", tmp_path / "all.csv", "--out", tmp_path / "run")[0] == 0
    checks = {each["name"]: each for each in card_of(tmp_path / "run")["trust"]["checks"]}
    assert checks["Square after gradients"]["status"] == "not measured"
    assert checks["Clean accuracy"]["status"] == "ok"


def test_class_names(ferd_eval, tmp_path):
    words = [*as_csv(tmp_path), "--json"]
    Path(tmp_path, "names.txt").write_text("=1+1\n<b>dog</b>\n@frog\na,b\n\n")
    for number, (given, expected) in enumerate(
        (
            (["--classes", tmp_path / "names.txt"], ["=1+1", "<b>dog</b>", "@frog", "a,b"]),
            (["--classes", "cat, dog,frog,ship"], ["cat", "dog", "frog", "ship"]),
            ([], ["0", "1", "2", "3"]),
        )
    ):
        status, out, err = ferd_eval("import", *words, *given, "--out", tmp_path / str(number))
        assert status == 0, err
        rows = json.loads(out)["attacks"]["pgd"]["per_class"]
        assert [each["name"] for each in rows] == expected
    cells = [
        cell
        for row in csv.reader(Path(tmp_path, "0", "report.csv").read_text().splitlines())
        for cell in row
    ]
    assert any("=1+1" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]
    assert "<b>dog" not in Path(tmp_path, "0", "report.html").read_text().split("<script")[0]


def test_a_data_set_names_classes_and_groups_without_its_images(ferd_eval, tmp_path):
    Path(tmp_path, "pgd.csv").write_text("label,pred\n" + "".join(f"{k},{k}\n" for k in range(100)))
    folder = tmp_path / "run"
    status, _, err = ferd_eval(
        "import", tmp_path / "pgd.csv", "--dataset", "cifar100", "--out", folder
    )
    assert status == 0, err
    card = card_of(folder)
    assert card["dataset"]["name"] == "cifar100"
    assert card["attacks"]["pgd"]["per_class"][0]["name"] == "apple"
    status, out, _ = ferd_eval("report", folder, "--groups", "superclass", "--json")
    assert status == 0
    assert len(json.loads(out)["groups"]["superclass"]["pgd"]["per_class"]) == 20


def test_an_eps_profile_by_ids(ferd_eval, tmp_path):
    rows = "".join(
        f"{i},{i % 2},{i % 2 if i % d else 1 - i % 2},{attack}\n"
        for attack, d in (("pgd@2/255", 5), ("pgd@4/255", 3))
        for i in range(60)
    )
    Path(tmp_path, "all.csv").write_text("index,label,pred,attack\n" + rows)
    assert ferd_eval("import", tmp_path / "all.csv", "--out", tmp_path / "run")[0] == 0
    assert card_of(tmp_path / "run")["profile"]["pgd"]["eps_text"] == ["2/255", "4/255"]


def test_the_same_import_again_is_the_same_run_and_another_is_refused(ferd_eval, tmp_path):
    words = ["import", *as_csv(tmp_path), "--out", tmp_path / "run"]
    assert ferd_eval(*words)[0] == 0
    first = (tmp_path / "run" / "outcomes.parquet").read_bytes()
    assert ferd_eval(*words)[0] == 0
    assert (tmp_path / "run" / "outcomes.parquet").read_bytes() == first
    status, _, err = ferd_eval(*words, "--classes", "a,b,c,d")
    assert (status, err.count("\n"), "another run" in err) == (2, 1, True)
    status, _, err = ferd_eval("import", *as_csv(tmp_path), "--out", "ours")
    assert (status, "another run" in err) == (2, True)
    status, _, err = ferd_eval("score", "tiny.pt", *NETWORK, "--out", tmp_path / "run")
    assert (status, err.count("\n")) == (2, 1), "a score command does not go on with an import"


def test_predictions_are_imported_without_torch(tmp_path):
    Path(tmp_path, "aa.csv").write_text("label,pred\n0,1\n1,1\n")
    code = (
        "from ferd_eval.cli import app, run; import sys\n"
        "assert run(app, ['import', 'aa.csv', '--dataset', 'cifar10', '--out', 'run'], 'f') == 0\n"
        "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ("FILE",)),
        (["aa.csv"], ("--out",)),
        (["no.csv", "--out", "r"], ("no.csv", "does not exist")),
        (["ours", "--out", "r"], ("ours", "is a folder")),
        (["tiny.pt", "--out", "r"], ("tiny.pt", "--checkpoint")),
        (["aa.csv=a b", "--out", "r"], ("'a b'", "aa.csv=pgd")),
        (["aa.csv", "aa.csv", "--out", "r"], ("more than once", "FILE=ATTACK")),
        (["all.csv=pgd", "--out", "r"], ("names its attacks", "'pgd'")),
        (["aa.csv", "--out", "r", "--eps", "8"], ("--eps", "8/255")),
        (["aa.csv", "--out", "r", "--dataset", "cifar11"], ("Did you mean cifar10",)),
        (["aa.csv", "--out", "r", "--dataset", "npz:images.npz"], ("--classes",)),
        (["aa.csv", "--out", "r", "--dataset", "cifar10", "--classes", "a,b"], ("one of them",)),
        (["aa.csv", "--out", "r", "--classes", "no.txt"], ("no.txt", "is no file")),
        (["aa.csv", "--out", "r", "--classes", "a,,b"], ("name 1 is empty",)),
        (["aa.csv", "--out", "r", "--classes", "a,a"], ("'a' more than once",)),
        (["aa.csv", "--out", "r", "--classes", "a,"], ("names 1 classes",)),
        (["aa.csv", "--out", "r", "--limit", "3"], ("--limit", "--checkpoint")),
        (["aa.csv", "--out", "images.npz/r"], ("images.npz/r", "--out")),
        (["aa.csv", "--out", "."], ("folder of runs (ours)",)),
        (["aa.csv", "--out", "plain"], ("not of a run", "notes.txt")),
    ],
)  # fmt: skip
def test_bad_imports_are_one_line_and_leave_nothing(ferd_eval, words, parts):
    Path("aa.csv").write_text("label,pred\n0,1\n1,1\n")
    Path("all.csv").write_text("index,label,pred,attack\n0,0,1,aa\n")
    Path("plain").mkdir(exist_ok=True)
    Path("plain", "notes.txt").write_text("")
    status, out, err = ferd_eval("import", *words)
    assert (status, out) == (2, "")
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        err.splitlines()[-1]
    ]
    assert all(part in err for part in parts), err
    assert not Path("r").exists()


# Adversarial images


def saved_images() -> torch.Tensor:
    with np.load("ours/adversarial/pgd.npz") as arrays:
        return torch.from_numpy(arrays["images"])


def with_images(*words: object) -> list[object]:
    return ["import", *words, "--checkpoint", "tiny.pt", *NETWORK, "--eps", "0.06"]


def dictionary(path: Path) -> Path:
    torch.save({"adv_complete": saved_images(), "seed": 0}, path / "adv.pth")
    return path / "adv.pth"


def bare(path: Path) -> Path:
    torch.save(saved_images(), path / "adv.pt")
    return path / "adv.pt"


def array(path: Path) -> Path:
    np.save(path / "adv.npy", saved_images().numpy())
    return path / "adv.npy"


def own(path: Path) -> Path:
    return Path("ours/adversarial/pgd.npz")


@pytest.mark.parametrize("save", [dictionary, bare, array, own])
def test_saved_images_are_judged_as_when_they_were_made(ferd_eval, tmp_path, save):
    file, folder = save(tmp_path), tmp_path / "run"
    words = ("--attack", "pgd", "--batch-size", 7, "--out", folder)
    status, _, err = ferd_eval(*with_images(file, *words))
    assert status == 0, err
    assert "the largest of 60 perturbations is 0.06" in err
    assert {each.name for each in folder.iterdir()} == REPORTS
    table, before = (pd.read_parquet(Path(f, "outcomes.parquet")) for f in (folder, "ours"))
    for attack in ("clean", "pgd"):
        now, then = (t[t["attack"] == attack].reset_index(drop=True) for t in (table, before))
        pd.testing.assert_frame_equal(now.drop(columns="steps"), then.drop(columns="steps"))
        assert figures(card_of(folder))[attack] == figures(card_of("ours"))[attack]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["engine"] == "imported"
    assert manifest["checkpoint"]["name"] == "tiny"
    assert len(manifest["checkpoint"]["sha256"]) == 64
    assert manifest["source"][0]["name"] == file.name
    assert manifest["attacks"]["pgd"]["images_sha256"] == manifest["source"][0]["sha256"]
    assert file.name in (folder / "report.md").read_text()


def test_a_part_of_the_images(ferd_eval, tmp_path):
    file = bare(tmp_path)
    assert ferd_eval(*with_images(file, "--limit", "25", "--out", tmp_path / "a"))[0] == 0
    torch.save(saved_images()[:25], file)
    assert ferd_eval(*with_images(file, "--out", tmp_path / "b"))[0] == 0
    for name in ("a", "b"):
        card = card_of(tmp_path / name)
        assert list(card["attacks"]) == ["clean", "aa"]
        assert card["attacks"]["aa"]["n"] == 25
        assert card["dataset"]["selection"] == "first 25"
    rows = {name: pd.read_parquet(tmp_path / name / "outcomes.parquet") for name in "ab"}
    pd.testing.assert_frame_equal(rows["a"], rows["b"])


def test_another_file_of_images_is_another_run(ferd_eval, tmp_path):
    file = bare(tmp_path)
    words = with_images(file, "--out", tmp_path / "run")
    assert ferd_eval(*words)[0] == 0
    assert ferd_eval(*words)[0] == 0
    torch.save((torch.from_numpy(tiny_data(IMAGES).images_NCHW) / 255 + 0.01).clamp(max=1), file)
    status, _, err = ferd_eval(*words)
    assert (status, "another configuration" in err) == (2, True)


def test_an_image_beyond_eps_is_counted(ferd_eval, tmp_path):
    images = saved_images()
    images[[3, 7], 0, 0, 0] = 1 - images[[3, 7], 0, 0, 0].round()
    torch.save(images, tmp_path / "far.pt")
    status, _, err = ferd_eval(*with_images(tmp_path / "far.pt", "--out", tmp_path / "run"))
    assert (status, err.count("\n")) == (2, 1)
    assert "2 of 60 images are farther than L∞ ε = 0.06" in err
    assert not (tmp_path / "run").exists()


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize(
    ("content", "words", "parts"),
    [
        (lambda x: {"adv_complete": x, "more": Bomb()}, [], ("more than tensors", "executed")),
        (lambda x: {"a": x, "b": x}, [], ("a, b", "adv_complete")),
        (lambda x: [x], [], ("a list",)),
        (lambda x: x[0], [], ("1×8×8", "N×C×H×W")),
        (lambda x: (255 * x).to(torch.int32), [], ("int32", "uint8")),
        (lambda x: 255 * x, [], ("expected 0 to 1", "divide by 255")),
        (lambda x: x.where(x > 0.5, torch.nan), [], ("nan", "expected 0 to 1")),
        (lambda x: x.repeat(1, 3, 1, 1), [], ("3×8×8", "1×8×8")),
        (lambda x: x.flip(0), [], ("farther than", "another order")),
        (lambda x: x[:0], [], ("0×1×8×8",)),
        (lambda x: torch.cat([x, x]), [], ("120 images", "has 60")),
        (lambda x: x[:30], ["--limit", "40"], ("holds 30 images", "--limit 30")),
        (lambda x: x, ["--attack", "clean"], ("'clean'",)),
        (lambda x: x, ["--attack", "a b"], ("'a b'",)),
        (lambda x: x, ["--eps", "0.06,0.1"], ("one ε",)),
        (lambda x: x, ["--name", "net"], ("--name", "predictions")),
        (lambda x: x, ["tiny.pt"], ("2 files",)),
    ],
)  # fmt: skip
def test_bad_files_of_images_are_one_line(ferd_eval, tmp_path, content, words, parts):
    torch.save(content(saved_images()), tmp_path / "adv.pt")
    status, out, err = ferd_eval(*with_images(tmp_path / "adv.pt", "--out", tmp_path / "r"), *words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert all(part in err for part in parts), err
    assert not Path("exploded").exists()
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x03\x04", pickle.dumps(Bomb()), b"\x80\x02", bytes(4096)]
)
@pytest.mark.parametrize("suffix", ["pt", "npy", "npz"])
def test_damaged_files_of_images_are_one_line(ferd_eval, tmp_path, content, suffix):
    (tmp_path / f"adv.{suffix}").write_bytes(content)
    status, out, err = ferd_eval(*with_images(tmp_path / f"adv.{suffix}", "--out", tmp_path / "r"))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert not Path("exploded").exists()


def test_images_in_another_order_by_their_own_index_are_refused(ferd_eval, tmp_path):
    with np.load("ours/adversarial/pgd.npz") as arrays:
        turned = {key: values[::-1] for key, values in arrays.items()}
    np.savez(tmp_path / "adv.npz", **turned)
    status, _, err = ferd_eval(*with_images(tmp_path / "adv.npz", "--out", tmp_path / "r"))
    assert (status, err.count("\n")) == (2, 1)
    assert "its index is not that of the first 60 images" in err


def test_images_need_a_data_set(ferd_eval, tmp_path):
    words = ["import", bare(tmp_path), "--checkpoint", "tiny.pt", "--out", tmp_path / "r"]
    status, _, err = ferd_eval(*words)
    assert (status, "--dataset is missing" in err) == (2, True)


def test_what_autoattack_saves_has_autoattacks_robust_accuracy(ferd_eval, tmp_path):
    """The authors' code attacks, saves as its users do, and says what stands."""
    try:
        package = autoattack_engine._installed()
    except UserError as reason:
        pytest.skip(str(reason))
    if package.__name__ != "pyautoattack":
        pytest.skip("only pyautoattack's interface is spoken here")
    data, network = tiny_data(IMAGES), TinyNet().eval()
    x_NCHW, labels_N = torch.from_numpy(data.images_NCHW) / 255, torch.from_numpy(data.labels_N)
    whole = package.AutoAttack(
        network, norm="Linf", eps=0.06, seed=0, version="standard", device="cpu"
    )
    whole.attacks_to_run = ["apgd-ce"]
    answer = whole.run_standard_evaluation(x_NCHW, labels_N, batch_size=IMAGES)
    adv_NCHW = answer[0] if isinstance(answer, tuple) else answer
    torch.save({"adv_complete": adv_NCHW}, tmp_path / "aa.pth")
    status, _, err = ferd_eval(*with_images(tmp_path / "aa.pth", "--out", tmp_path / "run"))
    assert status == 0, err
    with torch.no_grad():
        standing_N = network(adv_NCHW).argmax(1) == labels_N
    rows = pd.read_parquet(tmp_path / "run" / "outcomes.parquet")
    rows = rows[rows["attack"] == "aa"]
    assert rows["correct"].tolist() == standing_N.tolist()
    linf_N = (adv_NCHW - x_NCHW).abs().flatten(1).amax(1)
    np.testing.assert_allclose(rows["linf"], linf_N, atol=1e-6)


# Images stored in few bits


def at_the_edge(eps: float = 8 / 255) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of the data set, and each pixel as far from them as ε and the pixel range allow."""
    x_NCHW = torch.from_numpy(tiny_data(IMAGES).images_NCHW) / 255
    sign = torch.randn(x_NCHW.shape, generator=torch.Generator().manual_seed(0)).sign()
    return x_NCHW, (x_NCHW + eps * sign).clamp(0, 1)


def torchattacks_whole(x: torch.Tensor) -> torch.Tensor:
    return (x * 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("store", "stored_in", "most"),
    [
        (lambda x: x.half(), "float16", 2**-11),
        (lambda x: x.bfloat16(), "bfloat16", 2**-8),
        (lambda x: x.half().float(), "float16", 2**-11),
        (lambda x: x.bfloat16().double(), "bfloat16", 2**-8),
        (torchattacks_whole, "uint8", 1 / 255),
        (lambda x: torchattacks_whole(x).float() / 255, "uint8", 1 / 255),
    ],
)
def test_rounding_by_storage_is_named_and_undone(ferd_eval, tmp_path, store, stored_in, most):
    x_NCHW, adv_NCHW = at_the_edge()
    torch.save(store(adv_NCHW), tmp_path / "adv.pt")
    folder = tmp_path / "run"
    words = ["--eps", "8/255", "--attack", "pgd", "--out", folder]
    status, _, err = ferd_eval(*with_images(tmp_path / "adv.pt")[:-2], *words)
    assert status == 0, err
    assert stored_in in err
    assert "another order" not in err
    manifest = json.loads((folder / "manifest.json").read_text())
    constants = manifest["attacks"]["pgd"]
    assert constants["stored_in"] == stored_in
    assert constants["rounding_tolerance"] == pytest.approx(most)
    assert constants["moved_back_to_eps"] > 0
    stored = store(adv_NCHW)
    read = stored.float() / 255 if stored.dtype == torch.uint8 else stored.float()
    within = torch.clamp(read, x_NCHW - 8 / 255, x_NCHW + 8 / 255).clamp(0, 1)
    with torch.no_grad():
        expected = (TinyNet().eval()(within).argmax(1)).tolist()
    rows = pd.read_parquet(folder / "outcomes.parquet").query("attack == 'pgd'")
    assert rows["adv_pred"].tolist() == expected
    assert rows["linf"].max() <= 8 / 255 + 1e-6
    assert ferd_eval("report", folder, "--audit")[0] == 0
    assert f"its images stored in {stored_in}" in (folder / "report.md").read_text()
    assert f"stored_in {stored_in}" in (folder / "audit.md").read_text()
    assert f"they were stored in {stored_in}" in (folder / "audit.md").read_text()


@pytest.mark.parametrize(
    "store",
    [lambda x: x.half(), lambda x: x.bfloat16(), torchattacks_whole, lambda x: x.float()],
)
def test_rounding_explains_no_other_eps(ferd_eval, tmp_path, store):
    """9/255 is not 8/255, however it is stored."""
    torch.save(store(at_the_edge(9 / 255)[1]), tmp_path / "adv.pt")
    words = ["--eps", "8/255", "--out", tmp_path / "r"]
    status, _, err = ferd_eval(*with_images(tmp_path / "adv.pt")[:-2], *words)
    assert (status, err.count("\n"), "farther than L∞ ε = 8/255" in err) == (2, 1, True)


@pytest.mark.parametrize(
    "store", [lambda x: x, lambda x: x.half(), lambda x: x.bfloat16().float(), torchattacks_whole]
)
def test_clean_images_are_no_attack(ferd_eval, tmp_path, store):
    torch.save({"adv_complete": store(at_the_edge()[0])}, tmp_path / "adv.pt")
    status, _, err = ferd_eval(*with_images(tmp_path / "adv.pt", "--out", tmp_path / "r"))
    assert (status, "nothing was attacked" in err) == (2, True)


def test_an_eps_that_nobody_stated_is_not_claimed(ferd_eval, tmp_path):
    torch.save(at_the_edge(4 / 255)[1], tmp_path / "adv.pt")
    folder = tmp_path / "run"
    status, _, err = ferd_eval(*with_images(tmp_path / "adv.pt")[:-2], "--out", folder)
    assert status == 0, err
    assert "For which ε they were made is not known" in err
    report = (folder / "report.md").read_text()
    assert "at an unknown ε (the largest change found is 4.00/255)" in report
    assert "8/255" not in report
    assert ferd_eval("report", folder, "--audit")[0] == 0
    assert "by an ε that is not recorded" in (folder / "audit.md").read_text()
    assert ferd_eval("gate", folder, "--floor", "0.001")[0] in (0, 1)


# Labels and clean images beside the adversarial ones


@pytest.fixture
def torchattacks_file(tmp_path):
    """A file of torchattacks' own `save` over the data set, in batches as given."""
    torchattacks = pytest.importorskip("torchattacks")

    def save(order=None, *, dtype=torch.float32, **options) -> Path:
        data = tiny_data(IMAGES)
        order = torch.arange(IMAGES) if order is None else order
        x_NCHW = (torch.from_numpy(data.images_NCHW) / 255)[order].to(dtype)
        labels_N = torch.from_numpy(data.labels_N)[order]
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(x_NCHW, labels_N), batch_size=16
        )
        attack = torchattacks.PGD(TinyNet().to(dtype), eps=8 / 255, alpha=2 / 255, steps=5)
        path = tmp_path / "saved.pt"
        options = {"save_predictions": True, "save_clean_inputs": True, **options}
        attack.save(loader, str(path), verbose=False, return_verbose=True, **options)
        return path

    return save


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"save_type": "int"},
        {"dtype": torch.bfloat16},
        {"dtype": torch.bfloat16, "save_type": "int"},
        {"save_type": "int", "save_clean_inputs": False},
    ],
)
def test_what_torchattacks_saves_is_read(ferd_eval, tmp_path, torchattacks_file, options):
    file = torchattacks_file(**options)
    words = ["--eps", "8/255", "--out", tmp_path / "run"]
    status, _, err = ferd_eval(*with_images(file)[:-2], *words)
    assert status == 0, err
    assert "does not say which attack made its images" in err
    assert "another order" not in err
    rows = pd.read_parquet(tmp_path / "run" / "outcomes.parquet").query("attack == 'adv'")
    content = torch.load(file, weights_only=True)
    assert rows["label"].tolist() == content["labels"].tolist()
    if not options:
        assert rows["adv_pred"].tolist() == content["preds"].tolist()


@pytest.mark.parametrize("save_clean_inputs", [True, False])
def test_another_order_is_seen_by_labels_or_clean_images(
    ferd_eval, tmp_path, torchattacks_file, save_clean_inputs
):
    file = torchattacks_file(torch.arange(IMAGES).flip(0), save_clean_inputs=save_clean_inputs)
    words = ["--eps", "8/255", "--out", tmp_path / "r"]
    status, _, err = ferd_eval(*with_images(file)[:-2], *words)
    assert (status, err.splitlines()[-1].count("its label is not that of")) == (2, 1)
    content = torch.load(file, weights_only=True)
    del content["labels"]
    torch.save(content, file)
    status, _, err = ferd_eval(*with_images(file)[:-2], *words)
    said = "its clean images are not the first 60" if save_clean_inputs else "another order"
    assert (status, said in err) == (2, True)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (lambda x, y: {"y": y.flip(0)}, "its label is not that"),
        (lambda x, y: {"labels": y[:, None].flip(0)}, "its label is not that"),
        (lambda x, y: {"labels": y[:9]}, "9 values of label for 60 images"),
        (lambda x, y: {"labels": torch.eye(4)[y]}, "labels has shape 60×4"),
        (lambda x, y: {"x_clean": x.flip(0)}, "its clean images are not the first 60"),
        (lambda x, y: {"clean": x[:9]}, "clean images 9×1×8×8"),
        (lambda x, y: {"natural": (x - 0.5) / 0.5}, "its clean images are not the first 60"),
    ],
)
def test_what_lies_beside_must_agree(ferd_eval, tmp_path, beside, said):
    x_NCHW, adv_NCHW = at_the_edge(0.05)
    labels_N = torch.from_numpy(tiny_data(IMAGES).labels_N)
    content = {"adv_complete": adv_NCHW, **beside(x_NCHW, labels_N)}
    torch.save(content, tmp_path / "adv.pt")
    status, out, err = ferd_eval(*with_images(tmp_path / "adv.pt", "--out", tmp_path / "r"))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert said in err


@pytest.mark.parametrize("save", ["torch", "npz"])
def test_labels_in_a_column_agree(ferd_eval, tmp_path, save):
    x_NCHW, adv_NCHW = at_the_edge(0.05)
    content = {
        "adv_complete": adv_NCHW,
        "labels": torch.from_numpy(tiny_data(IMAGES).labels_N)[:, None],
        "clean_inputs": x_NCHW,
    }
    file = tmp_path / ("adv.npz" if save == "npz" else "adv.pt")
    if save == "npz":
        np.savez(file, **{key: value.numpy() for key, value in content.items()})
    else:
        torch.save(content, file)
    assert ferd_eval(*with_images(file, "--out", tmp_path / "run"))[0] == 0


def test_only_clean_images_are_no_adversarial_ones(ferd_eval, tmp_path):
    torch.save({"clean_inputs": at_the_edge()[1]}, tmp_path / "adv.pt")
    status, _, err = ferd_eval(*with_images(tmp_path / "adv.pt", "--out", tmp_path / "r"))
    assert (status, "clean_inputs (clean images)" in err) == (2, True)


@pytest.mark.parametrize("name", ["Clean", "natural", "no attack", "test"])
def test_images_are_called_by_an_attack(ferd_eval, tmp_path, name):
    words = with_images(bare(tmp_path), "--attack", name, "--out", tmp_path / "r")
    status, _, err = ferd_eval(*words)
    assert (status, err.count("\n"), repr(name) in err) == (2, 1, True)


# Our own outcomes, and clean predictions under another name


@pytest.mark.parametrize("beside", [True, False])
def test_our_own_outcomes_have_our_own_figures(ferd_eval, tmp_path, beside):
    file = Path("ours/outcomes.parquet")
    if not beside:
        file = tmp_path / "theirs.parquet"
        file.write_bytes(Path("ours/outcomes.parquet").read_bytes())
    status, _, err = ferd_eval("import", file, "--out", tmp_path / "run")
    assert status == 0, err
    assert figures(card_of(tmp_path / "run")) == figures(card_of("ours"))
    now, then = (pd.read_parquet(Path(f, "outcomes.parquet")) for f in (tmp_path / "run", "ours"))
    pd.testing.assert_frame_equal(now, then)
    card = card_of(tmp_path / "run")
    known = card["attacks"]["pgd"]["constants"]
    assert known == (card_of("ours")["attacks"]["pgd"]["constants"] if beside else {})
    status, _, err = ferd_eval("import", "ours", "--out", tmp_path / "other")
    assert (status, "ferd-eval report ours" in err) == (2, True)


def test_what_is_beside_our_own_outcomes_is_not_overruled(ferd_eval, tmp_path):
    for words, said in (
        (["--eps", "8/255"], "--eps is 8/255"),
        (["--dataset", "cifar10"], "--dataset is cifar10"),
        (["--classes", "a,b,c,d"], "--classes is a,b,c,d"),
    ):
        words = ["import", "ours/outcomes.parquet", *words, "--out", tmp_path / "r"]
        status, _, err = ferd_eval(*words)
        assert (status, err.count("\n"), said in err) == (2, 1, True)


def test_an_attack_no_larger_than_rounding_is_one(ferd_eval, tmp_path):
    stored = (255 * at_the_edge(1 / 255)[1]).round().to(torch.uint8)
    torch.save(stored, tmp_path / "adv.pt")
    words = ["--eps", "1/255", "--out", tmp_path / "r"]
    status, _, err = ferd_eval(*with_images(tmp_path / "adv.pt")[:-2], *words)
    assert status == 0, err


@pytest.mark.parametrize("content", [b"", b"PAR1", b"index,label\n", bytes(4096)])
def test_damaged_outcomes_are_one_line(ferd_eval, tmp_path, content):
    (tmp_path / "theirs.parquet").write_bytes(content)
    status, _, err = ferd_eval("import", tmp_path / "theirs.parquet", "--out", tmp_path / "r")
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("name", ["Clean", "natural", "no attack", "standard"])
def test_clean_predictions_pass_no_gate_on_robustness(ferd_eval, tmp_path, name):
    file, folder = tmp_path / "preds.csv", tmp_path / "run"
    file.write_text("label,pred\n" + "0,0\n1,1\n" * 100)
    status, _, err = ferd_eval("import", file, "--out", folder)
    assert (status, f"{file}=clean" in err, f"{file}=NAME_OF_ATTACK" in err) == (2, True, True)
    words = ["--eps", "8/255", "--out", folder]
    assert ferd_eval("import", f"{file}={name}", *words)[0] == 0
    status, _, err = ferd_eval("gate", folder, "--floor", "0.1")
    assert (status, "holds no attack" in err) == (2, True)
    assert ferd_eval("report", folder, "--audit")[0] == 0
    audit, report = ((folder / f"{each}.md").read_text() for each in ("audit", "report"))
    assert "No attack was run" in audit
    assert "nothing was attacked" in audit
    assert "8/255" not in report.replace(" ".join(words[:2]), "")
    assert "says nothing about robustness" in report


def test_an_attack_that_changes_nothing_is_doubted(ferd_eval, tmp_path):
    rows = "".join(f"{i},{i % 2},{i % 2},{i % 2}\n" for i in range(80))
    (tmp_path / "preds.csv").write_text("index,label,clean_pred,pgd_pred\n" + rows)
    assert ferd_eval("import", tmp_path / "preds.csv", "--out", tmp_path / "run")[0] == 0
    assert "pgd changed none of 80 predictions" in (tmp_path / "run" / "report.md").read_text()
