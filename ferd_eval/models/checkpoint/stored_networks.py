"""The networks in a file of weights: which there are, and the one that is meant.

Trainers save student and teacher, or trained and averaged weights, side by side: as containers
(``{"student": …, "teacher": …}``) or as prefixes of one state dict (``student.conv1.weight``).
Both are one notion here, a network with a name such as ``state_dict/student``. Where a known rule
decides, it is followed and said; elsewhere the file is refused until somebody says which.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ferd_eval.errors import listed
from ferd_eval.io.inert_values import InertValue
from ferd_eval.models.checkpoint.formats import Refused, Scalar

#: What a network is read for. It decides between a student and its teacher.
Role = Literal["student", "teacher"]

#: Containers of a network that say nothing about which one it is.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "student",
    "module", "params", "weights", "net_state_dict", "student_state_dict", "ema", "model_ema",
    "ema_state_dict", "state_dict_ema", "params_ema", "teacher",
)  # fmt: skip

#: Prefixes that say how a network was wrapped for training and nothing about the network.
PREFIXES = (
    "module.", "_orig_mod.", "_module.", "_forward_module.", "model.", "net.", "network.",
    "student.", "teacher.",
)  # fmt: skip

_SILENT = ("module", "_orig_mod", "_module", "_forward_module")
_FLAGS: Mapping[Role, str] = {"student": "--key", "teacher": "--teacher-key"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_STUDENT = re.compile(r"students?\w*|stud?")
_TEACHER = re.compile(r"teachers?\w*|teach?|tea|tch")
_AVERAGE = re.compile(r"emas?|swa|avg|averaged?|averaging|shadow|polyak|momentum|target")
#: Parts of a training that are no classifiers, though they may look like one.
_BESIDE = re.compile(
    r"gen(erator)?s?|discriminators?|disc|critics?|g|d|proj\w*|heads?|embed\w*|predictors?"
    r"|regress\w*|adapt\w*|connectors?|queues?|banks?|memory|cent(er|re)s?|prototypes?|loss\w*"
    r"|criteri\w+|metrics?|decoders?|optim\w*|sched\w*|scaler"
)
_ATTACKER = re.compile(r"attackers?|adversary")

_CONSTANT = re.compile(r"(new_|norm_|_)?(means?|mu|stds?|sds?|sigma)")

_MAX_NESTING = 5
#: Networks of one file that are compared with each other, number by number.
_MOST_COMPARED = 8


@dataclass(frozen=True, eq=False)
class _StateDict:
    """A dictionary in a file, or a candidate for one."""

    path: tuple[str, ...]  #: keys of the containers that lead to it, outermost first
    content: object
    #: These containers, each with the key that was followed.
    around: tuple[tuple[Mapping[Any, object], str], ...]
    also: list[tuple[str, ...]] = field(default_factory=list)  #: other paths to it

    @property
    def entries(self) -> Mapping[Any, object]:
        """What it holds; nothing where it is no dictionary."""
        return self.content if isinstance(self.content, Mapping) else {}

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Those it holds directly, by their keys."""
        return {
            key: value
            for key, value in self.entries.items()
            if isinstance(key, str) and isinstance(value, Tensor)
        }


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """One network of a file."""

    source: _StateDict  #: the state dict it lies in, perhaps beside others
    prefix: str  #: prefix of its keys there, e.g. ``"module.student."``
    #: Its keys there, with normalisation constants that lie beside the prefix.
    keys: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Containers and prefixes, outermost first."""
        return (*self.source.path, *self.prefix.split(".")[:-1])

    @property
    def name(self) -> str:
        """As ``--key`` takes it: without the wrappers that all networks share."""
        return "/".join(part for part in self.parts if part not in _SILENT) or "."

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By their keys in the state dict."""
        return {key: self.source.tensors[key] for key in self.keys}

    @property
    def label(self) -> str:
        """The name as people read it."""
        return "the top level (.)" if self.name == "." else self.name

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words its name is made of."""
        return tuple(word for part in self.parts for word in _words(part))

    @cached_property
    def is_beside(self) -> bool:
        """Whether its name says that it is no classifier."""
        return _any(_BESIDE, self.words)

    def stands(self, role: Role, *, letters: bool) -> int:
        """0 for this role, 1 for none, 2 for the other role, 3 for an attacker's copy.

        `letters` says whether a single s or t counts.
        """
        if _any(_ATTACKER, self.words):
            return 3
        student = _any(_STUDENT, self.words) or (letters and "s" in self.words)
        teacher = _any(_TEACHER, self.words) or (letters and "t" in self.words)
        if student == teacher:
            return 1
        return 0 if student == (role == "student") else 2

    @cached_property
    def averaged(self) -> int:
        """0 for weights as they were trained, more for their averages.

        Lightning's weight averaging keeps the average in ``state_dict`` and what was trained in
        ``current_model_state``; timm's own loader takes ``state_dict_ema`` before ``state_dict``.
        """
        if self.is_lightning_average:
            return 1
        if self.is_timm_average:
            return -1
        return sum(bool(_AVERAGE.fullmatch(word)) for word in self.words)

    @property
    def is_lightning_average(self) -> bool:
        """Whether Lightning's weight averaging wrote this ``state_dict``."""
        return self._is_beside("state_dict", "current_model_state")

    @property
    def is_timm_average(self) -> bool:
        """Whether this is the average in a file of timm's ``CheckpointSaver``."""
        return self._is_beside("state_dict_ema", "state_dict")

    def _is_beside(self, key: str, other: str) -> bool:
        return any(way == key and other in content for content, way in self.source.around)

    @property
    def completeness(self) -> int:
        """Larger for what looks like a whole classifier, by its name and its tensors."""
        flat, filters = _matrices(self.source.tensors, self.keys)
        if self.is_beside:
            return 0
        if not flat + filters:
            return 1
        named = self.stands("student", letters=True) != 1
        wrapped = {*self.parts[-1:], *self.source.path[-1:]} & {*WRAPPERS}
        return 3 if named or (flat and filters) or (wrapped and flat + filters > 1) else 2


