# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.install import installation_end, next_step
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import (
    INSTALLED,
    INSTALLING,
    Machine,
    Media,
    Shape,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import installation_marks
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template

SOMEBODYS = Image(1, "debian", ImageType.DATABLOCK, ImageState.READY, persistent=True)
BLANK = replace(SOMEBODYS, unfinished=INSTALLING)
WRITTEN = replace(BLANK, state=ImageState.USED_PERS)
HALF = replace(BLANK, state=ImageState.ERROR, unfinished=INSTALLING)
WHOLE = replace(BLANK, state=ImageState.USED_PERS, unfinished=INSTALLED)
ALONE = replace(BLANK, state=ImageState.ERROR, unfinished=INSTALLED)
OS = replace(SOMEBODYS, type=ImageType.OS, persistent=False, attributes={installation_marks.VERIFIED: "NO"})
BELIEVED = replace(OS, attributes={installation_marks.VERIFIED: "YES"})

RUNS = Machine(7, "RUNNING", "RUNNING", "RUNNING")
OFF = replace(RUNS, seen="POWEROFF", ended="guest")
CRASHED = replace(RUNS, seen="POWEROFF")
UNKNOWN = replace(RUNS, seen="POWEROFF", ended="unknown")
PAUSED = replace(RUNS, seen="UNKNOWN")
GONE = replace(RUNS, seen="")
SILENT = replace(RUNS, seen="", reached=False)
DECIDED = Machine(7, "PROLOG", "RUNNING")
DEFINED = replace(DECIDED, seen="POWEROFF")
UNRECORDED = replace(DECIDED, seen="RUNNING")
FAILED = Machine(7, "BOOT_FAILURE", "RUNNING", "")
ENDING = Machine(7, "EPILOG", "DONE", "RUNNING")


@pytest.mark.parametrize(
    ("image", "machine", "due"),
    [
        (None, None, next_step.MAKE),
        # Killed while the disk was made.
        (replace(BLANK, state=ImageState.LOCKED), None, next_step.MAKE),
        (replace(BLANK, state=ImageState.ERROR), None, next_step.MAKE),
        (replace(BLANK, state=ImageState.DELETE), None, next_step.MAKE),
        # Before the machine was decided: nobody has written.
        (BLANK, None, next_step.START),
        # What holds something, or may, is not written over.
        (SOMEBODYS, None, next_step.FOREIGN),
        (SOMEBODYS, RUNS, next_step.FOREIGN),
        (replace(SOMEBODYS, state=ImageState.USED_PERS), None, next_step.FOREIGN),
        (replace(BLANK, generation=1), None, next_step.FOREIGN),
        (replace(BLANK, attributes={installation_marks.TOOK: "9"}), None, next_step.FOREIGN),
        (replace(BLANK, persistent=False), None, next_step.FOREIGN),
        # Decided, and nothing done; or done, and not recorded.
        (WRITTEN, DECIDED, next_step.WAIT),
        (WRITTEN, UNRECORDED, next_step.WAIT),
        (WRITTEN, replace(DECIDED, seen="POWEROFF", ended="guest"), next_step.WAIT),
        (WRITTEN, DEFINED, next_step.END),
        (WRITTEN, RUNS, next_step.WAIT),
        (WRITTEN, PAUSED, next_step.WAIT),
        (WRITTEN, OFF, next_step.WAIT),
        (WRITTEN, CRASHED, next_step.END),
        (WRITTEN, UNKNOWN, next_step.UNSURE),
        # Defined, and never started.
        (WRITTEN, replace(DECIDED, seen="POWEROFF", ended="unknown", written=False), next_step.END),
        (WRITTEN, replace(DECIDED, seen="POWEROFF", ended="unknown"), next_step.UNSURE),
        (WRITTEN, GONE, next_step.END),
        (WRITTEN, FAILED, next_step.END),
        (WRITTEN, SILENT, next_step.UNREACHED),
        (WRITTEN, ENDING, next_step.END),
        # Its machine is gone, and it was not finished.
        (HALF, None, next_step.MAKE),
        (WHOLE, RUNS, next_step.FINISH),
        (WHOLE, CRASHED, next_step.FINISH),
        (WHOLE, ENDING, next_step.FINISH),
        (WHOLE, SILENT, next_step.FINISH),
        (ALONE, None, next_step.CONVERT),
        (OS, None, next_step.VERIFY),
        (BELIEVED, None, next_step.DONE),
        # Its removal was begun, or somebody is at work on it.
        (replace(BELIEVED, state=ImageState.DELETE), None, next_step.MAKE),
        (replace(BELIEVED, state=ImageState.LOCKED), None, next_step.BROKEN),
        (replace(OS, state=ImageState.ERROR), None, next_step.BROKEN),
        (replace(OS, state=ImageState.USED), None, next_step.VERIFY),
        # Whose disk the catalog does not know any more.
        (None, RUNS, next_step.UNSURE),
        (None, SILENT, next_step.UNSURE),
        (None, CRASHED, next_step.END),
    ],
)
def test_the_step_that_is_due(image, machine, due):
    assert next_step.step(image, machine, False, True) == due


def test_what_a_human_installs_is_not_thrown_away():
    for machine in (CRASHED, UNKNOWN, GONE, DEFINED):
        assert next_step.step(WRITTEN, machine, False, True, installation_end.MANUAL) == next_step.UNSURE
        untouched = replace(machine, written=False)
        assert next_step.step(WRITTEN, untouched, False, True, installation_end.MANUAL) == next_step.END


LEFT = replace(HALF, generation=1)
ENDED = Machine(-1, "EPILOG", "DONE")


@pytest.mark.parametrize("machine", [None, ENDING, ENDED, replace(ENDING, reached=False)])
def test_what_a_human_wrote_outlives_its_machine(machine):
    anew = next_step.MAKE if machine is None else next_step.END
    assert next_step.step(LEFT, machine, False, True, installation_end.MANUAL, written=True) == next_step.UNSURE
    for end in installation_end.ENDS:
        assert next_step.step(LEFT, machine, True, True, end, written=True) == next_step.FINISH
    # What an installer was at by itself is begun anew, and so is what nobody has written to.
    assert next_step.step(LEFT, machine, False, True, written=True) == anew
    blank = None if machine is None else replace(machine, written=False)
    for said in (False, True):
        assert next_step.step(LEFT, blank, said, True, installation_end.MANUAL) == anew


def test_what_no_machine_has_had_is_nobodys_work():
    """Killed while it was made, or removed on purpose."""
    for image in (HALF, replace(LEFT, state=ImageState.DELETE)):
        for said in (False, True):
            assert next_step.step(image, None, said, True, installation_end.MANUAL, written=True) == next_step.MAKE


def test_a_console_tells_where_nothing_else_does():
    assert next_step.step(WRITTEN, UNKNOWN, False, True, marker=True) == next_step.WAIT
    assert next_step.step(WRITTEN, CRASHED, False, True, marker=True) == next_step.END


@pytest.mark.parametrize("machine", [RUNS, OFF, CRASHED, UNKNOWN, GONE, SILENT])
def test_a_human_says_that_it_is_installed(machine):
    assert next_step.step(WRITTEN, machine, True, True) == next_step.FINISH


def test_an_image_that_nobody_is_to_try_is_done():
    assert next_step.step(OS, None, False, False) == next_step.DONE


def test_nothing_is_begun_where_something_may_be_going_on():
    """Whatever is found, a disk is made or a machine started only where no machine has it."""
    images = [None, BLANK, WRITTEN, HALF, WHOLE, ALONE, OS, BELIEVED]
    machines = [RUNS, OFF, CRASHED, UNKNOWN, PAUSED, GONE, SILENT, DECIDED, DEFINED, UNRECORDED, FAILED, ENDING]
    for image, machine, said, verify in itertools.product(images, machines, (False, True), (False, True)):
        assert next_step.step(image, machine, said, verify) not in (next_step.MAKE, next_step.START)


def test_what_is_not_installed_is_never_converted():
    for image in (None, BLANK, WRITTEN, HALF):
        for machine in (None, RUNS, OFF, CRASHED, GONE, ENDING):
            assert next_step.step(image, machine, False, True) not in (
                next_step.CONVERT,
                next_step.VERIFY,
                next_step.DONE,
            )


@pytest.mark.parametrize(
    ("machine", "seen", "started"),
    [
        (UNRECORDED, 3, True),
        (replace(DECIDED, seen="POWEROFF", ended="guest"), 3, True),
        (replace(DECIDED, seen="POWEROFF", ended="unknown"), 3, True),
        (replace(DECIDED, seen="POWEROFF", ended="unknown", written=False), 3, False),
        (UNRECORDED, 2, False),  # an older decision's machine
        (DEFINED, 3, False),
        (DECIDED, 3, False),
        (RUNS, 3, False),  # recorded already
        (replace(UNRECORDED, wanted="DONE"), 3, False),
    ],
)
def test_a_start_that_nobody_recorded(machine, seen, started):
    assert next_step.was_started(machine, 3, seen) is started


# -- templates --------------------------------------------------------------------------------------------------------
def test_the_disk_boots_first_and_then_the_iso():
    made = next_step.template(Shape("debian", "debian.iso"), Media(), Template())
    assert [disk["IMAGE"] for disk in made.vectors("DISK")] == ["debian", "debian.iso"]
    assert made.vector("OS")["BOOT"] == "disk0,disk1"
    assert made.get(installation_marks.MARK) == "debian" and made.get("MEMORY") == "2048"
    assert not made.vectors("RAW")


def test_a_kernel_that_is_booted_directly_is_booted_once():
    media = Media(kernel="k", initrd="i", command="auto=true", answers="a")
    made = next_step.template(Shape("debian", "debian.iso", end="poweroff"), media, Template())
    assert made.vector("OS")["KERNEL_DS"] == '$FILE[IMAGE="k"]' and made.vector("OS")["KERNEL_CMD"] == "auto=true"
    assert made.vectors("RAW") == [
        {"TYPE": "kvm", "DATA": "<on_reboot>destroy</on_reboot>"},
        {"TYPE": "xen", "DATA": "on_reboot = 'destroy'"},
    ]
    later = next_step.trial(Shape("debian", "debian.iso"), Template())
    assert "KERNEL_DS" not in later.vector("OS") and not later.vectors("RAW") and "BOOT" not in later.vector("OS")


def test_the_users_template_goes_over_the_defaults():
    own = Template.from_mapping(
        {
            "MEMORY": 512,
            "NIC": {"NETWORK": "Public"},
            "RAW": {"TYPE": "kvm", "DATA": "<a/>"},
            "OS": {"KERNEL_CMD": "quiet"},
        }
    )
    made = next_step.template(Shape("debian", "debian.iso", end="reboot"), Media(), own)
    assert made.get("MEMORY") == "512" and made.vector("NIC") == {"NETWORK": "Public"}
    assert [raw["DATA"] for raw in made.vectors("RAW") if raw["TYPE"] == "kvm"] == [
        "<a/>",
        "<on_reboot>destroy</on_reboot>",
    ]
    assert next_step.trial(Shape("debian", ""), own).vectors("RAW") == [{"TYPE": "kvm", "DATA": "<a/>"}]


def test_windows():
    shape = Shape("win", "win.iso", firmware="UEFI_SECURE", profile="windows", bus="virtio", cdrom="sata")
    made = next_step.template(shape, Media(answers="a", drivers="virtio-win"), Template())
    assert made.vector("OS")["FIRMWARE"] == "UEFI" and made.vector("OS")["FIRMWARE_SECURE"] == "YES"
    assert made.vector("TPM") and made.vector("FEATURES")["HYPERV"] == "YES"
    assert made.vector("FEATURES")["LOCALTIME"] == "YES" and int(made.get("MEMORY")) >= 4096
    disks = made.vectors("DISK")
    assert [(disk["IMAGE"], disk["TARGET"], disk.get("BUS")) for disk in disks] == [
        ("win", "vda", None), ("win.iso", "sdb", "sata"), ("a", "sdc", "sata"), ("virtio-win", "sdd", "sata"),
    ]  # fmt: skip
    # Windows reboots several times.
    assert not made.vectors("RAW")


def test_a_floppy_is_read_only_and_keeps_its_owner():
    made = next_step.template(Shape("win", "win.iso", profile="windows"), Media(floppy="/a&b"), Template())
    disk = ET.fromstring(made.vector("RAW")["DATA"]).find("disk")
    assert disk.get("device") == "floppy" and disk.find("readonly") is not None
    assert disk.find("source").get("file") == "/a&b" and disk.find("source/seclabel").get("relabel") == "no"


@pytest.mark.parametrize("profile", next_step.PROFILES)
@pytest.mark.parametrize("firmware", next_step.FIRMWARES)
@pytest.mark.parametrize("bus", ["virtio", "scsi", "sata"])
def test_what_is_made_is_a_template(profile, firmware, bus):
    cdrom = "sata" if profile == "windows" else "scsi"
    shape = Shape("x", "x.iso", firmware=firmware, profile=profile, bus=bus, cdrom=cdrom)
    for made in (
        next_step.template(shape, Media(answers="a", drivers="d"), Template()),
        next_step.trial(shape, Template()),
    ):
        assert validate(made, strict=True) == []
