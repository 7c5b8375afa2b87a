# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A word that is planted as a secret is found in whatever form it turns up, and nothing else is taken for it."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import os
import subprocess
import zlib

import pytest
from canaries import Canaries, ways

WORD = "CanaryWordQq"
TEXT = f"password: {WORD}\nand more, " * 3


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


def wrapped(data: bytes) -> bytes:
    return base64.encodebytes(data)


FORMS = {
    "plain": lambda data: data,
    "base64": base64.b64encode,
    "base64 at another alignment": lambda data: base64.b64encode(b"x" + data),
    "base64 at the third": lambda data: base64.b64encode(b"xy" + data),
    "base64 for URLs": base64.urlsafe_b64encode,
    "hex": lambda data: data.hex().encode(),
    "UTF-16": lambda data: data.decode().encode("utf-16-le"),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zlib, little of it": lambda data: zlib.compress(data, 1),
    "zstd": zstd,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "JSON": lambda data: json.dumps({"a": data.decode()}).encode(),
    "JSON with every letter as a number": lambda data: b"".join(b"\\u%04x" % each for each in data),
    "a byte string as Python shows it": lambda data: "".join(f"\\x{each:02x}" for each in data).encode(),
    "a URL": lambda data: "".join(f"%{each:02X}" for each in data).encode(),
    "zlib in base64": lambda data: base64.b64encode(zlib.compress(data)),
    "gzip in base64 of many lines": lambda data: wrapped(gzip.compress(data + os.urandom(200))),
    "the same in JSON": lambda data: json.dumps(wrapped(gzip.compress(data + os.urandom(200))).decode()).encode(),
    "zstd in hex": lambda data: zstd(data).hex().encode(),
    "gzip in gzip": lambda data: gzip.compress(gzip.compress(data)),
    "base64 in gzip": lambda data: gzip.compress(base64.b64encode(data)),
    "base64 in escaped JSON in base64 of zlib": lambda data: base64.b64encode(
        zlib.compress(json.dumps(json.dumps(base64.b64encode(data).decode())).encode())
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_word_is_found(form):
    found = FORMS[form](TEXT.encode())
    around = b"(0, b'said: " + found + b"', b'')"
    assert ways(WORD, found), form
    assert ways(WORD, around), form
    assert ways("CanaryWxrdQq", around) == []


@pytest.mark.parametrize("form", ["gzip", "zlib", "zstd", "zlib in base64"])
def test_a_word_is_found_in_what_is_cut_off(form):
    found = FORMS[form]((TEXT + "x" * 100_000).encode())
    assert ways(WORD, found[: len(found) - 4])


def test_what_is_no_such_form_is_passed_over():
    assert ways(WORD, os.urandom(300_000), "\x1f\x8b\x08 no gzip", "%zz \\u12", b"\x28\xb5\x2f\xfd no zstd") == []


def test_each_place_is_told_with_its_form():
    canaries = Canaries("first", "second", short=8)
    told = f"{canaries['first']} {gzip.compress(canaries['second'].encode()).hex()}"
    assert canaries.seen(told) == {"first": ["plain"], "second": ["hex: gzip: plain"]}
    assert canaries.seen(["nothing", "at all"]) == {}