def stored_networks(content: object) -> list[StoredNetwork]:
    """All networks in what was read from a file; parts of a training that are none are left out."""
    lightning = isinstance(content, Mapping) and "pytorch-lightning_version" in content
    networks = [
        StoredNetwork(source, prefix, keys)
        for source in _state_dicts(content)
        for prefix, keys in _split(source.tensors, "", tuple(source.tensors), lightning, 0)
    ]
    most = max((network.completeness for network in networks), default=0)
    return [network for network in networks if network.completeness == most]


@dataclass(frozen=True, eq=False)
class Choice:
    """The network that was taken."""

    network: StoredNetwork
    key: str = ""  #: its name where another could have been taken, else empty
    said: str = ""  #: that, and what was left, as a sentence; empty where nothing was to choose
    copies: tuple[StoredNetwork, ...] = ()  #: others with the same numbers


def choose_network(
    content: object, networks: Sequence[StoredNetwork], role: Role, key: str | None, size: int
) -> Choice:
    """Take the network that is meant, by its `key` (a name, or the last parts of one) or the rule.

    `content` is all that was read from the file, `networks` what `stored_networks` found in it (one
    or more), `role` what the network is wanted for, `size` that of the file in bytes. Refused: no
    rule decides, nothing has the name, or numbers cannot be compared.
    """
    flag = _FLAGS[role]
    # A single s may mean small. It means student where all others are labelled, too.
    letters = all(n.stands(role, letters=True) != 1 or n.averaged for n in networks)
    if key is None:
        ranks = [(n.stands(role, letters=letters), n.averaged) for n in networks]
        found = [n for n, rank in zip(networks, ranks, strict=True) if rank == min(ranks)]
        unclear = (
            f"holds {len(networks)} networks, and nothing says which is meant: "
            f"{_labels(networks)}; choose one with {flag} {networks[-1].name}"
        )
    else:
        found = _called(content, networks, key)
        if not found:
            raise Refused(f"has nothing called {key!r} ({flag}); it holds {_labels(networks)}")
        unclear = f"has {len(found)} networks called {key!r} ({flag}); name one of {_labels(found)}"
    taken, *rivals = found
    others = [network for network in networks if network is not taken]
    copies = _copies(taken, others, size)
    same_as_taken = copies if key is None else _copies(taken, rivals, size)
    if any(rival not in same_as_taken for rival in rivals):
        raise Refused(unclear)
    left = [network for network in others if network not in copies]
    if not left:
        return Choice(taken, copies=tuple(copies))
    reasons = [f"{flag} {key}"] if key is not None else _reasons(taken, left, role, letters=letters)
    names = [f"{n.label} (the same weights)" if n in copies else n.label for n in others]
    said = (
        f"the file holds {len(others) + 1} networks: {taken.label} was taken "
        f"({'; '.join(reasons)}), {listed(names, 8)} left out; {flag} chooses another."
    )
    return Choice(taken, taken.name, said, tuple(copies))


