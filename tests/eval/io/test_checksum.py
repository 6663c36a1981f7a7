"""Records that tell whether they are as they were written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferd_eval.errors import UserError
from ferd_eval.io.json import CHECKSUM, parse_json, with_checksum, without_checksum

FILE = Path("run/manifest.json")

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcé", min_size=1, max_size=4), values, max_size=4))
def test_what_was_sealed_comes_back(record):
    assert without_checksum(parse_json(with_checksum(record).decode()), FILE) == record


def test_figures_that_json_lacks_do_not_break_the_seal():
    record = {"a": float("nan"), "b": [float("inf")], "c": "\ud800"}
    back = without_checksum(parse_json(with_checksum(record).decode()), FILE)
    assert back == {"a": None, "b": [None], "c": "\N{REPLACEMENT CHARACTER}"}


@given(st.data())
def test_a_changed_character_is_seen_or_means_the_same(data):
    record = {"seed": 0, "eps": 0.03137254901960784, "names": ["cat", "dög"], "status": "finished"}
    text = with_checksum(record).decode()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from('0123456789abc {}[],:"')) + text[at + 1 :]
    try:
        value = parse_json(changed)
    except ValueError:
        return
    try:
        assert without_checksum(value, FILE) == record or CHECKSUM not in value
    except UserError as reason:
        assert str(reason).startswith(f"{FILE} was damaged or edited")


def test_records_of_earlier_versions_and_others_pass_as_they_are():
    assert without_checksum({"seed": 1}, FILE) == {"seed": 1}
    assert without_checksum([1], FILE) == [1]


def test_an_edit_is_refused_with_the_way_out():
    record = json.loads(with_checksum({"seed": 0}))
    with pytest.raises(UserError, match=r'damaged or edited .* remove its "seal"'):
        without_checksum({**record, "seed": 1}, FILE)
    record.pop(CHECKSUM)
    assert without_checksum({**record, "seed": 1}, FILE) == {"seed": 1}
