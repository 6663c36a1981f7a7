"""``ferd-eval compare`` as people type it: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from functools import partial
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ferd_eval.metrics import compare, compare_methods
from ferd_eval.results.outcomes import Outcomes
from tests.eval.report.rows import html_rows, markdown_rows

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)',
    '=HYPERLINK("http://evil","x")',
    "+1+1",
    "-2",
    "a|b\nc",
    "[link](javascript:alert(4))",
    "[bold red]{{ 7*7 }}{% raw %}\u2028",
)


@pytest.fixture
def command(run_command, tmp_path, monkeypatch):
    """Run ``compare`` in an empty folder; its status, output and error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return partial(run_command, "compare")


def save(folder: Path, seed: int, name: str = "student", **more) -> Outcomes:
    """A finished run; `training` is what its checkpoint records of its training."""
    from tests.eval.metrics.simulated_run import simulate

    training = more.pop("training", {})
    digest = hashlib.sha256(str(folder).encode()).hexdigest()
    checkpoint = {"name": name, "path": f"/m/{name}.pt", "sha256": digest, **training}
    outcomes = simulate(*more.pop("classes", ()), seed=seed, checkpoint=checkpoint, **more)
    outcomes.save(folder)
    return Outcomes.load(folder)


def save_method(folder: Path, seeds=(0, 1, 2), first=0, teacher="ab" * 32, **more) -> None:
    for seed in seeds:
        training = {"recipe": {"seed": seed, "epochs": 2}, "teacher_sha256": teacher}
        save(folder / f"seed-{seed}", first + seed, training=training, **more)


def printed(value, digits=1, scale=100, plus=False):
    """The form every format prints, written down here a second time."""
    if value is None:
        return "–"
    text = f"{scale * value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return ("+" if plus and value > 0 else "") + text.replace("-", "−")


# What is written


def test_every_format_says_the_same(command, tmp_path):
    first, second = (save(tmp_path / f"x/{name}", i, per_class=120) for i, name in enumerate("ab"))
    status, out, err = command("x/a", "x/b", "--out", "c")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "c/compare.html"
    assert max(map(len, out.splitlines())) <= 80
    files = {file.name: file.read_text("utf-8") for file in Path("c").iterdir()}
    assert {*files} == {"compare.json", "compare.md", "compare.csv", "compare.html"}
    said = json.loads(files["compare.json"])
    found = compare(first, second, "aa")
    assert (said["first"]["name"], said["second"]["name"]) == ("a", "b")
    assert (said["attack"], said["verdict"]) == ("aa", str(found.verdict))
    assert said["comparison"]["average"]["value"] == found.average.value
    assert said["comparison"]["worst_class"]["interval95"] == [*found.worst_class.interval95]
    assert [each["p_holm"] for each in said["comparison"]["per_class"]] == [
        each.p_holm for each in found.per_class
    ]
    assert said["comparison"]["nsd_split"]["by_mean"] == found.nsd_split.by_mean
    assert said["first"]["runs"][0]["folder"] == str(tmp_path / "x/a")
    assert said["constants"]["steps"] == 20
    flat = " ".join(out.split())
    for text in (unescape(files["compare.html"]), flat):
        assert said["headline"] in text.replace("\N{NO-BREAK SPACE}", " ")
    for name, key, digits, scale in (
        ("Average", "average", 1, 100),
        ("Worst class", "worst_class", 1, 100),
        ("Worst 10 %", "worst_10pct", 1, 100),
        ("SD (debiased)", "sd", 1, 100),
        ("NSD (debiased)", "nsd", 3, 1),
    ):
        delta = said["comparison"][key]
        low, high = delta["interval95"]
        row = [
            name,
            *(printed(delta[side], digits, scale) for side in ("first", "second")),
            printed(delta["value"], digits, scale, plus=True),
            f"{printed(low, digits, scale)} to {printed(high, digits, scale)}",
            printed(delta["detectable"], digits, scale),
        ]
        assert row in html_rows(files["compare.html"])
        assert row in markdown_rows(files["compare.md"])
        assert " ".join(row) in flat
    for each in said["comparison"]["per_class"]:
        low, high = each["interval95"]
        start = [each["name"], str(each["n"]), printed(each["first"]), printed(each["second"])]
        start += [printed(each["value"], plus=True), f"{printed(low)} to {printed(high)}"]
        assert start in [row[:6] for row in html_rows(files["compare.html"])]
        assert start in [row[:6] for row in markdown_rows(files["compare.md"])]
        assert re.search(
            rf"{re.escape(each['name'])} +{start[2]} +{start[3]} +{re.escape(start[4])} ", out
        )
    rows = list(csv.DictReader(files["compare.csv"].splitlines()))
    assert {row["difference"] for row in rows} == {"b − a"}
    in_csv = {(r["attack"], r["scope"], r["index"] or r["name"], r["metric"]): r for r in rows}
    assert len(in_csv) == len(rows)
    for key in ("average", "worst_class", "nsd"):
        delta = said["comparison"][key]
        assert float(in_csv["aa", "overall", key, "difference"]["value"]) == delta["value"]
        assert float(in_csv["aa", "overall", key, "low95"]["value"]) == delta["interval95"][0]
    for each in said["comparison"]["per_class"]:
        row = in_csv["aa", "class", str(each["index"]), "p_holm"]
        assert float(row["value"]) == each["p_holm"]
        value = in_csv["aa", "class", str(each["index"]), "difference"]
        assert value["printed"] == printed(each["value"], plus=True).replace("−", "-")
    for attack in ("clean", "fgsm", "pgd"):
        other = said["by_attack"][attack]["average"]
        assert float(in_csv[attack, "overall", "average", "difference"]["value"]) == other["value"]
        assert attack in [row[0] for row in html_rows(files["compare.html"])]


