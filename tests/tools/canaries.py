# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words that are planted as secrets, each in a place of its own, and where they turn up: in output, files, processes,
syslog, the journal (`journalctl --all --output=json` given to Canaries.seen).

    ways("s3cr3t", text)                     ["base64"]: any test that asserts that a word is nowhere asks so
    canaries = Canaries("context", "url", vnc=8)
    canaries["context"]                      the word to plant: its core is found in whatever quoting
    canaries.seen(text)                      {"context": ["base64"]}
    canaries.files(directory)                {path: {"context": ["plain"]}}
    with watched(canaries) as processes: …   processes.seen, from /proc of everything that runs meanwhile

A word is found as it stands, in hex, in UTF-16, in base64 at each alignment, escaped (JSON, Python, URLs),
and compressed (gzip, zlib, zstd, xz, bzip2), also one within the other: a plan's files travel as base64 of zlib."""

from __future__ import annotations

import base64
import binascii
import bz2
import contextlib
import json
import lzma
import os
import re
import secrets
import socket
import string
import subprocess
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Quoted differently by shells, JSON, XML, URLs and templates: what is shown by one of them still holds the core.
TAIL = "\"'<&> %7\\é$(x)"
Seen = dict[str, list[str]]


class Canaries(Mapping[str, str]):
    """places: their words have a tail that has to be quoted. limited: those of these have this length, and no tail."""

    def __init__(self, *places: str, **limited: int) -> None:
        self._cores = {place: _core(14) for place in places} | {place: _core(size) for place, size in limited.items()}
        self._words = {place: core if place in limited else core + TAIL for place, core in self._cores.items()}
        self._forms = {place: _forms(core) for place, core in self._cores.items()}
        self._any = _any_of(self._forms.values())

    def __getitem__(self, place: str) -> str:
        return self._words[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def core(self, place: str) -> str:
        """What of the word needs no quoting anywhere."""
        return self._cores[place]

    def seen(self, text: str | bytes | Iterable[str]) -> Seen:
        """place → the forms in which its word is in the text."""
        data = text if isinstance(text, bytes) else (text if isinstance(text, str) else "\n".join(text)).encode()
        found: dict[str, list[str]] = {}
        for way, layer in _layers(data):
            if self._any.search(layer):
                for place, forms in self._forms.items():
                    found.setdefault(place, []).extend(way + name for name, form in forms.items() if form in layer)
        return {place: names for place, names in found.items() if names}

    def files(self, *directories: Path) -> dict[Path, Seen]:
        """What the files below the directories hold, and what their names say."""
        found = {}
        for directory in directories:
            for path in sorted(directory.rglob("*")):
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                seen = self.seen(os.fsencode(path) + b"\n" + content)
                if seen:
                    found[path] = seen
        return found


def ways(word: str, *texts: str | bytes) -> list[str]:
    """The forms in which a word is in the texts."""
    forms = _forms(word)
    pattern = _any_of([forms])
    return [
        way + name
        for text in texts
        for way, layer in _layers(text if isinstance(text, bytes) else text.encode())
        if pattern.search(layer)
        for name, form in forms.items()
        if form in layer
    ]


def _core(size: int) -> str:
    return "".join(secrets.choice(string.ascii_letters) for _ in range(size))


def _forms(core: str) -> dict[str, bytes]:
    plain = core.encode()
    forms = {"plain": plain, "hex": plain.hex().encode(), "HEX": plain.hex().upper().encode()}
    forms["UTF-16"] = core.encode("utf-16-le")
    for offset in range(3):
        # The characters at the ends also depend on what stands before and behind.
        coded = base64.b64encode(b"\0" * offset + plain)
        forms[f"base64+{offset}"] = coded[(0, 2, 3)[offset] : len(coded.rstrip(b"=")) - (1 if b"=" in coded else 0)]
    return forms


def _any_of(forms: Iterable[Mapping[str, bytes]]) -> re.Pattern[bytes]:
    every = {form for each in forms for form in each.values()}
    return re.compile(b"|".join(re.escape(form) for form in sorted(every)))


# Bytes that are unpacked of one stream at most, and how many layers may lie within each other.
MOST, DEEPEST = 1 << 25, 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}(?:(?:\r?\n|\\n)[A-Za-z0-9+/_-]+)*")
_HEX = re.compile(rb"[0-9A-Fa-f]{16,}")
_ESCAPE = re.compile(rb"\\u00([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|%([0-9A-Fa-f]{2})|\\/")
_PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]|\x28\xb5\x2f\xfd|\xfd7zXZ\0|BZh[1-9]1AY&SY")


