"""Every shape a file of weights comes in, and every bad one; nothing in a file is ever run."""

import argparse
import contextlib
import hashlib
import io
import json
import os
import pickle
import shlex
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict, deque
from datetime import datetime
from enum import Enum
from pathlib import Path, PosixPath, PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from ferd_eval.errors import UserError
from ferd_eval.models.checkpoint.load import load_checkpoint

STATE = {
    "conv1.weight": torch.arange(54.0).reshape(2, 3, 3, 3),
    "bn1.num_batches_tracked": torch.tensor(3),
    "linear.weight": torch.ones(10, 2),
}
OTHER = {key: torch.zeros_like(tensor) for key, tensor in STATE.items()}


with torch.sparse.check_sparse_tensor_invariants(True):
    SPARSE = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (3,))


def prefixed(prefix, state=STATE):
    return {prefix + key: tensor for key, tensor in state.items()}


def saved(tmp_path, content, *, legacy=False, name="net.pt"):
    file = tmp_path / name
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file


def assert_is_state(checkpoint):
    # safetensors sorts by name, torch keeps the order
    assert sorted(checkpoint.tensors) == sorted(STATE)
    for key, tensor in STATE.items():
        torch.testing.assert_close(checkpoint.tensors[key], tensor)


def refusal(file):
    with pytest.raises(UserError) as caught:
        load_checkpoint(file)
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message
    return message


# --- Good files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_plain_state_dict(tmp_path, legacy):
    file = saved(tmp_path, OrderedDict(STATE), legacy=legacy, name="net.safetensors")
    checkpoint = load_checkpoint(file)
    assert_is_state(checkpoint)
    assert checkpoint.format == ("torch-legacy" if legacy else "torch-zip")
    assert checkpoint.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert checkpoint.size == file.stat().st_size
    assert (checkpoint.name, checkpoint.unwrapped, checkpoint.ignored) == ("net", "", ())


def test_safetensors_under_any_suffix(tmp_path):
    file = tmp_path / "net.pt"
    save_file(prefixed("module."), file, metadata={"ferd.arch": "resnet18"})
    checkpoint = load_checkpoint(file)
    assert_is_state(checkpoint)
    assert checkpoint.format == "safetensors"
    assert checkpoint.metadata == {"ferd.arch": "resnet18"}
    assert checkpoint.unwrapped == "module."


@pytest.mark.parametrize(
    "wrapper",
    ["state_dict", "model_state_dict", "model", "net", "ema", "model_ema", "student", "teacher",
     "network", "params", "something_else"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers(tmp_path, wrapper, prefix):
    checkpoint = load_checkpoint(saved(tmp_path, {wrapper: prefixed(prefix), "epoch": 3}))
    assert_is_state(checkpoint)
    assert checkpoint.unwrapped == " / ".join(filter(None, [wrapper, prefix]))
    assert checkpoint.metadata == {"epoch": 3}


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "module.module.", "_orig_mod.module.",
     "module._orig_mod.model.", "model.net."],
)  # fmt: skip
def test_prefixes_repeated_and_nested(tmp_path, prefix):
    checkpoint = load_checkpoint(saved(tmp_path, prefixed(prefix)))
    assert_is_state(checkpoint)
    assert checkpoint.unwrapped.replace(" / ", "") == prefix
    assert list(checkpoint.as_stored) == list(prefixed(prefix))


def test_a_prefix_that_one_key_lacks_stays(tmp_path):
    state = {**prefixed("module."), "scale": torch.ones(5)}
    assert list(load_checkpoint(saved(tmp_path, state)).tensors) == list(state)


@pytest.mark.parametrize("box", [list, tuple])
def test_a_list_of_one(tmp_path, box):
    checkpoint = load_checkpoint(saved(tmp_path, box([{"net": STATE}])))
    assert_is_state(checkpoint)
    assert checkpoint.unwrapped == "[0] / net"


def test_the_ferd_release_layout(tmp_path):
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 220,
        "model_state_dict": prefixed("module."),
        "optimizer": optimizer.state_dict(),
        "nature_acc": 0.8312,
    }
    checkpoint = load_checkpoint(saved(tmp_path, content, name="stu1best_cln_checkpoint.tar"))
    assert_is_state(checkpoint)
    assert checkpoint.unwrapped == "model_state_dict / module."
    assert checkpoint.metadata == {"epoch": 220, "nature_acc": 0.8312}
    assert checkpoint.ignored == ("optimizer (2 tensors)",)