def test_json_is_all_there_is_on_stdout(command, tmp_path):
    save(tmp_path / "a", 0)
    save(tmp_path / "b", 1)
    status, out, err = command("a", "b", "--json", "--out", "c")
    assert status == 0
    assert json.loads(out) == json.loads(Path("c/compare.json").read_text())
    assert err == "c/compare.html\n"


def test_without_out_the_folder_is_called_after_both(command, tmp_path):
    save(tmp_path / "a", 0, name="none / <all>")
    save(tmp_path / "b", 1, name="../..")
    status, out, _ = command("a", "b")
    assert status == 0
    assert out.splitlines()[-1] == "reports/compare/none-all-vs-run/compare.html"
    assert Path("reports/compare/none-all-vs-run/compare.md").is_file()


def test_no_torch_and_nothing_heavy_before_it_is_needed(tmp_path):
    save(tmp_path / "a", 0)
    save(tmp_path / "b", 1)
    code = (
        "import sys; from ferd_eval.cli import app, run\n"
        "run(app, ['compare', '--help'], 'f'); early = 'numpy' in sys.modules\n"
        "assert run(app, ['compare', 'a', 'b'], 'f') == 0\n"
        "print(early, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False False"


# Which attack


def test_the_strongest_shared_attack_decides_unless_told_otherwise(command, tmp_path):
    save(tmp_path / "a", 0)
    save(tmp_path / "b", 1, attacks=("clean", "fgsm", "pgd"))

    def attack(*more):
        status, out, err = command("a", "b", "--json", *more)
        assert status == 0, err
        return json.loads(out)

    assert attack()["attack"] == "pgd"
    assert [*attack()["by_attack"]] == ["clean", "fgsm", "pgd"]
    assert attack("--attack", "fgsm")["attack"] == "fgsm"
    clean = attack("--attack", "clean")
    assert clean["headline"].startswith("Without an attack, ")
    assert any("nothing about robustness" in warning for warning in clean["warnings"])


def test_the_order_of_the_sides_does_not_choose_the_attack(command, tmp_path):
    save(tmp_path / "a", 0, attacks=("clean", "fgsm", "pgd"))  # each weaker than the next
    save(tmp_path / "b", 1, attacks=("clean", "pgd", "fgsm"))
    chosen = set()
    for sides in (("a", "b"), ("b", "a")):
        status, out, err = command(*sides, "--json")
        assert status == 0, err
        chosen.add(json.loads(out)["attack"])
    assert len(chosen) == 1


def test_an_attack_with_other_constants_is_refused_or_left_out_aloud(command, tmp_path):
    from tests.eval.metrics.simulated_run import constants

    ids = ("clean", "fgsm", "pgd", "aa")
    save(tmp_path / "a", 0)
    b = save(tmp_path / "b", 1)
    for attack, changed in (("aa", {"steps": 50}), ("pgd", {"eps": 0.5, "eps_text": "0.5"})):
        attacks = {each: constants(each) for each in ids}
        attacks[attack] |= changed
        Outcomes(b.table, {**b.manifest, "attacks": attacks}).save(tmp_path / "b")
        status, out, err = command("a", "b", "--attack", attack)
        assert (status, out, err.count("\n")) == (2, "", 1)
        name = next(iter(changed))
        assert f"{attack} is not the same attack on both sides: {name} is" in err
        assert str(changed[name]) in err
    status, _, err = command("a", "b", "--json")
    assert status == 0
    assert any(
        warning.startswith("pgd is not compared: eps is") for warning in
        json.loads(Path("reports/compare/a-vs-b/compare.json").read_text())["warnings"]
    )  # fmt: skip


# Who


def test_one_seed_a_side_says_nothing_of_a_method(command, tmp_path):
    save(tmp_path / "a", 0)
    save(tmp_path / "b", 1)
    _, out, _ = command("a", "b")
    assert "One seed says nothing of a method" in " ".join(out.split())


def test_sides_of_several_seeds_are_methods(command, tmp_path):
    save_method(tmp_path / "a")
    save_method(tmp_path / "b", first=10)
    joined = ",".join(f"b/seed-{seed}" for seed in (2, 0, 1))
    runs = [[Outcomes.load(tmp_path / side / f"seed-{s}") for s in range(3)] for side in "ab"]
    for words in (("a", "b"), ("a", joined)):
        status, out, err = command(*words, "--json")
        assert status == 0, err
        said = json.loads(out)
        found = compare_methods(*runs, "aa", by_seed=True)
        assert said["paired"]["seeds"] is True
        assert said["comparison"]["average"]["interval95"] == [*found.average.interval95]
        assert [r["training_seed"] for r in said["second"]["runs"]] == [0, 1, 2]
        assert (said["first"]["name"], said["second"]["name"]) == ("a", "b")
    _, out, _ = command("a", "b")
    flat = " ".join(out.split())
    assert "two methods by 3 networks a side" in flat
    assert "seed by seed (training seeds 0, 1 and 2)" in flat
    _, out, _ = command("a", "b", "--no-pair-seeds", "--json")
    apart = compare_methods(*runs, "aa", by_seed=False)
    assert json.loads(out)["comparison"]["average"]["interval95"] == [*apart.average.interval95]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"seeds": (3, 4, 5)}, "the training seeds are 0, 1, 2 of a and 3, 4, 5 of b"),
        ({"seeds": (0, 1, 2, 3)}, "0, 1, 2 of a and 0, 1, 2, 3 of b"),
        ({"teacher": "cd" * 32}, "the teachers are not the same"),
    ],
)
def test_what_is_no_pair_is_not_paired_and_the_report_says_why(command, tmp_path, other, reason):
    save_method(tmp_path / "a")
    save_method(tmp_path / "b", first=10, **other)
    status, out, _ = command("a", "b", "--json")
    assert status == 0
    assert json.loads(out)["paired"]["seeds"] is False
    assert reason in json.loads(out)["paired"]["said"]
    assert any(reason in sentence for sentence in json.loads(out)["sentences"])


