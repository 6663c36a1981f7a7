"""Changes to a valid file: blind ones to its bytes, and ones that know how it is packed.

Blind changes to an archive mostly trip over its checksums, so a `Wrapping` opens it, one of its
parts is changed, and it is packed again with checksums that fit. Everything follows from the
random numbers handed in.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

#: No mutated file grows beyond this, so that what a reader takes is not the file's own size.
MOST_BYTES = 1 << 18

_GIGANTIC = (
    b"0", b"-1", b"1e999", b"-1e308", b"NaN", b"9" * 30, b"-" + b"9" * 25, b"4294967296",
    b"9223372036854775808", b"18446744073709551615", b"0.5", b"1" * 5000,
)  # fmt: skip
_INTERESTING = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40,
                2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
_HOSTILE = (
    b"../../../../tmp/x", b"/etc/passwd", b"\0", b"\r\n", b"\xff\xfe", b"=1+1", b"<script>", b"\\",
    b"A" * 5000, b"[" * 3000, b"{" * 3000, b'{"a":' * 1500, b"(" * 200, b"\xed\xa0\x80",
    b"cferd_canary\nrun\n)R", b"\x80\x04\x8c\x0bferd_canary\x8c\x03run\x93)R.",
    b"cos\nsystem\n(X\x04\x00\x00\x00truetR.", b"cbuiltins\nexec\n(X\x01\x00\x00\x001tR.",
)  # fmt: skip


def mutated(content: bytes, others: Sequence[bytes], words: Sequence[bytes], at: Random) -> bytes:
    """The content after one to six blind changes.

    Args:
        content: of a valid file.
        others: more such, to splice with.
        words: what means something in this format.
        at: decides.
    """
    changed = bytearray(content)
    for _ in range(at.choice((1, 1, 1, 2, 2, 3, 4, 6))):
        at.choice(_CHANGES)(changed, others, words, at)
        del changed[MOST_BYTES:]
    return bytes(changed)


def _spot(changed: bytearray, at: Random) -> int:
    """A place; half the time near either end, where headers and directories are."""
    if not changed:
        return 0
    kind = at.random()
    if kind < 0.25:
        return at.randrange(min(len(changed), 64))
    if kind < 0.5:
        return len(changed) - 1 - at.randrange(min(len(changed), 128))
    return at.randrange(len(changed))


def _block(changed: bytearray, at: Random) -> slice:
    start = _spot(changed, at)
    return slice(start, start + at.choice((1, 2, 4, 8, 16, 64, 256, 1024)))


def _flip(changed: bytearray, _o: Any, _w: Any, at: Random) -> None:
    if changed:
        changed[_spot(changed, at)] ^= 1 << at.randrange(8)


def _byte(changed: bytearray, _o: Any, _w: Any, at: Random) -> None:
    if changed:
        changed[_spot(changed, at)] = at.randrange(256)


def _length(changed: bytearray, _o: Any, _w: Any, at: Random) -> None:
    """Overwrite what may be a length."""
    size, order = at.choice((1, 2, 4, 8)), at.choice(("little", "big"))
    number = at.choice(_INTERESTING) % (1 << 8 * size)
    place = _spot(changed, at)
    changed[place : place + size] = number.to_bytes(size, order)


def _cut(changed: bytearray, _o: Any, _w: Any, at: Random) -> None:
    del changed[_spot(changed, at) :]


def _delete(changed: bytearray, _o: Any, _w: Any, at: Random) -> None:
    del changed[_block(changed, at)]


def _duplicate(changed: bytearray, _o: Any, _w: Any, at: Random) -> None:
    block = bytes(changed[_block(changed, at)])
    place = _spot(changed, at)
    changed[place:place] = block * at.choice((1, 1, 2, 16, 256))


def _insert(changed: bytearray, _o: Any, _w: Any, at: Random) -> None:
    place = _spot(changed, at)
    changed[place:place] = at.randbytes(at.choice((1, 2, 4, 16, 64)))


def _splice(changed: bytearray, others: Sequence[bytes], _w: Any, at: Random) -> None:
    other = at.choice(others)
    cut = at.randrange(len(other) + 1)
    changed[_spot(changed, at) :] = other[cut:]


def _word(changed: bytearray, _o: Any, words: Sequence[bytes], at: Random) -> None:
    word = at.choice((*words, *_HOSTILE))
    place = _spot(changed, at)
    changed[place : place + (len(word) if at.random() < 0.5 else 0)] = word


def _number(changed: bytearray, _o: Any, _w: Any, at: Random) -> None:
    """Replace a number in digits by an absurd one."""
    found = [each.span() for each in re.finditer(rb"\d+", bytes(changed[:20_000]))]
    if found:
        start, end = at.choice(found)
        changed[start:end] = at.choice(_GIGANTIC)


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], Sequence[bytes], Random], None], ...] = (
    _flip, _flip, _byte, _byte, _length, _length, _cut, _delete, _duplicate, _insert, _splice,
    _word, _word, _number,
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A named piece of a packed file."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Wrapping:
    """How a file is opened into parts and packed again, with lengths and checksums that fit."""

    open: Callable[[bytes], list[Part]]
    pack: Callable[[list[Part], Random], bytes]


def changed_inside(
    content: bytes,
    wrapping: Wrapping,
    others: Sequence[bytes],
    words: Sequence[bytes],
    at: Random,
    change: Callable[[bytes, Random], bytes] | None = None,
) -> bytes:
    """Open, change one part or the list of parts, pack."""
    parts = wrapping.open(content)
    place = at.randrange(len(parts))
    kind = at.random()
    if kind < 0.08:
        del parts[place]
    elif kind < 0.14:
        parts.append(parts[place])
    elif kind < 0.2:
        name = mutated(parts[place].name.encode("utf-8", "replace"), [b"x"], (), at)
        parts[place] = Part(name.decode("latin-1")[:60_000] or "x", parts[place].content)
    else:
        # Small parts steer, large ones are pixels.
        place = min(place, at.randrange(len(parts)), key=lambda i: len(parts[i].content))
        inner = change if change is not None and at.random() < 0.5 else None
        new = (
            inner(parts[place].content, at)
            if inner
            else mutated(parts[place].content, [*others, b"\0" * 64], words, at)
        )
        parts[place] = Part(parts[place].name, new)
    return wrapping.pack(parts, at)[:MOST_BYTES]


def _open_zip(content: bytes) -> list[Part]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [Part(name, archive.read(name)) for name in archive.namelist()]


def _pack_zip(parts: list[Part], at: Random) -> bytes:
    method = at.choice((zipfile.ZIP_STORED,) * 6 + (zipfile.ZIP_DEFLATED,))
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # that a name is there twice
        for part in parts:
            # A fixed date: the same seed makes the same bytes.
            entry = zipfile.ZipInfo(part.name[:60_000] or "x", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            archive.writestr(entry, part.content)
    return file.getvalue()


ZIP = Wrapping(_open_zip, _pack_zip)

GZIP = Wrapping(
    lambda content: [Part("", gzip.decompress(content))],
    lambda parts, at: (
        b"".join(gzip.compress(part.content, 1, mtime=0) for part in parts) or b"\x1f"
    ),
)


def _open_safetensors(content: bytes) -> list[Part]:
    length = struct.unpack("<Q", content[:8])[0]
    return [Part("header", content[8 : 8 + length]), Part("data", content[8 + length :])]


def _pack_safetensors(parts: list[Part], at: Random) -> bytes:
    by_name = {part.name: part.content for part in parts}
    header = by_name.get("header", b"{}")
    return struct.pack("<Q", len(header)) + header + by_name.get("data", b"")


SAFETENSORS = Wrapping(_open_safetensors, _pack_safetensors)


def _open_png(content: bytes) -> list[Part]:
    parts, place = [], 8
    while place + 8 <= len(content):
        length = struct.unpack(">I", content[place : place + 4])[0]
        kind = content[place + 4 : place + 8].decode("latin-1")
        parts.append(Part(kind, content[place + 8 : place + 8 + length]))
        place += 12 + length
    return parts


def _pack_png(parts: list[Part], at: Random) -> bytes:
    chunks = [b"\x89PNG\r\n\x1a\n"]
    for part in parts:
        kind = part.name.encode("latin-1", "replace")[:4].ljust(4, b"x")
        checksum = zlib.crc32(kind + part.content)
        chunks.append(struct.pack(">I", len(part.content)) + kind + part.content)
        chunks.append(struct.pack(">I", checksum))
    return b"".join(chunks)


PNG = Wrapping(_open_png, _pack_png)


#: Values that a key of a document does not expect.
_STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "8/255", "1/0", "1e400", "clean", "../../x", "\0", "\ud800",
    "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "\x1b[31m", "9" * 5000, [], {}, [[]],
    {"": None}, ["a", 1], [None] * 3, {"a": {"b": {}}}, "x" * 10_000, list(range(50)),
)  # fmt: skip


def changed_json(content: bytes, at: Random) -> bytes:
    """A document with one to three of its values, keys or places changed."""
    document = json.loads(content)
    for _ in range(at.choice((1, 1, 2, 3))):
        document = _changed_value(document, at)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _changed_value(value: Any, at: Random) -> Any:
    """The value with one thing in it changed, the deeper the less likely itself."""
    inner = isinstance(value, dict | list) and len(value) > 0
    if not inner or at.random() < 0.12:
        return at.choice(_STRANGE)
    if isinstance(value, dict):
        key = at.choice(list(value))
        rest = {k: v for k, v in value.items() if k != key}
        kind = at.random()
        if kind < 0.12:
            return rest
        if kind < 0.2:
            return {**rest, str(at.choice(_STRANGE))[:200]: value[key]}
        return {**value, key: _changed_value(value[key], at)}
    place = at.randrange(len(value))
    kind = at.random()
    if kind < 0.12:
        return value[:place] + value[place + 1 :]
    if kind < 0.24:
        return [*value, value[place]]
    return [*value[:place], _changed_value(value[place], at), *value[place + 1 :]]


_TOML_VALUES = (
    "0", "-1", "1", "true", "''", "'x'", "[]", "{}", "nan", "inf", "-inf", "1e400", "1979-05-27",
    "07:32:00", "9" * 4000, "0x" + "f" * 4000, "'1/0'", "'8/255'", "'nan'", "[[[]]]",
    "{ a = { b = 1 } }", "'" + "9" * 5000 + "'", "[0, 0]", "['a', 1]", "9223372036854775808",
    "'../../x'", "'1e999999999'", "'\\u0000'", "'1/3e9999999'", "[" * 500, "\"\\u0000\"",
)  # fmt: skip


def changed_toml(content: bytes, at: Random) -> bytes:
    """Lines of ``key = value`` with some values, keys or headings changed."""
    lines = content.decode().splitlines()
    for _ in range(at.choice((1, 1, 2, 3))):
        place = at.randrange(len(lines))
        key, equals, value = lines[place].partition("=")
        kind = at.random()
        if kind < 0.1:
            lines[place] = ""
        elif kind < 0.2:
            lines.insert(place, lines[at.randrange(len(lines))])
        elif kind < 0.3 and equals:
            lines[place] = f"{key.strip()}.{at.choice(('x', 'name', 'a.' * 900 + 'a'))} = {value}"
        elif equals:
            lines[place] = f"{key}= {at.choice(_TOML_VALUES)}"
        else:
            lines[place] = at.choice(("[x]", "[[methods]]", "[set]", "[" + "a." * 900 + "a]"))
    return "\n".join(lines).encode()