def test_trained_weights_before_their_average_and_student_before_teacher(tmp_path):
    other = {key: torch.zeros_like(tensor) for key, tensor in STATE.items()}
    checkpoint = load_checkpoint(saved(tmp_path, {"ema": other, "model": STATE}))
    assert_is_state(checkpoint)
    assert checkpoint.ignored == ("ema (3 tensors)",)
    assert_is_state(load_checkpoint(saved(tmp_path, {"teacher": other, "student": STATE})))


def test_lightning_keeps_the_network_and_records_the_rest(tmp_path):
    content = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**prefixed("model."), "loss.weight": torch.ones(10)},
        "epoch": 9,
        "loops": {},
    }
    checkpoint = load_checkpoint(saved(tmp_path, content))
    assert_is_state(checkpoint)
    assert checkpoint.unwrapped == "state_dict / model."
    assert "loss.weight (1 tensor)" in checkpoint.ignored


def test_a_tensor_scalar_beside_the_wrapper_is_metadata(tmp_path):
    content = {"model": STATE, "best_acc": torch.tensor(0.5), "loss": None}
    assert load_checkpoint(saved(tmp_path, content)).metadata == {"best_acc": 0.5}


@pytest.mark.parametrize(
    ("constants", "inner"),
    [
        (("normalize.mean", "normalize.std"), "model."),
        (("normalizer.means", "normalizer.sds"), "model."),
        (("mean", "std"), "net."),
        (("mu", "sigma"), ""),
        (("0.mean", "0.std"), "1."),
        (("module.0.mean", "module.0.std"), "module.1."),
        (("module.normalize.mean", "module.normalize.std"), "module.model.module."),
    ],
)
@pytest.mark.parametrize("shape", [(3,), (1, 3, 1, 1), (3, 1, 1)])
def test_embedded_normalization(tmp_path, constants, inner, shape):
    mean, std = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
    state = {
        constants[0]: torch.tensor(mean).reshape(shape),
        constants[1]: torch.tensor(std).reshape(shape),
        **prefixed(inner),
    }
    checkpoint = load_checkpoint(saved(tmp_path, state))
    assert_is_state(checkpoint)
    assert checkpoint.embedded_normalization == (mean, std)
    assert list(checkpoint.as_stored) == list(state)


@pytest.mark.parametrize(
    "names",
    [("bn1.running_mean", "bn1.running_std"), ("layer1.0.bn1.mean", "layer1.0.bn1.std"),
     ("head.mean", "tail.std")],
)  # fmt: skip
def test_what_is_no_normalization_layer_stays(tmp_path, names):
    state = {**STATE, names[0]: torch.ones(3), names[1]: torch.ones(3)}
    checkpoint = load_checkpoint(saved(tmp_path, state))
    assert checkpoint.embedded_normalization is None
    assert list(checkpoint.tensors) == list(state)


def test_wide_mean_and_std_are_weights_not_normalization(tmp_path):
    state = {**STATE, "mean": torch.ones(64), "std": torch.ones(64)}
    assert load_checkpoint(saved(tmp_path, state)).embedded_normalization is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_half_precision_is_raised(tmp_path, dtype, kind):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in STATE.items()}
    if kind == "safetensors":
        save_file(state, tmp_path / "net.pt")
        checkpoint = load_checkpoint(tmp_path / "net.pt")
    else:
        checkpoint = load_checkpoint(saved(tmp_path, state, legacy=kind == "legacy"))
    assert checkpoint.tensors["conv1.weight"].dtype == torch.float32
    assert checkpoint.tensors["bn1.num_batches_tracked"].dtype == torch.int64
    assert_is_state(checkpoint)


def test_parameters_and_tied_weights(tmp_path):
    weight = nn.Parameter(torch.ones(4, 4))
    checkpoint = load_checkpoint(saved(tmp_path, {"a.weight": weight, "b.weight": weight}))
    assert not any(t.requires_grad for t in checkpoint.tensors.values())


