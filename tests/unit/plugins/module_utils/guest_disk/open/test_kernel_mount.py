# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root is found among what a disk holds, no link of it leads the context program out, and the daemon's answers are
understood.

A directory stands for the mounted root, and what programs print is written here, as mounting takes root;
tests/integration/test_guest_context_offline.py mounts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from appliance_stand_in import made

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ImageRefused,
    InvalidValue,
    MissingDependency,
    NotFound,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import kernel_mount as guest_mount
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open.kernel_mount import View, mounted_root
from ansible_collections.nebula.provision.plugins.module_utils.host.command import Completed

WHAT = "image web"
# What sfdisk --json prints of a disk.
TABLE = {"label": "gpt", "device": "/x", "unit": "sectors", "sectorsize": 512, "partitions": [
    {"node": "/x1", "start": 2048, "size": 4096, "type": "C12A"},
    {"node": "/x14", "start": 8192, "size": 10240, "type": "0FC6"},
]}  # fmt: skip
REFUSES = "mount: /x/root: wrong fs type, bad option, bad superblock on /dev/loop0."


@dataclass(frozen=True)
class Shown(View):
    """table: what sfdisk prints. kinds: offset → what blkid finds there. roots: offset → files of that file system;
    mounting fails where there are none. ran: all commands."""

    table: str = ""
    kinds: dict = field(default_factory=dict)
    roots: dict = field(default_factory=dict)
    ran: list = field(default_factory=list)

    def run(self, *argv, timeout=60.0, check=True):
        self.ran.append(argv)
        out, code, said = "", 0, ""
        if argv[0] == "sfdisk":
            out, code = self.table, 0 if self.table else 1
        elif argv[0] == "blkid":
            out = self.kinds.get(int(argv[argv.index("--offset") + 1]), "") + "\n"
        elif argv[0] == "mount":
            files = self.roots.get(self.where(argv))
            if files is None:
                code, said = 32, f"{REFUSES}\n"
            else:
                made(self.root(), files)
        elif argv[0] == "umount":
            self.root().rename(self.root().with_name(f"was-root-{len(self.ran)}"))
        return Completed(argv, code, out, said, 0.0)

    def root(self):
        return Path(self.path("root"))

    def where(self, argv):
        if self.block:
            return argv[-2]
        return int(argv[argv.index("-o") + 1].split("offset=")[1].split(",")[0])


@pytest.fixture
def shown(tmp_path):
    def build(table=TABLE, block=False, **rest):
        text = table if isinstance(table, str) else json.dumps({"partitiontable": table})
        return Shown(os.getpid(), str(tmp_path), "/x", block, text, **rest)

    return build


def partition(number, start, size=4096):
    return f"partition {number}", number, start * 512, size * 512


# --- the root file system --------------------------------------------------------------------------------------------


def test_the_first_with_the_marks_of_a_root_is_mounted_meanwhile(shown, tmp_path):
    view = shown(kinds={2048 * 512: "vfat", 8192 * 512: "ext4"}, roots={8192 * 512: {"etc/fstab": "# none\n"}})
    with mounted_root(view, WHAT):
        assert (tmp_path / "root/etc/fstab").exists()
    assert not (tmp_path / "root").exists()
    (mount,) = [argv for argv in view.ran if argv[0] == "mount"]
    assert mount == (
        "mount", "-t", "ext4", "-o",
        f"loop,offset={8192 * 512},sizelimit={10240 * 512},nosuid,nodev,noexec", "/x", str(tmp_path / "root"),
    )  # fmt: skip
    assert view.ran[-1] == ("umount", str(tmp_path / "root"))


def test_it_is_unmounted_after_an_error_too(shown):
    view = shown(table="", kinds={0: "ext4"}, roots={0: {"etc/os-release": "ID=a\n"}})
    with pytest.raises(ZeroDivisionError), mounted_root(view, WHAT):
        raise ZeroDivisionError
    assert view.ran[-1][0] == "umount"


