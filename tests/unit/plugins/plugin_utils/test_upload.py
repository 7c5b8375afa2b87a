# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the chunks of an upload are, and what is said of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils import upload
from ansible_collections.nebula.provision.plugins.plugin_utils.upload import (
    CHUNK,
    LARGEST,
    MIB,
    SMALLEST,
    next_chunk_size,
)


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
    assert next_chunk_size(size, seconds) == expected


@pytest.mark.parametrize("speed", [0.2 * MIB, 2 * MIB, 20 * MIB, 2000 * MIB])
def test_it_settles(speed):
    size, sizes = CHUNK, []
    for _chunk in range(12):
        size = next_chunk_size(size, size / speed)
        sizes.append(size)
    assert len(set(sizes[-4:])) == 1
    assert upload.QUICK <= size / speed <= upload.SLOW or size in (SMALLEST, LARGEST)


def test_it_says_how_far_it_has_come(tmp_path, monkeypatch):
    """On a clock of its own: each chunk takes three seconds."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(30)
    clock, said, received = iter(range(0, 100, 3)), [], iter((12, 20, 30))
    monkeypatch.setattr(upload, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(upload, "Display", lambda: SimpleNamespace(display=said.append))
    action = SimpleNamespace(
        _connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp/x", join_path="{}/{}".format)),
        _transfer_file=lambda _local, _remote: None,
        _fixup_perms2=lambda _paths: None,
        _execute_module=lambda **_how: {"received": next(received)},
    )
    sender = upload.Sender(action, "nebula.provision.nebula_image", None, {})
    assert sender.send("disk", upload.LocalFile.of(str(path)), 0) is None
    assert said == [f"nebula_image: disk {percent} % sent at 0 MB/s" for percent in (40, 66, 100)]