def test_seeds_that_are_not_recorded_can_be_paired_by_hand(command, tmp_path):
    for side, start in (("a", 0), ("b", 10)):
        for seed in (2, 10, 1):
            save(tmp_path / side / f"s{seed}", start + seed)
    status, out, _ = command("a", "b", "--json")
    assert status == 0
    assert "do not record their training seeds; --pair-seeds" in json.loads(out)["paired"]["said"]
    status, out, _ = command("a", "b", "--json", "--pair-seeds")
    said = json.loads(out)
    assert (status, said["paired"]["seeds"]) == (0, True)
    assert [Path(r["folder"]).name for r in said["first"]["runs"]] == ["s1", "s2", "s10"]


def test_runs_of_one_name_are_told_apart_by_their_folders(command, tmp_path):
    for place in ("one/seed-0/full", "two/seed-0/full", "two/seed-1/full"):
        save(tmp_path / place, len(place) + int(place[-6]))

    def names(*words):
        status, out, err = command(*words, "--json")
        assert status == 0, err
        said = json.loads(out)
        return [said[side]["name"] for side in ("first", "second", "reference") if said[side]]

    assert names("one/seed-0/full", "two/seed-0/full") == ["one", "two"]
    assert names("two/seed-0/full", "two/seed-1/full") == ["seed-0", "seed-1"]
    words = ["one/seed-0/full", "two/seed-0/full", "--reference", "two/seed-1/full"]
    assert names(*words) == ["one/seed-0", "two/seed-0", "two/seed-1"]


