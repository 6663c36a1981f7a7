"""The page over everything published: figures by other means, what is refused, what stays text."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ferd_eval.io.json import to_json
from ferd_eval.metrics import scorecard
from ferd_eval.report.published import contents, hub, search, stale, write_site
from ferd_eval.results.outcomes import Outcomes
from tests.conftest import ROOT

Publish = Callable[..., Outcomes]


@pytest.fixture
def publish(make_run: Any, tmp_path: Path) -> Publish:
    """Put a made-up run into a folder as somebody publishes it, without its outcomes."""
    from tests.eval.metrics.simulated_run import simulate

    def put(
        folder: str, *, seed: int = 0, outcomes: bool = False, uneven: bool = False, **more: Any
    ) -> Outcomes:
        manifest = {k: more.pop(k) for k in ("code", "dataset", "checkpoint") if k in more}
        run = simulate(seed=seed, **more)
        record: dict[str, Any] = {**run.manifest}
        digest = hashlib.sha256(folder.encode()).hexdigest()
        record["checkpoint"] = {**record["checkpoint"], "sha256": digest}
        for key, value in manifest.items():
            record[key] = {**(record.get(key) or {}), **value}
        some = run.table[(run.table["index"] % (run.table["label"] + 1)) == 0]
        run = Outcomes(some if uneven else run.table, record)
        target = tmp_path / folder
        if outcomes:
            run.save(target)
        else:
            write(target / "manifest.json", record)
        write(target / "scorecard.json", scorecard(run).to_dict())
        return run

    return put


def write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(to_json(value), encoding="utf-8")


def change(file: Path, path: str, value: Any) -> None:
    whole = json.loads(file.read_text("utf-8"))
    *way, last = path.split("/")
    inside = whole
    for key in way:
        inside = inside[int(key) if isinstance(inside, list) else key]
    inside[int(last) if isinstance(inside, list) else last] = value
    write(file, whole)


def trained(folder: Path, sha256: str, **more: Any) -> None:
    write(
        folder / "manifest.json",
        {
            "status": "finished",
            "finished": "2026-03-04T05:06:07+00:00",
            "recipe": {"variant": "ferd", "ablation": "none", "seed": 0},
            "seed": 0,
            "teacher": {"name": "wide", "sha256": "ee" * 32},
            "code": {"commit": "12ab" * 10, "dirty": True},
            "result": {"file": "student.safetensors", "sha256": sha256},
            **more,
        },
    )


def made(reports: Path) -> dict[str, str]:
    found = search(reports)
    assert found.problems == ()
    return {name: content.decode() for name, content in contents(hub(found.runs)).items()}


def results(files: dict[str, str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files["results.csv"])))


def cells(files: dict[str, str], heading: str, row: str) -> dict[str, str]:
    """A row of the first Markdown table under a heading, by column."""
    part = files["index.md"].split(heading, 1)[1]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    (found,) = [line for line in split if line[0].startswith(row)][:1]
    return dict(zip(split[0], found, strict=True))


def limits(x_K: Any, n_K: Any) -> tuple[float, float]:
    """The lowest class: no lower than any lower limit, no higher than any of K upper limits."""
    low = [
        0.0 if x == 0 else stats.beta.ppf(0.025, x, n - x + 1)
        for x, n in zip(x_K, n_K, strict=True)
    ]
    level = 1 - 0.025 / len(x_K)
    high = [
        1.0 if x == n else stats.beta.ppf(level, x + 1, n - x)
        for x, n in zip(x_K, n_K, strict=True)
    ]
    return min(low), min(high)


@pytest.mark.parametrize("outcomes", [False, True])
def test_every_figure_is_what_the_outcomes_give(
    publish: Publish, tmp_path: Path, outcomes: bool
) -> None:
    run = publish(
        "lab/net", seed=3, per_class=90, empty=[4], targeted=True, uneven=True, outcomes=outcomes
    )
    lines = results(made(tmp_path))
    assert [line["attack"] for line in lines] == list(run.attacks)
    for line in lines:
        images = run.of(line["attack"]).groupby(["index", "label"])["correct"].all().reset_index()
        of_class = images.groupby("label")["correct"]
        x_K, n_K = of_class.sum().to_numpy(), of_class.count().to_numpy()
        accuracy_K = x_K / n_K
        low, high = limits(x_K, n_K)
        wilson = stats.binomtest(int(x_K.sum()), int(n_K.sum())).proportion_ci(method="wilson")
        expected = {
            "n": len(images),
            "average": images["correct"].mean(),
            "average_low": wilson.low,
            "average_high": wilson.high,
            "worst_class": accuracy_K.min(),
            "worst_class_low": low,
            "worst_class_high": high,
            "nsd": np.std(accuracy_K) / np.mean(accuracy_K),
            "floor95": min(
                stats.beta.ppf(0.05, x, n - x + 1) if x else 0
                for x, n in zip(x_K, n_K, strict=True)
            ),
        }
        for name, value in expected.items():
            assert float(line[name]) == pytest.approx(value, abs=6e-7), (line["attack"], name)
        worst = run.class_names[of_class.mean().idxmin()]
        assert worst in line["worst_class_name"].split("; ")
        assert worst in line["possibly_worst"].split("; ")


def test_a_method_is_the_mean_of_its_seeds_with_their_t_interval(
    publish: Publish, tmp_path: Path
) -> None:
    for seed in range(4):
        publish(f"lab/net/a/seed-{seed}/full", seed=seed)
    files = made(tmp_path)
    row = cells(files, "### Methods", "lab/net/a ")
    assert row["Row"] == "lab/net/a (4 seeds)"
    for attack, title in {"clean": "Clean", "pgd": "PGD", "aa": "AA"}.items():
        of = [line for line in results(files) if line["attack"] == attack]
        for figure, heading, scale, digits in (
            ("average", "Avg", 100, 1),
            ("worst_class", "Worst class", 100, 1),
            ("nsd", "NSD", 1, 3),
        ):
            values = [float(line[figure]) for line in of]
            low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
            value, half = re.findall(r"[\d.]+", row[f"{title} {heading}"])
            assert float(value) == pytest.approx(scale * np.mean(values), abs=0.51 * 10**-digits)
            assert float(half) == pytest.approx(scale * (high - low) / 2, abs=0.51 * 10**-digits)
        assert float(row[f"{title} Floor"]) == pytest.approx(
            100 * min(float(line["floor95"]) for line in of), abs=0.051
        )


def test_the_laboratory_study_has_the_figures_of_its_own_report() -> None:
    """`students.csv` and `tables.md` were made by the study's script, from the outcomes."""
    files = made(ROOT / "reports")
    columns = {
        "clean avg": ("full", "clean", "average"), "clean worst": ("full", "clean", "worst_class"),
        "PGD avg": ("full", "pgd", "average"), "PGD worst": ("full", "pgd", "worst_class"),
        "PGD NSD": ("full", "pgd", "nsd"), "AA avg": ("balanced", "aa", "average"),
        "AA worst": ("balanced", "aa", "worst_class"), "AA NSD": ("balanced", "aa", "nsd"),
    }  # fmt: skip
    found = {(x["network"], x["evaluation"], x["attack"]): x for x in results(files)}
    with (ROOT / "reports/ferd-lab/students.csv").open() as stream:
        students = list(csv.DictReader(stream))
    assert len(students) == 15
    for student in students:
        network = f"ferd-lab/{student['arm']}/seed-{student['seed']}"
        for column, (evaluation, attack, figure) in columns.items():
            line = found[network, evaluation, attack]
            assert float(line[figure]) == pytest.approx(float(student[column]), abs=6e-7)
            assert line["seed"] == student["seed"]
    (ferd,) = re.findall(r"^\| FERD \|.*$", (ROOT / "reports/ferd-lab/tables.md").read_text(), re.M)
    row = cells(files, "10000 images", "ferd-lab/none ")
    for column in ("Clean Avg", "Clean Worst class", "PGD Avg", "PGD Worst class", "PGD NSD"):
        assert re.sub(r"[*()≈]|</?u>", "", row[column]).strip() in ferd


