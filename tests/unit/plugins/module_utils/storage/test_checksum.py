# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checksums as users write them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.storage.checksum import ALGORITHMS, Checksum

WHAT = "image demo"


@given(st.sampled_from(sorted(ALGORITHMS)), st.data())
@settings(max_examples=30, deadline=None)
def test_a_checksum_reads_back_as_it_is_written(algorithm, data):
    digits = st.text("0123456789abcdef", min_size=ALGORITHMS[algorithm], max_size=ALGORITHMS[algorithm])
    checksum = Checksum(algorithm, data.draw(digits))
    assert Checksum.parse(str(checksum), WHAT) == checksum
    assert Checksum.parse(f"  {str(checksum).upper()}\n", WHAT) == checksum


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_has_the_digits_that_it_has(algorithm):
    digest = hashlib.new(algorithm, b"", usedforsecurity=False).hexdigest()
    assert Checksum.parse(f"{algorithm}:{digest}", WHAT) == Checksum(algorithm, digest)


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        ("", "it names no algorithm", "Write it as sha256:DIGEST; known are sha256, sha512"),
        ("a" * 64, "it names no algorithm", "Write it as sha256:DIGEST"),
        ("crc32:abcd", "'crc32' is no algorithm known here", "known are sha256, sha512"),
        (":abcd", "'' is no algorithm known here", "Write it as sha256:DIGEST"),
        ("md5:abc", "not a digest of this algorithm", "md5 has 32 hexadecimal digits"),
        ("sha256:" + "a" * 63, "not a digest of this algorithm", "sha256 has 64 hexadecimal digits"),
        ("sha256:" + "g" * 64, "not a digest of this algorithm", "sha256 has 64 hexadecimal digits"),
        ("sha256:" + "a" * 65, "not a digest of this algorithm", "sha256 has 64 hexadecimal digits"),
    ],
)
def test_a_checksum_that_is_none(text, found, remedy):
    with pytest.raises(InvalidValue) as caught:
        Checksum.parse(text, WHAT)
    assert caught.value.asked == f"{WHAT}: checksum {text!r}"
    assert found in caught.value.found and remedy in caught.value.remedy
