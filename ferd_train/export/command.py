"""The work of ``ferd-train export``: write a network, check it, and say what it costs.

N images, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text
from torch import Tensor

from ferd_eval.attacks import PGD, Threat
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.evaluation.model_checks import as_images, check_network, wrong_class_count
from ferd_eval.io.epsilon import format_quantity, parse_quantity
from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.io.json import to_json
from ferd_eval.models import Classifier, ModelFacts, build_classifier
from ferd_eval.models.checkpoint.load import Checkpoint, load_checkpoint
from ferd_eval.report.terminal import plain_table
from ferd_eval.results.manifest import environment
from ferd_eval.runtime.console import console
from ferd_eval.runtime.device import choose_device
from ferd_train.distillation.run import ImageSource
from ferd_train.distillation.teacher import TeacherRecord
from ferd_train.export.check import Accuracy, Difference, adversarial, latency, logits
from ferd_train.export.deployed import Deployed
from ferd_train.export.formats import FORMATS, Format, Program, exporting
from ferd_train.export.quantize import quantize

#: Images that ranges of 8-bit activations are taken from, at most.
_CALIBRATION = 256

#: Of the random start of the attack.
_SEED = 0

#: Batches whose time is taken.
_BATCHES = (1, 128)


@dataclass(frozen=True)
class Exporting:
    """One job. Fields are the options of ``ferd-train export``."""

    checkpoint: Path
    format: str
    out: Path
    half: bool = False
    int8: bool = False
    dataset: str = "demo"
    source: ImageSource = field(default_factory=ImageSource)
    images: int = 256
    eps: str | None = None
    key: str | None = None
    arch: str | None = None
    model_file: str | None = None
    normalize: str = "auto"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UserError(f"--format is {self.format!r}.{did_you_mean(self.format, FORMATS)}")
        if self.half and self.int8:
            raise UserError("--half and --int8 exclude each other; give one of them.")
        if self.int8 and self.format != "onnx":
            raise UserError(
                f"--int8 is made by onnxruntime and goes with --format onnx, not {self.format}: "
                "torch's own quantisation has left torch."
            )
        if self.images < 1:
            raise UserError(f"--images is {self.images}; give 1 or more.")
        if self.out.is_dir() or self.out.resolve() == self.checkpoint.resolve():
            what = "a folder" if self.out.is_dir() else "the checkpoint itself"
            raise UserError(f"--out {self.out} is {what}; name a new file, as net.{self.format}.")
        packages = FORMATS[self.format].packages
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"--format {self.format} needs {' and '.join(missing)}: "
                f"pip install {' '.join(missing)}."
            )

    @property
    def precision(self) -> str:
        return "int8" if self.int8 else "float16" if self.half else "float32"


@dataclass(frozen=True, eq=False)
class _Images:
    """Clean images to check on, what PGD makes of them, and others to calibrate with."""

    data: LabelledImages
    threat: Threat
    labels_N: NDArray[np.int64]
    clean_NCHW: Tensor
    adversarial_NCHW: Tensor
    calibration_NCHW: Tensor


@dataclass(frozen=True)
class _Measured:
    """A network's file, speed and accuracy, all of the same images."""

    name: str
    bytes: int
    milliseconds: Mapping[str, float]
    clean: Accuracy
    pgd: Accuracy


