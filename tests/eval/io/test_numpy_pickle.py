import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferd_eval.io.numpy_pickle import read_array_pickle

PATH = Path("test_batch")


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_does_not_run(tmp_path, refused, protocol):
    mark = tmp_path / "ran"
    content = pickle.dumps(
        {"data": Call(os.system, f"touch {mark}"), "labels": [1]}, protocol=protocol
    )
    pickle.loads(content)
    assert mark.exists(), "the attack works where code runs"
    mark.unlink()
    with refused(PATH, *(["posix.system", "nothing was run"] if protocol >= 2 else [])):
        read_array_pickle(content, PATH)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch ran'\no.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R.",
        b"\x80\x02cos\nsystem\n\x8c\x09touch ran\x85\x81.",
        b"\x80\x02cbuiltins\neval\n\x8c\x041+1 \x85R.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct.x\n.",
    ],
)
def test_globals_are_named(content, refused, tmp_path):
    with refused(PATH, "."):
        read_array_pickle(content, PATH)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"cos\nsystem\n.", "'os.system'"),
        (b"(ios\nsystem\n.", "'os.system'"),
        (b"\x80\x04\x8c\x04os\n2\x8c\x06system\x93.", r"'os\n2.system'"),
    ],
)
def test_the_refused_global_is_on_one_line(content, named, refused):
    with refused(named, "never needs", "from its publisher"):
        read_array_pickle(content, PATH)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo slot that a real machine would allocate
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a string longer than any file
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00.",
        b"\x80\x02"
        + b")q\x00h\x00\x86"
        + b"q\x00h\x00\x86" * 64
        + b"}h\x00Ns.",  # exponential hash
        b"\x80\x02}\x82\x01.",  # extension registry
        b"\x80\x02}Q.",  # persistent object
        b"\x80\x02cnumpy\ndtype\n(U\x01OK\x00K\x01tR.",
        b"\x80\x02}K\x01b.",
        b"\x80\x02\x85\x85\x85.",
        b"\x80\x02}u.",
        b"\x80\x02}h\x05.",
        b".",
        b"",
    ],
)
def test_hostile_pickles_cost_nothing(content, read_or_refused):
    with read_or_refused():
        assert read_array_pickle(content, PATH) == {}


def test_reads_what_pickle_reads():
    described = {
        "labels": [0, 255, 65536, -1],
        "nested": [[b"x"], ("a", True, None, 2.5)],
        "data": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "scalar": np.int64(7),
        "big": np.arange(3, dtype=">i8"),
        "empty": [],
    }
    for protocol in range(2, 6):
        read = read_array_pickle(pickle.dumps(described, protocol=protocol), PATH)
        assert read["labels"] == described["labels"]
        assert read["nested"] == described["nested"]
        assert (read["data"] == described["data"]).all()
        assert read["data"].shape == (2, 3)
        assert read["scalar"] == 7
        assert read["big"].tolist() == [0, 1, 2]
        assert read["empty"] == []


@settings(max_examples=300, deadline=None)
@given(
    protocol=st.integers(0, 5),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 400),
)
def test_mutated_pickles_are_read_or_refused(read_or_refused, protocol, changes, length):
    batch = {b"labels": [1, 2], b"data": np.arange(20, dtype=np.uint8).reshape(2, 10)}
    content = bytearray(pickle.dumps(batch, protocol=protocol))
    for at, byte in changes:
        content[at % len(content)] = byte
    with read_or_refused():
        read_array_pickle(bytes(content[: len(content) - length % 7]), PATH)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(read_or_refused, content):
    with read_or_refused():
        read_array_pickle(content, PATH)