@pytest.mark.parametrize("core", ["core", "_core"])
@pytest.mark.parametrize("legacy", [False, True])
def test_numpy_values_beside_the_weights_are_metadata(tmp_path, legacy, core):
    plain = {
        "nature_acc": np.float64(0.8312), "loss": np.float32(-1.5), "half": np.float16(0.25),
        "epoch": np.int64(-7), "rank": np.uint8(200), "done": np.bool_(True),
        "name": np.str_("né"), "blank": np.str_(""), "tag": np.bytes_(b"a"),
    }  # fmt: skip
    closed = {
        "history": np.arange(6.0).reshape(2, 3),
        "empty": np.array([]),
        "when": np.datetime64("2024-01-01"),
        "objects": np.array([None, "a"], dtype=object),
        "record": np.zeros(1, dtype=[("a", "f4"), ("o", "O")])[0],
    }
    file = saved(tmp_path, {**closed, "model": STATE, **plain}, legacy=legacy)
    # What NumPy 1 and NumPy 2 call their internals.
    written = pickle.dumps(np.float64(1), protocol=2).split(b"multiarray")[0].split(b"cnumpy.")[1]
    if written != core.encode() + b".":
        respell(file, b"cnumpy." + written, b"cnumpy." + core.encode() + b".")
    checkpoint = load_checkpoint(file)
    assert_is_state(checkpoint)
    assert checkpoint.metadata == {k: v.item() for k, v in plain.items() if k != "tag"} | {
        "tag": "a"
    }
    assert {type(value) for value in checkpoint.metadata.values()} <= {str, int, float, bool}
    assert checkpoint.ignored == (
        "history (a NumPy array of 2×3 f8)",
        "empty (a NumPy array of 0 f8)",
        "when (a NumPy scalar of M8)",
        "objects (a NumPy array of 2 O8)",
        f"record (a NumPy scalar of {np.dtype([('a', 'f4'), ('o', 'O')]).str[1:]})",
    )


def respell(file, old, new):
    """Replace bytes inside the pickle of a torch file, whichever format it has."""
    if not zipfile.is_zipfile(file):
        file.write_bytes(file.read_bytes().replace(old, new))
        return
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in entries if name.endswith("data.pkl"))
    assert old in entries[pickled]
    entries[pickled] = entries[pickled].replace(old, new)
    zip_of(file.parent, entries)


@pytest.mark.parametrize("legacy", [False, True])
def test_numpy_arrays_are_never_weights(tmp_path, legacy):
    arrays = {key: tensor.numpy() for key, tensor in STATE.items()}
    assert "holds no state dict" in refusal(saved(tmp_path, arrays, legacy=legacy))
    assert "holds no state dict" in refusal(saved(tmp_path, {"model": arrays}, legacy=legacy))
    mixed = {**STATE, "extra.weight": np.ones((2, 2)), "scale": np.float32(2)}
    checkpoint = load_checkpoint(saved(tmp_path, mixed, legacy=legacy))
    assert_is_state(checkpoint)
    assert checkpoint.ignored == ("extra.weight (a NumPy array of 2×2 f8)",)
    assert checkpoint.metadata == {"scale": 2.0}


@pytest.mark.parametrize("legacy", [False, True])
def test_counts_of_thop_are_left_out(tmp_path, legacy):
    counts = {
        f"{module}{name}": torch.ones(1, dtype=torch.float64)
        for module in ("", "conv1.", "bn1.")
        for name in ("total_ops", "total_params")
    }
    checkpoint = load_checkpoint(
        saved(tmp_path, prefixed("module.", {**STATE, **counts}), legacy=legacy)
    )
    assert_is_state(checkpoint)
    assert checkpoint.ignored == ("total_ops (3 tensors)", "total_params (3 tensors)")
    assert list(checkpoint.as_stored) == list(prefixed("module."))


@pytest.mark.parametrize("legacy", [False, True])
def test_plain_values_of_python_are_read_as_such(tmp_path, legacy):
    content = {
        "model": STATE,
        "args": argparse.Namespace(lr=0.1, data=Path("/data"), betas=(0.9, 0.999)),
        "version": torch.__version__,
        "out": Path("/runs/a.pt"),
        "share": PureWindowsPath("C:/runs"),
        "losses": deque([0.5, 0.25], maxlen=9),
        "rows": range(3),
        "part": slice(1, None),
        "frozen": frozenset({"layer1"}),
        "history": defaultdict(list, {"loss": [1.0]}),
        "when": datetime(2026, 1, 1),
        "config": SimpleNamespace(depth=18),
        "kind": float,
    }
    checkpoint = load_checkpoint(saved(tmp_path, content, legacy=legacy))
    assert_is_state(checkpoint)
    assert checkpoint.metadata == {
        "version": str(torch.__version__), "out": "/runs/a.pt", "share": "C:\\runs",
    }  # fmt: skip
    assert {type(value) for value in checkpoint.metadata.values()} == {str}
    said = " ".join(checkpoint.ignored)
    for words in (
        "args (a record of 3 values)", "losses (a list of 2", "rows (a range)", "part (a slice)",
        "frozen (a frozenset)", "when (a datetime)", "config (a record", "kind (the type float)",
    ):  # fmt: skip
        assert words in said


