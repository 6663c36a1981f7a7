"""Remarks are for whoever asked for them, whatever another library did to logging."""

import logging

from ferd_eval.runtime.remarks import remark, remarks_on_stderr


def test_a_command_says_them_though_loggers_are_disabled(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger("ferd_eval"), "disabled", True)
    with remarks_on_stderr():
        remark("left out: a\nb")
    remark("in Python nobody asked")
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("left out: a")


def test_python_gets_them_through_logging(caplog, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ferd_eval"), "disabled", False)
    with caplog.at_level("INFO", "ferd_eval"):
        remark("left out: a")
    assert caplog.messages == ["left out: a"]
    assert capsys.readouterr().err == ""
