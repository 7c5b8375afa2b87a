# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what a request for a certificate may be, which comes from a host that anybody may have taken over. Pure.

A request of ours (certificates.request) has one form: a key on the curve P-256, the host's name as its only
subject, and no attributes, in which extensions would be. It is compared with that, byte by byte, and not parsed."""

from __future__ import annotations

import base64
import binascii
import re

# One of ours has some 500 bytes.
LARGEST = 4096
_PEM = re.compile(
    r"(?:# [^\n]*\n)?-----BEGIN CERTIFICATE REQUEST-----\n(?P<body>[A-Za-z0-9+/=\n]+)"
    r"-----END CERTIFICATE REQUEST-----\n?\Z"
)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n(?P<body>[A-Za-z0-9+/=\n]+)-----END CERTIFICATE-----")
_VERSION = bytes.fromhex("020100")
_COMMON_NAME = bytes.fromhex("0603550403")
# UTF8String, which openssl writes, and PrintableString, which it may be told to.
_STRINGS = (0x0C, 0x13)
# A public key on P-256, up to its point, which is not compressed.
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_POINT = 64
_NO_ATTRIBUTES = bytes.fromhex("a000")


def problem(name: str, text: str) -> str:
    """Return why this is no request of the host of that name, "" if it is. Whether its signature is right is not
    looked at."""
    if len(text) > LARGEST:
        return f"its request has {len(text)} characters, and one of this collection has at most {LARGEST}"
    found = _decoded(_PEM.match(text))
    if found is None:
        return "its request is nothing that openssl writes as a request in PEM"
    content = _signed_part(found)
    for string in _STRINGS:
        head = _VERSION + _subject(name, string) + _P256
        if content.startswith(head):
            rest = content[len(head) + _POINT :]
            if rest in (_NO_ATTRIBUTES, b""):
                return ""
            return "its request has attributes or extensions, which one of this collection has not"
    if any(content.startswith(_VERSION + _subject(name, string)) for string in _STRINGS):
        return "its request is for a key of another kind than this collection makes (P-256)"
    return f"its request is not for the subject CN={name}"


def public_key(text: str) -> bytes:
    """Return the public key of a request; b"" if the text is no request."""
    content = _signed_part(_decoded(_PEM.match(text)) or b"")
    start = content.find(_P256)
    return content[start + len(_P256) :][:_POINT] if start >= 0 else b""


def has_key(certificate: str, key: bytes) -> bool:
    """Return whether the certificate (PEM) is for that public key."""
    return bool(key) and key in (_decoded(_CERTIFICATE.search(certificate)) or b"")


def _subject(name: str, string: int) -> bytes:
    return _der(0x30, _der(0x31, _der(0x30, _COMMON_NAME + _der(string, name.encode("ascii", "replace")))))


def _der(tag: int, content: bytes) -> bytes:
    """Return a value in DER. The content has less than 128 bytes, as a name has at most 64."""
    return bytes([tag, len(content)]) + content


def _signed_part(request: bytes) -> bytes:
    """Return what is signed of the request, without the head of the sequence."""
    return _sequence_content(_sequence_content(request) or b"") or b""


def _sequence_content(value: bytes) -> bytes | None:
    """Return the content of a sequence that is at the beginning of value."""
    if len(value) < 2 or value[0] != 0x30:
        return None
    size, start = value[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(value[2:start], "big")
    return value[start : start + size]


def _decoded(match: re.Match[str] | None) -> bytes | None:
    if match is None:
        return None
    try:
        return base64.b64decode(match["body"], validate=False)
    except (binascii.Error, ValueError):
        return None