def export(job: Exporting, *, as_json: bool) -> None:
    """Write the file and its record, unless it is not the network it should be.

    Raises:
        UserError: the network cannot be exported, or what came out is another in full precision.
    """
    checkpoint, classifier, facts = _load(job)
    images = _images(job, checkpoint, classifier)
    format_ = FORMATS[job.format]
    origin = {
        "ferd.exported_from": checkpoint.sha256,
        "ferd.dataset": str(checkpoint.metadata.get("ferd.dataset", "")),
    }
    with exporting(f"{job.format} in {job.precision}"):
        content = format_.write(
            Deployed(classifier, half=job.half),
            # torch.export.save (2.14) keeps its example in the file; images are not ours to give.
            torch.full_like(images.clean_NCHW[:2], 0.5),
            {key: value for key, value in origin.items() if value},
        )
        if job.int8:
            content = quantize(content, images.calibration_NCHW)
        exported = format_.open(content)
    before = [logits(classifier, x) for x in (images.clean_NCHW, images.adversarial_NCHW)]
    after = [logits(exported, x) for x in (images.clean_NCHW, images.adversarial_NCHW)]
    differences = [Difference.between(*pair) for pair in zip(before, after, strict=True)]
    _require_same(job, differences)
    rows = [
        _measure(checkpoint.path.name, checkpoint.size, classifier, before, images),
        _measure(job.out.name, len(content), exported, after, images),
    ]
    record = _record(job, checkpoint, facts, content, images, differences, rows)
    beside = job.out.with_name(f"{job.out.name}.json")
    make_folder(job.out.parent)
    write_atomically(job.out, content)
    write_atomically(beside, to_json(record).encode())
    if as_json:
        print(to_json(record), end="")
    else:
        _print(job, images, differences, rows, format_)
    _warn(job, differences)
    print(job.out, beside, sep="\n", file=sys.stderr if as_json else sys.stdout)


def _load(job: Exporting) -> tuple[Checkpoint, Classifier, ModelFacts]:
    checkpoint = load_checkpoint(job.checkpoint, key=job.key)
    if checkpoint.program is not None:
        raise UserError(f"{job.checkpoint} is an ONNX file; export the checkpoint it was made of.")
    classifier, facts = build_classifier(
        checkpoint, arch=job.arch, model_file=job.model_file, normalize=job.normalize
    )
    for said in (checkpoint.choice, facts.caution):
        if said:
            print(f"warning: {job.checkpoint}: {said}", file=sys.stderr)
    return checkpoint, classifier.requires_grad_(False), facts


def _images(job: Exporting, checkpoint: Checkpoint, classifier: Classifier) -> _Images:
    """Spread over the set: rows of a file are often sorted by class."""
    data = job.source.load(job.dataset, "test")
    if data.num_classes != classifier.num_classes:
        raise UserError(f"{job.checkpoint}: {wrong_class_count(classifier.num_classes, data)}")
    try:
        check_network(classifier, data, torch.float32, by_gradient=True)
    except UserError as error:
        raise UserError(f"{job.checkpoint}: {error}") from error
    rows_N = _spread(np.arange(len(data)), job.images)
    others_M = _spread(np.setdiff1d(np.arange(len(data)), rows_N), _CALIBRATION)
    if job.int8 and not len(others_M):
        raise UserError(
            f"--images {job.images} leaves none of the {len(data)} of {data.name} to take ranges "
            "of 8-bit numbers from; give fewer."
        )
    recorded = TeacherRecord.of(checkpoint.metadata).eps
    eps = recorded or data.default_eps if job.eps is None else parse_quantity(job.eps, "--eps")
    threat, labels_N = Threat(eps), data.labels_N[rows_N]
    cpu = torch.device("cpu")
    clean_NCHW = as_images(data.images_NCHW[rows_N], classifier, cpu).contiguous()
    attacked_NCHW = adversarial(
        classifier, clean_NCHW, torch.from_numpy(labels_N), threat, _SEED
    ).contiguous()
    calibration_NCHW = as_images(data.images_NCHW[others_M], classifier, cpu).contiguous()
    return _Images(data, threat, labels_N, clean_NCHW, attacked_NCHW, calibration_NCHW)