@pytest.mark.parametrize("kinds", ["111", "113", "331", "333"])
def test_a_reference_stands_beside_both(command, tmp_path, kinds):
    runs = {}
    for i, (name, kind) in enumerate(zip("abc", kinds, strict=True)):
        if kind == "1":
            runs[name] = [save(tmp_path / name, 10 * i, name=name)]
        else:
            save_method(tmp_path / name, first=10 * i)
            runs[name] = [Outcomes.load(tmp_path / name / f"seed-{s}") for s in range(3)]
    status, out, err = command("a", "b", "--reference", "c", "--out", "r")
    assert (status, err) == (0, "")
    said = json.loads(Path("r/compare.json").read_text())["reference"]
    assert said["name"] == "c"
    for side, key in (("a", "to_first"), ("b", "to_second")):
        averages = [
            sum(of.of("aa")["correct"].mean() for of in runs[name]) / len(runs[name])
            for name in (side, "c")
        ]
        average = said[key]["average"]
        assert average["value"] == pytest.approx(averages[0] - averages[1])
        low, high = average["interval95"]
        assert low < average["value"] < high
        row = ["Average", side, *map(printed, averages)]
        row += [printed(average["value"], plus=True), f"{printed(low)} to {printed(high)}"]
        assert row in html_rows(Path("r/compare.html").read_text())
        assert " ".join(row) in " ".join(out.split())
    assert ("taken as it is" in said["note"]) == (kinds in ("113", "331"))
    header = next(row for row in markdown_rows(Path("r/compare.md").read_text()) if "p" in row)
    assert header[2:5] == ["c", "a", "b"]


