# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's root on its host: the context in it, what runs at boot, hostile links, and the tar of it."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Generator
from pathlib import Path

import pytest
from odd_files import dig
from openvz_host import Host

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    HypervisorError,
    ImageRefused,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import untrusted_trees
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import private_area
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import IdRange

INIT = '#!/bin/sh\necho booted >> "$(dirname "$0")/log"\n'


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path, monkeypatch)
    (found.private / "etc").mkdir(parents=True)
    (found.private / "mnt").mkdir()
    return found


def write(host: Host, files: dict[str, str], to: str = "/mnt", **variables: str) -> None:
    host.with_context(files, **variables)
    private_area.write_context(str(host.private), str(host.directory / "disk.1"), to)


def test_files_and_variables_are_where_the_context_says(host: Host) -> None:
    write(host, {"id_rsa.pub": "ssh-rsa AAAA\n", "init.sh": INIT})
    place = host.private / "mnt"
    assert (place / "id_rsa.pub").read_text(encoding="utf-8") == "ssh-rsa AAAA\n"
    assert "HOSTNAME='a.example.org'" in (place / "context.sh").read_text(encoding="utf-8")
    modes = {name: stat.S_IMODE((place / name).stat().st_mode) for name in os.listdir(place)}
    assert modes == {"id_rsa.pub": 0o600, "context.sh": 0o600, "init.sh": 0o700}
    write(host, {"a": "b"}, "/srv/deep/context")
    assert (host.private / "srv/deep/context/a").read_text(encoding="utf-8") == "b"
    # What the context before had is gone.
    assert os.listdir(place) == []


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '["/etc/kept", NaN]',
        '["/etc/kept", "\\ud800"]',
        '["/etc/kept", 1]',
        '["/etc/kept", "etc/x"]',
        '["/etc/kept", "/mnt/../etc/kept"]',
        '["/etc/kept", "/mnt/a\\u0000"]',
        '["/etc/kept", "/' + "x" * 4096 + '"]',
        '["/etc/kept", ' + ", ".join(f'"/{number}"' for number in range(4096)) + "]",
        '{"/etc/kept": 1}',
        '"/etc/kept"',
        "null",
        "[",
        "\xff",
    ],
)
def test_a_list_of_what_was_written_that_is_none_removes_nothing(host: Host, text: str) -> None:
    """It comes along when a container moves, and then it is another host's word."""
    record, kept = host.private.parent / private_area.WRITTEN, host.private / "etc/kept"
    kept.write_bytes(b"x")
    record.write_bytes(text.encode("latin-1"))
    write(host, {"a": "b"})
    assert kept.read_bytes() == b"x" and (host.private / "mnt/a").read_bytes() == b"b"
    record.write_text('["/etc/kept"]')
    write(host, {"a": "b"})
    assert not kept.exists()


@pytest.mark.parametrize("place", ["etc/rc.d/rc.local", "etc/rc.local"])
def test_its_init_runs_from_rc_local_once(host: Host, place: str) -> None:
    rc = host.private / place
    rc.parent.mkdir(exist_ok=True)
    write(host, {"init.sh": INIT})
    text = rc.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n") and text.count(private_area.BEGIN) == 1 and os.access(rc, os.X_OK)
    write(host, {"init.sh": INIT})
    assert rc.read_text(encoding="utf-8") == text
    subprocess.run(["sh", "-ec", text.replace('"/mnt/', f'"{host.private}/mnt/')], check=True)
    assert (host.private / "mnt/log").read_text(encoding="utf-8") == "booted\n"
    write(host, {"other": "x"})
    assert private_area.BEGIN not in rc.read_text(encoding="utf-8")


def test_what_stands_in_rc_local_stays_and_an_exit_stays_last(host: Host) -> None:
    rc = host.private / "etc/rc.local"
    rc.write_text("#!/bin/bash\ntouch /var/lock\nexit 0\n", encoding="utf-8")
    write(host, {"init.sh": "echo a\n"})
    lines = rc.read_text(encoding="utf-8").split("\n")
    assert lines[:2] == ["#!/bin/bash", "touch /var/lock"] and lines[-2:] == ["exit 0", ""]
    write(host, {})
    assert rc.read_text(encoding="utf-8") == "#!/bin/bash\ntouch /var/lock\nexit 0\n"


def test_where_systemd_is_the_init_a_unit_runs_it(host: Host) -> None:
    (host.private / "usr/lib/systemd").mkdir(parents=True)
    (host.private / "usr/lib/systemd/systemd").touch()
    (host.private / "lib").symlink_to("usr/lib")
    write(host, {"init.sh": INIT})
    unit = host.private / "etc/systemd/system/nebula-context.service"
    assert "/mnt/init.sh" in unit.read_text(encoding="utf-8")
    wanted = host.private / "etc/systemd/system/multi-user.target.wants/nebula-context.service"
    assert os.readlink(wanted) == "/etc/systemd/system/nebula-context.service"
    assert not (host.private / "etc/rc.local").exists()
    write(host, {})
    assert not unit.exists() and not wanted.is_symlink()