def _spread(rows_N: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of them at even distances; all where there are fewer."""
    taken = min(count, len(rows_N))
    return rows_N[np.arange(taken) * len(rows_N) // max(taken, 1)]


def _measure(
    name: str, size: int, network: Program, made: list[Tensor], images: _Images
) -> _Measured:
    x_NCHW = images.clean_NCHW
    batches = {n: x_NCHW[torch.arange(n) % len(x_NCHW)] for n in _BATCHES}
    return _Measured(
        name,
        size,
        {str(n): latency(network, x_BCHW) for n, x_BCHW in batches.items()},
        *(Accuracy.of(logits_NK, images.labels_N) for logits_NK in made),
    )


def _require_same(job: Exporting, differences: list[Difference]) -> None:
    worst = max(differences, key=lambda each: each.largest)
    if not np.isfinite(worst.largest):
        raise UserError(
            f"the {job.format} file in {job.precision} returns NaN or infinity; nothing is "
            "written. Export it in full precision."
        )
    if job.precision == "float32" and not all(each.is_rounding for each in differences):
        flips = sum(each.flips for each in differences)
        raise UserError(
            f"the {job.format} file is not the network of {job.checkpoint}: logits differ by up "
            f"to {worst.largest:.2g}, the largest is {worst.scale:.2g}, and {flips} of "
            f"{2 * worst.images} images change class. Nothing is written; choose another --format."
        )


def _record(
    job: Exporting,
    checkpoint: Checkpoint,
    facts: ModelFacts,
    content: bytes,
    images: _Images,
    differences: list[Difference],
    rows: list[_Measured],
) -> dict[str, Any]:
    packages = FORMATS[job.format].packages
    machine = choose_device("cpu").describe()
    clean, pgd = ({**asdict(each), "is_rounding": each.is_rounding} for each in differences)
    return {
        **environment(),
        "exporter": {name: importlib.metadata.version(name) for name in packages},
        "file": {
            "name": job.out.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "format": job.format,
            "precision": job.precision,
            "input": {"images": ["batch", *images.data.image_shape], "range": [0, 1]},
            "output": {"logits": ["batch", facts.num_classes]},
        },
        "checkpoint": {"name": checkpoint.path.name, "sha256": checkpoint.sha256},
        "model": facts.to_json(),
        "dataset": images.data.describe(),
        "calibration_images": len(images.calibration_NCHW) if job.int8 else 0,
        "attack": {**PGD().constants(images.threat), "eps": images.threat.radius, "seed": _SEED},
        "clean": clean,
        "pgd": pgd,
        "device": machine,
        "networks": [asdict(each) for each in rows],
    }


def _print(
    job: Exporting,
    images: _Images,
    differences: list[Difference],
    rows: list[_Measured],
    format_: Format,
) -> None:
    table: Table = plain_table()
    table.add_column("", overflow="fold")
    for heading in ("MB", "ms, 1", "ms, 128", "Clean", "worst", "PGD-20", "worst"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for row in rows:
        accuracy = [row.clean.average, row.clean.worst_class, row.pgd.average, row.pgd.worst_class]
        cells = [f"{row.bytes / 1e6:.2f}", *(f"{each:.2f}" for each in row.milliseconds.values())]
        table.add_row(Text(row.name), *cells, *(f"{100 * each:.1f}" for each in accuracy))
    screen = console()
    screen.print(table)
    clean, pgd = differences
    threads = torch.get_num_threads()
    runtime = "onnxruntime" if "onnxruntime" in format_.packages else "torch"
    low, high = (f"{100 * end:.0f}" for end in rows[-1].pgd.worst_class95)
    lines = (
        f"{clean.images} images of {images.data.name}. Largest logit difference: "
        f"{clean.largest:.1e} clean, {pgd.largest:.1e} under PGD-20 (largest logit "
        f"{clean.scale:.1f}). Class flips: {clean.flips} clean, {pgd.flips} under PGD-20.",
        f"The class that truly is lowest under PGD-20 is right {low} to {high} % of the time (95 % "
        "confidence).",
        f"PGD-20 at ε = {format_quantity(images.threat.eps)} is made against the original: an "
        "attack on the exported network itself may do better.",
        f"ms: median of repeated batches of 1 and of 128 images on the CPU, {threads} "
        f"thread{'s' * (threads != 1)}; the original by torch, the export by {runtime}.",
    )
    for line in lines:
        screen.print(Text(line))


def _warn(job: Exporting, differences: list[Difference]) -> None:
    clean, pgd = differences
    if job.precision == "float32" or not clean.flips + pgd.flips:
        return
    scored = (
        f" Attack it itself: ferd-eval score {job.out} --dataset {job.dataset} --attacks "
        "clean,square"
        if job.format == "onnx"
        else ""
    )
    print(
        f"warning: in {job.precision} {clean.flips} of {clean.images} clean and {pgd.flips} of "
        f"{pgd.images} adversarial images change class: it is another network, and the original's "
        f"robustness is not its own.{scored}",
        file=sys.stderr,
    )