def test_a_disk_without_a_table_is_mounted_whole(shown):
    view = shown(table="", kinds={0: "xfs"}, roots={0: {"usr/lib/os-release": "ID=a\n"}})
    with mounted_root(view, WHAT):
        pass
    assert "loop,offset=0,nosuid,nodev,noexec" in view.ran[2]


def test_a_block_device_has_its_partitions_already(shown, tmp_path):
    view = shown(block=True, kinds={2048 * 512: "ext4"}, roots={"/xp1": {"etc/fstab": "# none\n"}})
    with mounted_root(view, WHAT):
        pass
    assert ("mount", "-t", "ext4", "-o", "nosuid,nodev,noexec", "/xp1", str(tmp_path / "root")) in view.ran


@pytest.mark.parametrize("kind", ["", "swap", "LVM2_member", "crypto_LUKS", "linux_raid_member", "vfat", "iso9660"])
def test_what_is_no_root_is_not_mounted(shown, kind):
    view = shown(table="", kinds={0: kind}, roots={0: {"etc/fstab": "x"}})
    with pytest.raises(NotFound) as caught, mounted_root(view, WHAT):
        pass
    assert str(caught.value).startswith("image web: its root file system: none of what is in it has")
    assert f"whole disk: {kind or 'unknown'}" in caught.value.found and "libguestfs" in caught.value.remedy
    assert "mount" not in [argv[0] for argv in view.ran]


def test_all_that_was_tried_is_told(shown):
    view = shown(kinds={2048 * 512: "ntfs", 8192 * 512: "ext4"}, roots={8192 * 512: {"home/x": ""}})
    with pytest.raises(NotFound) as caught, mounted_root(view, WHAT):
        pass
    assert f"partition 1: ntfs ({REFUSES}), partition 14: ext4" in caught.value.found
    # The one that could be mounted is not left so.
    assert view.ran[-1][0] == "umount"


@pytest.mark.parametrize(
    ("table", "places"),
    [
        (TABLE, [partition(1, 2048), partition(14, 8192, 10240)]),
        ({**TABLE, "sectorsize": 4096}, [("partition 1", 1, 2048 * 4096, 4096 * 4096),
                                         ("partition 14", 14, 8192 * 4096, 10240 * 4096)]),
        ({"label": "dos", "partitions": []}, [("whole disk", 0, 0, 0)]),
        ({"label": "dos"}, [("whole disk", 0, 0, 0)]),
        ("", [("whole disk", 0, 0, 0)]),
        ("no json", [("whole disk", 0, 0, 0)]),
        ("[]", [("whole disk", 0, 0, 0)]),
        ({"partitions": [{"node": "/x", "start": 1, "size": 1}]}, [("whole disk", 0, 0, 0)]),
        ({"partitions": [{"node": "/x1", "size": 1}]}, [("whole disk", 0, 0, 0)]),
    ],
)  # fmt: skip
def test_partitions_as_sfdisk_tells_them(shown, table, places):
    assert guest_mount._places(shown(table)) == places


# --- files of the guest ----------------------------------------------------------------------------------------------


@pytest.fixture
def view(tmp_path):
    outside = made(tmp_path / "outside", {"secret": "the host's"})
    made(tmp_path / "root", {
        "etc/os-release": "ID=a\n", "etc/link": f"-> {outside}/secret", "etc/long": "x" * (64 * 1024 + 1),
        "etc/odd": b"a\xff",
    })  # fmt: skip
    os.mkfifo(tmp_path / "root/etc/pipe")
    (tmp_path / "root/etc/directory").mkdir()
    return View(os.getpid(), str(tmp_path), "/x")


@pytest.mark.parametrize(
    ("name", "text"),
    [("etc/os-release", "ID=a\n"), ("etc/link", ""), ("etc/gone", ""), ("etc/pipe", ""), ("etc/directory", ""),
     ("etc/odd", "a\ufffd")],
)  # fmt: skip
def test_a_file_is_read_and_a_link_is_not_followed(view, name, text):
    assert guest_mount.read(view, name) == text


