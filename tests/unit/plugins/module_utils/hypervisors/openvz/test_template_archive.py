# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image may have in it before vzctl unpacks it as root, and its scripts work on it from outside."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import template_archive
from ansible_collections.nebula.provision.plugins.module_utils.storage import tar_reader
from ansible_collections.nebula.provision.plugins.module_utils.storage.roots import Limits
from ansible_collections.nebula.provision.plugins.module_utils.storage.tar_reader import Entry

DIRECTORY, LINK, HARD, PIPE = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE
Member = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"") -> Member:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, target, len(content)
    found.mode, found.mtime = 0o755, 7
    return found, content


def packed(*entries: Member) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for found, content in (entry("./", DIRECTORY), entry("./etc", DIRECTORY), *entries):
            tar.addfile(found, io.BytesIO(content))
    return file.getvalue()


def screened(tmp_path: Path, data: bytes) -> int:
    path = tmp_path / "image"
    path.write_bytes(data)
    return template_archive.check_archive(str(path), "OS template debian-12")


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([entry("../x")], r"'../x' leads out of where it is"),
        ([entry("a/../../x")], r"leads out"),
        ([entry("a", HARD, "../etc/passwd")], r"'a' leads out of where it is \('../etc/passwd'\)"),
        ([entry("l", LINK, "/etc"), entry("l/passwd")], r"'l/passwd' is behind 'l', which is a link"),
        ([entry("l", LINK, "usr"), entry("l/x")], r"'l/x' is behind 'l'"),
        ([entry("d/x"), entry("d", LINK, "/etc")], r"'d' is a directory with something in it, and a link"),
        ([entry("l", LINK, "/etc"), entry("l", DIRECTORY)], r"'l' is in it as a link, and once more"),
        ([entry("d/x/y"), entry("d", LINK, "/etc"), entry("d/x/z")], r"'d' is a directory with something in it"),
        ([entry("d/" * 3000 + "x")], r"has 6001 bytes; tar, by which vzctl unpacks it, makes none of more than 4095"),
        ([entry(".", LINK, "/etc")], "its root is no directory"),
        ([entry("etc/crontab", LINK, "/etc/shadow")], r"'etc/crontab' is a link to '/etc/shadow', which leads out"),
        ([entry("etc/hosts", LINK, "../../etc/hosts")], "'etc/hosts' is a link to '../../etc/hosts'"),
        ([entry("etc/hosts", LINK, "there"), entry("etc/there", LINK, "/etc/x")], "'etc/there' is a link to '/etc/x'"),
        ([entry("etc/a", LINK, "/etc/x"), entry("etc/hosts", HARD, "etc/a")], "'etc/hosts' is a link to '/etc/x'"),
        ([entry("etc/hosts", LINK, "passwd"), entry("etc/passwd", LINK, "hosts")], "which leads out of it"),
        ([entry("etc/passwd", LINK, "/etc/shadow")], "'etc/passwd' is a link"),
        ([entry("etc/passwd.4711", LINK, "/etc/shadow")], "'etc/passwd.4711' is no file"),
        ([entry("etc/hosts", PIPE)], "'etc/hosts' is a device or a pipe"),
        ([entry("x", PIPE), entry("etc/hosts", HARD, "x")], "'etc/hosts' is a device or a pipe"),
        ([entry("etc/os-release", PIPE)], "'etc/os-release' is a device or a pipe"),
        ([entry("etc/cron.d", LINK, "/etc/cron.d")], "'etc/cron.d' is a link to '/etc/cron.d'"),
        ([entry("etc/cron.d", LINK, "../srv/jobs")], "'etc/cron.d' is a link to 'srv/jobs'"),
        ([entry("etc/cron.d/keys .ssh")], r"'etc/cron.d/keys .ssh' has a name that vzctl's scripts take for several"),
        ([entry("etc/cron.d/a\nb")], "has a name that vzctl's scripts take for several"),
        ([entry("etc/cron.d/*")], "has a name that vzctl's scripts take for several"),
        ([entry("etc/cron.d/x", LINK, "/etc/shadow")], "'etc/cron.d/x' is a link to '/etc/shadow'"),
        ([entry("etc/resolv.conf", LINK, "/run/nologin")], "'etc/resolv.conf' is a link to '/run/nologin'"),
        ([entry("etc/resolv.conf", LINK, "/run/../etc/cron.d/resolv.conf")], "'etc/resolv.conf' is a link"),
        ([entry("dev", LINK, "/etc")], "'dev' is a link to '/etc'"),
        ([entry("usr/bin/systemd-detect-virt", LINK, "/bin/sh")], "is a link to '/bin/sh', which leads out"),
        ([entry("bin", LINK, "usr/bin"), entry("usr/bin/ping", LINK, "/bin/sh")], "'usr/bin/ping' is a link"),
        ([entry("etc/debian_version"), entry("bin/ping", LINK, "/bin/busybox")], "'bin/ping' is a link"),
    ],
)  # fmt: skip
def test_what_would_lead_vzctl_out_is_refused(tmp_path: Path, entries: list[Member], found: str) -> None:
    with pytest.raises(ImageRefused, match=found) as caught:
        screened(tmp_path, packed(*entries))
    assert caught.value.asked == "OS template debian-12" and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "entries",
    [
        [entry("/etc/hosts", content=b"x")],
        [entry("bin", LINK, "usr/bin"), entry("usr/bin/ping", content=b"x"), entry("usr/bin/x", LINK, "/etc/x")],
        [entry("etc/os-release", LINK, "../usr/lib/os-release"), entry("usr/lib/os-release")],
        [entry("etc/resolv.conf", LINK, "../run/systemd/resolve/stub-resolv.conf")],
        [entry("etc/resolv.conf", LINK, "/run/resolvconf/resolv.conf")],
        [entry("bin/ping", LINK, "/bin/busybox")],
        [entry("etc/cron.d/e2scrub_all"), entry("etc/cron.d/.placeholder"), entry("etc/crontab")],
        [entry("dev/null", tarfile.CHRTYPE), entry("dev/initctl", PIPE), entry("a\nb"), entry("su")],
        [entry("etc/localtime", LINK, "/usr/share/zoneinfo/UTC"), entry("etc/l2", HARD, "etc/localtime")],
    ],
)
def test_what_systems_have_is_taken(tmp_path: Path, entries: list[Member]) -> None:
    assert screened(tmp_path, packed(*entries)) == sum(len(content) for _found, content in entries)