@pytest.mark.parametrize("legacy", [False, True])
def test_plain_values_cost_no_more_than_they_take(tmp_path, legacy):
    """A path of a long text that is stored once, and ranges that nobody counts."""
    name = "a" * 3000
    content = {
        "model": STATE,
        "paths": [Rebuilt(PosixPath, (name, name)) for _ in range(500)],
        "range": range(10**15),
        "queue": Rebuilt(deque, (range(10**12),)),
    }
    assert_is_state(load_checkpoint(saved(tmp_path, content, legacy=legacy)))


def test_nothing_unknown_hides_among_plain_values(tmp_path):
    marker = tmp_path / "marker"
    for held in (argparse.Namespace(a=Marker(marker)), deque([Marker(marker)])):
        message = refusal(saved(tmp_path, {"model": STATE, "args": held}))
        named = message.partition("python -c")[0]
        assert f"{os.mkdir.__module__}.mkdir" in named
        assert "argparse" not in named
        assert "deque" not in named
        assert not marker.exists()


# --- Files with code in them ---------------------------------------------------------------------


class Marker:
    """Unpickles by creating a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle"])
def test_code_in_a_file_is_named_and_never_run(tmp_path, kind, protocol):
    marker = tmp_path / "marker"
    content = {"state_dict": STATE, "config": Marker(marker)}
    file = tmp_path / "net.pt"
    if kind == "plain pickle":
        file.write_bytes(pickle.dumps({"config": Marker(marker)}, protocol=protocol))
    else:
        torch.save(
            content,
            file,
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=kind == "zip",
        )
    message = refusal(file)
    assert f"{os.mkdir.__module__}.mkdir" in message
    assert not marker.exists()
    # The trap does work: whoever unpickles it leaves the marker.
    pickle.loads(pickle.dumps(Marker(marker)))
    assert marker.exists()


class Rebuilt:
    """Unpickles by calling what it is given, with a state to follow."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("legacy", [False, True])
def test_code_inside_an_object_array_is_named_and_never_run(tmp_path, legacy):
    marker = tmp_path / "marker"
    content = {"model": STATE, "log": np.array([Marker(marker)], dtype=object)}
    message = refusal(saved(tmp_path, content, legacy=legacy))
    assert f"{os.mkdir.__module__}.mkdir" in message
    assert "numpy" not in message.partition("python -c")[0]
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_file_reaches_numpy(tmp_path, legacy):
    """An object type whose flags are cleared makes NumPy take bytes for pointers, and crash."""
    pointers = Rebuilt(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))
    build = np.zeros(1).__reduce__()[0]
    content = {
        "model": STATE,
        "scalar": Rebuilt(np.float64(1).__reduce__()[0], (pointers, b"A" * 8)),
        "array": Rebuilt(build, (np.ndarray, (0,), b"b"), (1, (2,), pointers, False, b"A" * 16)),
        "big-endian": Rebuilt(
            np.float64(1).__reduce__()[0],
            (
                Rebuilt(np.dtype, ("i2", False, True), (3, ">", None, None, None, -1, -1, 0)),
                b"\1\2",
            ),
        ),
        "huge": Rebuilt(build, (np.ndarray, (2**62,), b"b")),
        "bad state": Rebuilt(build, (np.ndarray, (0,), b"b"), (1, 2)),
    }
    file = saved(tmp_path, content, legacy=legacy)
    for reader in (np.dtype, np.ndarray):
        assert reader.__name__.encode() in file.read_bytes()
    checkpoint = load_checkpoint(file)
    assert_is_state(checkpoint)
    assert checkpoint.metadata == {"big-endian": 0x0102}
    assert checkpoint.ignored == (
        "scalar (a NumPy scalar of O8)",
        "array (a NumPy array of 2 O8)",
        "huge (a NumPy array of 1 unknown type)",
        "bad state (a NumPy array of 1 unknown type)",
    )