def _labels(networks: Sequence[StoredNetwork]) -> str:
    return listed([network.label for network in networks], 8)


def _reasons(
    taken: StoredNetwork, left: Sequence[StoredNetwork], role: Role, *, letters: bool
) -> Iterator[str]:
    stands = taken.stands(role, letters=letters)
    worse = [n for n in left if n.stands(role, letters=letters) > stands]
    if any(n.stands(role, letters=letters) < 3 for n in worse):
        other = "teacher" if role == "student" else "student"
        yield f"by its name the {role}" if stands == 0 else f"not the {other}"
    if any(n.stands(role, letters=letters) == 3 for n in worse):
        yield "not an attacker's copy"
    alike = [n for n in left if n not in worse]
    if taken.is_timm_average and alike:
        yield "the moving average first is timm's own rule"
    elif any(n.is_lightning_average for n in alike):
        yield "trained weights first; Lightning keeps their average in state_dict"
    elif alike:
        yield "trained weights before their moving average"


def _called(content: object, networks: Sequence[StoredNetwork], key: str) -> list[StoredNetwork]:
    """Those whose name is `key`, else whose name holds it, else parts that are no whole network."""
    wanted = tuple(part for part in re.split(r"[/.]| / ", key.strip()) if part)
    return (
        [n for n in networks if _is_named(n, wanted, whole=True)]
        or [n for n in networks if _is_named(n, wanted, whole=False)]
        or list(_other_parts(content, wanted))
    )


def _is_named(network: StoredNetwork, wanted: tuple[str, ...], *, whole: bool) -> bool:
    """Whether the name, or some parts of it in a row, are those."""
    own = network.prefix.split(".")[:-1]
    for path in (network.source.path, *network.source.also):
        parts = tuple(part for each in (*path, *own) for part in each.split(".") if part)
        for said in (parts, tuple(part for part in parts if part not in _SILENT)):
            rows = range(len(said) - len(wanted) + 1)
            if said == wanted or (
                not whole and wanted and any(said[i : i + len(wanted)] == wanted for i in rows)
            ):
                return True
    return False


def _other_parts(content: object, wanted: tuple[str, ...]) -> Iterator[StoredNetwork]:
    """What has this name and does not look like a whole classifier."""
    for source in _state_dicts(content):
        for path in (source.path, *source.also):
            for count in range(len(wanted), -1, -1):
                # The file itself is called by no part of a name.
                if path[len(path) - count :] != wanted[:count] or (not wanted and path):
                    continue
                inner = "".join(f"{part}." for part in wanted[count:])
                start = _common_prefix(source.tensors)
                for prefix in dict.fromkeys((inner, start + inner)):
                    keys = tuple(key for key in source.tensors if key.startswith(prefix))
                    if keys:
                        yield StoredNetwork(source, prefix, keys)
                        return


def _copies(
    taken: StoredNetwork, others: Sequence[StoredNetwork], size: int
) -> list[StoredNetwork]:
    """Those of the others that hold the same numbers."""
    if len(others) >= _MOST_COMPARED:
        return []
    return [other for other in others if _same(taken, other, size)]


def _same(one: StoredNetwork, other: StoredNetwork, size: int) -> bool:
    ours, theirs = _bare(one), _bare(other)
    kinds = [
        {key: (tensor.shape, tensor.dtype) for key, tensor in each.items()}
        for each in (ours, theirs)
    ]
    if kinds[0] != kinds[1]:
        return False
    require_plain(one.tensors, size)
    require_plain(other.tensors, size)
    return all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def require_plain(tensors: Mapping[str, Tensor], size: int) -> None:
    """Refuse quantised, sparse and meta tensors, and more bytes than the file can hold."""
    total = 0
    for key, tensor in tensors.items():
        if tensor.is_quantized:
            raise Refused(f"holds {key} quantised; save weights of which each was dequantize()d")
        if tensor.layout is not torch.strided:
            raise Refused(f"holds {key} as a sparse tensor; save its to_dense()")
        if tensor.is_meta:
            raise Refused(f"names {key} without its numbers (a meta tensor); save a loaded network")
        total += tensor.numel() * tensor.element_size()
    # Tied weights are stored once and named often; a stride of zero can name terabytes.
    if total > 8 * size + 2**20:
        raise Refused(f"claims {total} bytes of weights in a file of {size}; it is damaged")