def test_what_cannot_be_compared_stands_in_no_common_ranking(
    publish: Publish, tmp_path: Path
) -> None:
    from tests.eval.metrics.simulated_run import constants

    publish("lab/a", seed=1)
    publish("lab/b", seed=2)
    publish("lab/other-images", seed=3, dataset={"fingerprint": "99" * 32})
    publish("lab/fewer", seed=4, per_class=20)
    run = publish("lab/other-steps", seed=5)
    steps = {**constants("pgd"), "steps": 7}
    for file in ("manifest.json", "scorecard.json"):
        place = "attacks/pgd" + ("/constants" if file == "scorecard.json" else "")
        change(tmp_path / "lab/other-steps" / file, place, steps)
    assert run.attacks
    publish("lab/profile", seed=6, profile=True)
    rankings = hub(search(tmp_path).runs).rankings
    rows = {
        (r.networks.images, r.networks.eps, i): {row.name for row in r.networks.rows}
        for i, r in enumerate(rankings)
    }
    assert sorted(sorted(those) for those in rows.values()) == [
        ["lab/a", "lab/b", "lab/other-steps", "lab/profile"],
        ["lab/fewer"],
        ["lab/other-images"],
        *[["lab/profile"]] * 3,
    ]
    (common,) = [r.networks for r in rankings if len(r.networks.rows) == 4]
    of = {column.key: {r.name for r in common.rows if column.key in r.scores}
          for column in common.columns if column.attack == "pgd"}  # fmt: skip
    assert of == {
        "pgd (steps 20)": {"lab/a", "lab/b", "lab/profile"},
        "pgd (steps 7)": {"lab/other-steps"},
    }


