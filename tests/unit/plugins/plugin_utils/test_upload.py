# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the chunks of an upload are."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils import upload
from ansible_collections.nebula.provision.plugins.plugin_utils.upload import CHUNK, LARGEST, MIB, SMALLEST, next_size


@pytest.mark.parametrize(
    ("size", "seconds", "expected"),
    [
        (CHUNK, 1, 2 * CHUNK),
        (CHUNK, 10, CHUNK),
        (CHUNK, 60, CHUNK // 2),
        (LARGEST, 1, LARGEST),
        (SMALLEST, 3600, SMALLEST),
    ],
)
def test_chunks_follow_the_network(size, seconds, expected):
    assert next_size(size, seconds) == expected


@pytest.mark.parametrize("speed", [0.2 * MIB, 2 * MIB, 20 * MIB, 2000 * MIB])
def test_it_settles(speed):
    size, sizes = CHUNK, []
    for _chunk in range(12):
        size = next_size(size, size / speed)
        sizes.append(size)
    assert len(set(sizes[-4:])) == 1
    assert upload.QUICK <= size / speed <= upload.SLOW or size in (SMALLEST, LARGEST)