def follow(command, monkeypatch):
    """Do what ``python -c CODE WORDS`` does, without the start of an interpreter."""
    python, flag, code, *words = command
    assert (python, flag) == ("python", "-c")
    monkeypatch.setattr(sys, "argv", ["-c", *words])
    exec(code, {"__name__": "__main__"})


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_module_is_refused_with_the_way_out(tmp_path, legacy, monkeypatch):
    file = saved(tmp_path, nn.Sequential(nn.Linear(2, 3)), legacy=legacy, name="it's me.pt")
    message = refusal(file)
    assert "torch.nn.modules.container.Sequential" in message
    assert "trust" in message
    command = shlex.split(message[message.index("python -c") :])
    follow(command, monkeypatch)
    checkpoint = load_checkpoint(tmp_path / "it's me.weights.pt")
    assert list(checkpoint.tensors) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("kind", ["script", "export"])
def test_a_program_is_refused_with_the_way_to_its_weights(tmp_path, kind, monkeypatch):
    network = nn.Sequential(nn.Linear(2, 3)).eval()
    file = tmp_path / "net.pt2"
    if kind == "script":
        torch.jit.save(torch.jit.script(network), file)
    else:
        torch.export.save(torch.export.export(network, (torch.ones(1, 2),)), file)
    message = refusal(file)
    assert {"script": "TorchScript", "export": "torch.export"}[kind] in message
    command = shlex.split(message[message.index("python -c") :])
    follow(command, monkeypatch)
    checkpoint = load_checkpoint(tmp_path / command[-1])
    torch.testing.assert_close(dict(checkpoint.tensors), network.state_dict())


def test_the_way_out_keeps_every_network_and_plain_tensors(tmp_path):
    """Else the command leads back to the refusal, or to another network than the file's."""
    tagged = torch.ones(2, 2).as_subclass(Tagged)
    content = {"student": STATE, "teacher": OTHER, "kind": Kind.A, "tagged": {"w": tagged}}
    message = refusal(saved(tmp_path, content))
    command = shlex.split(message[message.index("python -c") :])
    subprocess.run(
        [sys.executable, *command[1:]], check=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    checkpoint = load_checkpoint(Path(command[-1]))
    assert_is_state(checkpoint)
    assert checkpoint.key == "student"


class Kind(Enum):
    """A setting that is no plain value."""

    A = "a"


class Tagged(torch.Tensor):
    """A tensor with a type of its own."""


# --- Bad files -----------------------------------------------------------------------------------


def zip_of(tmp_path, entries, compression=zipfile.ZIP_STORED):
    file = tmp_path / "net.pt"
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file


def test_missing_file_folder_and_empty_file(tmp_path):
    assert "does not exist" in refusal(tmp_path / "net.pt")
    saved(tmp_path, STATE, name="net.pth")
    assert "there is net.pth beside it" in refusal(tmp_path / "net.pt")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "empty.pt").touch()
    assert "is empty" in refusal(tmp_path / "empty.pt")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html><head>Google Drive", "web page.*download again"),
        (b"\n  <html lang=en>", "web page"),
        (b'<?xml version="1.0"?><Error>', "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"epoch,accuracy\n1,0.5\n" * 9, "is not a checkpoint: its first bytes"),
        (b"\x1f\x8b\x08" + b"\0" * 40, "gzip"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "HDF5"),
        (struct.pack("<Q", 2**60) + b"{" + b" " * 40, "header claims 1152921504606846976 bytes"),
        (struct.pack("<Q", 4) + b"{{{{" + b" " * 40, "damaged safetensors header"),
        (struct.pack("<Q", 2) + b"{}", "holds no tensors"),
        (struct.pack("<Q", 20000) + b"{" + b'"a":{' * 4000 + b" ", "damaged safetensors header"),
    ],
)
def test_files_that_are_something_else(tmp_path, data, words):
    file = tmp_path / "net.pt"
    file.write_bytes(data)
    with pytest.raises(UserError, match=words):
        load_checkpoint(file)
    refusal(file)