def test_marks_go_by_the_intervals(publish: Publish, tmp_path: Path) -> None:
    for seed in range(5):
        publish(f"lab/n{seed}", seed=seed, per_class=300)
    (ranking,) = hub(search(tmp_path).runs).rankings
    lines = {(x["network"], x["attack"]): x for x in results(made(tmp_path))}
    seen = set()
    for column in ranking.networks.columns:
        of = {r.name: r.score(column, "worst") for r in ranking.networks.rows}
        ends = {name: [float(lines[name, column.attack][f"worst_class{s}"])
                       for s in ("", "_low", "_high")] for name in of}  # fmt: skip
        best = max(ends, key=lambda name: ends[name][0])
        assert of[best].place == "best"
        for name, score in of.items():
            if name != best:
                apart = ends[name][2] < ends[best][1]
                assert score.tied is not apart
                seen.add(apart)
            assert score.interval == f"{100 * ends[name][1]:.1f} to {100 * ends[name][2]:.1f}"
    assert seen == {True, False}


def test_two_seeds_are_no_method_and_a_copy_is_no_seed(publish: Publish, tmp_path: Path) -> None:
    for seed in range(2):
        publish(f"lab/a/seed-{seed}", seed=seed)
    assert hub(search(tmp_path).runs).rankings[0].methods is None
    shutil.copytree(tmp_path / "lab/a/seed-1", tmp_path / "lab/a/seed-2")
    found = search(tmp_path)
    assert len(found.runs) == 2
    (line,) = found.problems
    assert "lab/a/seed-2/scorecard.json" in line
    assert "lab/a/seed-1/scorecard.json" in line