# What is refused


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["one"], ("Missing argument 'B'",)),
        (["one", "nowhere"], ("no folder nowhere",)),
        (["one", "one"], ("one and one are the same",)),
        (["one", "other", "--reference", "one"], ("are the same",)),
        (["one", "three"], ("one has 1 run and three has 3 runs", "or 3 or more seeds")),
        (["two", "three"], ("two has 2 runs", "needs 3 seeds or more", "compare single runs")),
        (["two", "one"], ("two has 2 runs", "e.g.")),
        (["one", "other", "--reference", "two"], ("--reference two has 2 runs",)),
        (["one", "other", "--attack", "pdg"], ("pdg", "Did you mean pgd?")),
        (["one", "other", "--margin", "2"], ("--margin is 2", "0.01")),
        (["one", "other", "--margin", "nan"], ("--margin is nan",)),
        (["one", "other", "--pair-seeds"], ("several seeds",)),
        (["three", "four", "--pair-seeds"], ("three has 3, four 4", "--no-pair-seeds")),
        (["one", "fewer"], ("not scored on the same images", "on 400", "on 300")),
        (["one", "elsewhere"], ("other classes (10 and 2)",)),
        (["one", "three/seed-0,three/seed-0"], ("more than once",)),
        (["three", "kinds"], ("networks of several kinds", "epochs is 2 in seed-0 and 3")),
        (["three", "again"], ("runs of one checkpoint", "one training seed")),
        (["one", "unfinished"], ("is not finished (status running)",)),
        (["one", "garbled"], ("is damaged", "class_names")),
        (["one", "other", "--out", "file/below"], ("file/below", "--out")),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(command, tmp_path, words, parts):
    Path("file").write_text("")
    save(tmp_path / "one", 0, name="one")
    save(tmp_path / "other", 1, name="other")
    save(tmp_path / "fewer", 1, per_class=30)
    save(tmp_path / "elsewhere", 1, classes=("ab",))
    save(tmp_path / "unfinished", 1, status="running")
    garbled = save(tmp_path / "garbled", 1)
    Outcomes(garbled.table, {**garbled.manifest, "dataset": {}}).save(tmp_path / "garbled")
    for name, seeds in (("two", 2), ("three", 3), ("four", 4), ("kinds", 3), ("again", 3)):
        save_method(tmp_path / name, range(seeds))
    kinds = Outcomes.load(tmp_path / "kinds/seed-2")
    checkpoint = {**kinds.manifest["checkpoint"], "recipe": {"seed": 2, "epochs": 3}}
    manifest = {**kinds.manifest, "checkpoint": checkpoint}
    Outcomes(kinds.table, manifest).save(tmp_path / "kinds/seed-2")
    Outcomes.load(tmp_path / "again/seed-0").save(tmp_path / "again/seed-1")
    status, out, err = command(*words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert all(part in err for part in parts), err
    assert not Path("reports").exists()


def test_a_reference_without_the_attack_is_refused(command, tmp_path):
    for name, attacks in (("a", ("clean", "aa")), ("b", ("clean", "aa")), ("c", ("clean",))):
        save(tmp_path / name, ord(name), name=name, attacks=attacks)
    status, _, err = command("a", "b", "--reference", "c")
    assert (status, err.count("\n")) == (2, 1)
    assert "--reference c was not scored under aa" in err


# What is warned of


def test_the_runs_own_warnings_are_repeated(command, tmp_path):
    save(tmp_path / "a", 0, name="a", warnings=["mind the gap"])
    save(tmp_path / "b", 1, name="b", attacks=("clean", "fgsm", "pgd", "aa"), empty=[])
    status, out, _ = command("a", "b", "--json")
    assert status == 0
    assert "a: mind the gap" in json.loads(out)["warnings"]
    _, out, _ = command("a", "b")
    assert "warning: a: mind the gap" in out


def test_what_could_not_be_held_equal_is_said(command, tmp_path):
    a = save(tmp_path / "a", 0, name="a", engine="native", empty=[3])
    save(tmp_path / "b", 1, name="b", engine="autoattack", empty=[3])
    dataset = {k: v for k, v in a.manifest["dataset"].items() if k != "fingerprint"}
    manifest = {**a.manifest, "dataset": dataset, "audits": {"aa": [1]}}
    Outcomes(a.table, manifest).save(tmp_path / "a")
    status, out, err = command("a", "b", "--json")
    assert status == 0, err
    warnings = " / ".join(json.loads(out)["warnings"])
    for part in (
        "engine is not the same for all",
        "native for a; autoattack for b",
        "by their indices and labels alone",
        "part of aa saw only a sample",
        "1 of 10 classes have no images",
    ):
        assert part in warnings


@pytest.mark.parametrize(
    ("what", "here", "there"),
    [
        ("torch", {"packages": {"torch": "2.11.0"}}, {"packages": {"torch": "2.14.1"}}),
        ("CUDA", {"device": {"kind": "cuda", "cuda": "12.8"}},
         {"device": {"kind": "cuda", "cuda": "13.0"}}),
        ("precision", {"precision": {"dtype": "float32", "tf32": False}},
         {"precision": {"dtype": "float32", "tf32": True}}),
        ("ferd_eval", {"ferd_eval": "0.1.0"}, {"ferd_eval": "0.2.0"}),
    ],
)  # fmt: skip
def test_runs_of_other_versions_are_told_apart(command, tmp_path, what, here, there):
    save(tmp_path / "a", 0, name="a", **here)
    save(tmp_path / "b", 1, name="b", **there)
    status, out, err = command("a", "b", "--json")
    assert status == 0, err
    said = [each for each in json.loads(out)["warnings"] if each.startswith(f"{what} is not")]
    assert len(said) == 1
    assert " for a; " in said[0]
    assert " for b" in said[0]
    save(tmp_path / "c", 1, name="c", **here)
    _, out, _ = command("a", "c")
    assert "is not the same for all" not in out


def test_one_checkpoint_scored_twice_is_said_in_the_headline(command, tmp_path):
    checkpoint = {"training": {"sha256": "f" * 64}}
    save(tmp_path / "a", 0, name="a", packages={"torch": "2.11.0"}, **checkpoint)
    save(tmp_path / "b", 1, name="b", packages={"torch": "2.14.1"}, **checkpoint)
    _, out, _ = command("a", "b", "--json")
    assert "Both are the same checkpoint" in json.loads(out)["headline"]
    save(tmp_path / "c", 1, name="c")
    _, out, _ = command("a", "c", "--json")
    assert "the same checkpoint" not in json.loads(out)["headline"]


# Names


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_stay_text_in_every_format(command, tmp_path):
    for i, name in enumerate(("<b>a</b>", "=1+1|[x](y)", "[bold]c[/bold]")):
        save(tmp_path / f"r{i}", i, name=name, classes=(HOSTILE,), warnings=["<i>mind</i>"])
    status, out, err = command("r0", "r1", "--reference", "r2", "--out", "c")
    assert (status, err) == (0, "")
    assert "[bold]c[/bold]" in out
    page = Elements()
    html = Path("c/compare.html").read_text("utf-8")
    page.feed(html)
    tags = [tag for tag, _ in page.found]
    assert tags.count("script") == 1
    assert not {"img", "link", "iframe"} & {*tags}
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert not [a for _, a in page.found if {"src", "href", "action", "data", "poster"} & {*a}]
    assert "<script>alert(1)</script>" in page.text
    assert "<i>mind</i>" in page.text
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    markdown = Path("c/compare.md").read_text("utf-8")
    assert "<script>" not in markdown
    assert "<b>" not in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    for row in csv.reader(Path("c/compare.csv").read_text("utf-8").splitlines(keepends=True)):
        for cell in row:
            if cell[:1] in ("=", "+", "@", "-"):
                float(cell)  # a signed number, nothing else
