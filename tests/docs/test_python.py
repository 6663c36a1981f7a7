"""The Python that documents show runs, and gives what they print."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.docs.documents import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'ferd[plots]'")


def run(code: str, names: dict[str, Any]) -> str:
    """What a cell prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "cell", "exec"), names)
    return printed.getvalue()


def test_the_page_on_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = [
        part.partition("```")[0]
        for part in (ROOT / "docs/python.md").read_text(encoding="utf-8").split("```python\n")[1:]
    ]
    names: dict[str, Any] = {}
    assert run(code, names).startswith("ComparisonReport(")
    assert (tmp_path / "classes.pdf").read_bytes().startswith(b"%PDF")
    assert len(names["frame"]) == 2 * 10


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_gives_what_it_shows(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    printed = 0
    for cell in cells:
        if cell["cell_type"] == "code":
            found = run("".join(cell["source"]), names)
            assert found == _shown(cell["outputs"])
            printed += bool(found)
    assert printed


def _shown(outputs: list[Mapping[str, Any]]) -> str:
    return "".join("".join(each["text"]) for each in outputs if each["output_type"] == "stream")