def test_half_an_archive_and_a_bomb_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed(entry("etc/large", content=bytes(100_000)))
    with pytest.raises(ImageRefused, match="it is truncated"):
        screened(tmp_path, data[: len(data) // 2])
    monkeypatch.setattr(template_archive, "Limits", lambda: Limits(size=99_999))
    with pytest.raises(ImageRefused, match="MiB of files"):
        screened(tmp_path, data)
    monkeypatch.undo()
    monkeypatch.setattr(template_archive, "MOST_LINKS", 2)
    with pytest.raises(ImageRefused, match="more than 2 links"):
        screened(tmp_path, packed(*(entry(f"l{number}", LINK, "x") for number in range(3))))


class Counting(dict[bytes, bytes]):
    looks = 0

    def __contains__(self, key: object) -> bool:
        self.looks += 1
        return super().__contains__(key)


def test_a_directory_is_looked_at_once_however_much_is_in_it() -> None:
    contents = template_archive.Contents("image", Limits())
    contents._links = Counting()
    for depth in range(1, 1000):
        contents.add(Entry(tar_reader.DIRECTORY, b"d/" * depth, b""))
    # Once as itself, once as what another is in.
    assert contents._links.looks < 3 * 1000


def test_what_is_packed_anew_is_the_same(tmp_path: Path) -> None:
    members = [
        entry("etc/" + "x" * 150, content=b"long name"),
        entry("l", LINK, "etc"),
        entry("dev/null", tarfile.CHRTYPE),
        entry("etc/hard", HARD, "etc/" + "x" * 150),
        entry("etc/pipe", PIPE),
    ]
    path = tmp_path / "image"
    path.write_bytes(packed(*members))
    for name in ("one", "other"):
        with (tmp_path / name).open("wb") as output:
            assert template_archive.check_archive(str(path), "x", output) == len(b"long name")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()

    def seen(file: Path) -> list[tuple[object, bytes | None]]:
        with tarfile.open(file) as tar:
            return [
                (
                    (os.path.normpath(each.name), each.type, each.mode, each.linkname, each.mtime, each.uid),
                    content.read() if each.isreg() and (content := tar.extractfile(each)) else None,
                )
                for each in tar
            ]

    assert seen(tmp_path / "one") == seen(path) and len(seen(path)) == 7
