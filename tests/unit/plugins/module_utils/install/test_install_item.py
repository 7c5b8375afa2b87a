# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.filter.installer_isos import installer_isos
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ImageRefused,
    InvalidValue,
    NebulaError,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.install.install_item import Iso, check_media, spec_of
from ansible_collections.nebula.provision.plugins.module_utils.install.installer_iso import Facts
from ansible_collections.nebula.provision.plugins.module_utils.model import installation_marks
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image, checksums_of
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template

BASE = {"name": "debian", "iso": "/srv/debian.iso", "size": 40000}
PRESEED = {"kind": "preseed", "password_hash": "x"}


@pytest.fixture
def engine(bare):
    with bare.session():
        bare.images.allocate(Image(None, "stored", ImageType.CDROM))
        bare.templates.allocate("small", Template.from_mapping({"MEMORY": 3000}))
    return bare


def spec(engine, local=None, **keys):
    return spec_of({**BASE, **keys}, engine, local or {"path": "/srv/debian.iso", "remote": True})


def test_defaults(engine):
    found = spec(engine)
    assert (found.boot, found.shape.end, found.marker, found.verify) == ("iso", "poweroff", False, True)
    assert (found.shape.firmware, found.shape.bus, found.shape.cdrom, found.shape.memory) == (
        "BIOS",
        "virtio",
        "scsi",
        2048,
    )
    assert found.trial == r"\blogin:" and found.iso.image == "debian.iso"
    answered = spec(engine, answers=PRESEED)
    assert (answered.boot, answered.way, answered.marker, answered.hostname) == ("kernel", "initrd", True, "debian")
    assert re.search(answered.trial, "debian login: ") and not re.search(answered.trial, "other-debian login: ")


def test_windows(engine):
    found = spec(engine, answers={"kind": "autounattend", "password": "x"})
    assert found.shape.profile == "windows" and found.shape.firmware == "UEFI_SECURE"
    assert (found.boot, found.shape.bus, found.shape.cdrom, found.shape.memory) == ("iso", "sata", "sata", 4096)
    assert spec(engine, profile="windows", drivers="virtio").shape.bus == "virtio"


@pytest.mark.parametrize(
    ("iso", "local", "image", "path", "remote"),
    [
        ("/a/b.iso", {"path": "/a/b.iso", "remote": False}, "b.iso", "/a/b.iso", False),
        ("b.iso", {"path": "/play/files/b.iso", "remote": True}, "b.iso", "/play/files/b.iso", True),
        ("stored", {}, "stored", "", False),
        ({"image": "stored"}, {}, "stored", "", False),
        ({"path": "/a/b.iso", "remote_src": True, "image": "B"}, {}, "B", "/a/b.iso", True),
        ("https://me:pw@example.org/x/b.iso?sig=1", {}, "b.iso", "https://me:pw@example.org/x/b.iso?sig=1", False),
    ],
)
def test_isos(engine, iso, local, image, path, remote):
    found = spec_of({**BASE, "iso": iso}, engine, local).iso
    assert (found.image, found.path, found.remote) == (image, path, remote)


def test_a_password_in_a_url_is_not_part_of_a_result(engine):
    url = "https://me:s3cr3t@example.org/b.iso"
    item = {**BASE, "iso": {"path": url, "checksum": "sha256:ab"}}
    shown = spec_of(item, engine, {}).iso.item("debian")
    assert "s3cr3t" not in str(shown)
    assert installer_isos([shown], [item]) == [
        {"name": "b.iso", "type": "CDROM", "path": url, "remote_src": False, "checksum": "sha256:ab"}
    ]
    assert installer_isos([shown], [{**BASE, "iso": url}])[0]["path"] == url


@pytest.mark.parametrize(
    ("given", "memory"), [("small", "3000"), ("MEMORY = 2222\nCPU = 2\n", "2222"), ({"MEMORY": 2500}, "2500")]
)
def test_templates(engine, given, memory):
    assert spec(engine, template=given).own.get("MEMORY") == memory