def test_safetensors_whose_offsets_lie(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}})
    file = tmp_path / "net.pt"
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0" * 16)
    assert "damaged safetensors" in refusal(file)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_truncated_files(tmp_path, legacy, share):
    file = saved(tmp_path, STATE, legacy=legacy)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert "truncated" in refusal(file)


def test_zips_that_torch_never_writes(tmp_path):
    good = io.BytesIO()
    torch.save(STATE, good)
    with zipfile.ZipFile(good) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert_is_state(load_checkpoint(zip_of(tmp_path, entries)))
    assert "compressed" in refusal(zip_of(tmp_path, entries, zipfile.ZIP_DEFLATED))
    assert "NumPy archive" in refusal(zip_of(tmp_path, {"images.npy": b""}))
    assert "no data.pkl" in refusal(zip_of(tmp_path, {"a.txt": b"a"}))
    exported = {"net/archive_format": b"pt2", "net/models/model.json": b"{}"}
    assert "torch.export" in refusal(zip_of(tmp_path, exported))
    script = {**entries, "archive/code/net.py": b"", "archive/constants.pkl": b""}
    assert "TorchScript" in refusal(zip_of(tmp_path, script))


def test_a_zip_that_claims_more_than_the_file(tmp_path):
    file = saved(tmp_path, STATE)
    data = file.read_bytes()
    at = data.index(b"PK\x01\x02")
    file.write_bytes(data[: at + 20] + struct.pack("<II", 2**31, 2**31) + data[at + 28 :])
    assert "claims" in refusal(file)


def test_a_tensor_of_stride_zero_cannot_claim_memory(tmp_path):
    state = {"weight": torch.ones(1).expand(10**6, 10**6)}
    assert "claims" in refusal(saved(tmp_path, state))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(tmp_path, bad):
    state = {key: tensor.clone() for key, tensor in STATE.items()}
    state["linear.weight"][1:3, 0] = bad
    message = refusal(saved(tmp_path, prefixed("module.", state)))
    assert "2 of 20 in linear.weight" in message
    assert "1 of 3 tensors" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "holds no state dict"),
        ({"epoch": 3}, "holds no state dict"),
        ([], "holds no state dict"),
        ([STATE, STATE], "holds no state dict"),
        (3, "holds no state dict"),
        (torch.ones(3), "holds no state dict"),
        ({"weight": SPARSE}, "sparse"),
        ({"generator": STATE, "discriminator": OTHER}, "2 networks.*generator and discriminator"),
        ({"mean": torch.ones(3), "std": -torch.ones(3), "w": torch.ones(5)}, "normalisation"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_torch_files_without_one_network(tmp_path, content, words):
    file = saved(tmp_path, content)
    with pytest.raises(UserError, match=words):
        load_checkpoint(file)
    refusal(file)


def test_unreadable(tmp_path, monkeypatch):
    file = saved(tmp_path, STATE)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read (Permission denied)" in refusal(file)


def test_a_list_that_holds_itself_comes_to_an_end(tmp_path):
    loop: list[object] = []
    loop.append(loop)
    assert "holds no state dict" in refusal(saved(tmp_path, loop))
    assert_is_state(load_checkpoint(saved(tmp_path, {"model": STATE, "history": loop})))


# --- Any bytes at all ----------------------------------------------------------------------------


def good_bytes(kind):
    buffer = io.BytesIO()
    if kind == "safetensors":
        from safetensors.torch import save

        return save(STATE, metadata={"a": "b"})
    torch.save({"model": STATE, "epoch": 1}, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


def loads_or_user_error(folder, data):
    file = folder / "fuzz.pt"
    file.write_bytes(data)
    with contextlib.suppress(UserError):
        load_checkpoint(file)


FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MAGICS = [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
          struct.pack("<Q", 16) + b"{"]  # fmt: skip


@FUZZ
@given(magic=st.sampled_from(MAGICS), data=st.binary(max_size=300))
def test_random_bytes_raise_user_errors_only(tmp_path, magic, data):
    loads_or_user_error(tmp_path, magic + data)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@FUZZ
@given(data=st.data())
def test_damaged_files_raise_user_errors_only(tmp_path, kind, data):
    damaged = bytearray(good_bytes(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        if data.draw(st.booleans()):
            damaged[at] = data.draw(st.integers(0, 255))
        else:
            del damaged[at : at + data.draw(st.integers(1, 64))]
        if not damaged:
            break
    loads_or_user_error(tmp_path, bytes(damaged))
