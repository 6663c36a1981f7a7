"""Every reader of outside files, with valid files to begin from and what it may return."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import pickle
import struct
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import safetensors.torch
import scipy.io
import torch
from PIL import Image

from benchmarks.fuzzing.mutation import (
    GZIP,
    PNG,
    SAFETENSORS,
    ZIP,
    Wrapping,
    changed_inside,
    changed_json,
    changed_toml,
    mutated,
)
from ferd_eval.datasets import LabelledImages, load_dataset
from ferd_eval.datasets.class_order import read_class_list
from ferd_eval.errors import UserError
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.saved_images import SavedFile, read_saved_images
from ferd_eval.io.json import to_json
from ferd_eval.metrics import scorecard
from ferd_eval.models import build_classifier
from ferd_eval.models.checkpoint.load import Checkpoint, load_checkpoint
from ferd_eval.report import Run, view
from ferd_eval.report.api import read_run
from ferd_eval.report.leaderboard.reported import ReportedTables, read_reported
from ferd_eval.report.published import contents, hub, search
from ferd_eval.report.render import text as rendered
from ferd_eval.results.class_groups import read_groups
from ferd_eval.results.importing import Predictions, read_predictions
from ferd_eval.results.outcomes import Outcomes, conform
from ferd_eval.results.prediction_file import PredictionFile
from ferd_train.config.recipe import to_toml
from ferd_train.recipes import find_student_recipe
from ferd_train.recipes.ferd import ferd_lab
from ferd_train.recipes.student import StudentRecipe
from ferd_train.study.definition import Study
from ferd_train.study.parse import read_study

CLASSES = ("cat", "dog", "<b>=1+1</b>")


@dataclass(frozen=True)
class Reader:
    """One function that reads files, and how files for it are made.

    Attributes:
        file: where in its folder the mutated file is put.
        seeds: valid files.
        read: from the folder to what is read.
        kind: what that is.
        words: bytes that mean something in the format.
        wrapping: how the file is opened to be changed inside, if it is packed.
        change: a change that knows the format.
        beside: other files in the folder, which stay as they are.
    """

    name: str
    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    kind: type
    words: tuple[bytes, ...] = ()
    wrapping: Wrapping | None = None
    change: Callable[[bytes, Random], bytes] | None = None
    beside: Mapping[str, bytes] = field(default_factory=dict)

    def lay_out(self, folder: Path) -> Path:
        """Write the files that stay; return where the mutated one goes."""
        for name, content in self.beside.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        place = folder / self.file
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def input(self, number: int, seed: int) -> bytes:
        """The mutated file of that number; the first ones are the valid files themselves."""
        if number < len(self.seeds):
            return self.seeds[number]
        at = Random(f"{self.name}/{seed}/{number}")
        return self.changed(at.choice(self.seeds), at)

    def changed(self, content: bytes, at: Random) -> bytes:
        """The content changed in a way that `at` decides."""
        kind = at.random()
        try:
            if self.wrapping is not None and kind < 0.6:
                return changed_inside(
                    content, self.wrapping, self.seeds, self.words, at, self.change
                )
            if self.wrapping is None and self.change is not None and kind < 0.7:
                return self.change(content, at)
        except Exception:  # what cannot be opened or packed is changed blindly
            pass
        return mutated(content, self.seeds, self.words, at)


def readers() -> tuple[Reader, ...]:
    """All of them."""
    return (
        *_checkpoints(), *_arrays(), *_public_sets(), *_newer_sets(), *_images(), *_predictions(),
        *_adversarial(), *_runs(), *_settings(),
    )  # fmt: skip


# --- Checkpoints ---------------------------------------------------------------------------------

_PICKLE_WORDS = (
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n",
    b"ccollections\nOrderedDict\n",
    b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n",
    b"cbuiltins\nbytearray\n", b"ctorch\nTensor\n", b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"cargparse\nNamespace\n", b"cpathlib\nPosixPath\n", b"ccollections\ndeque\n",
    b"ctorch.torch_version\nTorchVersion\n", b"c__builtin__\nxrange\n",
    b"ccollections\ndefaultdict\n", b"c__builtin__\nfrozenset\n",
    b"ccollections\nCounter\n", b"ctorch\nSize\n", b"c_codecs\nencode\n", b"ctorch\ndevice\n",
    b"ctorch._utils\n_rebuild_qtensor\n", b"ctorch._utils\n_rebuild_sparse_tensor\n", b"(", b")",
    b"t", b"R", b"\x81", b"b", b"Q", b"s", b"u", b"a", b"e", b"}", b"]", b"q\0h\0", b"h\0\x86q\0",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"J\xff\xff\xff\x7f", b"N", b"\x85", b"\x86",
    b"h\0\x86q\0" * 64, b".",
)  # fmt: skip


def _state() -> dict[str, torch.Tensor]:
    return {
        "conv.weight": torch.arange(12.0).reshape(2, 2, 3) / 12,
        "bn.num_batches_tracked": torch.tensor(3),
        "linear.weight": torch.ones(3, 2, dtype=torch.float16),
    }


def _torch_file(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _legacy(name: str) -> bytes:
    """As ``torch.save(..., _use_new_zipfile_serialization=False)`` wrote it: it names storages by
    their address, so no two are alike."""
    return (Path(__file__).parent / "seeds" / f"{name}-legacy.pt").read_bytes()


def _safetensors(state: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> bytes:
    """With metadata in the order of their names, not in any."""
    content = safetensors.torch.save({**state}, {**header})
    end = 8 + int.from_bytes(content[:8], "little")
    ordered = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"))
    return struct.pack("<Q", len(ordered)) + ordered.encode() + content[end:]


def _checkpoints() -> tuple[Reader, ...]:
    state = _state()
    wrapped = {
        "model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3,
        "acc": np.float64(0.5), "history": np.arange(3.0), "optimizer": {"state": {0: {"m": 1}}},
    }  # fmt: skip
    several = {
        "args": argparse.Namespace(lr=0.1, out=Path("/a")), "version": torch.__version__,
        "losses": deque([0.5]), "rows": range(3), "history": defaultdict(list, a=[1]),
        "state_dict": {
            f"{name}.{k}": v * scale
            for name, scale in (("student", 1), ("teacher", 2)) for k, v in state.items()
        },
        "current_model_state": {f"student.{k}": v for k, v in state.items()},
    }  # fmt: skip
    header = {"ferd.arch": "cnn28-4", "note": "=1+1", "ferd.normalization": "none"}
    plain = _safetensors(state, header)
    small = _safetensors({k: v.contiguous() for k, v in _cnn().items()}, header)

    def load(folder: Path) -> object:
        return load_checkpoint(folder / "net.pt")

    def build(folder: Path) -> object:
        return build_classifier(load_checkpoint(folder / "net.pt"))[1].to_json()

    zips = tuple(_torch_file(each) for each in (state, wrapped, [state], several))
    legacies = (_legacy("state"), _legacy("wrapped"))
    program = (Path(__file__).parent / "seeds" / "linear.onnx").read_bytes()
    shapes = (b'"F64"', b'"BOOL"', b"data_offsets", b'"__metadata__"', b"[0,0]", b"9" * 19, b"-8")
    return (
        Reader("checkpoint-zip", "net.pt", zips, load, Checkpoint, _PICKLE_WORDS, ZIP),
        Reader("checkpoint-legacy", "net.pt", legacies, load, Checkpoint, _PICKLE_WORDS),
        Reader("safetensors", "net.pt", (plain,), load, Checkpoint, shapes, SAFETENSORS,
               changed_json),
        Reader("onnx", "net.onnx", (program,), lambda folder: load_checkpoint(folder / "net.onnx"),
               Checkpoint, (b"MatMul", b"ai.onnx", b"\x0a\xff\xff\xff\xff\x07")),
        Reader("network", "net.pt", (small,), build, dict,
               (*shapes, b"resnet18-w99999999", b"cnn28-0", b"wideresnet-16-9999", b"timm:x"),
               SAFETENSORS, changed_json),
    )  # fmt: skip


def _cnn() -> dict[str, torch.Tensor]:
    from ferd_eval.models import build_architecture

    torch.manual_seed(0)
    return build_architecture("cnn28-4", num_classes=3, in_channels=1).build().state_dict()


# --- Data sets -----------------------------------------------------------------------------------

_PIXELS = np.arange(3 * 5 * 6 * 3, dtype=np.uint8).reshape(3, 5, 6, 3)
_NPY_WORDS = (
    b"'descr': '|O'", b"'<f8'", b"'|S9999999'", b"'<U1000000'", b"(3,)", b"(4294967296, 9999999)",
    b"(-1,)", b"'fortran_order': True", b"'<M8[ns]'", b"[('a', '<i4')]", b"\x93NUMPY\x01\0",
    b"\x93NUMPY\x03\0", b"()", b"(3, 0, 5)", b"'<c16'", b"'|V8'", b"'<f2'", b"'>u8'",
)  # fmt: skip


def _npz(*, compressed: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _arrays() -> tuple[Reader, ...]:
    labels = np.array([2, 0, 1])
    seeds = (
        _npz(images=_PIXELS, labels=labels, class_names=list(CLASSES)),
        _npz(x=_PIXELS[..., 0] / 255, y=labels.astype(np.uint8), compressed=True),
        _npz(x=_PIXELS.astype(np.float32) / 255, y=labels[:, None], class_names=[b"a", b"b", b"c"]),
    )

    def read(folder: Path) -> object:
        return load_dataset(f"npz:{folder / 'mine.npz'}")

    return (Reader("npz", "mine.npz", seeds, read, LabelledImages, _NPY_WORDS, ZIP),)


def _public_sets() -> tuple[Reader, ...]:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 4, (2, 3072), dtype=np.uint8)
    batches = tuple(
        pickle.dumps({key: pixels, labels: [1, 0], b"batch_label": "x"}, protocol=protocol)
        for protocol, key, labels in ((2, b"data", b"labels"), (4, "data", "labels"))
    )
    hundred = pickle.dumps({b"data": pixels, b"fine_labels": [7, 99]}, protocol=2)
    binary = b"".join(bytes([3]) + row.tobytes() for row in pixels)
    images = struct.pack(">4I", 0x803, 2, 28, 28) + pixels[:, :784].tobytes()
    labels = struct.pack(">2I", 0x801, 2) + bytes([4, 9])
    counts = tuple(struct.pack(">I", n) for n in (0, 1, 3, 2**31, 2**32 - 1))

    def public(name: str) -> Callable[[Path], object]:
        return lambda folder: load_dataset(name, folder)

    beside = {"t10k-images-idx3-ubyte": images}
    return (
        Reader("cifar10-python", "test_batch", batches, public("cifar10"), LabelledImages,
               _PICKLE_WORDS),
        Reader("cifar100-python-gz", "test.gz", (gzip.compress(hundred, mtime=0),),
               public("cifar100"), LabelledImages, _PICKLE_WORDS, GZIP),
        Reader("cifar10-binary", "test_batch.bin", (binary,), public("cifar10"), LabelledImages),
        Reader("idx", "t10k-images-idx3-ubyte", (images,), public("mnist"), LabelledImages, counts,
               beside={"t10k-labels-idx1-ubyte": labels}),
        Reader("idx-gz", "t10k-labels-idx1-ubyte.gz", (gzip.compress(labels, mtime=0),),
               public("mnist"), LabelledImages, counts, GZIP, beside=beside),
        *_tiny_imagenet(),
    )  # fmt: skip


def _mat(variables: Mapping[str, Any], packed: bool) -> bytes:
    """Without the day in its header."""
    file = io.BytesIO()
    scipy.io.savemat(file, {**variables}, do_compression=packed)
    return b"MATLAB 5.0 MAT-file".ljust(116) + file.getvalue()[116:]


def _newer_sets() -> tuple[Reader, ...]:
    random = np.random.default_rng(2)
    colour = random.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    labels = _npy(np.tile([3, 9], 5))
    variables = {"X": colour[:2].transpose(1, 2, 3, 0), "y": np.array([[10], [2]], np.uint8)}
    streets = tuple(_mat(variables, packed) for packed in (False, True))
    answers = (
        b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n00000.ppm;9;8;1;1;2;2;42\n"
    )
    signs = "gtsrb/GTSRB/Final_Test/Images/00000.ppm"
    pictures = pa.array(
        [{"bytes": _picture("PNG"), "path": None}] * 2,
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )
    table = pa.table({"image": pictures, "label": pa.array([1, 0], pa.int64())})
    arrow = io.BytesIO()
    with pa.ipc.new_stream(arrow, table.schema) as to:
        to.write_table(table)
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    }
    saved = {
        "set/data.arrow": arrow.getvalue(),
        "set/dataset_info.json": json.dumps({"features": features}).encode(),
        "set/state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode(),
    }

    def load(spec: str) -> Callable[[Path], object]:
        name, _, path = spec.partition(":")
        return lambda folder: (
            load_dataset(f"{name}:{folder / path}") if path else load_dataset(name, folder)
        )

    def pair(folder: Path) -> object:
        return load_dataset(f"npy:{folder / 'x.npy'},{folder / 'y.npy'}")

    return (
        Reader("npy-pair", "x.npy", (_npy(_PIXELS), _npy(_PIXELS / 255)), pair, LabelledImages,
               _NPY_WORDS, beside={"y.npy": _npy(np.array([2, 0, 1]))}),
        Reader("cifar10-c", "c/fog.npy", (_npy(colour),), load("cifar10-c:c/fog/2"), LabelledImages,
               _NPY_WORDS, beside={"c/labels.npy": labels}),
        Reader("svhn", "test_32x32.mat", streets, load("svhn"), LabelledImages,
               (b"MATLAB 5.0", b"\x0f\0\0\0", b"\x0e\0\0\0", b"\x01\0\x04\0")),
        Reader("stl10", "test_y.bin", (bytes([10, 1]),), load("stl10"), LabelledImages,
               beside={"test_X.bin": bytes(2 * 3 * 96 * 96)}),
        Reader("gtsrb", "gtsrb/GT-final_test.csv", (answers,), load("gtsrb"), LabelledImages,
               (b";", b"\n", b"43", b"../0.ppm", b"nan", b'"'), beside={signs: _picture("PPM")}),
        *(
            Reader(f"hugging-face-{Path(name).suffix[1:]}-{Path(name).stem}", name, (content,),
                   load("hf:set"), LabelledImages,
                   (b"ARROW1", b"\xff\xff\xff\xff", b"PNG", b"bytes", b"../data.arrow"),
                   change=changed_json if name.endswith("json") else None,
                   beside={k: v for k, v in saved.items() if k != name})
            for name, content in saved.items()
        ),
    )  # fmt: skip


def _picture(kind: str, mode: str = "RGB", side: int = 8) -> bytes:
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def _tiny_imagenet() -> tuple[Reader, ...]:
    beside = {f"val/images/val_{i}.JPEG": _picture("JPEG", side=64) for i in range(2)}
    lists = {
        "val/val_annotations.txt": b"val_0.JPEG\tn00000001\t0\t0\t1\t1\nval_1.JPEG\tn00000002\t0\n",
        "wnids.txt": b"n00000002\nn00000001\n",
        "words.txt": b"n00000001\tcat, tom\nn00000002\tdog\nn00000003\t=1+1\n",
    }
    words = (b"\t", b"\n", b"n00000001", b"../val_0.JPEG", b"images/val_0.JPEG")
    return tuple(
        Reader(
            f"tiny-imagenet-{Path(name).stem.split('_')[-1]}", name, (content,),
            lambda folder: load_dataset("tiny-imagenet", folder), LabelledImages, words,
            beside={**beside, **{k: v for k, v in lists.items() if k != name}},
        )
        for name, content in lists.items()
    )  # fmt: skip


def _images() -> tuple[Reader, ...]:
    def read(folder: Path) -> object:
        return load_dataset(f"folder:{folder / 'set'}")

    png = tuple(_picture("PNG", mode) for mode in ("RGB", "L", "P", "1"))
    others = {
        "jpeg": tuple(_picture("JPEG", mode) for mode in ("RGB", "L")),
        "webp": (_picture("WEBP"),),
        "tiff": (_picture("TIFF"), _picture("TIFF", "L")),
        "bmp": (_picture("BMP"), _picture("BMP", "P")),
        "ppm": (_picture("PPM"), _picture("PPM", "L"), b"P3 2 2 255 " + b"1 " * 12),
    }
    chunks = (b"IHDR", b"IDAT", b"iTXt", b"zTXt", b"iCCP", b"tRNS", b"acTL", b"PLTE", b"eXIf")
    return (
        Reader("image-png", "set/a/0.png", png, read, LabelledImages, chunks, PNG),
        *(
            Reader(f"image-{kind}", f"set/a/0.{kind}", seeds, read, LabelledImages)
            for kind, seeds in others.items()
        ),
    )


# --- Predictions and adversarial images ----------------------------------------------------------


def _predictions() -> tuple[Reader, ...]:
    heading = "index,label,pred,attack,clean_pred,target\n"
    rows = [f"{i},{i % 3},{(i + j) % 3},{a},{i % 3},\n" for i in range(6) for j, a in
            enumerate(("clean", "pgd"))]  # fmt: skip
    seeds = (
        (heading + "".join(rows)).encode(),
        b"label;prediction\n0;1\n1;1\n2;0\n",
        b"index\tlabel\tpred\ttarget\n0\t0\t1\t1\n0\t0\t2\t2\n",
        b"label,natural_pred,PGD-20_pred\n0,0,1\n1,1,1\n",
    )
    labels = np.array([0, 1, 2])
    archives = (
        _npz(label=labels, pred=labels, attack=["pgd"] * 3),
        _npz(label=labels, logits=np.eye(3), index=labels),
        _npz(labels=labels, label=labels, prediction=labels * 1.0, compressed=True),
    )

    def read(name: str) -> Callable[[Path], object]:
        return lambda folder: read_predictions([PredictionFile(folder / name, "pgd")])

    cells = (b",", b";", b"\n", b'"', b"nan", b"inf", b"1e18", b"-1", b"0.5", b"clean", b"attack",
             b"pred", b"\xef\xbb\xbf", b"1e308", b"9" * 25, b"True", b"\x1a")  # fmt: skip
    return (
        Reader("predictions-csv", "preds.csv", seeds, read("preds.csv"), Predictions, cells),
        Reader("predictions-npz", "preds.npz", archives, read("preds.npz"), Predictions,
               _NPY_WORDS, ZIP),
        Reader("predictions-parquet", "theirs.parquet",
               (small_run().table.to_parquet(index=False),), read("theirs.parquet"), Predictions,
               (b"PAR1",)),
    )  # fmt: skip


def _adversarial() -> tuple[Reader, ...]:
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = {"adv_inputs": (255 * x).to(torch.uint8), "labels": torch.arange(2),
             "clean_inputs": x.bfloat16(), "save_type": "int"}  # fmt: skip
    zips = (_torch_file({"adv_complete": x}), _torch_file(x), _torch_file(whole))
    arrays = (_npz(adv_complete=x.numpy(), index=np.arange(2), label=np.arange(2)),)

    def read(name: str) -> Callable[[Path], object]:
        return lambda folder: read_saved_images(folder / name)

    return (
        Reader("saved-zip", "adv.pt", zips, read("adv.pt"), SavedFile, _PICKLE_WORDS, ZIP),
        Reader("saved-legacy", "adv.pt", (_legacy("saved"),), read("adv.pt"), SavedFile,
               _PICKLE_WORDS),
        Reader("saved-npy", "adv.npy", (_npy(x.numpy()), _npy(np.asfortranarray(x.numpy()))),
               read("adv.npy"), SavedFile, _NPY_WORDS),
        Reader("saved-npz", "adv.npz", arrays, read("adv.npz"), SavedFile, _NPY_WORDS, ZIP),
    )  # fmt: skip


# --- Runs ----------------------------------------------------------------------------------------


def small_run(names: Sequence[str] = CLASSES, per_class: int = 4) -> Outcomes:
    """A finished run as a folder has it."""
    N = len(names) * per_class
    label_N = np.arange(N) % len(names)
    tables = []
    for attack, period in (("clean", 5), ("pgd", 2)):
        prediction_N = np.where(np.arange(N) % period, label_N, (label_N + 1) % len(names))
        clean_N = np.where(np.arange(N) % 5, label_N, (label_N + 1) % len(names))
        tables.append(
            pd.DataFrame(
                {
                    "index": np.arange(N), "label": label_N, "attack": attack, "target": pd.NA,
                    "clean_pred": clean_N, "adv_pred": prediction_N,
                    "correct": prediction_N == label_N, "margin": 0.5, "confidence": 0.9,
                    "stage": pd.NA, "steps": 20, "linf": 0.03,
                }
            )
        )  # fmt: skip
    constants = {"family": "pgd", "eps": 8 / 255, "eps_text": "8/255", "steps": 20}
    manifest = {
        "status": "finished", "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:05:05+00:00", "ferd_eval": "0.1.0", "command": ["ferd-eval"],
        "checkpoint": {"name": "net", "path": "net.pt", "sha256": "ab" * 32,
                       "recipe": {"seed": 1}},
        "model": {"architecture": "resnet18", "num_classes": len(names), "parameters": 10,
                  "normalization": {"mean": [0.5], "std": [0.5]}, "unused_keys": [],
                  "decided_by": "its keys", "normalization_decided_by": "nothing"},
        "dataset": {"name": "mine", "source": "/data", "n": N, "selection": "all", "note": "",
                    "fingerprint": "cd" * 32, "image_shape": [1, 8, 8],
                    "class_names": list(names), "class_counts": [per_class] * len(names),
                    "groupings": {"kind": ["a", "a", "b"]}},
        "threat": {"norm": "linf", "eps": 8 / 255, "eps_text": "8/255"},
        "attacks": {"clean": {"family": "clean", "eps": 0.0, "eps_text": "0"}, "pgd": constants},
        "groups": {"kind": ["a", "a", "b"]},
        "seed": 0, "precision": {"dtype": "float32", "tf32": False}, "engine": "native",
        "device": {"kind": "cpu", "name": "x", "reason": "none", "threads": 1},
        "packages": {"torch": "2.6.0"}, "batch_size": 8,
        "cost": {"pgd": {"seconds": 1.5, "forward": 9, "backward": 8}}, "warnings": ["<i>mind</i>"],
    }  # fmt: skip
    return Outcomes(conform(pd.concat(tables, ignore_index=True)), manifest)


def _runs() -> tuple[Reader, ...]:
    run = small_run()
    table = run.table.to_parquet(index=False)
    plain = run.table.to_parquet(index=False, compression=None)
    manifest = json.dumps(run.manifest).encode()

    def read(folder: Path) -> object:
        return read_run(folder)

    def shown(folder: Path) -> object:
        found = read_run(folder)
        return found if rendered("report.md.j2", view=view([found])).encode() else None

    keys = tuple(json.dumps(key).encode() for key in run.manifest)
    return (
        Reader("run-table", "outcomes.parquet", (table, plain), read, Run,
               (b"PAR1", *(name.encode() for name in run.table)),
               beside={"manifest.json": manifest}),
        Reader("run-manifest", "manifest.json", (manifest,), shown, Run, keys,
               change=changed_json, beside={"outcomes.parquet": table}),
        *_published(run),
    )  # fmt: skip


def _published(run: Outcomes) -> tuple[Reader, ...]:
    """What somebody publishes of a run, without its outcomes."""
    card = to_json(scorecard(run).to_dict()).encode()
    record = json.dumps(run.manifest).encode()
    files = {"lab/a/seed-0/scorecard.json": card, "lab/a/seed-0/manifest.json": record}

    def shown(folder: Path) -> object:
        found = search(folder)
        if not found.runs:
            raise UserError("; ".join(found.problems))
        made = contents(hub(found.runs))
        return made["index.md"] + made["results.csv"]

    return tuple(
        Reader(
            f"published-{Path(name).stem}", name, (content,), shown, bytes,
            (b"attacks", b"per_class", b"flags"), change=changed_json,
            beside={other: theirs for other, theirs in files.items() if other != name},
        )
        for name, content in files.items()
    )  # fmt: skip


# --- Settings and lists --------------------------------------------------------------------------

_STUDY = b"""title = "Tiny"
dataset = "demo"
seeds = [0, 1]
baseline = "ferd-ferd"
[teachers]
demo = "demo"
own = { checkpoint = "net.pt", arch = "cnn28-4", normalize = "none" }
[set]
"distillation.steps" = 3
[methods.ferd]
recipe = "ferd-lab"
[methods.zskt]
recipe = "zskt-lab"
set = { epochs = 30, warmup = 2 }
[losses.ferd]
[losses.rslad]
set = { "loss.name" = "rslad" }
[evaluations.full]
attacks = ["fgsm", "pgd"]
eps = "8/255"
[evaluations.few]
attacks = "pgd"
per_class = 4
eps = "8/255"
[[skip]]
methods = ["zskt"]
seeds = [1]
"""
_CONFIG = b"""dataset = "cifar10"
attacks = ["clean", "pgd"]
eps = "8/255"
limit = 100
seed = 3
batch-size = 64
precision = "float32"
save-adv = true
"""


def _settings() -> tuple[Reader, ...]:
    recipe = to_toml(ferd_lab()).encode()
    toml = (b"=", b"[", b"]", b"[[", b'"', b"'''", b"\n", b"true", b"nan", b"1979-05-27", b".")
    published = io.StringIO()
    writer = csv.writer(published)
    writer.writerow(("dataset", "method", "attack", "average", "worst", "nsd"))
    writer.writerow(("cifar10", "=cmd", "pgd", "50.1", "20.0", "0.3"))
    cells = (b",", b"\n", b'"', b"\r", b"class,group", b"#", b"\xef\xbb\xbf", b"9" * 25)
    return (
        Reader("recipe-toml", "r.toml", (recipe,),
               lambda folder: find_student_recipe(str(folder / "r.toml")), StudentRecipe, toml,
               change=changed_toml),
        Reader("study-toml", "s.toml", (_STUDY,), lambda folder: read_study(folder / "s.toml"),
               Study, toml, change=changed_toml),
        Reader("config-toml", "c.toml", (_CONFIG,),
               lambda folder: EvalConfig.gather({}, folder / "c.toml"), EvalConfig, toml,
               change=changed_toml),
        Reader("groups-csv", "g.csv", (b"class,group\ncat,pet\ndog,pet\n2,other\n",),
               lambda folder: read_groups(str(folder / "g.csv"), CLASSES, {}), dict, cells),
        Reader("classes-txt", "c.txt", (b"cat\ndog\n=1+1\n", b"1 cat\n0: dog\n"),
               lambda folder: read_class_list(str(folder / "c.txt")), tuple, cells),
        Reader("reported-csv", "r.csv", (published.getvalue().encode(),),
               lambda folder: read_reported(str(folder / "r.csv")), ReportedTables, cells),
    )  # fmt: skip