@pytest.mark.parametrize(
    ("end", "shape", "pattern"),
    [
        ("reboot", "reboot", ""),
        ("manual", "manual", ""),
        ({"pattern": "done$"}, "pattern", "done$"),
        ("pattern: done$", "pattern", "done$"),
    ],
)
def test_ends(engine, end, shape, pattern):
    found = spec(engine, end=end)
    assert (found.shape.end, found.pattern) == (shape, pattern)


@pytest.mark.parametrize(
    ("keys", "end"),
    [
        ({"state": "installed"}, "manual"),
        ({"state": "present"}, "poweroff"),
        ({"state": "installed", "answers": PRESEED}, "poweroff"),
    ],
)
def test_what_is_installed_by_hand_ends_by_hand(engine, keys, end):
    assert spec(engine, **keys).shape.end == end


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"iso": None}, "iso: it is not given"),
        ({"size": None}, "size: it is not given"),
        ({"size": "ten"}, "size 'ten': it is not a whole number of MB, 1 to 1099511627776"),
        ({"size": 100, "answers": PRESEED}, "needs 2048 MB at least"),
        ({"answers": {"kind": "presed"}}, "Did you mean 'preseed'"),
        ({"answers": {"kind": "preseed"}}, "nobody could log in"),
        ({"answers": {**PRESEED, "way": "floppy"}}, "It can be given by initrd"),
        ({"answers": PRESEED, "boot": "iso"}, "does not reach its installer"),
        ({"answers": {"kind": "autounattend", "password": "x"}, "boot": "kernel"}, "has no kernel to boot"),
        ({"answers": {"kind": "kickstart", "way": "initrd", "password_hash": "x"}, "boot": "iso"}, "Set boot: kernel"),
        ({"answers": {**PRESEED, "file": "own.cfg"}}, "a file of your own has no variables"),
        ({"answers": PRESEED, "profile": "windows"}, "the profile is windows"),
        ({"answers": PRESEED, "firmware": "UEFI_SECURE"}, "Set firmware: UEFI, or boot: iso"),
        ({"answers": PRESEED, "template": {"MEMORY": 512}}, "needs 1024 MB at least"),
        ({"answers": "preseed"}, "it is a str"),
        ({"firmware": "UEFY"}, "Did you mean 'UEFI'"),
        ({"boot": "floppy"}, "there is no such boot"),
        ({"kernel": "a"}, "only one of them is given"),
        ({"kernel": "a", "initrd": "b"}, "Set boot: kernel"),
        ({"template": {"DISK": {"IMAGE": "x"}}}, "Leave DISK out"),
        ({"template": {"OS": {"BOOT": "disk1"}}}, "Leave BOOT out"),
        ({"template": {"OS": {"FIRMWARE": "UEFI"}}}, "Use the key firmware"),
        ({"template": {"OS": {"KERNEL_DS": "x"}}}, "OS/KERNEL_DS: it would be booted again"),
        ({"template": {"OS": {"INITRD": "/x"}}}, "OS/INITRD: it would be booted again"),
        # A panic that reboots would be its end.
        ({"boot": "kernel", "kernel": "a", "initrd": "b"}, "one that panics would count as installed"),
        ({"answers": {"kind": "preseed", "file": "own.cfg"}}, "one that panics would count as installed"),
        ({"answers": PRESEED, "marker": False}, "one that panics would count as installed"),
        ({"cdrom": "ide"}, "Set machine: pc"),
        ({"end": "pattern"}, "none is given"),
        ({"end": {"pattern": "("}}, "not a regular expression"),
        ({"end": {"patern": "x"}}, "Did you mean 'pattern'"),
        ({"end": "reboot", "profile": "windows"}, "Windows reboots several times"),
        ({"verify": {"patern": "x"}}, "Did you mean 'pattern'"),
        ({"verify": {"pattern": "("}}, "verify: pattern '(': it is not a regular expression"),
        ({"verify": "perhaps"}, "neither true nor false"),
        ({"name": "x" * 120}, "the name has 120 characters"),
        ({"name": "debian.iso"}, "would have the same name"),
        ({"iso": "ftp://example.org/x.iso"}, "only http and https"),
        ({"iso": {"paht": "x"}}, "Did you mean 'path'"),
        ({"kernel_cmd": "a\nb"}, "more than one line"),
    ],
)
def test_what_can_not_be_is_named(engine, keys, words):
    with pytest.raises(InvalidValue) as error:
        spec(engine, **keys)
    assert words in str(error.value), str(error.value)
    assert str(keys.get("name", "debian"))[:20] in str(error.value)


