# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from move_pairs import PATIENCE, Beside, channels, trickle

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NebulaError,
    OtherHostFailed,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import file_streams
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import BLOCK, Channel

MIB = 1 << 20
BLOCK_OF_FILES = 4096


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Channel, Channel]]:
    with channels() as pair:
        yield pair


@pytest.fixture
def fresh() -> Iterator[tuple[Channel, Channel]]:
    """For what leaves a connection that is good for nothing."""
    with channels() as pair:
        yield pair


def carried(both: tuple[Channel, Channel], path: Path, to: Path, limit: int = 1 << 40, most: int | None = None) -> str:
    """Send the file, and take it in. Return the name that it comes with."""
    left, right = both
    sending = Beside(lambda: file_streams.send(left, "disk.0", str(path), soon(), most))
    header = right.receive(PATIENCE)
    file_streams.receive(right, header, str(to), limit, soon())
    sending.result()
    return str(header["file"])


def soon(seconds: float = PATIENCE) -> float:
    return time.monotonic() + seconds


def sparse(path: Path, size: int, data: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for place, content in data.items():
            file.seek(place)
            file.write(content)


# -- whole files ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "data"),
    [
        (0, {}),
        (1, {0: b"x"}),
        (5, {}),
        (64 * MIB, {}),
        (64 * MIB, {0: b"first", 64 * MIB - 4: b"last"}),
        (64 * MIB + 7, {20 * MIB: os.urandom(MIB + 3), 64 * MIB: b"odd end"}),
        (18 * MIB, {0: os.urandom(18 * MIB)}),
        (BLOCK + 1, {0: os.urandom(BLOCK + 1)}),
    ],
)
def test_a_file_comes_as_it_is(
    both: tuple[Channel, Channel], tmp_path: Path, size: int, data: dict[int, bytes]
) -> None:
    path, to = tmp_path / "a", tmp_path / "b"
    sparse(path, size, data)
    assert carried(both, path, to) == "disk.0"
    assert to.read_bytes() == path.read_bytes()
    assert to.stat().st_blocks <= path.stat().st_blocks + 2 * BLOCK_OF_FILES // 512
    assert to.stat().st_mode & 0o777 == 0o600


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 300_000),
    st.dictionaries(st.integers(0, 290_000), st.binary(min_size=1, max_size=9000), max_size=6),
    st.one_of(st.none(), st.integers(0, 310_000)),
)
def test_whatever_it_holds(
    both: tuple[Channel, Channel], tmp_path: Path, size: int, data: dict[int, bytes], most: int | None
) -> None:
    path, to = tmp_path / "a", tmp_path / "b"
    to.unlink(missing_ok=True)
    sparse(path, size, data)
    carried(both, path, to, most=most)
    whole = path.read_bytes()
    assert to.read_bytes() == (whole if most is None else whole[max(0, len(whole) - most) :])


def test_of_a_log_the_end_comes(both: tuple[Channel, Channel], tmp_path: Path) -> None:
    path, to = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"early" + b"late")
    carried(both, path, to, limit=4, most=4)
    assert to.read_bytes() == b"late"