def test_seeds_with_other_recipes_or_teachers_are_not_one_method(
    publish: Publish, tmp_path: Path
) -> None:
    for seed in range(3):
        run = publish(f"lab/a/seed-{seed}/full", seed=seed)
        trained(tmp_path / f"lab/a/seed-{seed}/run", run.manifest["checkpoint"]["sha256"],
                seed=seed, recipe={"variant": "ferd", "seed": seed})  # fmt: skip
    assert [r.name for r in hub(search(tmp_path).runs).rankings[0].methods.rows] == ["lab/a"]
    file = tmp_path / "lab/a/seed-2/run/manifest.json"
    for path, value in (("recipe/variant", "paper"), ("teacher/sha256", "dd" * 32)):
        before = file.read_text()
        change(file, path, value)
        assert hub(search(tmp_path).runs).rankings[0].methods is None
        file.write_text(before)


def test_where_a_run_is_from_is_said(publish: Publish, tmp_path: Path) -> None:
    run = publish("lab/net/a/seed-7/full", code={"commit": "34cd" * 10, "dirty": False})
    digest = run.manifest["checkpoint"]["sha256"]
    recipe = {"variant": "ferd", "ablation": "no-fae", "synthesis.method": "data", "seed": 7}
    trained(tmp_path / "lab/net/a/seed-7/run", digest, seed=7, recipe=recipe)
    (tmp_path / "lab/README.md").write_text("# Lab")
    files = made(tmp_path)
    line = results(files)[0]
    expected = {
        "report": "lab", "network": "lab/net/a/seed-7", "evaluation": "full",
        "method": "lab/net/a", "taught_by": "ferd, no-fae, data", "seed": "7", "teacher": "wide",
        "teacher_sha256": "ee" * 32, "checkpoint_sha256": digest, "checkpoint_published": "0",
        "marks": "real-images", "scored": "2026-01-02", "scored_commit": "34cd" * 10,
        "trained": "2026-03-04", "trained_commit": "12ab" * 10 + "+changes",
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    for said in (digest[:12], "2026-01-02, 34cd34cd34", "2026-03-04, 12ab12ab12 with changes"):
        assert said in files["index.md"]
        assert said in files["index.html"]
    assert "[README](../lab/README.md)" in files["index.md"]
    assert "lab/net/a/seed-7](../lab/net/a/seed-7) (real images)" in files["index.md"]


def test_evaluations_of_a_network_on_the_same_images_are_one_row(
    publish: Publish, tmp_path: Path
) -> None:
    both = {"checkpoint": {"sha256": "ab" * 32}}
    publish("lab/a/seed-0/one", attacks=("clean", "fgsm", "pgd"), **both)
    publish("lab/a/seed-0/two", attacks=("clean", "cw"), **both)
    (ranking,) = hub(search(tmp_path).runs).rankings
    (row,) = ranking.networks.rows
    assert (row.name, set(row.scores)) == ("lab/a/seed-0", {"clean", "fgsm", "pgd", "cw"})


def test_an_audited_attack_keeps_the_limits_that_allow_for_what_it_missed(
    publish: Publish, tmp_path: Path
) -> None:
    publish("lab/a", attacks=("clean", "aa-audited"))
    card = tmp_path / "lab/a/scorecard.json"
    before = {x["attack"]: x for x in results(made(tmp_path))}["aa-audited"]
    bound = {"sampled": 5, "survivors": 9, "low95": 0.01, "floor95": 0.02}
    change(card, "attacks/aa-audited/audit", {"overall": bound, "per_class": [bound] * 10})
    line = {x["attack"]: x for x in results(made(tmp_path))}["aa-audited"]
    assert (line["worst_class_low"], line["floor95"], line["marks"]) == (
        "0.010000", "0.020000", "audited",
    )  # fmt: skip
    assert line["worst_class_high"] == before["worst_class_high"]
    assert line["possibly_worst"] == ""


TAMPERED = {
    "attacks/pgd/average": 0.99,
    "attacks/pgd/nsd": 0.001,
    "attacks/pgd/n": 4000,
    "attacks/pgd/worst_10pct": 0.9,
    "attacks/pgd/floor95": 0.9,
    "attacks/pgd/worst_class/accuracy": 0.9,
    "attacks/pgd/worst_class/name": "nobody",
    "attacks/pgd/worst_class95": [0.8, 0.9],
    "attacks/pgd/average95": "wide",
    "attacks/pgd/per_class/3/accuracy": 0.9375,
    "attacks/pgd/per_class/3/n": 41,
    "attacks/pgd/per_class/3/name": "nobody",
    "attacks/pgd/per_class": [],
    "attacks/pgd/confusion/3/3": 40,
    "attacks/pgd/confusion": "none",
    "attacks/pgd/constants": None,
    "attacks/pgd/constants/steps": 1000,
    "attacks": {},
    "checkpoint/sha256": "00" * 32,
    "checkpoint": {},
    "dataset/fingerprint": "00" * 32,
    "dataset/class_names": ["a"],
    "versions/ferd_eval": "99.0.0",
    "versions": {},
    "seed": 1,
    "flags": None,
}


@pytest.mark.parametrize("path", TAMPERED)
def test_a_scorecard_that_contradicts_itself_or_its_record_is_left_out(
    publish: Publish, tmp_path: Path, path: str
) -> None:
    publish("lab/good", seed=1)
    publish("lab/bad", seed=2)
    change(tmp_path / "lab/bad/scorecard.json", path, TAMPERED[path])
    found = search(tmp_path)
    assert [str(run.place.network) for run in found.runs] == ["lab/good"]
    (line,) = found.problems
    assert line.startswith("lab/bad/")
    assert line.count("\n") == 0
    assert re.search(r"\. [A-Z][^.]+( [^ ]+\.json[^.]*)?\.$", line), line


def test_broken_and_partial_folders_are_one_line_each(publish: Publish, tmp_path: Path) -> None:
    publish("lab/good", seed=1)
    (tmp_path / "lab/nonsense").mkdir()
    (tmp_path / "lab/nonsense/scorecard.json").write_text('{"attacks": NaN')
    (tmp_path / "lab/deep").mkdir()
    (tmp_path / "lab/deep/scorecard.json").write_text("[" * 100_000)
    publish("lab/unfinished", seed=2)
    change(tmp_path / "lab/unfinished/manifest.json", "status", "running")
    publish("lab/no-card", seed=3)
    (tmp_path / "lab/no-card/scorecard.json").unlink()
    trained(tmp_path / "lab/unscored/seed-0/run", "ab" * 32)
    write(tmp_path / "lab/diverged/seed-0/run/manifest.json", {"status": "running", "recipe": {}})
    run = publish("lab/untrained/seed-0/full", seed=4)
    trained(tmp_path / "lab/untrained/seed-0/run", run.manifest["checkpoint"]["sha256"],
            status="running")  # fmt: skip
    publish("lab/other/seed-0/full", seed=5)
    trained(tmp_path / "lab/other/seed-0/run", "cd" * 32)
    run = publish("lab/weights/seed-0/full", seed=6)
    trained(tmp_path / "lab/weights/seed-0/run", run.manifest["checkpoint"]["sha256"])
    (tmp_path / "lab/weights/seed-0/run/student.safetensors").write_bytes(b"another network")
    publish("lab/altered", seed=7, outcomes=True)
    Outcomes.load(tmp_path / "lab/altered").table.assign(
        adv_pred=0, correct=lambda t: t["label"] == 0
    ).to_parquet(tmp_path / "lab/altered/outcomes.parquet")
    (tmp_path / "lab/linked").symlink_to(tmp_path / "lab/good")
    found = search(tmp_path)
    assert [str(run.place.network) for run in found.runs] == ["lab/good"]
    assert [line.split()[0].split("/")[1].rstrip(",:") for line in found.problems] == [
        "altered", "deep", "diverged", "linked", "no-card", "nonsense", "other", "unfinished",
        "unscored", "untrained", "weights",
    ]  # fmt: skip
    assert all("\n" not in line and len(line) < 400 for line in found.problems)


def test_a_published_checkpoint_is_named_by_its_digest(publish: Publish, tmp_path: Path) -> None:
    weights = b"the network itself"
    digest = hashlib.sha256(weights).hexdigest()
    publish("lab/a", checkpoint={"sha256": digest, "path": "/somewhere/net.pt"})
    assert results(made(tmp_path))[0]["checkpoint_published"] == "0"
    (tmp_path / "lab/a/net.pt").write_bytes(weights)
    assert results(made(tmp_path))[0]["checkpoint_published"] == "1"


def test_runs_of_ones_own_are_not_published(publish: Publish, tmp_path: Path) -> None:
    publish("lab/a", seed=1)
    publish("runs/b", seed=2)
    publish("published/c", seed=3)
    assert {x["network"] for x in results(made(tmp_path))} == {"lab/a"}


def test_the_same_runs_give_the_same_bytes_anywhere(publish: Publish, tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        publish(f"lab/a/seed-{seed}", seed=seed)
    elsewhere = tmp_path / "runs" / "elsewhere"
    shutil.copytree(tmp_path / "lab", elsewhere / "lab", copy_function=shutil.copyfile)
    assert made(tmp_path) == made(elsewhere)
    assert str(tmp_path) not in "".join(made(tmp_path).values())


def test_each_stale_missing_or_foreign_file_is_named(publish: Publish, tmp_path: Path) -> None:
    publish("lab/a")
    files = contents(hub(search(tmp_path).runs))
    folder = tmp_path / "published"
    assert len(stale(folder, files)) == 3
    write_site(folder, files)
    assert stale(folder, files) == ()
    (folder / "index.md").unlink()
    with (folder / "results.csv").open("a") as stream:
        stream.write("\n")
    (folder / "old.html").write_text("old")
    assert stale(folder, files) == (
        f"{folder}/index.md is missing", f"{folder}/results.csv is stale",
        f"{folder}/old.html is not one of its files",
    )  # fmt: skip


HOSTILE = (
    "<script>alert(1)</script>", '" onmouseover="alert(3)', '=HYPERLINK("http://evil","x")',
    "+1+1", "@SUM(A1)", "a|b\nc", "[link](javascript:alert(4))", "![x](http://evil/x.png)",
    "https://evil.example www.evil.example me@evil.example", "{{ 7*7 }}\u2028",
)  # fmt: skip


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_names_stay_text_and_links_stay_inside(publish: Publish, tmp_path: Path) -> None:
    folder = 'lab)](http:%2e%2e "x" <b>|=1/seed-0 [y](z)'
    dataset = {"name": HOSTILE[6], "selection": HOSTILE[0]}
    run = publish(f"{folder}/full", names=HOSTILE, dataset=dataset)
    card = tmp_path / folder / "full" / "scorecard.json"
    change(card, "flags", list(HOSTILE))
    change(card, "model/architecture", "=1+1")
    (tmp_path / folder.split("/")[0] / "README.md").write_text("# x")
    trained(tmp_path / folder / "run", run.manifest["checkpoint"]["sha256"],
            teacher={"name": HOSTILE[0]}, recipe={"variant": HOSTILE[2]})  # fmt: skip
    files = made(tmp_path)
    page = Elements()
    page.feed(files["index.html"])
    tags = [tag for tag, _ in page.found]
    assert tags.count("script") == 1
    assert not {"img", "iframe", "b", "link"} & {*tags}
    assert not any(name.startswith("on") for _, of in page.found for name in of)
    links = [str(of["href"]) for tag, of in page.found if tag == "a"]
    links += re.findall(r"(?<!\\)\]\(([^)]*)\)", files["index.md"])
    assert links
    for link in links:
        assert re.fullmatch(r"\.\./[\w.%~/-]+", link), link
        assert ".." not in link[3:].split("/")
    assert not re.search(r"(?<!\\)<(?!u>|/u>)", files["index.md"])
    assert not re.search(r"\w://|(?i:www)\.\w|\w@evil", files["index.md"])
    for line in results(files):
        for name, cell in line.items():
            assert cell[:1] not in ("=", "+", "-", "@"), (name, cell)
