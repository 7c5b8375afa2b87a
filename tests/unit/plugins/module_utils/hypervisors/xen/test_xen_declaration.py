# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine of Xen can be: its kind, the formats of its disks, its boot order, and what is refused."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xen_declaration as xen
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm


def vm(disks: str = "", nics: int = 0, **os: object) -> Vm:
    """disks: a letter for each, d for a disk and c for a CDROM."""
    types = {"d": "FILE", "c": "CDROM"}
    return Vm(
        1,
        "",
        "web",
        "xen",
        1.0,
        64,
        os=Os(**os),  # type: ignore[arg-type]
        disks=tuple(Disk(number, "", types[letter]) for number, letter in enumerate(disks)),
        nics=tuple(Nic(number, 0, "lan", "br0", "") for number in range(nics)),
    )


# --- the kind --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("os", "kind"),
    [
        ({}, xen.HVM),
        ({"MACHINE": "q35"}, xen.HVM),
        ({"KERNEL": "/vmlinuz"}, xen.PV),
        ({"KERNEL_DS": "$FILE[IMAGE=k]"}, xen.PV),
        ({"BOOTLOADER": "pygrub"}, xen.PV),
        ({"KERNEL": ""}, xen.HVM),
        ({"INITRD": "/initrd"}, xen.HVM),
        ({"MACHINE": "q35", "KERNEL": "/vmlinuz"}, xen.PV),
        ({"MACHINE": "xenpvh", "KERNEL": "/vmlinuz"}, xen.PVH),
        ({"MACHINE": "XenPV"}, xen.PV),
        ({"MACHINE": "hvm", "KERNEL": "/vmlinuz"}, xen.HVM),
        ({"MACHINE": "xenfv", "BOOTLOADER": "pygrub"}, xen.HVM),
    ],
)
def test_the_kind_is_what_machine_says_and_else_told_by_a_kernel(os: dict[str, str], kind: str) -> None:
    assert xen.kind(os) == kind


@pytest.mark.parametrize(
    ("os", "kind"),
    [({}, xen.HVM), ({"kernel": "/k"}, xen.PV), ({"bootloader": "pygrub"}, xen.PV), ({"machine": "pvh"}, xen.PVH)],
)
def test_the_kind_of_a_machine_is_that_of_its_os(os: dict[str, str], kind: str) -> None:
    assert xen.kind_of(vm(**os)) == kind


@pytest.mark.parametrize(
    ("word", "format"),
    [
        ("raw", "raw"),
        ("file:", "raw"),
        (" Tap:AIO: ", "raw"),
        ("phy:", "raw"),
        ("tap2:qcow2:", "qcow2"),
        ("qcow2", "qcow2"),
        ("vhd", ""),
        ("tap:vmdk:", ""),
        ("", ""),
    ],
)
def test_a_word_of_driver_means_a_format_or_nothing(word: str, format: str) -> None:
    assert xen.XEN.format_of(word) == format


# --- the boot order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disks", "nics", "boot", "letters"),
    [
        ("dc", 1, ("disk0",), "c"),
        ("dc", 1, ("disk1", "disk0"), "dc"),
        ("dc", 2, ("nic0", "disk0", "nic1"), "nc"),
        ("ddc", 0, ("disk0", "disk1", "disk2"), "cd"),
        # The context is no disk of the template.
        ("d", 0, ("disk1",), "c"),
        ("dc", 1, (), "cd"),
        ("cd", 1, (), "dc"),
        ("cdcd", 1, (), "dc"),
        ("", 1, (), "n"),
        ("", 0, (), "c"),
    ],
)
def test_each_letter_of_the_boot_order_is_there_once_and_in_order(
    disks: str, nics: int, boot: tuple[str, ...], letters: str
) -> None:
    assert xen.boot_letters(vm(disks, nics, boot=boot)) == letters


# --- what the image wants --------------------------------------------------------------------------------------------


def image(trusted: bool = False, generation: int = 1, **more: object) -> Image:
    said = {"attributes": {"TRUSTED": "YES"}, "notes": {"trusted": 1}} if trusted else {}
    return Image(1, "debian", generation=generation, **{**said, **more})  # type: ignore[arg-type]