@pytest.mark.parametrize("link", ["mnt", "mnt/context.sh", "etc/rc.local", "etc", "etc/rc.d"])
@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_a_hostile_link_leads_nowhere(host: Host, tmp_path: Path, link: str, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("mine\n", encoding="utf-8")
    place = host.private / link
    if place.is_dir():
        place.rmdir()
    target = victim if "." in link else outside
    place.symlink_to(target if kind == "absolute" else os.path.relpath(target, place.parent))
    write(host, {"init.sh": INIT, "victim": "changed"})
    assert victim.read_text(encoding="utf-8") == "mine\n" and os.listdir(outside) == ["victim"]


def test_links_in_a_ring_are_an_error(host: Host) -> None:
    (host.private / "mnt").rmdir()
    (host.private / "mnt").symlink_to("/mnt")
    with pytest.raises(HypervisorError, match="the context in"):
        write(host, {"a": "b"})


def test_something_else_in_the_place_of_a_directory_is_an_error(host: Host) -> None:
    (host.private / "mnt").rmdir()
    os.mkfifo(host.private / "mnt")
    with pytest.raises(HypervisorError, match="the context in"):
        write(host, {"a": "b"})


def test_a_root_that_is_a_link_or_gone_is_not_entered(host: Host, tmp_path: Path) -> None:
    host.with_context({})
    with pytest.raises(NotFound, match="it is not there"):
        private_area.write_context(str(tmp_path / "none"), str(host.directory / "disk.1"), "/mnt")
    (tmp_path / "link").symlink_to(host.private)
    with pytest.raises(Exception, match="private area"):
        private_area.write_context(str(tmp_path / "link"), str(host.directory / "disk.1"), "/mnt")
    assert os.listdir(host.private / "mnt") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_are_the_containers_roots(host: Host) -> None:
    os.chown(host.private, 100000, 100000)
    write(host, {"init.sh": INIT}, "/new")
    for path in ("new", "new/init.sh", "new/context.sh", "etc/rc.local"):
        found = (host.private / path).stat()
        assert (found.st_uid, found.st_gid) == (100000, 100000), path


# -- the tar -----------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("base", [0, 100000])
def test_a_saved_root_has_the_owners_that_its_guest_sees(host: Host, base: int) -> None:
    root = host.private
    (root / "etc/shadow").write_text("x", encoding="utf-8")
    os.chmod(root / "etc/shadow", 0o640)
    (root / "etc/link").symlink_to("/etc/passwd")
    os.link(root / "etc/shadow", root / "etc/hard")
    for path, uid, gid in ((".", 0, 0), ("etc", 0, 0), ("mnt", 33, 34), ("etc/shadow", 0, 42), ("etc/link", 0, 0)):
        os.chown(root / path, base + uid, base + gid, follow_symlinks=False)
    private_area.save(str(root), str(host.directory / "disk.0"), "saving")
    with tarfile.open(host.directory / "disk.0") as tar:
        found = {entry.name: entry for entry in tar.getmembers()}
    owners = {name: (entry.uid, entry.gid) for name, entry in found.items()}
    assert owners["./mnt"] == (33, 34) and owners["./etc/shadow"] == (0, 42) and owners["."] == (0, 0)
    assert (found["./etc/link"].linkname == "/etc/passwd" and found["./etc/hard"].islnk()) or found[
        "./etc/shadow"
    ].islnk()
    assert found["./etc/shadow"].mode == 0o640
    assert sorted(os.listdir(host.directory)) == ["disk.0", "images"]


def test_what_can_not_be_saved_leaves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_area, "_count_files", lambda _root: (1 << 60, (set(), set())))
    with pytest.raises(Exception, match=r"room|free|MiB"):
        private_area.save(str(host.private), str(host.directory / "disk.0"), "saving")
    assert os.listdir(host.directory) == ["images"]


def test_what_is_unfinished_is_cleared_and_what_is_made_stays(host: Host) -> None:
    (host.private / "etc/a").touch()
    private_area.clear_unfinished(str(host.private))
    assert private_area.is_made(str(host.private))
    unfinished = host.private.with_name("private.tmp")
    unfinished.mkdir()
    private_area.clear_unfinished(str(host.private))
    assert private_area.is_made(str(host.private)) and not unfinished.exists()
    unfinished.symlink_to("/etc")
    private_area.clear_unfinished(str(host.private))
    assert unfinished.is_symlink()