def _layers(data: bytes, way: str = "", depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The data, and all that it is another form of, with how that was found."""
    yield way, data
    if depth == DEEPEST:
        return
    if _ESCAPE.search(data):
        yield from _layers(_ESCAPE.sub(_unescaped, data), f"{way}escaped: ", depth + 1)
    for start in _PACKED.finditer(data):
        name, inner = _unpacked(data, start)
        if inner:
            yield from _layers(inner, f"{way}{name}: ", depth + 1)
    # What is but one of these is a form of the word itself; here only what is packed within counts.
    for coded in _BASE64.finditer(data):
        text = re.sub(rb"\r?\n|\\n", b"", coded[0]).translate(bytes.maketrans(b"-_", b"+/"))
        for offset in range(4):
            whole = text[offset : len(text) - (len(text) - offset) % 4]
            rest = text[len(whole) + offset :]
            with contextlib.suppress(binascii.Error):
                inner = base64.b64decode(whole + (rest + b"==")[: 4 if len(rest) > 1 else 0])
                if _PACKED.search(inner):
                    yield from _layers(inner, f"{way}base64: ", depth + 1)
    for coded in _HEX.finditer(data):
        for offset in range(2):
            whole = coded[0][offset : len(coded[0]) - (len(coded[0]) - offset) % 2]
            inner = bytes.fromhex(whole.decode())
            if _PACKED.search(inner):
                yield from _layers(inner, f"{way}hex: ", depth + 1)


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1] or found[2] or found[3]
    return bytes.fromhex(code.decode()) if code else b"/"


def _unpacked(data: bytes, start: re.Match[bytes]) -> tuple[str, bytes]:
    packed = data[start.start() :]
    if packed.startswith(b"\x28\xb5"):
        # What stands behind the stream is an error, and what came before it is there all the same.
        done = subprocess.run(["zstd", "-dc", "--memory=64MB"], input=packed, capture_output=True, check=False)
        return "zstd", done.stdout[:MOST]
    if packed.startswith(b"\xfd7z"):
        return "xz", _pieces(lzma.LZMADecompressor(), packed)
    if packed.startswith(b"BZh"):
        return "bzip2", _pieces(bz2.BZ2Decompressor(), packed)
    # 32: a header of either.
    return ("gzip" if packed.startswith(b"\x1f") else "zlib"), _pieces(zlib.decompressobj(wbits=47), packed)


def _pieces(decoder: Any, packed: bytes) -> bytes:
    """What can be unpacked, up to where it is cut off or damaged."""
    found = b""
    with contextlib.suppress(zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
        for at in range(0, len(packed), 512):
            found += decoder.decompress(packed[at : at + 512])
            if decoder.eof or len(found) > MOST:
                break
    return found


@dataclass
class Processes:
    """seen: command lines and environments with words in them. looks: how often all processes were looked at."""

    seen: dict[str, Seen] = field(default_factory=dict)
    looks: int = 0
    known: int = 0


@contextlib.contextmanager
def watched(canaries: Canaries, environ: bool = True) -> Iterator[Processes]:
    """Look at the command lines and environments of all processes, as fast as this one may, while the body runs."""
    processes = Processes()
    over = threading.Event()
    known: dict[tuple[str, bytes], bytes] = {}

    def look() -> None:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                line = (entry / "cmdline").read_bytes()
                if known.get((entry.name, line)) is not None:
                    continue
                around = (entry / "environ").read_bytes() if environ else b""
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            known[entry.name, line] = around
            for what, data in (("command line", line), ("environment", around)):
                seen = canaries.seen(data)
                if seen:
                    processes.seen[f"{what} of {line.replace(bytes(1), b' ')[:300]!r}"] = seen

    def go_on() -> None:
        while not over.is_set():
            look()
            processes.looks += 1
            # Lets the one that is looked at have the processor, too.
            time.sleep(0.005)

    watcher = threading.Thread(target=go_on)
    watcher.start()
    try:
        yield processes
    finally:
        over.set()
        watcher.join()
        look()
        processes.known = len(known)


# A command that sees /dev with a log to which what it says goes: this machine's own /dev is not for tests to add to.
WITH_SYSLOG = """
set -eu
socket=$1 dev=$2; shift 2
mount -t tmpfs -o mode=755 tmpfs "$dev"
for path in /dev/*; do
    own=$dev/${path##*/}
    if [ -L "$path" ]; then cp -P "$path" "$own"
    elif [ "$path" = /dev/ptmx ]; then ln -s pts/ptmx "$own"  # one that is bound finds no pts beside it
    elif [ -d "$path" ]; then mkdir "$own"; mount --rbind "$path" "$own"
    else : > "$own"; mount --bind "$path" "$own"
    fi
done
: > "$dev/log"
mount --bind "$socket" "$dev/log"
mount --rbind "$dev" /dev
exec "$@"
"""


@contextlib.contextmanager
def syslog(place: Path) -> Iterator[tuple[list[str], list[str]]]:
    """What to put before a command, and the lines that it and its children send to syslog: complete at the end."""
    path, dev = place / "syslog", place / "dev"
    lines: list[str] = []
    dev.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))

        def read() -> None:
            while line := receiver.recv(1 << 20):
                lines.append(line.decode(errors="replace"))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield ["unshare", "--mount", "sh", "-c", WITH_SYSLOG, "sh", str(path), str(dev)], lines
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", str(path))
            reader.join()
            path.unlink()
            dev.rmdir()


def job_events(artifacts: Path) -> list[dict[str, object]]:
    """What ansible-runner keeps of a job, as AWX does."""
    return [json.loads(path.read_text()) for path in sorted(artifacts.glob("*/job_events/*.json"))]
