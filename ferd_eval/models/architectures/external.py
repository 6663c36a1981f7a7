"""Networks built by other people's code: torchvision, timm, RobustBench, a user's own file.

The code builds the architecture only; the weights always come from the checkpoint. Packages are
imported when one of their networks is named, and not before.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import nn

from ferd_eval.errors import UserError, brief
from ferd_eval.models.architectures.base import ArchitectureRow
from ferd_eval.models.normalization import NORMALIZATIONS, Normalization
from ferd_eval.runtime.plugins import load_user_code

_IMAGENET = NORMALIZATIONS["imagenet"]

EXTERNAL_ROWS = (
    ArchitectureRow(
        "torchvision:NAME", "torchvision", "torchvision.models", "3×H×W",
        "ImageNet normalisation unless told otherwise",
    ),
    ArchitectureRow(
        "timm:NAME", "timm", "timm.create_model", "C×H×W",
        "pip install timm; the model's own normalisation unless told otherwise",
    ),
    ArchitectureRow(
        "robustbench:ID", "RobustBench", "RobustBench/robustbench", "3×H×W",
        "pip install robustbench; ID or DATASET/THREAT/ID; normalises for itself",
    ),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ExternalNetwork:
    """A network somebody else's code built, still with fresh weights."""

    name: str  #: as the user gave it, e.g. ``"torchvision:resnet18"``
    network: nn.Module  #: B×C×H×W to B×K
    decided_by: str  #: who built it, as a sentence
    #: The one that the source's own weights were trained with; None where it does not say.
    normalization: Normalization | None = None
    file_sha256: str | None = None  #: of the user's file


def is_external(name: str) -> bool:
    """Whether `name` starts with one of the prefixes of `EXTERNAL_ROWS`."""
    return name.partition(":")[0] in _BUILDERS and ":" in name


def build_external(
    name: str, *, num_classes: int | None, in_channels: int | None
) -> ExternalNetwork:
    """Build ``torchvision:NAME``, ``timm:NAME`` or ``robustbench:ID``.

    UserError: the package is missing or broken, or has no such network.
    """
    source, _, inner = name.partition(":")
    return _BUILDERS[source](inner, num_classes, in_channels)


def build_from_file(
    spec: str, *, num_classes: int | None, in_channels: int | None
) -> ExternalNetwork:
    """Run ``FILE.py:FACTORY``; it is given ``num_classes`` and ``in_channels`` if it takes them.

    UserError: the file or the factory is missing, fails, or does not return an ``nn.Module``.
    """
    code = load_user_code(spec, "--model-file")
    given = {"num_classes": num_classes, "in_channels": in_channels}
    return ExternalNetwork(
        name=f"{code.path.name}:{code.name}",
        network=_call(code.value, given, f"--model-file {spec}: {code.name}"),
        decided_by=f"built by {code.name} in {code.path}",
        file_sha256=code.sha256,
    )


def _call(factory: Callable[..., Any], given: Mapping[str, int | None], who: str) -> nn.Module:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = inspect.signature(lambda: None).parameters
    missing = [
        name
        for name, value in given.items()
        if value is None
        and name in parameters
        and parameters[name].default is inspect.Parameter.empty
    ]
    if missing:
        raise UserError(
            f"{who} needs {missing[0]}, which the checkpoint does not tell; give the "
            "parameter a default."
        )
    arguments = {n: v for n, v in given.items() if v is not None and n in parameters}
    try:
        network = factory(**arguments)
    except (Exception, SystemExit) as error:
        raise UserError(f"{who} failed with {brief(error)}.") from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"{who} returned a {type(network).__name__}; it must return a torch.nn.Module."
        )
    return network


def _import_package(name: str, arch: str, pip: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] == package:
            raise UserError(f"--arch {arch} needs {package}: {pip}.") from error
        raise UserError(
            f"--arch {arch} needs {package}, which is installed without {error.name}: "
            f"pip install {error.name}."
        ) from error
    except Exception as error:
        # torchvision built for another torch fails in many ways, RuntimeError among them.
        raise UserError(
            f"--arch {arch}: importing {name} failed with {brief(error)}; it probably does not "
            f"match the installed torch: {pip} --upgrade."
        ) from error


@contextmanager
def _failing(arch: str, source: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UserError(f"--arch {arch}: {source} failed with {brief(error)}.") from error


def _torchvision(inner: str, num_classes: int | None, in_channels: int | None) -> ExternalNetwork:
    arch = f"torchvision:{inner}"
    models = _import_package("torchvision.models", arch, "pip install torchvision")
    known = models.list_models(module=models)
    if inner not in known:
        raise UserError(f"--arch {arch}: torchvision has no such model.{_close(inner, known)}")
    with _failing(arch, "torchvision"):
        network = models.get_model(inner, weights=None, num_classes=num_classes or 1000)
    return ExternalNetwork(arch, network, "named with --arch, built by torchvision", _IMAGENET)


def _timm(inner: str, num_classes: int | None, in_channels: int | None) -> ExternalNetwork:
    arch = f"timm:{inner}"
    timm = _import_package("timm", arch, "pip install timm")
    if not timm.is_model(inner):
        raise UserError(
            f"--arch {arch}: timm has no such model.{_close(inner, timm.list_models())}"
        )
    with _failing(arch, "timm"):
        network = timm.create_model(
            inner, pretrained=False, num_classes=num_classes or 1000, in_chans=in_channels or 3
        )
    usual = getattr(network, "pretrained_cfg", None) or {}
    normalization = _IMAGENET
    if "mean" in usual and "std" in usual:
        normalization = Normalization(tuple(usual["mean"]), tuple(usual["std"]))
    return ExternalNetwork(arch, network, "named with --arch, built by timm", normalization)


def _robustbench(inner: str, num_classes: int | None, in_channels: int | None) -> ExternalNetwork:
    arch = f"robustbench:{inner}"
    zoo = _import_package("robustbench.model_zoo.models", arch, "pip install robustbench")
    models = {
        f"{dataset.value}/{threat.value}/{id_}": entry
        for dataset, threats in zoo.model_dicts.items()
        for threat, entries in threats.items()
        for id_, entry in entries.items()
    }
    found = [key for key in models if inner in (key, key.rpartition("/")[2])]
    if not found:
        ids = sorted({key.rpartition("/")[2] for key in models})
        raise UserError(f"--arch {arch}: RobustBench has no such model.{_close(inner, ids)}")
    if len(found) > 1:
        raise UserError(
            f"--arch {arch} is ambiguous; name one of "
            f"{', '.join('robustbench:' + key for key in found)}."
        )
    factory = models[found[0]]["model"]
    if not callable(factory):
        raise UserError(f"--arch {arch} is an ensemble, which a single checkpoint cannot fill.")
    with _failing(arch, "RobustBench"):
        network = factory()
    return ExternalNetwork(
        f"robustbench:{found[0]}", network, "named with --arch, built by RobustBench"
    )


def _close(name: str, known: list[str]) -> str:
    # A list of a thousand names is no help: only a near miss is worth a word.
    spelled = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(name.lower(), spelled, n=1)
    return f" Did you mean {spelled[close[0]]}?" if close else ""


_BUILDERS: dict[str, Callable[[str, int | None, int | None], ExternalNetwork]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "robustbench": _robustbench,
}
