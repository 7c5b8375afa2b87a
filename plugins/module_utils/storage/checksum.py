# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads checksums of files as users write them: algorithm:digest."""

from __future__ import annotations

from ..dataclass import dataclass
from ..errors import InvalidValue

# How many hexadecimal digits a digest of each algorithm has.
ALGORITHMS = {"sha256": 64, "sha512": 128, "sha384": 96, "sha224": 56, "sha1": 40, "md5": 32}


@dataclass(frozen=True)
class Checksum:
    """Is a digest that a file is to have."""

    algorithm: str
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"

    @classmethod
    def parse(cls, text: str, what: str) -> Checksum:
        """Return what a user wrote; raise InvalidValue for what is no checksum. what: how errors name the object."""
        algorithm, colon, digest = text.strip().lower().partition(":")
        if not colon or algorithm not in ALGORITHMS:
            raise InvalidValue(
                f"{what}: checksum {text!r}",
                f"{algorithm!r} is no algorithm known here" if colon else "it names no algorithm",
                f"Write it as sha256:DIGEST; known are {', '.join(ALGORITHMS)}",
            )
        if len(digest) != ALGORITHMS[algorithm] or set(digest) - set("0123456789abcdef"):
            raise InvalidValue(
                f"{what}: checksum {text!r}",
                "the part after the colon is not a digest of this algorithm",
                f"{algorithm} has {ALGORITHMS[algorithm]} hexadecimal digits",
            )
        return cls(algorithm, digest)