def _bare(network: StoredNetwork) -> dict[str, Tensor]:
    """Its tensors without all that they are wrapped in, and normalisation by its own names."""
    constants = {key for key in network.keys if _is_constant(key, network.source.tensors[key])}
    keys = [key for key in network.keys if key not in constants]
    start = len(_common_prefix(keys, network.prefix))
    tensors = {key[start:]: network.source.tensors[key] for key in keys}
    return tensors | {
        f".{key.rpartition('.')[2]}": network.source.tensors[key] for key in constants
    }


# --- Containers ----------------------------------------------------------------------------------


def _state_dicts(content: object) -> list[_StateDict]:
    """Every dictionary with tensors in it, outer ones first; each once, by the shortest way."""
    found: dict[int, _StateDict] = {}
    seen: set[int] = set()
    waiting: deque[_StateDict] = deque([_StateDict((), content, ())])
    while waiting:
        inner = _unboxed(waiting.popleft())
        # What has groups of parameters is an optimiser.
        if len(inner.path) > _MAX_NESTING or "param_groups" in inner.entries:
            continue
        if id(inner.content) in seen:
            known = found.get(id(inner.content))
            if known is not None and len(known.also) < _MOST_COMPARED:
                known.also.append(inner.path)
            continue
        seen.add(id(inner.content))
        if any(tensor.ndim > 0 for tensor in inner.tensors.values()):
            found[id(inner.content)] = inner
        for key, value in inner.entries.items():
            if (
                isinstance(key, str)
                and isinstance(value, Mapping | list | tuple)
                and not key.startswith(("optim", "sched", "scaler"))
            ):
                around = (*inner.around, (inner.entries, key))
                waiting.append(_StateDict((*inner.path, key), value, around))
    return list(found.values())


def _unboxed(source: _StateDict) -> _StateDict:
    """What lies in lists of one."""
    path, content = source.path, source.content
    while isinstance(content, list | tuple) and len(content) == 1 and len(path) <= _MAX_NESTING:
        path, content = (*path, "[0]"), content[0]
    return replace(source, path=path, content=content)


def siblings(network: StoredNetwork) -> tuple[dict[str, Scalar], list[str]]:
    """What else lies in the containers of a network: plain values, and the rest described."""
    scalars: dict[str, Scalar] = {}
    rest: list[str] = []
    source = network.source
    levels = [
        {k: v for k, v in source.entries.items() if k not in source.tensors},
        *(
            {k: v for k, v in content.items() if k != key}
            for content, key in reversed(source.around)
        ),
    ]
    for level in levels:
        for key, value in level.items():
            if isinstance(value, Tensor) and value.numel() == 1 and not value.is_sparse:
                value = value.item()
            if isinstance(key, str) and isinstance(value, str | int | float | bool):
                scalars.setdefault(key, value)
            elif value is not None:
                rest.append(f"{key} ({describe(value)})")
    return scalars, rest


def left_behind(choice: Choice, networks: Sequence[StoredNetwork]) -> Iterator[str]:
    """What else lies in the state dict of the network that was taken."""
    network = choice.network
    own = {*network.keys}
    rest = dict.fromkeys(key for key in network.source.tensors if key not in own)
    for other in networks:
        if other.source is network.source and other is not network:
            keys = [key for key in other.keys if rest.pop(key, "") is None]
            same = ", the same weights" if other in choice.copies else ""
            yield f"{other.label} ({tensor_count(len(keys))}{same})"
    if rest:
        yield f"{listed([*rest], 2)} ({tensor_count(len(rest))})"


def tensor_count(count: int) -> str:
    """``1 tensor``, ``2 tensors``."""
    return f"{count} tensor{'s' * (count != 1)}"


def describe(value: object) -> str:
    """What something in a file is, in a few words."""
    count = sum(1 for _ in _tensors_in(value, set()))
    if count:
        return tensor_count(count)
    if isinstance(value, InertValue):
        return str(value)
    if isinstance(value, Mapping | list | tuple):
        return f"a {type(value).__name__} of {len(value)} without tensors"
    return f"a {type(value).__name__}"


