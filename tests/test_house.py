"""The plan of the house: layers, folders without circles, third-party packages in their places."""

from __future__ import annotations

import os

import pytest

from tests.conftest import ROOT


def test_import_contracts_hold(monkeypatch, capsys):
    linter = pytest.importorskip("importlinter.cli", reason="import-linter is not installed")
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(os.fspath(ROOT))
    failed = linter.lint_imports(is_debug_mode=False, no_cache=True)
    assert not failed, capsys.readouterr().out
