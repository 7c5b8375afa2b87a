# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a preparation are carried out in a guest, once, and no further than they say.

The appliance is a stand-in (tests/tools/appliance_stand_in.py); tests/integration/test_image_check.py has the real one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat

import odd_files as odd
import pytest
from appliance_stand_in import Appliance, Device, made

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, InvalidValue, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import Entry
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect.root_file_system import Root
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair import preparation, repair_steps
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair.preparation import STEPS, Spec
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair.repair_steps import (
    Empty,
    Link,
    Remove,
    Write,
)

WHAT = "image web"
LINUX = Root("linux", "/dev/sda1", ())
MACHINE_ID = "0123456789abcdef0123456789abcdef\n"
SYSTEM = {
    "etc/os-release": 'PRETTY_NAME="Debian 13"\n', "etc/machine-id": MACHINE_ID, "etc/fstab": "# none\n",
    "tmp/left": "x", "tmp/.left": "x", "usr/lib/systemd/systemd": "x", "root/.bash_history": "secret\n",
    "var/log/syslog": "line\n", "var/log/syslog.1": "line\n",
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return made(tmp_path / "root", SYSTEM)


@pytest.fixture
def talk(tmp_path, root):
    return Appliance({"/dev/sda1": Device({"TYPE": "ext4"}, root), "/dev/sda": Device()})


@pytest.fixture
def prepare(talk, tmp_path, monkeypatch):
    """An appliance that is started takes seconds: the stand-in comes in the place of one."""

    @contextlib.contextmanager
    def session(*_words, **_options):
        yield talk
        talk.mounted.clear()

    monkeypatch.setattr(preparation.guestfish, "session", session)

    def run(**spec):
        return preparation.prepare("overlay", "qcow2", str(tmp_path), Spec(**spec), WHAT)

    return run


def names(outcome):
    return [step.name for step in outcome.done]


# --- what is asked for -----------------------------------------------------------------------------------------------


def test_no_steps_are_all_of_them():
    assert all(Spec().asks(step) for step in STEPS)
    assert [step for step in STEPS if Spec(steps=("tmp", "files")).asks(step)] == ["tmp", "files"]


def test_files_come_last_and_the_context_first():
    assert (STEPS[0], STEPS[-1]) == ("context", "files") and set(repair_steps.STEPS) < set(STEPS)


def test_one_step_does_no_other(prepare, root):
    found = prepare(steps=("tmp",))
    assert (found.os, names(found)) == ("Debian 13", ["tmp"])
    assert list((root / "tmp").iterdir()) == [] and (root / "etc/machine-id").read_text() == MACHINE_ID


def test_a_step_with_nothing_to_do_is_not_told(prepare):
    assert names(prepare(steps=("tmp", "machine-id"))) == ["machine-id", "tmp"]
    assert names(prepare(steps=("tmp", "machine-id"))) == []


def test_all_steps_but_the_time_zone_that_nobody_gave(prepare, root):
    made(root, {"etc/localtime": "-> /usr/share/zoneinfo/Europe/Berlin"})
    found = prepare()
    assert {"personal", "tmp", "logs", "machine-id"} <= set(names(found)) and "timezone" not in names(found)
    assert (root / "etc/machine-id").read_text() == "" and not (root / "root/.bash_history").exists()
    assert (root / "var/log/syslog").read_text() == "" and not (root / "var/log/syslog.1").exists()


def test_the_time_zone_that_was_given(prepare, root):
    assert names(prepare(steps=("timezone",), timezone="Europe/Berlin")) == ["timezone"]
    assert str((root / "etc/localtime").readlink()) == "/usr/share/zoneinfo/Europe/Berlin"
    assert names(prepare(steps=("timezone",), timezone="Europe/Berlin")) == []


# --- the context program ---------------------------------------------------------------------------------------------

PRINTS = "PRETTY_NAME=x\n--- nebula-context ---\n"


def test_the_program_is_told_by_its_hash(prepare, talk, tmp_path):
    talk.prints = PRINTS + "changed\n"
    (step,) = prepare(steps=("context",), program="#!/bin/sh\n").done
    assert step.name == "context" and hashlib.sha256(b"#!/bin/sh\n").hexdigest() in step.after
    assert (tmp_path / "program").read_text() == "#!/bin/sh\n"
    talk.prints = PRINTS + "unchanged\n"
    assert prepare(steps=("context",), program="#!/bin/sh\n").done == ()


@pytest.mark.parametrize("spec", [{"steps": ("context",)}, {"steps": ("tmp",), "program": "#!/bin/sh\n"}])
def test_no_program_is_run_that_was_not_asked_for(prepare, talk, spec):
    prepare(**spec)
    assert "sh" not in talk.verbs()


def test_a_guest_that_takes_its_context_from_another_keeps_that(prepare, talk, root):
    made(root, {"usr/bin/cloud-init": "x"})
    assert prepare(steps=("context",), program="#!/bin/sh\n").done == () and "sh" not in talk.verbs()


def test_ours_is_looked_at_all_the_same(prepare, talk, root):
    talk.prints = PRINTS + "changed\n"
    made(root, {"usr/bin/cloud-init": "x", "usr/local/sbin/nebula-context": "x", "etc/rc.local": "nebula-context\n"})
    assert names(prepare(steps=("context",), program="#!/bin/sh\n")) == ["context"]


def test_why_the_program_could_not_be_run(prepare, talk):
    talk.fails["sh"] = "sh: /bin/sh: Exec format error"
    with pytest.raises(Unsupported, match=r"another processor"):
        prepare(steps=("context",), program="#!/bin/sh\n")


# --- files -----------------------------------------------------------------------------------------------------------

ENTRY = Entry("/etc/app/key", b"secret", 0o600, 5, 6)


def test_files_are_put_there_once(prepare, talk, root):
    (step,) = prepare(steps=("files",), files=(ENTRY,)).done
    # Neither the content nor its hash is told.
    assert (step.name, step.after) == ("files", "/etc/app/key: mode 0600, owner 5:6, 6 bytes")
    assert (root / "etc/app/key").read_bytes() == b"secret"
    assert prepare(steps=("files",), files=(ENTRY,)).done == ()


@pytest.mark.parametrize(
    "other",
    [
        Entry("/etc/app/key", b"secres", 0o600, 5, 6), Entry("/etc/app/key", b"secret", 0o640, 5, 6),
        Entry("/etc/app/key", b"secret", 0o600, 0, 6), Entry("/etc/app/key", b"secret", 0o600, 5, 0),
        Entry("/etc/app/key", b"secret+", 0o600, 5, 6),
    ],
)  # fmt: skip
def test_what_differs_is_put_there_again(prepare, other):
    prepare(steps=("files",), files=(ENTRY,))
    assert names(prepare(steps=("files",), files=(other,))) == ["files"]


def test_a_file_that_steps_would_clear_stays(prepare, root):
    entry = Entry("/tmp/kept", b"x")
    assert names(prepare(steps=("tmp", "files"), files=(entry,))) == ["tmp", "files"]
    made(root, {"tmp/again": "x"})
    assert names(prepare(steps=("tmp", "files"), files=(entry,))) == ["tmp"]
    assert [path.name for path in (root / "tmp").iterdir()] == ["kept"]
    # Where files are not asked for, nobody said that it is to stay.
    prepare(steps=("tmp",), files=(entry,))
    assert list((root / "tmp").iterdir()) == []


def test_a_path_that_is_none_is_refused(prepare):
    with pytest.raises(InvalidValue, match=r"image web: file 'etc/x'"):
        prepare(steps=("files",), files=(Entry("etc/x", b""),))


def windows(talk, tmp_path):
    place = made(tmp_path / "windows", {"Windows/System32/config/SYSTEM": "regf", "etc/app": None})
    talk.devices["/dev/sda1"] = Device({"TYPE": "ntfs"}, place)
    return place


def test_windows_gets_files_alone(prepare, talk, tmp_path):
    place = windows(talk, tmp_path)
    found = prepare(files=(ENTRY,), program="#!/bin/sh\n")
    assert (found.os, names(found)) == ("Windows", ["files"]) and (place / "etc/app/key").read_bytes() == b"secret"
    # It has neither our modes nor our owners.
    assert names(prepare(files=(ENTRY,))) == [] and "sh" not in talk.verbs()


def test_windows_takes_no_other_step(prepare, talk, tmp_path):
    windows(talk, tmp_path)
    with pytest.raises(Unsupported, match=r"image web: steps tmp, logs: it holds Windows.*docs/windows.md"):
        prepare(steps=("tmp", "logs", "files"))


@pytest.mark.parametrize("way", ["nbd", "loop"])
def test_the_other_ways_put_files_alone(prepare, way):
    with pytest.raises(
        Unsupported, match=rf"image web: via {way}: all steps but files are done by libguestfs.*\[files\]"
    ):
        prepare(steps=("files", "tmp"), via=way, trusted=True)


def test_without_libguestfs_files_alone_go_another_way(prepare, monkeypatch, tmp_path):
    """Which programs this host has, and what writes to a disk by its kernel, is put in place of the real ones."""
    asked = []

    def bring(path, format, entries, what, via, trusted):
        asked.append((path, format, via, trusted))
        return "loop", entries[:1]

    monkeypatch.setattr(preparation.file_injection, "inject_and_report", bring)
    monkeypatch.setattr(preparation.context_program, "present", lambda _program: False)
    found = prepare(steps=("files",), files=(ENTRY, Entry("/there", b"")), trusted=True)
    assert (found.os, names(found), asked) == ("", ["files"], [(f"{tmp_path}/overlay", "qcow2", "auto", True)])
    assert found.done[0].after.startswith("/etc/app/key:") and "/there" not in found.done[0].after
    # What is not trusted does not.
    assert names(prepare(steps=("files",), files=(ENTRY,))) == ["files"] and len(asked) == 1


# --- single edits ----------------------------------------------------------------------------------------------------


def apply(talk, root, edit):
    talk.mounted = {"/": root}
    preparation._apply(talk, edit, LINUX, WHAT)


def test_a_text_goes_into_the_file_that_is_there(talk, root):
    (root / "etc/fstab").chmod(0o600)
    apply(talk, root, Write("/etc/fstab", "new\udcff\n"))
    assert (root / "etc/fstab").read_bytes() == b"new\xff\n"
    assert stat.S_IMODE((root / "etc/fstab").stat().st_mode) == 0o600 and talk.owners == {}


def test_a_text_that_is_new_gets_its_mode_and_is_roots(talk, root):
    apply(talk, root, Write("/etc/init.d/x", "#!/bin/sh\n", 0o755))
    assert stat.S_IMODE((root / "etc/init.d/x").stat().st_mode) == 0o755
    assert talk.owners == {"/etc/init.d/x": (0, 0)}


def test_a_link_takes_the_place_of_what_is_there(talk, root):
    for target in ("/a", "/b"):
        apply(talk, root, Link("/etc/new/link", target))
        assert str((root / "etc/new/link").readlink()) == target


def test_a_file_is_emptied_and_stays(talk, root):
    apply(talk, root, Empty("/etc/machine-id"))
    assert (root / "etc/machine-id").read_bytes() == b""


def test_a_pattern_takes_what_it_names_and_spares_what_it_says(talk, root):
    made(root, {"tmp/lost+found/a": "", "tmp/dir/a": "", "tmp/kept/a": "", "tmp/with*star": "", "tmp/link": "-> /etc"})
    apply(talk, root, Remove("/tmp/*", but=("/tmp/kept/a",), many=True))
    assert {path.name for path in (root / "tmp").iterdir()} == {"lost+found", "kept", ".left"}
    assert (root / "etc/fstab").exists()


@pytest.mark.parametrize("kind", odd.KINDS)
def test_what_is_no_file_is_not_opened_to_be_emptied(talk, root, kind):
    """A log of such a name is known to be there, and not of which kind it is."""
    log = root / "var/log/syslog,"
    odd.put(log, kind)
    apply(talk, root, Empty("/var/log/syslog,"))
    assert not os.path.lexists(log)
    assert (root / "etc/fstab").read_text() == SYSTEM["etc/fstab"]


@pytest.mark.parametrize("kind", odd.KINDS)
def test_every_step_where_files_are_none(prepare, talk, root, kind):
    """All that a step would read or write is no file in another run: nothing is waited for."""
    made(root, {"var/log/messages": "x", "etc/shadow": "root:x:1:\n", "etc/ssh/ssh_host_rsa_key": "x",
                "var/lib/dbus/machine-id": MACHINE_ID, "etc/selinux/config": "SELINUX=enforcing\n"})  # fmt: skip
    paths = [path for path in root.rglob("*") if path.is_file() and path.name != "os-release"]
    for path in paths:
        path.unlink()
        odd.put(path, kind)
    prepare(timezone="Europe/Berlin", files=(Entry("/etc/motd", b"x"),))
    assert (root / "etc/motd").read_text() == "x"


@pytest.mark.parametrize("name", ["id_[x]", "id_*", "id_?", "id_{x,y}", "id_\\x", "id_\udcff", "id_\x85", "id_ x"])
def test_a_name_that_has_what_patterns_have_is_that_file_alone(prepare, root, name):
    made(root, {f"root/.ssh/{name}": "x", "root/.ssh/known_hosts": "", "root/.ssh/other": "x", "root/.ssh/config": "x"})
    assert "personal" in names(prepare(steps=("personal",)))
    assert {path.name for path in (root / "root/.ssh").iterdir()} == {"known_hosts", "other", "config"}
    made(root, {"home/[ab]/.ssh/authorized_keys": "x", "home/a/.ssh/config": "x"})
    assert names(prepare(steps=("personal",))) == ["personal"]
    assert not (root / "home/[ab]/.ssh/authorized_keys").exists() and (root / "home/a/.ssh/config").exists()


def test_a_path_without_a_star_is_one_file(talk, root):
    apply(talk, root, Remove("/tmp/left"))
    apply(talk, root, Remove("/tmp/gone"))
    assert [path.name for path in (root / "tmp").iterdir()] == [".left"] and "glob-expand" not in talk.verbs()


@pytest.mark.parametrize(
    ("edit", "path", "verb"),
    [
        (Empty("/etc/machine-id"), "/etc/machine-id", "truncate"),
        (Remove("/tmp/*", many=True), "/tmp/*", "rm-rf"),
        (Link("/etc/x", "/y"), "/etc/x", "ln-s"),
        (Write("/etc/fstab", ""), "/etc/fstab", "upload"),
    ],
)
def test_an_edit_that_fails_names_its_path(talk, root, edit, path, verb):
    talk.fails[verb] = f"{verb}: Read-only file system"
    with pytest.raises(CommandFailed) as caught:
        apply(talk, root, edit)
    assert caught.value.asked == f"image web: changing {path}" and "Read-only file system" in caught.value.found
    assert "full or damaged" in caught.value.remedy