@pytest.mark.parametrize(
    "keys", [{"marker": True}, {"end": "reboot"}, {"end": {"pattern": "done"}}, {"state": "installed"}]
)
def test_a_kernel_that_is_booted_directly_has_an_end_that_can_be_told(engine, keys):
    assert spec(engine, boot="kernel", kernel="a", initrd="b", **keys).boot == "kernel"


def test_another_iso_of_the_same_name(engine):
    digest = {"sha256:" + c * 64 for c in "ab"}
    for known in digest:
        image = Image(1, "debian.iso", ImageType.CDROM, origin="/srv/debian.iso", checksums=checksums_of(known))
        found = spec(engine, iso={"path": "/srv/debian.iso", "checksum": known}).iso
        found.refuse_other("install debian", image)
        with pytest.raises(Conflict, match=r"was taken from /other/debian\.iso"):
            found.refuse_other("install debian", replace(image, origin="/other/debian.iso"))
        for other in digest - {known}:
            with pytest.raises(Conflict, match="has sha256"):
                found.refuse_other("install debian", replace(image, checksums=checksums_of(other)))


def test_an_iso_that_is_nowhere(engine):
    with pytest.raises(InvalidValue, match="no image of that name, and as a file it is not on the control") as error:
        spec_of({**BASE, "iso": "storde"}, engine, {})
    assert "Did you mean 'stored'" in str(error.value)


def test_an_iso_of_which_the_image_was_installed_may_be_gone(engine):
    with engine.session():
        engine.images.allocate(Image(None, "debian", attributes={installation_marks.FROM: "gone.iso"}))
    assert spec_of({**BASE, "iso": "gone.iso"}, engine, {}).iso == Iso("gone.iso")
    for item in ({"iso": "other.iso"}, {"iso": "gone.iso", "name": "another"}):
        with pytest.raises(InvalidValue, match="no image of that name"):
            spec_of({**BASE, **item}, engine, {})


@pytest.mark.parametrize("keys", [{"template": "gone"}, {"template_file": "/nowhere/gone.template"}])
def test_a_template_that_is_gone_is_told_to_whoever_wants_it(engine, keys):
    found = spec(engine, **keys, cdrom="ide")
    assert found.own == Template() and isinstance(found.missing, NotFound) and "gone" in str(found.missing)
    assert spec(engine, template="small").missing is None


@pytest.mark.parametrize(
    ("facts", "keys", "words"),
    [
        (Facts("X"), {}, "it is not bootable"),
        (Facts("X", hybrid=True), {}, "its boot sector is for USB sticks"),
        (Facts("X", uefi=True), {}, "only UEFI boots it"),
        (Facts("X", bios=True), {"firmware": "UEFI"}, "only a BIOS boots it"),
        (Facts("X", bios=True), {}, ""),
        (Facts("X", uefi=True), {"firmware": "UEFI"}, ""),
        (Facts("X"), {"answers": PRESEED}, ""),
    ],
)
def test_firmware_and_iso(engine, facts, keys, words):
    if not words:
        check_media(spec(engine, **keys), facts)
        return
    with pytest.raises(ImageRefused, match=words):
        check_media(spec(engine, **keys), facts)


@pytest.mark.parametrize("state", ["present", "installed"])
def test_states(engine, state):
    assert spec(engine, state=state).state == state
    assert spec_of({"name": "debian", "state": "absent"}, engine, {}).state == "absent"
    with pytest.raises(NebulaError, match="Did you mean 'installed'"):
        spec(engine, state="instaled")


def test_what_answers_of_ones_own_install_may_be_small(engine):
    own = {"size": 64, "answers": {"kind": "preseed", "file": "own.cfg"}, "template": {"MEMORY": 64}, "marker": True}
    assert spec(engine, **own).size == 64
