"""Files made to do harm: what is refused, and how it is said."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from benchmarks.fuzzing.readers import CLASSES, small_run
from ferd_eval.datasets import load_dataset
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.saved_images import read_saved_images
from ferd_eval.io.epsilon import parse_quantity
from ferd_eval.io.escape import escape_formula
from ferd_eval.io.json import parse_json, to_json
from ferd_eval.models import build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.report.api import read_run
from ferd_eval.report.leaderboard.reported import read_reported
from ferd_eval.report.render import csv_text
from ferd_eval.results.class_groups import read_groups
from ferd_eval.results.importing import read_predictions
from ferd_eval.results.prediction_file import PredictionFile
from ferd_eval.results.schema import number
from ferd_train.recipes import find_student_recipe
from ferd_train.study.parse import read_study

Refusal = Callable[[Callable[[], object]], str]

# --- Pickles that call nothing and cost everything -----------------------------------------------

PUT, GET = b"q\x00", b"h\x00"
#: A tuple that holds its predecessor twice, 64 times over: 2**64 things to hash.
DOUBLED = b")" + PUT + (GET + b"\x86" + PUT) * 64
ENCODED = b"c_codecs\nencode\n(" + b"X\x08\x00\x00\x00AAAAAAAA" + b"X\x03\x00\x00\x00hextR"

COSTLY = {
    "key": (b"}" + DOUBLED + b"Ns.", "a tuple of"),
    "keys": (
        b"}()" + PUT + (GET + b"\x86" + PUT) * 8 + b"N" + (GET + b"N") * 60 + b"u.",
        "keys of",
    ),
    "pairs": (b"ccollections\nOrderedDict\n" + DOUBLED + b"\x85R.", "a tuple of"),
    "codec": (ENCODED + b".", "codec"),
    "bytearray": (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "builtins.bytearray"),
    "tensor": (b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.", "torch.FloatTensor"),
    "new tensor": (b"ctorch\nTensor\nJ\xff\xff\xff\x7f\x85\x81.", "torch.Tensor"),
    "by type": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nFloatTensor\nNJ\xff\xff\xff\x7f\x85NtR.",
        "_rebuild_from_type_v2",
    ),
}


def torch_zip(file: Path, pickled: bytes, **data: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        for key, content in data.items():
            archive.writestr(f"archive/data/{key.strip('_')}", content)
    return file


def torch_legacy(file: Path, pickled: bytes) -> Path:
    whole = io.BytesIO()
    torch.save({}, whole, _use_new_zipfile_serialization=False)
    content = whole.getvalue()
    stream = io.BytesIO(content)
    for _ in range(3):  # magic number, version, system
        for _opcode in pickletools.genops(stream):
            pass
    file.write_bytes(content[: stream.tell()] + pickled)
    return file


@pytest.mark.parametrize("make", [torch_zip, torch_legacy])
@pytest.mark.parametrize("read", [load_checkpoint, read_saved_images])
@pytest.mark.parametrize("what", COSTLY)
def test_a_pickle_cannot_ask_for_more_than_it_holds(
    what: str,
    make: Callable[[Path, bytes], Path],
    read: Callable[[Path], object],
    tmp_path: Path,
    refusal: Refusal,
) -> None:
    pickled, said = COSTLY[what]
    file = make(tmp_path / "net.pt", b"\x80\x02" + pickled)
    message = refusal(lambda: read(file))
    assert said in message
    assert "more than it holds" in message


def test_a_storage_is_as_large_as_what_is_stored(tmp_path: Path, refusal: Refusal) -> None:
    """Older versions of torch read on into other memory."""
    file = tmp_path / "net.pt"
    torch.save({"w": torch.ones(20)}, file)
    with zipfile.ZipFile(file) as archive:
        pickled = archive.read("net/data.pkl")
    assert pickled.count(b"K\x14") == 2
    torch_zip(file, pickled.replace(b"K\x14", b"K\x18"), _0=bytes(80))
    assert "claims 96 bytes for storage 0, which has 80" in refusal(lambda: load_checkpoint(file))
    torch_zip(file, pickled, _0=torch.ones(20).numpy().tobytes())
    assert load_checkpoint(file).tensors["w"].tolist() == [1.0] * 20
    torch.save({"w": torch.ones(20)}, file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes().replace(b"K\x14", b"J\x00\x00\x00\x7f"))
    assert "of content in a file of" in refusal(lambda: load_checkpoint(file))


def test_a_text_is_as_long_as_the_file_at_most(tmp_path: Path, refusal: Refusal) -> None:
    file = torch_legacy(tmp_path / "net.pt", b"\x80\x02X\xff\xff\xff\xffab.")
    assert "its pickle is damaged" in refusal(lambda: load_checkpoint(file))


def test_honest_files_with_shared_parts_are_read(tmp_path: Path) -> None:
    betas, state = (0.9, 0.999), {"w": torch.ones(2, 3), "b": torch.ones(2)}
    groups = [{"betas": betas, "params": list(range(50))} for _ in range(300)]
    keys = {(i, j): (i, (j, betas)) for i in range(30) for j in range(30)}
    content = {"model": state, "optimizer": groups, "table": keys, "raw": bytearray(b"abc")}
    for legacy in (False, True):
        file = tmp_path / "net.pt"
        torch.save(content, file, _use_new_zipfile_serialization=not legacy)
        assert sorted(load_checkpoint(file).tensors) == ["b", "w"]


def test_dictionaries_that_hold_one_another_are_searched_once(
    tmp_path: Path, refusal: Refusal
) -> None:
    inner: dict[str, object] = {"end": 0}
    for _ in range(5):
        inner = {f"k{i}": inner for i in range(200)}  # 200**5 ways to its end
    file = tmp_path / "net.pt"
    torch.save(inner, file)
    assert "holds no state dict" in refusal(lambda: load_checkpoint(file))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_among_adversarial_images_does_not_run(
    legacy: bool, tmp_path: Path, refusal: Refusal
) -> None:
    mark = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> object:
            return os.mkdir, (str(mark),)

    content = {"adv_complete": torch.rand(1, 1, 2, 2), "more": Payload()}
    file = tmp_path / "adv.pt"
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    assert "nothing in it is executed" in refusal(lambda: read_saved_images(file))
    np.savez(tmp_path / "adv.npz", adv_complete=np.array([Payload()], dtype=object))
    assert "never loaded" in refusal(lambda: read_saved_images(tmp_path / "adv.npz"))
    np.save(tmp_path / "adv.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    assert "Python objects" in refusal(lambda: read_saved_images(tmp_path / "adv.npy"))
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload()))
    assert mark.exists(), "the trap works where code runs"


# --- Bombs ---------------------------------------------------------------------------------------


def npy_header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
    return file.getvalue()


def test_an_npz_file_inflates_a_hundredfold_at_most(tmp_path: Path, refusal: Refusal) -> None:
    file, side = tmp_path / "mine.npz", 2500
    labels = io.BytesIO()
    np.save(labels, np.zeros(4, dtype=np.int64))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy_header((4, side, side)) + bytes(4 * side * side))
        archive.writestr("labels.npy", labels.getvalue())
    assert file.stat().st_size < 50_000
    assert "inflates to 25000000 bytes" in refusal(lambda: load_dataset(f"npz:{file}"))
    blank = np.zeros((40, 500, 500), dtype=np.uint8)  # small enough to be let off
    np.savez_compressed(file, images=blank, labels=np.zeros(40, dtype=int))
    assert len(load_dataset(f"npz:{file}")) == 40


def test_class_names_are_counted_before_they_are_made(tmp_path: Path, refusal: Refusal) -> None:
    file = tmp_path / "mine.npz"
    images, labels = np.zeros((1, 2, 2), np.uint8), np.zeros(1, int)
    np.savez_compressed(file, images=images, labels=labels, class_names=np.zeros(200_000, "S1"))
    assert "200000 names" in refusal(lambda: load_dataset(f"npz:{file}"))


def test_a_gzip_stream_is_left_where_the_header_ends_it(tmp_path: Path, refusal: Refusal) -> None:
    label = struct.pack(">2I", 0x801, 1) + b"\x01"
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(label + bytes(1 << 24)))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(
        struct.pack(">4I", 0x803, 1, 28, 28) + bytes(784)
    )
    assert "but more are there" in refusal(lambda: load_dataset("mnist", tmp_path))


def test_a_table_of_outcomes_claims_no_more_rows_than_its_bytes(
    tmp_path: Path, refusal: Refusal
) -> None:
    run = small_run()
    run.save(tmp_path)
    assert read_run(tmp_path).scorecard.attacks
    many = run.table.iloc[np.zeros(1_500_000, dtype=int)]
    many.to_parquet(tmp_path / "outcomes.parquet", index=False)
    (tmp_path / "manifest.json").write_text(json.dumps(run.manifest))  # without digests
    assert (tmp_path / "outcomes.parquet").stat().st_size < 100_000
    assert "hostile" in refusal(lambda: read_run(tmp_path))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_a_header_of_an_array_is_no_longer_than_its_file(
    version: tuple[int, int], tmp_path: Path, refusal: Refusal
) -> None:
    magic = np.lib.format.magic(*version)
    (tmp_path / "adv.npy").write_bytes(magic + b"\xff" * 40)
    assert "its header claims" in refusal(lambda: read_saved_images(tmp_path / "adv.npy"))


# --- safetensors ---------------------------------------------------------------------------------


def entry(shape: object, offsets: object, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS = {
    "overlap": {"a": entry([4], [0, 16]), "b": entry([4], [0, 16])},
    "hole": {"a": entry([2], [0, 8]), "b": entry([1], [12, 16])},
    "negative": {"a": entry([4], [-16, 0])},
    "backwards": {"a": entry([4], [16, 0])},
    "overflow": {"a": entry([2**32, 2**32, 2**32], [0, 16])},
    "negative shape": {"a": entry([-4], [0, 16])},
    "fraction": {"a": entry([4.0], [0, 16])},
    "beyond": {"a": entry([8], [0, 32])},
    "no type": {"a": entry([4], [0, 16], "X9")},
    "text": {"a": entry("4", [0, 16])},
    "a list": [],
    "metadata": {"a": entry([4], [0, 16]), "__metadata__": {"n": 3}},
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_safetensors_header_that_lies_is_refused(
    what: str, tmp_path: Path, refusal: Refusal
) -> None:
    header = json.dumps(HEADERS[what]).encode()
    file = tmp_path / "net.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    refusal(lambda: load_checkpoint(file))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40, 200])
def test_a_safetensors_length_that_lies_is_refused(
    length: int, tmp_path: Path, refusal: Refusal
) -> None:
    file = tmp_path / "net.safetensors"
    file.write_bytes(struct.pack("<Q", length) + b'{"a":{}}' + bytes(16))
    assert f"claims {length} bytes" in refusal(lambda: load_checkpoint(file))


def test_metadata_of_a_checkpoint_cannot_choose_a_giant(tmp_path: Path, refusal: Refusal) -> None:
    file = tmp_path / "net.safetensors"
    for arch in ("resnet18-w99999999", "wideresnet-99999999-9", "timm:resnet18", "../../x", ""):
        content = safetensors.torch.save({"w": torch.ones(2, 2)}, {"ferd.arch": arch})
        file.write_bytes(content)
        refusal(lambda: build_classifier(load_checkpoint(file)))


# --- Names that lead elsewhere -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../val_0.JPEG", "/etc/passwd", "..", "a/b.JPEG", "a\0b.JPEG", "x" * 5000, "."]
)
def test_a_list_of_images_names_no_file_elsewhere(
    name: str, tmp_path: Path, refusal: Refusal
) -> None:
    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "val" / "val_annotations.txt").write_text(f"{name}\tn00000001\t0\n")
    refusal(lambda: load_dataset("tiny-imagenet", tmp_path))


def test_a_pipe_among_images_is_not_waited_for(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "cat").mkdir()
    os.mkfifo(tmp_path / "cat" / "0.png")
    assert "is no file" in refusal(lambda: load_dataset(f"folder:{tmp_path}"))
    (tmp_path / "cat" / "0.png").unlink()
    (tmp_path / "cat" / "0.png").symlink_to("/dev/zero")
    assert "is no file" in refusal(lambda: load_dataset(f"folder:{tmp_path}"))


@pytest.mark.parametrize("member", ["../../../tmp/x/data.pkl", "/etc/data.pkl", "a" * 60_000])
def test_members_of_archives_are_never_unpacked(
    member: str, tmp_path: Path, refusal: Refusal
) -> None:
    file = tmp_path / "net.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, b"\x80\x02}.")
    refusal(lambda: load_checkpoint(file))
    assert [each.name for each in tmp_path.iterdir()] == ["net.pt"]


def test_names_with_line_breaks_leave_a_message_one_line(tmp_path: Path, refusal: Refusal) -> None:
    file = tmp_path / "net.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, file, {"ferd.arch": "\ncnn\u2028\x0b28"})
    assert "--arch  cnn  28 is not" in refusal(lambda: build_classifier(load_checkpoint(file)))
    np.savez(tmp_path / "p.npz", **{"a\rb\nlabel": np.zeros(2), "label": np.zeros(2)})
    assert "a b label" in refusal(lambda: predictions(tmp_path / "p.npz"))


# --- Text ----------------------------------------------------------------------------------------

TOML = {
    "deep list": "epochs = " + "[" * 100_000,
    "deep table": "[" + "a." * 5000 + "a]\nb = 1",
    "deep inline": "x = " + "{a=" * 3000,
    "hexadecimal": "epochs = 0x" + "f" * 5000,
    "integer": "epochs = " + "9" * 3000,
    "digits": "epochs = '" + "9" * 5000 + "'",
    "exponent": "eps = '1e999999999'",
    "fraction": "eps = '1/1e999999999'",
    "date": "epochs = 1979-05-27",
    "not a number": "distillation.lr = nan",
    "latin": "title = 'é'",
}


@pytest.mark.parametrize("what", TOML)
@pytest.mark.parametrize(
    "read",
    [
        lambda file: find_student_recipe(str(file)),
        read_study,
        lambda file: EvalConfig.gather({}, file),
    ],
)
def test_absurd_toml_is_one_line(
    what: str, read: Callable[[Path], object], tmp_path: Path, refusal: Refusal
) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(TOML[what].encode("latin-1"))
    if what in ("exponent", "fraction"):
        # --config takes a size as text, which is read when it is used.
        refusal(lambda: parse_quantity(getattr(read(file), "eps", ""), "--eps"))
        return
    refusal(lambda: read(file))


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "9" * 5000, "1/1e9999", "1/0", ""])
def test_absurd_sizes_are_one_line(text: str, refusal: Refusal) -> None:
    refusal(lambda: parse_quantity(text, "--eps"))


def predictions(file: Path) -> object:
    return read_predictions([PredictionFile(file, "pgd")])


@pytest.mark.parametrize("digits", ["9" * 400, "-" + "9" * 400, "1" + "0" * 309])
@pytest.mark.parametrize("row", ["0,{}\n", "{},0\n"])
def test_predictions_of_many_digits_are_one_line(
    digits: str, row: str, tmp_path: Path, refusal: Refusal
) -> None:
    (tmp_path / "p.csv").write_text("label,pred\n0,0\n" + row.format(digits))
    assert "row 2" in refusal(lambda: predictions(tmp_path / "p.csv"))


@pytest.mark.parametrize("code", [0xD800, 0x110000, 0xFFFFFFFF])
def test_predictions_with_names_that_are_no_text_are_one_line(
    code: int, tmp_path: Path, refusal: Refusal
) -> None:
    names_2 = np.array([[ord("a"), code]] * 2, dtype="<u4").view("<U2").ravel()
    zeros_2 = np.zeros(2, int)
    np.savez(tmp_path / "p.npz", label=zeros_2, pred=zeros_2, attack=names_2)
    assert "no text" in refusal(lambda: predictions(tmp_path / "p.npz"))


def test_images_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((2, 1, 4, 4))
    np.save(tmp_path / "adv.npy", x.astype(">f4"))
    np.savez(tmp_path / "adv.npz", adv_complete=x.astype(">f8"))
    for name, kind in (("adv.npy", np.float32), ("adv.npz", np.float64)):
        read = read_saved_images(tmp_path / name).images_NCHW
        assert np.array_equal(read.numpy(), x.astype(kind))


def test_a_giant_cell_of_a_published_table_is_one_line(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "r.csv").write_text("dataset,method\n" + "x" * 200_000 + ",y\n")
    assert "is no table of cells" in refusal(lambda: read_reported(str(tmp_path / "r.csv")))
    (tmp_path / "r.csv").write_text("x" * 200_000)
    assert "is no table of cells" in refusal(lambda: read_reported(str(tmp_path / "r.csv")))


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, "1"])
def test_a_published_figure_is_a_finite_number(value: object) -> None:
    assert number(value) is None
    assert number(10**300) == 1e300


MANIFESTS = {
    "deep": "[" * 100_000,
    "a list": "[]",
    "half a character": '{"dataset": {"class_names": ["\\ud800"]}, "attacks": {}}',
    "digits": '{"dataset": {}, "attacks": {}, "seed": ' + "9" * 5000 + "}",
    "no names": '{"dataset": {}, "attacks": {}}',
    "numbers": '{"dataset": {"class_names": [1, 2]}, "attacks": {}}',
    "not text": b'{"dataset": "\xff"}',
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_an_absurd_record_is_one_line(what: str, tmp_path: Path, refusal: Refusal) -> None:
    small_run().save(tmp_path)
    content = MANIFESTS[what]
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "manifest.json").write_bytes(data)
    refusal(lambda: read_run(tmp_path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("checkpoint", "net"),
        ("checkpoint.name", {}),
        ("threat.eps", "8/255"),
        ("attacks.pgd.eps", float("nan")),
        ("attacks.pgd", 3),
        ("groups", {"kind": ["a"]}),
        ("groups", ["a"]),
        ("model.normalization", {"mean": 3, "std": [1]}),
        ("model.normalization", {"mean": [0.5]}),
        ("trial", {"images": "many", "others": {}}),
        ("trial", {"images": 3, "others": {"--arch a": "high"}}),
        ("trial", {"images": 3, "others": {"--arch a": 1}, "better": ["--arch a"]}),
        ("trial", {"images": 3, "others": {}, "better": "--arch a"}),
        ("checkpoint.recorded_accuracy", {"acc": "high"}),
        ("checkpoint.recorded_accuracy", 0.9),
        ("checkpoint.trained_on", {}),
        ("cost", {"pgd": 3}),
        ("dataset.class_names", ["a", None]),
        ("seed", 10**40),
        ("source", [3]),
    ],
)
def test_a_field_of_another_type_is_named(
    path: str, value: object, tmp_path: Path, refusal: Refusal
) -> None:
    run = small_run()
    run.save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["seal"]  # whoever forges a record can leave it out, or make it
    at = manifest
    *outer, last = path.split(".")
    for key in outer:
        at = at[key]
    at[last] = value
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert path in refusal(lambda: read_run(tmp_path))


def test_a_class_of_many_digits_is_one_line(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "g.csv").write_text("9" * 5000 + ",a\n")
    refusal(lambda: read_groups(str(tmp_path / "g.csv"), CLASSES, {}))


@pytest.mark.parametrize("start", [*"=+-@\t\n", *"\uff1d\uff0b\uff0d\uff20"])
def test_a_cell_never_begins_a_formula(start: str) -> None:
    assert escape_formula(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("text", ["x\r=1+1", "\r=1+1", "x\r\n=1+1"])
def test_no_cell_breaks_out_of_its_quotes(text: str) -> None:
    """The csv module writes a lone carriage return without quotes, and a new row would begin."""
    written = csv_text(["name", "n"], [[text, 1]])
    assert "\r" not in written
    rows = list(csv.reader(io.StringIO(written, newline="")))
    assert [len(row) for row in rows] == [2, 2]


@pytest.mark.parametrize("place", ["class_names", "beyond Unicode", "file", "folder"])
def test_names_that_no_file_can_hold_are_refused(
    place: str, tmp_path: Path, refusal: Refusal
) -> None:
    """Half of a surrogate pair, or a byte that is no UTF-8: reports could not be written."""
    file = tmp_path / ("\udcff.npz" if place == "file" else "mine.npz")
    names = ["\ud800", "b"] if place == "class_names" else ["a", "b"]
    images = np.zeros((2, 4, 4), np.uint8)
    class_names = np.array(names)
    if place == "beyond Unicode":
        class_names = np.array([97, 0x110000, 98, 99], dtype=np.uint32).view("U2")
    np.savez(file, images=images, labels=np.arange(2), class_names=class_names)
    spec = f"npz:{file}"
    if place == "folder":
        for name in ("\udcff", "b"):
            (tmp_path / "set" / name).mkdir(parents=True)
            Image.fromarray(images[0]).save(tmp_path / "set" / name / "0.png")
        spec = f"folder:{tmp_path / 'set'}"
    assert "no text in UTF-8" in refusal(lambda: load_dataset(spec))
    torch.save({"w": torch.ones(2)}, tmp_path / "\udcff.pt")
    assert "no text in UTF-8" in refusal(lambda: load_checkpoint(tmp_path / "\udcff.pt"))


def test_json_holds_text_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        parse_json('{"a": ["\\ud800"]}')
    with pytest.raises(ValueError, match="surrogate"):
        parse_json('{"\\uDFFF": 1}')
    assert parse_json('"\\ud83d\\ude00 \\u00e9"') == "\U0001f600 é"
    assert json.loads(to_json({"a\ud800": "x\udcff"}).encode()) == {"a\ufffd": "x\ufffd"}


def test_a_message_holds_no_escape_sequences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ferd_eval.cli import app
    from ferd_eval.runtime.command_line import run

    monkeypatch.chdir(tmp_path)
    assert run(app, ["report", "\x1b]0;owned\x07"], "ferd-eval") == 2
    err = capsys.readouterr().err
    assert "owned" in err
    assert err[:-1].isprintable()