@pytest.mark.parametrize("name", ["led/secret", "near/os-release", "etc/../etc/os-release"])
def test_no_link_on_the_way_to_a_file_is_followed(view, tmp_path, name):
    (tmp_path / "root/led").symlink_to(tmp_path / "outside")
    (tmp_path / "root/near").symlink_to("etc")
    assert guest_mount.read(view, name) == ""
    os.close(view.open(".", os.O_RDONLY | os.O_DIRECTORY))


def test_no_more_of_a_file_is_read_than_one_may_hold(view):
    assert len(guest_mount.read(view, "etc/long")) == 64 * 1024


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("UUID=a /usr ext4 defaults", "/usr"),
        ("UUID=a\t/usr/local/ ext4", "/usr/local/"),
        ("UUID=a /usr/share ext4", ""),
        ("# UUID=a /usr ext4", ""),
        ("UUID=a # /usr", ""),
        ("", ""),
        ("UUID=a", ""),
    ],
)
def test_a_directory_on_a_file_system_of_its_own(view, tmp_path, line, refused):
    made(tmp_path / "root", {"etc/fstab": f"UUID=b / ext4\n{line}\n"})
    if not refused:
        guest_mount.refuse_separate_file_systems(view, ("/usr", "/usr/local"), WHAT)
        return
    with pytest.raises(ImageRefused) as caught:
        guest_mount.refuse_separate_file_systems(view, ("/usr", "/usr/local"), WHAT)
    assert caught.value.found == f"its {refused} is on a file system of its own" and WHAT in caught.value.asked
    assert "Do without via: mount" in caught.value.remedy


@pytest.mark.parametrize(
    "links",
    [
        {},
        {"etc": None},
        {"etc/systemd/system": None, "lib": "-> usr/lib", "usr/lib/systemd": None},
        {"etc/init.d": "-> rc.d/init.d", "etc/rc.d/init.d": "-> ../other", "etc/other": None},
        {"etc/systemd": "-> ./../usr//lib", "usr/lib/system": "-> ../../etc", "etc/a": None},
        {"etc": "a file"},
    ],
)
def test_links_within_the_image_are_taken(tmp_path, links):
    made(tmp_path / "root", links)
    view = View(os.getpid(), str(tmp_path), "/x")
    for path in ("etc/systemd/system", "etc/init.d", "lib/systemd"):
        guest_mount._refuse_leading_out(view, path, WHAT)


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ({"etc": "-> /etc"}, "its /etc is a link to /etc, "),
        ({"etc/systemd": "-> /usr/lib"}, "its /etc/systemd is a link to /usr/lib, "),
        ({"etc/systemd": "-> ../../x"}, "its /etc/systemd/system is a link above its root, "),
        ({"etc": "-> usr", "usr/systemd": "-> /a"}, "its /usr/systemd is a link to /a, "),
        ({"etc/systemd": "-> systemd"}, "its /etc/systemd is a link to systemd, "),
        ({"etc/systemd/system": "-> ../../.."}, "its /etc/systemd/system is a link above its root, "),
    ],
)
def test_a_link_that_leads_out_of_the_image_is_refused(tmp_path, links, said):
    made(tmp_path / "root", links)
    with pytest.raises(ImageRefused) as caught:
        guest_mount._refuse_leading_out(View(os.getpid(), str(tmp_path), "/x"), "etc/systemd/system", WHAT)
    assert caught.value.found.startswith(said) and "which from this host leads out of the image" in caught.value.found
    assert "libguestfs" in caught.value.remedy


# --- the program -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answering(Shown):
    """done: how the program ended."""

    done: Completed | None = None

    def run(self, *argv, timeout=60.0, check=True):
        return self.done if argv[0] == "unshare" and self.done else super().run(*argv)


def installed(tmp_path, monkeypatch, returncode, out, err):
    view = Answering(os.getpid(), str(tmp_path), "/x", kinds={0: "ext4"},
                     roots={0: {"usr/lib/os-release": 'PRETTY_NAME="Alpine 3"\n'}},
                     done=Completed((), returncode, out, err, 0.0))  # fmt: skip
    monkeypatch.setattr(guest_mount, "export_as_file", lambda *_words: contextlib.nullcontext(view))
    return guest_mount.install(str(tmp_path), WHAT)