@pytest.mark.parametrize("target", ["/etc", "../../../etc", "mnt", ""])
def test_devices_are_mounted_on_a_directory_of_the_root_alone(host: Host, target: str) -> None:
    private_area.check_mounts(str(host.private), "starting virtual machine 7")
    device = host.private / "dev"
    if target:
        device.symlink_to(target)
    else:
        os.mkfifo(device)
    with pytest.raises(HypervisorError, match=r"starting virtual machine 7: .*/dev: it is no directory"):
        private_area.check_mounts(str(host.private), "starting virtual machine 7")
    device.unlink()
    device.mkdir()
    private_area.check_mounts(str(host.private), "starting virtual machine 7")


def test_a_root_is_saved_however_deep_it_is_and_for_nobody_else(host: Host) -> None:
    dig(host.private, 1500)
    path = host.directory / "disk.0"
    private_area.save(str(host.private), str(path), "saving")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as tar:
        assert max(name.count("/d") for name in tar.getnames()) == 1500
    # Not left to what removes temporary directories: that can't.
    assert untrusted_trees.remove(str(host.private))


def test_what_an_unfinished_area_holds_goes_however_deep_it_is(host: Host) -> None:
    unfinished = host.private.with_name(host.private.name + ".tmp")
    unfinished.mkdir()
    dig(unfinished, 1500)
    private_area.clear_unfinished(str(host.private))
    assert not unfinished.exists()


# -- from another host -------------------------------------------------------------------------------------------------
WHOLE = IdRange(0, (1 << 32) - 1)


def archive(*members: tuple[str, bytes, str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind, target in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode, entry.devmajor, entry.devminor = kind, target, 0o4777, 1, 3
            tar.addfile(entry)
    return file.getvalue()


def blocks(data: bytes) -> Generator[bytes, None, None]:
    yield data


LINK, FILE, HARD, NODE, DIRECTORY = tarfile.SYMTYPE, tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE


@pytest.mark.root
@pytest.mark.parametrize(
    "members",
    [
        [("../x", FILE, "")],
        [("d/../../x", FILE, "")],
        [("../x", NODE, "")],
        [("l", LINK, "{victim}"), ("l/x", FILE, "")],
        [("l", LINK, "../../../victim"), ("l/x", FILE, "")],
        [("l", LINK, "{victim}"), ("l/x", NODE, "")],
        [("l", LINK, "{victim}"), ("l/x", DIRECTORY, "")],
        [("d", DIRECTORY, ""), ("d", LINK, "{victim}"), ("d/x", NODE, "")],
        [("n", NODE, ""), ("n", LINK, "{victim}/x")],
        [("h", HARD, "{victim}/file")],
        [("h", HARD, "../../../victim/file")],
        [("l", LINK, "{victim}/file"), ("h", HARD, "l"), ("h", FILE, "")],
        [("n", NODE, ""), ("h", HARD, "n")],
    ],
)
def test_what_another_host_sends_reaches_nothing_but_the_new_root(host: Host, members: list[tuple[str, bytes, str]]):
    """By whose archive it is unpacked, has the host's own ids: its root is this host's root."""
    victim = host.private.parents[2] / "victim"
    victim.mkdir()
    (victim / "file").write_text("of the host", encoding="utf-8")
    before = [(each, each.lstat().st_mtime_ns, each.lstat().st_nlink) for each in (victim, victim / "file")]
    untrusted_trees.remove(str(host.private))
    sent = archive(*((name, kind, target.format(victim=victim)) for name, kind, target in members))
    try:
        private_area.take_in(blocks(sent), str(host.private), WHOLE, "disk 0", 60)
        refused = False
    except ImageRefused as error:
        refused = str(error).startswith("disk 0: ")
    assert [(each, each.lstat().st_mtime_ns, each.lstat().st_nlink) for each in (victim, victim / "file")] == before
    assert os.listdir(victim) == ["file"] and (victim / "file").read_text(encoding="utf-8") == "of the host"
    # Whole or not at all.
    left = ["private"] if not refused else []
    assert sorted(os.listdir(host.private.parent)) == left


@pytest.mark.root
def test_a_private_area_that_is_there_stays(host: Host) -> None:
    with pytest.raises(Conflict, match="something is there"):
        private_area.take_in(blocks(archive(("f", FILE, ""))), str(host.private), WHOLE, "disk 0", 60)
    assert sorted(os.listdir(host.private)) == ["etc", "mnt"]


def test_an_empty_one_is_none_and_makes_room_for_vzctl_s(host: Host) -> None:
    untrusted_trees.remove(str(host.private))
    assert private_area.size(str(host.private), "disk 0") == 0
    private_area.clear_unfinished(str(host.private))
    host.private.mkdir()
    private_area.clear_unfinished(str(host.private))
    assert not host.private.exists()
    host.private.symlink_to(host.directory)
    private_area.clear_unfinished(str(host.private))
    assert host.private.is_symlink()