PYGRUB = Os(bootloader="pygrub")


def test_a_boot_loader_of_the_hosts_reads_trusted_images_alone() -> None:
    assert xen.adapt_os(PYGRUB, Template(), {0: image(trusted=True)}, "VM a") is PYGRUB


@pytest.mark.parametrize(
    ("images", "found"),
    [
        ({0: image()}, "image debian is not marked as trusted, or was written to since"),
        ({0: image(trusted=True, generation=2)}, "image debian is not marked as trusted, or was written to since"),
        ({1: image(trusted=True)}, "that disk is of no image"),
        ({}, "that disk is of no image"),
    ],
)
def test_a_boot_loader_of_the_hosts_is_refused_where_a_guest_may_have_written(
    images: dict[int, Image], found: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        xen.adapt_os(PYGRUB, Template(), images, "VM a")
    error = caught.value
    assert error.asked == "VM a: OS/BOOTLOADER = pygrub"
    assert error.found == f"it reads the file systems of the first disk on the host itself, as root, and {found}"
    assert 'MACHINE = "xenfv"' in error.remedy and "TRUSTED" in error.remedy


def test_a_boot_loader_reads_the_disk_that_boot_names_first() -> None:
    os = Os(bootloader="pygrub", boot=("nic0", "disk1", "disk0"))
    assert xen.adapt_os(os, Template(), {0: image(), 1: image(trusted=True)}, "VM a") is os
    with pytest.raises(InvalidValue):
        xen.adapt_os(os, Template(), {0: image(trusted=True), 1: image()}, "VM a")


def test_a_firmware_is_the_images_where_the_machine_has_one() -> None:
    uefi = {0: image(firmware="UEFI")}
    assert xen.adapt_os(Os(), Template(), uefi, "VM a").firmware == "UEFI"
    assert xen.adapt_os(Os(), Template(), {0: image(firmware="BIOS")}, "VM a") == Os()
    paravirtual = Os(kernel="/vmlinuz")
    assert xen.adapt_os(paravirtual, Template(), uefi, "VM a") is paravirtual


def test_an_image_of_secure_boot_is_refused() -> None:
    with pytest.raises(InvalidValue, match="VM a: image debian: it was installed with secure boot, which Xen can't"):
        xen.adapt_os(Os(), Template(), {0: image(firmware="UEFI_SECURE")}, "VM a")


# --- what can't be ---------------------------------------------------------------------------------------------------


def template(name: str, **keys: str) -> Template:
    return Template().with_vector(name, keys)


GOOD = {
    "nothing": Template(),
    "a machine type of Xen": template("OS", MACHINE="XENFV", FIRMWARE="uefi"),
    "a kernel": template("OS", KERNEL="/vmlinuz", INITRD="/initrd", BOOT="disk0"),
    "a boot loader": template("OS", BOOTLOADER="pygrub"),
    "PVH with a kernel": template("OS", MACHINE="pvh", KERNEL_DS="$FILE[IMAGE=k]"),
    "the network": template("OS", BOOT="nic0,disk0"),
    "a console": template("GRAPHICS", TYPE="VNC", LISTEN="0.0.0.0", PASSWD="a,b'[]", KEYMAP="de"),
    "a tablet": template("INPUT", TYPE="Tablet"),
    "a mouse on USB": template("INPUT", TYPE="mouse", BUS="USB"),
    "a script": template("NIC", SCRIPT="vif-bridge"),
    "no secure boot": template("OS", FIRMWARE_SECURE="NO"),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_a_machine_of_xen_can_have_is_taken(case: str) -> None:
    xen.check(GOOD[case], "VM a")


REFUSED = {
    "another machine": (
        template("OS", MACHINE="q35"),
        "OS: MACHINE = q35: Xen has no such machines. Use one of xenpv,",
    ),
    "two loaders": (
        template("OS", KERNEL="/k", BOOTLOADER="pygrub"),
        "OS: BOOTLOADER = pygrub: there is a KERNEL too, and only one of them can be started. Leave one of them out",
    ),
    "two loaders, of a datastore": (template("OS", KERNEL_DS="k", BOOTLOADER="pygrub"), "OS: BOOTLOADER = pygrub:"),
    "nothing to start": (
        template("OS", MACHINE="pvh"),
        "OS: MACHINE = pvh: it has no firmware, and neither KERNEL nor BOOTLOADER is given. Name KERNEL and INITRD",
    ),
    "a firmware without a place": (
        template("OS", KERNEL="/k", FIRMWARE="UEFI"),
        "OS: FIRMWARE = UEFI: only machines of type HVM have one. Leave it out",
    ),
    "another firmware": (
        template("OS", FIRMWARE="/usr/share/OVMF.fd"),
        "OS: FIRMWARE = /usr/share/OVMF.fd: Xen has no such firmware. Use BIOS or UEFI",
    ),
    "secure boot": (
        template("OS", FIRMWARE="UEFI", FIRMWARE_SECURE="yes"),
        "OS: FIRMWARE_SECURE = YES: Xen can't protect it. Leave it out, or use KVM",
    ),
    "the network of a kernel": (
        template("OS", KERNEL="/k", BOOT="NIC0"),
        "OS: BOOT = NIC0: only machines of type HVM boot from the network",
    ),
    "the network by its old word": (template("OS", KERNEL="/k", BOOT="hd,network"), "OS: BOOT = hd,network: only"),
    "spice": (template("GRAPHICS", TYPE="spice"), "GRAPHICS: TYPE = spice: Xen's consoles are VNC. Write TYPE"),
    "a name to listen on": (
        template("GRAPHICS", LISTEN="node1"),
        "GRAPHICS: LISTEN = 'node1': it is no address, and names are not looked up. Write an address of the host",
    ),
    "a script that ends its list": (
        template("NIC", SCRIPT="a,b"),
        "NIC 0: SCRIPT = 'a,b': it holds ',', which ends it",
    ),
    "a keyboard": (
        template("INPUT", TYPE="keyboard", BUS="usb"),
        "INPUT 0: TYPE = keyboard, BUS = usb: Xen has a tablet and a mouse, both on USB",
    ),
    "another bus": (template("INPUT", TYPE="mouse", BUS="ps2"), "INPUT 0: TYPE = mouse, BUS = ps2: Xen has a tablet"),
    "a TPM": (Template().with_vector("TPM", {"MODEL": "tpm-crb"}), "TPM: Xen's tools make none for a machine"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_machine_of_xen_can_t_have_is_refused(case: str) -> None:
    given, text = REFUSED[case]
    with pytest.raises(InvalidValue) as caught:
        xen.check(given, "VM a")
    assert str(caught.value).startswith(f"VM a: {text}")
    assert caught.value.remedy


@pytest.mark.parametrize("character", [",", "'", '"', "[", "]", "\n"])
def test_a_password_of_a_paravirtual_console_may_not_end_its_list_and_is_not_shown(character: str) -> None:
    given = template("OS", KERNEL="/k").with_vector("GRAPHICS", {"TYPE": "vnc", "PASSWD": f"hunter2{character}"})
    with pytest.raises(InvalidValue) as caught:
        xen.check(given, "VM a")
    assert caught.value.asked == "VM a: GRAPHICS: PASSWD"
    assert "hunter2" not in str(caught.value)


def test_a_keymap_of_a_paravirtual_console_is_shown() -> None:
    given = template("OS", KERNEL="/k").with_vector("GRAPHICS", {"KEYMAP": "d]e"})
    with pytest.raises(InvalidValue, match=r"GRAPHICS: KEYMAP = 'd\]e': it holds '\]'"):
        xen.check(given, "VM a")


@pytest.mark.parametrize("name", ["DISK", "NIC", "OS", "GRAPHICS", "INPUT", "FEATURES"])
def test_what_no_file_can_hold_is_refused_unseen(name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        xen.check(template(name, X="hunter2\x1b"), "VM a")
    assert caught.value.asked == f"VM a: {name}/X"
    assert "hunter2" not in str(caught.value)


def test_each_entry_is_looked_at_and_counted_from_0() -> None:
    several = Template().with_vectors("INPUT", ({"TYPE": "mouse"}, {"TYPE": "keyboard"}))
    with pytest.raises(InvalidValue, match="INPUT 1: TYPE = keyboard"):
        xen.check(several, "VM a")