def test_a_file_that_is_cut_meanwhile_has_zeroes_for_what_is_gone(
    both: tuple[Channel, Channel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A console's log, which is begun anew when it is full."""
    path, to = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"x" * (3 * BLOCK))
    read, cut = os.pread, []

    def reading(fd: int, size: int, place: int) -> bytes:
        if place >= BLOCK and not cut:
            cut.append(place)
            os.truncate(path, BLOCK)
        return read(fd, size, place)

    monkeypatch.setattr(os, "pread", reading)
    carried(both, path, to)
    assert cut
    assert to.read_bytes() == b"x" * BLOCK + bytes(2 * BLOCK)


def test_a_file_that_grows_meanwhile_comes_as_it_was(
    both: tuple[Channel, Channel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, to = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"x" * 100)
    read = os.pread

    def reading(fd: int, size: int, place: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"y" * 1000)
        return read(fd, size, place)

    monkeypatch.setattr(os, "pread", reading)
    carried(both, path, to)
    assert to.read_bytes() == b"x" * 100


def test_what_is_no_file_is_not_read(both: tuple[Channel, Channel], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    carried(both, tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b""
    (tmp_path / "secret").write_text("secret", encoding="ascii")
    (tmp_path / "link").symlink_to("secret")
    with pytest.raises(NebulaError):
        file_streams.send(both[0], "disk.0", str(tmp_path / "link"), soon())


def test_nothing_that_is_there_is_written_to(both: tuple[Channel, Channel], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(NebulaError):
        file_streams.receive(both[1], {"size": 1}, str(tmp_path / "a"), 1, soon())
    (tmp_path / "link").symlink_to("new")
    with pytest.raises(NebulaError):
        file_streams.receive(both[1], {"size": 1}, str(tmp_path / "link"), 1, soon())
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert not (tmp_path / "new").exists()


# -- what another host may send -------------------------------------------------------------------------------------
STRANGE: list[Any] = [-1, 11, 1 << 64, 10**400, 1.0, "1", True, None, [1], {}]


@pytest.mark.parametrize("size", STRANGE)
def test_a_file_of_another_size_is_refused(fresh: tuple[Channel, Channel], tmp_path: Path, size: Any) -> None:
    with pytest.raises(ForeignObject):
        file_streams.receive(fresh[1], {"size": size}, str(tmp_path / "b"), 10, soon())
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "message",
    [
        *({"at": value, "length": 1} for value in STRANGE),
        *({"at": 0, "length": value} for value in (0, *STRANGE)),
        {"at": 10, "length": 1},
        {"at": 5, "length": 6},
        {"length": 1},
        {"at": 1},
        {},
        {"file": "disk.1", "size": 1},
    ],
)
def test_bytes_at_another_place_are_refused(fresh: tuple[Channel, Channel], tmp_path: Path, message: Any) -> None:
    left, right = fresh
    left.send(**message)
    left.send_bytes(b"x" * 20)
    with pytest.raises(ForeignObject):
        file_streams.receive(right, {"size": 10}, str(tmp_path / "b"), 10, soon())
    assert (tmp_path / "b").read_bytes() == bytes(10)


@pytest.mark.parametrize(("end", "error"), [(Channel.close, HypervisorError), (lambda _left: None, OtherHostFailed)])
def test_a_host_that_ends_in_the_middle(
    fresh: tuple[Channel, Channel], tmp_path: Path, end: Callable[[Channel], None], error: type[Exception]
) -> None:
    left, right = fresh
    left.send(at=0, length=8)
    left.send_bytes(b"1234")
    end(left)
    with pytest.raises(error):
        file_streams.receive(right, {"size": 10}, str(tmp_path / "b"), 10, soon(0.2))


@pytest.mark.parametrize("second", [0, 3])
def test_no_byte_is_written_twice(fresh: tuple[Channel, Channel], tmp_path: Path, second: int) -> None:
    """It comes from front to end, and so it has an end."""
    left, right = fresh
    for place in (0, second):
        left.send(at=place, length=4)
        left.send_bytes(b"1234")
    with pytest.raises(ForeignObject):
        file_streams.receive(right, {"size": 10}, str(tmp_path / "b"), 10, soon())


def test_a_file_has_its_time(fresh: tuple[Channel, Channel], tmp_path: Path) -> None:
    left, right = fresh
    path = tmp_path / "a"
    path.write_bytes(b"x" * 10)
    with pytest.raises(TimedOut, match="nebula_move_timeout"):
        file_streams.send(left, "disk.0", str(path), time.monotonic() - 1)
    with pytest.raises(TimedOut):
        file_streams.receive(right, {"size": 10}, str(tmp_path / "b"), 10, time.monotonic() - 1)


def test_a_file_without_end_and_bytes_has_its_time(fresh: tuple[Channel, Channel], tmp_path: Path) -> None:
    """What comes is right, and always there already."""
    left, right = fresh
    lines = b"".join(b'{"at": %d, "length": 1}\nx' % place for place in range(1000))
    begun = time.monotonic()

    def send() -> None:
        place = 0
        while True:
            left.send_bytes(b"".join(b'{"at": %d, "length": 1}\nx' % each for each in range(place, place + 1000)))
            place += 1000

    left.send_bytes(lines)
    with pytest.raises(TimedOut, match="nebula_move_timeout"):
        file_streams.receive(right, {"size": 1 << 40}, str(tmp_path / "b"), 1 << 40, begun - 1)
    # No word was waited for.
    assert right.receive(PATIENCE) == {"at": 0, "length": 1}
    sending = Beside(send)
    right.close()
    with pytest.raises(OtherHostFailed):
        sending.result()


@pytest.mark.parametrize("size", [0, 1])
def test_a_host_that_takes_hardly_anything_does_not_keep_the_other_one(
    fresh: tuple[Channel, Channel], tmp_path: Path, size: int
) -> None:
    left, right = fresh
    path = tmp_path / "a"
    sparse(path, 1 << 30, {})
    with path.open("r+b") as file:
        file.write(bytes(64 * MIB))
    begun = time.monotonic()
    sending = Beside(lambda: file_streams.send(left, "disk.0", str(path), soon(1)))
    with trickle(right, size), pytest.raises(TimedOut, match="nebula_move_timeout"):
        sending.result()
    assert time.monotonic() - begun < PATIENCE / 3