@pytest.mark.parametrize(("printed", "changed"), [("enabled\nchanged\n", True), ("unchanged\n", False)])
def test_what_came_of_the_program(tmp_path, monkeypatch, printed, changed):
    """What shows the disk to the kernel, which takes root, is put in place of the real one."""
    found = installed(tmp_path, monkeypatch, 0, printed, "")
    assert (found.changed, found.os) == (changed, "Alpine 3")


@pytest.mark.parametrize(
    ("code", "err", "said"),
    [(1, "sh: write error: No space left on device\n", "No space left on device"), (3, "", "it ended with code 3")],
)
def test_a_program_that_fails(tmp_path, monkeypatch, code, err, said):
    """What shows the disk to the kernel, which takes root, is put in place of the real one."""
    with pytest.raises(CommandFailed) as caught:
        installed(tmp_path, monkeypatch, code, "changed\n", err)
    assert said in str(caught.value) and str(caught.value).startswith("image web: installing the context program")
    assert "full or damaged" in caught.value.remedy


# --- the daemon ------------------------------------------------------------------------------------------------------

GREETING = '{"QMP": {"version": {}, "capabilities": []}}'


@pytest.fixture
def daemon():
    """A program in the place of qemu-storage-daemon, which answers as QMP tells."""
    started = []

    def begin(script):
        pipe = subprocess.PIPE
        process = subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        started.append(process)
        return guest_mount._Daemon(process, WHAT)

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_a_request_is_done_when_it_is_answered(daemon):
    """What it says of itself, and of events, is no answer."""
    talk = daemon(
        f"echo '{GREETING}'; read asked; "
        'test "$asked" = \'{"execute": "quit", "arguments": {"a": 1}}\' || exit 5; '
        """echo '{"event": "SHUTDOWN"}'; echo '{"return": {}}'"""
    )
    talk.ask("quit", {"a": 1})
    talk.wait()


def test_answers_that_come_together_are_told_apart(daemon):
    talk = daemon("""printf '{"return": {}}\\n{"error": {"desc": "no such node"}}\\n'; cat""")
    talk.ask("one")
    with pytest.raises(CommandFailed, match=r"image web: showing it as a file, by qemu-storage-daemon: no such node"):
        talk.ask("two")


@pytest.mark.parametrize("said", ["Failed to mount FUSE session to export", "fuse: device not found"])
def test_a_kernel_without_fuse_is_something_that_is_missing(daemon, said):
    talk = daemon(f"""echo '{{"error": {{"desc": "{said}"}}}}'; cat""")
    with pytest.raises(MissingDependency, match=r"Load the kernel's module fuse"):
        talk.ask("block-export-add")


def test_a_daemon_that_ends_tells_why(daemon):
    talk = daemon("echo 'qemu-storage-daemon: no such disk' >&2; exit 1")
    with pytest.raises(CommandFailed, match=r"no such disk"):
        talk.ask("qmp_capabilities")


def test_a_daemon_that_ends_with_an_error_has_not_written_all(daemon):
    with pytest.raises(CommandFailed, match=r"it ended with code 4"):
        daemon("exit 4").wait()


def test_a_daemon_that_says_nothing(daemon, monkeypatch):
    """The time that it has is made short."""
    monkeypatch.setattr(guest_mount, "TIMEOUT", 0.05)
    talk = daemon("cat")
    with pytest.raises(TimedOut, match=r"image web: qemu-storage-daemon: no answer after 0.05 s"):
        talk.ask("quit")
    with pytest.raises(TimedOut):
        talk.wait()


def test_nobody_but_root_mounts(monkeypatch):
    """Who runs this is what is put in place of the real one."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidValue, match=r"image web: mounting it: only root can mount. Run this task with become"):
        guest_mount.require(WHAT)


def test_a_file_of_the_session_is_its_own(tmp_path):
    guest_mount._make_file(str(tmp_path / "disk"))
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        guest_mount._make_file(str(tmp_path / "disk"))
