# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context program is put into an image by libguestfs, and what keeps it from that is explained.

A shell script stands for guestfish, as an appliance takes seconds; tests/integration/test_guest_context_offline.py
starts real ones."""

from __future__ import annotations

import pytest
from appliance_stand_in import Appliance, Device, made

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    MissingDependency,
    NotFound,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize.context_program import (
    PROGRAM,
    Outcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import appliance_install, guestfish

WHAT = "image web"
SAID = "NAME=Debian\nPRETTY_NAME='Debian 13'\n\n--- nebula-context ---\nenabled for systemd\nchanged\n"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Where guestfish stands; what it is told and how it is started goes into files beside it."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place), prepend=":")
    monkeypatch.setattr(guestfish, "emulation", {})
    monkeypatch.setattr(guestfish, "CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(guestfish.SETTINGS, raising=False)
    (tmp_path / "said").write_text(SAID)

    def write(text):
        (place / "guestfish").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/started\ncat >>{tmp_path}/told\n{text}\n')
        (place / "guestfish").chmod(0o755)

    write(f"cat {tmp_path}/said")
    return write


def install(tmp_path):
    return appliance_install.install(str(tmp_path), WHAT)


def test_the_program_runs_in_the_overlay_of_the_directory(program, tmp_path):
    assert install(tmp_path) == Outcome(True, "Debian 13")
    assert (tmp_path / "started").read_text() == "--rw --format=qcow2 -a overlay -i\n"
    told = (tmp_path / "told").read_text().splitlines()
    assert told[1] == f"upload {PROGRAM} /.nebula-context" and told[-3:] == [
        "rm /.nebula-context",
        "umount-all",
        "shutdown",
    ]
    # The root, in a form for which the program calls nothing of a running system.
    assert "exec /bin/sh /.nebula-context --root /. install" in told[3]


def failing(program, said, code=1):
    program(f"cat >&2 <<'END'\n{said}\nEND\nexit {code}")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("libguestfs: error: sh: /bin/sh: Exec format error", Unsupported, ["another processor", "via: mount"]),
        ("sh: cannot execute binary file", Unsupported, ["another processor"]),
        ("libguestfs: error: supermin exited: no kernel in /boot", MissingDependency, ["linux-image-amd64"]),
        ("libguestfs: error: write: No such device", CommandFailed, ["No such device", "role guest_context"]),
    ],
)
def test_why_it_could_not_be_done(program, tmp_path, said, kind, words):
    failing(program, said)
    with pytest.raises(kind) as caught:
        install(tmp_path)
    assert type(caught.value) is kind and caught.value.asked == "image web: installing the context program"
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("filesystems", "found"),
    [
        ("/dev/sda1: ext4\n\n/dev/sda2: swap", "found in it, but /dev/sda1: ext4, /dev/sda2: swap"),
        ("", "nor any file system"),
    ],
)
def test_an_image_without_a_system_is_told_with_what_it_has(program, tmp_path, filesystems, found):
    no_system = "libguestfs: error: no operating system was found on this disk"
    program(
        f"grep -q list-filesystems {tmp_path}/told && echo '{filesystems}' && exit 0\necho '{no_system}' >&2; exit 1"
    )
    with pytest.raises(NotFound) as caught:
        install(tmp_path)
    assert found in caught.value.found and caught.value.remedy == "Name an image of one"


def test_where_that_can_not_be_asked_either(program, tmp_path):
    failing(program, "no operating system was found on this disk")
    with pytest.raises(NotFound, match=r"no operating system was found in it\. Name"):
        install(tmp_path)


def test_guestfish_that_says_nothing(program, tmp_path):
    program("exit 7")
    with pytest.raises(CommandFailed, match=r"it ended with code 7"):
        install(tmp_path)


def test_where_kvm_does_not_work_it_is_emulated(program, tmp_path, monkeypatch):
    """Whether there is a /dev/kvm is what is put in place of the real one."""
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(guestfish, "_KVM", str(tmp_path / "kvm"))
    broken = "{ echo 'guestfs_launch failed' >&2; exit 1; }"
    program(f'[ -n "$LIBGUESTFS_BACKEND_SETTINGS" ] || {broken}; cat {tmp_path}/said')
    assert install(tmp_path).changed
    assert len((tmp_path / "started").read_text().splitlines()) == 2 and guestfish.emulation


def test_what_is_wrong_with_the_image_is_not_tried_again(program, tmp_path, monkeypatch):
    """Whether there is a /dev/kvm is what is put in place of the real one."""
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(guestfish, "_KVM", str(tmp_path / "kvm"))
    failing(program, "mount: wrong fs type")
    with pytest.raises(CommandFailed):
        install(tmp_path)
    assert len((tmp_path / "started").read_text().splitlines()) == 1 and not guestfish.emulation


# --- where the root is mounted already -------------------------------------------------------------------------------


@pytest.fixture
def talk(tmp_path):
    (tmp_path / PROGRAM).write_text("#!/bin/sh\n")
    found = Appliance({"/dev/sda1": Device({"TYPE": "ext4"}, made(tmp_path / "root", {"etc": None}))})
    found.mounted = {"/": tmp_path / "root"}
    found.prints = SAID
    return found


def test_it_is_taken_away_again(talk, tmp_path):
    assert appliance_install.run_program(talk, str(tmp_path)) == Outcome(True, "Debian 13")
    assert talk.uploaded == {"/.nebula-context": b"#!/bin/sh\n"}
    assert list((tmp_path / "root").iterdir()) == [tmp_path / "root/etc"]


@pytest.mark.parametrize("said", ["", "PRETTY_NAME=x\n--- nebula-context ---\nsh: not found\n"])
def test_it_is_taken_away_after_an_error_too(talk, tmp_path, said):
    talk.prints = said
    with pytest.raises(CommandFailed, match=r"without saying what came of it"):
        appliance_install.run_program(talk, str(tmp_path))
    assert not (tmp_path / "root/.nebula-context").exists()