def _tensors_in(value: object, seen: set[int], depth: int = 0) -> Iterator[Tensor]:
    # Each container is walked once, so that lists that share or hold themselves come to an end.
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple) and depth < 10 and id(value) not in seen:
        seen.add(id(value))
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(item, seen, depth + 1)


# --- Prefixes ------------------------------------------------------------------------------------


def _split(
    tensors: Mapping[str, Tensor], prefix: str, keys: tuple[str, ...], lightning: bool, depth: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Prefix and keys of each network among these keys; all of them where they are one network.

    They are several only where a name says so: modules called student, teacher, ema or attacker,
    and in a Lightning module also ``model`` and the like.
    """
    groups = _by_module(keys, prefix)
    if depth < _MAX_NESTING and len(groups) == 1 and "" not in groups:
        (name,) = groups
        if _is_role(name) or f"{name}." in PREFIXES:
            yield from _split(tensors, f"{prefix}{name}.", keys, lightning, depth + 1)
            return
    roles = [name for name in groups if _is_role(name)]
    plain = [name for name in groups if f"{name}." in PREFIXES and name not in roles]
    rest = [k for name in groups if name not in (*roles, *plain) for k in groups[name]]
    rest_is_whole = all(_matrices(tensors, rest))
    named = [
        name
        for name in (*roles, *plain)
        if all(found := _matrices(tensors, groups[name])) or (any(found) and not rest_is_whole)
    ]
    said = [name for name in named if name in roles]
    if said:
        # One module called ema may be a part of the network around it.
        several = rest_is_whole or len(named) > 1 or any(map(_is_student_or_teacher, said))
    else:
        most = 2 * sum(len(groups[name]) for name in named) > len(keys)
        several = lightning and not rest_is_whole and most
    if depth >= _MAX_NESTING or not several:
        yield prefix, keys
        return
    if rest_is_whole:
        yield prefix, tuple(k for name in groups if name not in named for k in groups[name])
    constants = tuple(k for k in rest if _is_constant(k, tensors[k]))
    for name in groups:
        if name in named:
            inside = tuple(groups[name])
            split = _split(tensors, f"{prefix}{name}.", inside, lightning, depth + 1)
            yield from ((inner, (*constants, *those)) for inner, those in split)


def whole_parts(tensors: Mapping[str, Tensor]) -> list[str]:
    """Modules of a state dict that look like classifiers of their own."""
    groups = _by_module(tensors)
    return [name for name, keys in groups.items() if name and all(_matrices(tensors, keys))]


def _by_module(keys: Collection[str], prefix: str = "") -> dict[str, list[str]]:
    """Keys by the first part of what follows the prefix; under "" those of a single part."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        name, dot, _ = key[len(prefix) :].partition(".")
        groups.setdefault(name if dot else "", []).append(key)
    return groups


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]


def _is_role(name: str) -> bool:
    words = _words(name)
    if _any(_BESIDE, words):
        return False
    kinds = (_STUDENT, _TEACHER, _AVERAGE, _ATTACKER)
    return words in (["s"], ["t"]) or any(_any(kind, words) for kind in kinds)


def _is_student_or_teacher(name: str) -> bool:
    words = _words(name)
    return _any(_STUDENT, words) or _any(_TEACHER, words)


def _any(pattern: re.Pattern[str], words: Collection[str]) -> bool:
    return any(pattern.fullmatch(word) for word in words)


def _matrices(tensors: Mapping[str, Tensor], keys: Collection[str]) -> tuple[int, int]:
    """How many tensors have two dimensions, and how many three or more."""
    sizes = [tensors[key].ndim for key in keys]
    return sum(size == 2 for size in sizes), sum(size > 2 for size in sizes)


def _is_constant(key: str, tensor: Tensor) -> bool:
    """Whether it may be one of a normalisation layer's."""
    name = key.rpartition(".")[2]
    return tensor.is_floating_point() and tensor.numel() <= 4 and bool(_CONSTANT.fullmatch(name))


def _common_prefix(keys: Collection[str], start: str = "") -> str:
    """Wrappers that all keys begin with, after what they are known to begin with."""
    for _ in range(_MAX_NESTING):
        more = [p for p in PREFIXES if all(key.startswith(start + p) for key in keys)]
        if not more:
            break
        start += more[0]
    return start
