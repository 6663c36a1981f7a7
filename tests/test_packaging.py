"""The wheel holds what it needs: built, installed elsewhere, and the demo run from there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("build", reason="the build front end is not installed")
pytest.importorskip("hatchling", reason="hatchling is not installed")


def run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work))
    run(*build, str(ROOT))
    (wheel,) = work.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile")
    run(*pip, "--target", str(work / "site"), str(wheel))
    return work / "site"


def test_packaged_data_is_small_and_licensed(installed: Path):
    data = [
        file
        for folder in ("datasets/demo", "models/demo")
        for file in (installed / "ferd_eval" / folder).iterdir()
        if file.is_file() and file.suffix != ".py"
    ]
    assert sum(file.stat().st_size for file in data) < 1_000_000
    assert "Zalando" in (installed / "ferd_eval/datasets/demo/LICENSE").read_text()
    assert (installed / "ferd_eval/py.typed").exists()
    assert (installed / "ferd_train/py.typed").exists()


#: The demo on a quarter of its images, with the settings that it asks for.
_DEMO = """
import sys
from dataclasses import replace
import ferd_eval
from ferd_eval import pipeline
from ferd_eval.cli import main
from ferd_eval.datasets import load_dataset
from ferd_eval.evaluation.config import EvalConfig

score = pipeline.score_checkpoints

def score_some(files, config, **options):
    assert config == EvalConfig(dataset="demo", attacks="fast", out=config.out)
    assert len(load_dataset("demo")) == 1000
    return score(files, replace(config, per_class=25), **options)

pipeline.score_checkpoints = score_some
print(ferd_eval.__file__, file=sys.stderr)
main(["demo", "--out", "out"])
"""


def test_the_demo_runs_from_the_installed_wheel(installed: Path, tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _DEMO],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stderr
    assert done.stdout.splitlines()[-1] == "out/report.html"
    for name in ("resnet8", "cnn"):
        folder = tmp_path / "out" / name
        assert (folder / "outcomes.parquet").is_file()
        card = json.loads((folder / "scorecard.json").read_text())
        figures = {attack: scores["average"] for attack, scores in card["attacks"].items()}
        assert list(figures) == ["clean", "fgsm", "pgd", "cw"]
        # Robust networks: clearly above chance under attack, and attacks cost something.
        assert 0.6 < figures["pgd"] < figures["fgsm"] < figures["clean"] < 0.95
        assert card["dataset"]["n"] == 250
        assert card["attacks"]["pgd"]["constants"]["eps"] == 0.1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "resnet8" in page
    assert "cnn" in page
