# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused when a template is stored, and what is warned of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import (
    refusals_by_hypervisor,
    validate,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ONED = Path(__file__).parents[5] / "fixtures" / "oned"
DEBIAN = "MEMORY = 128\nDISK = [ IMAGE = debian ]\n"
PC = "OS = [ MACHINE = pc ]\n"
# text; words of what was asked, found, and of the remedy
REFUSED = {
    "MEMORY = lots DISK = [ IMAGE = a ]": ("MEMORY = 'lots'", "whole number", "MB"),
    'MEMORY = "1G" DISK = [ IMAGE = a ]': ("MEMORY = '1G'", "whole number", "MEMORY = 1024"),
    'MEMORY = "512 MiB" DISK = [ IMAGE = a ]': ("MEMORY", "whole number", "MEMORY = 512"),
    "MEMORY = 0 DISK = [ IMAGE = a ]": ("MEMORY = '0'", "at least 1", "MB"),
    "MEMORY = -1 DISK = [ IMAGE = a ]": ("MEMORY = '-1'", "at least 1", "MB"),
    'MEMORY = "" DISK = [ IMAGE = a ]': ("MEMORY", "not set", "MB"),
    "MEMORY = ١٢ DISK = [ IMAGE = a ]": ("MEMORY", "whole number", "MB"),
    'MEMORY = [ KMEMSIZE = "1:2" ]': ("MEMORY/KMEMSIZE", "a vector of beancounters", "MEMORY = 512"),
    DEBIAN + "CPU = 0": ("CPU = '0'", "above 0", "0.5"),
    DEBIAN + "CPU = half": ("CPU = 'half'", "above 0", "0.5"),
    DEBIAN + "CPU = inf": ("CPU = 'inf'", "above 0", "0.5"),
    DEBIAN + "CPU = .": ("CPU = '.'", "above 0", "0.5"),
    DEBIAN + "CPU = 1e3": ("CPU = '1e3'", "above 0", "0.5"),
    DEBIAN + "VCPU = 0": ("VCPU = '0'", "at least 1", "whole number"),
    DEBIAN + "VCPU = 1.5": ("VCPU = '1.5'", "whole number", "whole number"),
    "MEMORY = 1 DISK = [ TYPE = swap, SIZE = 1 ]": ("template web", "all its disks are empty", "IMAGE"),
    "MEMORY = 1 DISK = debian": ("DISK", "a vector", "DISK = ["),
    DEBIAN + "DISK = [ TARGET = vdb ]": ("DISK 1", "no IMAGE", "IMAGE"),
    DEBIAN + "DISK = [ SOURCE = /srv/x.img ]": ("DISK 1", "no IMAGE", "nebula_image"),
    DEBIAN + "DISK = [ IMGAE = b ]": ("DISK 1", "did you mean IMAGE?", "Name its IMAGE"),
    DEBIAN + "NIC = [ NETWROK = a ]": ("NIC 0", "did you mean NETWORK?", "NETWORK"),
    DEBIAN + "NIC_ALIAS = [ NETWROK = a ]": ("NIC_ALIAS 0", "did you mean NETWORK?", "Name the NIC"),
    DEBIAN + "DISK = [ TYPE = fs, SZIE = 10 ]": ("DISK 1: SIZE", "DISK[1]/SZIE is not a known attribute", "MB"),
    DEBIAN + "DISK = [ IMAGE_ID = x ]": ("DISK 1: IMAGE_ID = 'x'", "whole number", "as IMAGE"),
    DEBIAN + "DISK = [ TYPE = swap ]": ("DISK 1: SIZE", "not set", "MB"),
    DEBIAN + "DISK = [ IMAGE = a, SIZE = big ]": ("DISK 1: SIZE = 'big'", "whole number", "MB"),
    DEBIAN + "DISK = [ TYPE = fs, SIZE = 1, FORMAT = vmdk ]": ("FORMAT = vmdk", "no such format", "qcow2"),
    DEBIAN + "DISK = [ TYPE = fs, SIZE = 1, FS = ntfs ]": ("FS = ntfs", "no such file system", "ext4"),
    DEBIAN + "DISK = [ IMAGE = a, READONLY = perhaps ]": ("DISK/READONLY = 'perhaps'", "neither", "YES or NO"),
    DEBIAN + "FEATURES = [ ACPI = maybe ]": ("FEATURES/ACPI = 'maybe'", "neither", "YES or NO"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sda ] DISK = [ IMAGE = b, TARGET = sda ]": (
        "DISK 2 (image b): TARGET = sda", "DISK 1 (image a) has the same", "different"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sda ] CONTEXT = [ TARGET = sda ]": (
        "CONTEXT: TARGET = sda", "DISK 1 (image a) has the same", "different"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = foo ]": ("TARGET = foo", "no name of a disk device", "vda"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sda, BUS = ide ]": ("BUS = ide", "machine q35 has no IDE", "pc"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sda, BUS = foo ]": ("BUS = foo", "no such bus", "virtio"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = ubda ]": ("TARGET = ubda", "kvm has no bus uml", "vda"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = xvda ] DISK = [ IMAGE = b, TARGET = vda ]": (
        "TARGET = vda", "DISK 1 (image a) has the same", "different"),
    DEBIAN + "DISK = [ IMAGE = a, DRIVER = rwa ]": ("DRIVER = rwa", "no such driver", "raw"),
    'HYPERVISOR = xen OS = [ MACHINE = q35 ]' + DEBIAN: ("MACHINE = q35", "Xen has no such machines", "xenpvh"),
    'HYPERVISOR = xen OS = [ MACHINE = xenpvh ]' + DEBIAN: ("MACHINE = xenpvh", "neither KERNEL nor", "pygrub"),
    'HYPERVISOR = xen GRAPHICS = [ TYPE = spice ]' + DEBIAN: ("TYPE = spice", "are VNC", "vnc"),
    "HYPERVISOR = xen DISK = [ IMAGE = a, TARGET = xvda ] DISK = [ IMAGE = b, TARGET = hda ]" + DEBIAN: (
        "TARGET = hda", "has the same", "different"),
    DEBIAN + "CONTEXT = [] CONTEXT_FORMAT = nocluod": ("CONTEXT_FORMAT = nocluod", "no such word", "nocloud"),
    DEBIAN + "CONTEXT = [] CONTEXT_DEVICE = tape": ("CONTEXT_DEVICE = tape", "no such word", "cdrom, disk"),
    DEBIAN + "CONTEXT = [] CONTEXT_DEVICE = [ A = b ]": ("CONTEXT_DEVICE", "single value", "CONTEXT_DEVICE ="),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sdc ] CONTEXT = [ TARGET = sdc ] CONTEXT_DEVICE = disk": (
        "CONTEXT: TARGET = sdc", "DISK 1 (image a) has the same", "different"),
    DEBIAN + 'OS = [ MACHINE = "pc" ] CONTEXT = [ TARGET = hdc ] CONTEXT_DEVICE = disk': (
        "CONTEXT: TARGET = hdc", "a disk on ide can't be read-only", "sda"),
    DEBIAN + "CONTEXT = [ TARGET = vdb ]": ("CONTEXT: TARGET = vdb", "no CDROM drives", "sd"),
    DEBIAN + "DISK = [ IMAGE = a, TYPE = CDROM, TARGET = vdb ]": ("TARGET = vdb", "no CDROM drives", "sd"),
    DEBIAN + PC + "DISK = [ TYPE = fs, SIZE = 1, READONLY = YES, TARGET = hda ]": ("TARGET = hda", "read-only", "vda"),
    DEBIAN + PC + "DISK = [ IMAGE = a, TARGET = hde ]": ("TARGET = hde", "hda to hdd", "vd or sd"),
    DEBIAN + 'OS = [ BOOT = "floppy" ]': ("BOOT = floppy", "floppy is no device", "disk0,nic0"),
    DEBIAN + 'OS = [ BOOT = "disk0,disk1" ]': ("BOOT = disk0,disk1", "disk1: there is no such DISK", "from 0"),
    DEBIAN + 'OS = [ BOOT = "nic0" ]': ("BOOT = nic0", "nic0: there is no such NIC", "from 0"),
    DEBIAN + 'OS = [ BOOT = "network" ]': ("BOOT = network", "no such NIC", "from 0"),
    DEBIAN + "OS = [ UUID = 123 ]": ("UUID = 123", "no UUID", "8-4-4-4-12"),
    DEBIAN + "OS = [ SD_DISK_BUS = ide ]": ("SD_DISK_BUS = ide", "no such bus", "scsi"),
    DEBIAN + "OS = [ KERNEL = vmlinuz ]": ("KERNEL = vmlinuz", "no absolute path", "$FILE"),
    DEBIAN + "NIC = [ MODEL = virtio ]": ("NIC 0", "no NETWORK", "NETWORK"),
    DEBIAN + "NIC = [ NETWORK = a, IP = 10.0.0.300 ]": ("NIC 0: IP = 10.0.0.300", "no IPv4 address", "leave it out"),
    DEBIAN + 'NIC = [ NETWORK = a, IP = "fe80::1" ]': ("NIC 0: IP = fe80::1", "no IPv4 address", "leave it out"),
    DEBIAN + "NIC = [ NETWORK = a, MAC = 02 ]": ("NIC 0: MAC = 02", "no address", "02:00"),
    DEBIAN + 'NIC = [ NETWORK = a, MAC = "01:00:00:00:00:01" ]': ("MAC = 01", "no address of one", "02:00"),
    DEBIAN + "NIC = [ NETWORK = a, TARGET = averyveryverylongname ]": ("NIC 0: TARGET", "21 characters", "15"),
    DEBIAN + "GRAPHICS = [ TYPE = rdp ]": ("GRAPHICS/TYPE = rdp", "no such graphics", "vnc or spice"),
    DEBIAN + "GRAPHICS = [ TYPE = vnc, PORT = 80 ]": ("GRAPHICS/PORT = 80", "no such port", "5900 to 65535"),
    DEBIAN + "GRAPHICS = [ TYPE = vnc, PORT = 65536 ]": ("GRAPHICS/PORT = 65536", "no such port", "5900"),
    DEBIAN + "GRAPHICS = [ TYPE = vnc, RANDOM_PASSWD = maybe ]": ("RANDOM_PASSWD = MAYBE", "neither", "YES or NO"),
    DEBIAN + "GRAPHICS = [ TYPE = vnc, KEYMAP = en_us ]": (
        "GRAPHICS/KEYMAP = 'en_us'", "no such keyboard", "Did you mean en-us?"),
    DEBIAN + "HYPERVISOR = xen GRAPHICS = [ TYPE = vnc, KEYMAP = xx ]": ("KEYMAP = 'xx'", "no such", "Known are ar,"),
    DEBIAN + "CONTEXT = [ A = 1 ] CONTEXT = [ B = 2 ]": ("CONTEXT", "twice", "into one"),
    DEBIAN + "NIC_DEFAULT = [ MODEL = e1000 ] NIC_DEFAULT = [ MODEL = virtio ]": ("NIC_DEFAULT", "twice", "into one"),
    DEBIAN + "NIC_DEFAULT = e1000": ("NIC_DEFAULT", "a vector", "NIC_DEFAULT = ["),
    DEBIAN + "NIC_DEFAULT = [ NETWORK = a ]": ("NIC_DEFAULT/NETWORK", "takes none there", "in each NIC"),
    DEBIAN + "NIC_DEFAULT = [ MTU = big ] NIC = [ NETWORK = a ]": ("NIC 0: MTU = 'big'", "whole number", "digits"),
    DEBIAN + "EMULATOR = qemu": ("EMULATOR = qemu", "no absolute path", "/usr/bin/qemu-system-x86_64"),
    DEBIAN + "EMULATOR = /usr/bin/": ("EMULATOR = /usr/bin/", "no absolute path", "leave it out"),
    DEBIAN + "EMULATOR = [ A = /usr/bin/qemu ]": ("EMULATOR", "single value", "EMULATOR ="),
    DEBIAN + "MEMORY_ENCRYPTION = [ TYPE = TDX ]": ("/TYPE = TDX", "must not run without", "Known are"),
    DEBIAN + "MEMORY_ENCRYPTION = SEV": ("MEMORY_ENCRYPTION/TYPE", "must not run without", "Known are SEV"),
    DEBIAN + "HYPERVISOR = lxc MEMORY_ENCRYPTION = [ TYPE = SEV ]": ("MEMORY_ENCRYPTION", "must not", "Leave it"),
    DEBIAN + "HYPERVISOR = xen MEMORY_ENCRYPTION = SEV": ("MEMORY_ENCRYPTION", "must not run without", "Leave it out"),
    DEBIAN + "HYPERVISOR = xen OS = [ TPM = YES ]": ("OS/TPM", "make none", "KVM"),
    DEBIAN + "FEATURES = [ PCIHOLE64 = big ]": ("FEATURES: PCIHOLE64 = 'big'", "whole number", "digits"),
    DEBIAN + "OS = [ FIRMWARE = UEFI ] FEATURES = [ ACPI = no ]": (
        "FEATURES: ACPI = NO", "UEFI (FIRMWARE = UEFI) needs it", "BIOS"),
    DEBIAN + 'OS = [ FIRMWARE = "/usr/share/OVMF/OVMF_CODE.fd" ] FEATURES = [ ACPI = off ]': (
        "FEATURES: ACPI = OFF", "needs it", "BIOS"),
    "MEMORY = 1 DISK = [ IMAGE = a ]\n" + PC + "DISK = [ IMAGE = a, TARGET = sda, BUS = ide ]\n"
    + "".join(f"DISK = [ IMAGE = a, TARGET = hd{letter} ]" for letter in "abcd"): (
        "TARGET = hda", "has the same letter on bus ide", "different"),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refused_when_stored(text: str) -> None:
    asked, found, remedy = REFUSED[text]
    with pytest.raises(InvalidValue) as caught:
        validate(parse(text), where="template web")
    error = caught.value
    assert error.asked.startswith("template web")
    assert asked in error.asked and found in error.found and remedy in error.remedy, error


ALLOWED = [
    DEBIAN,
    "MEMORY = 1 DISK = [ IMAGE = a, TYPE = CDROM ]",
    'MEMORY = 1 NIC = [ NETWORK = a ] OS = [ BOOT = "nic0" ]',
    'MEMORY = 1 OS = [ KERNEL = "/boot/vmlinuz" ]',
    'MEMORY = 1 OS = [ KERNEL_DS = "$FILE[IMAGE=\\"k\\"]" ]',
    DEBIAN + 'HYPERVISOR = xen CONTEXT = [ TARGET = xvdc:cdrom, DRIVER = "file:" ]',
    DEBIAN + PC + "DISK = [ IMAGE = a, READONLY = YES, TARGET = hda ]",
    DEBIAN + "CPU = 0.01 VCPU = 64",
    DEBIAN + "MYATTR = x OTHER = [ A = 1 ]",
    DEBIAN + 'GRAPHICS = [ TYPE = vnc, LISTEN = "0.0.0.0", PASSWD = "12345678" ]',
    DEBIAN + "DISK = [ TYPE = fs, SIZE = 1, FORMAT = ext3 ]",
    DEBIAN + "NIC_DEFAULT = [ MODEL = e1000 ] NIC = [ NETWORK = a ]",
    DEBIAN + "NIC_DEFAULT = [ MODEL = e1000 ]",
    DEBIAN + "EMULATOR = /usr/bin/qemu-kvm",
    DEBIAN + "GRAPHICS = [ TYPE = vnc, KEYMAP = EN-US ]",
    DEBIAN + "OS = [ FIRMWARE = BIOS ] FEATURES = [ ACPI = no ]",
    DEBIAN + "OS = [ FIRMWARE = UEFI ] FEATURES = [ ACPI = yes, PCIHOLE64 = 1048576 ]",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_allowed_without_a_word(text: str) -> None:
    assert validate(parse(text)) == []


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("DISK = [ IMAGE = a ]", "MEMORY is not set"),
        (DEBIAN + "MEMROY = 3", "MEMROY is not a known attribute: did you mean MEMORY?"),
        (DEBIAN + 'GRAPHICS = [ TYPE = vnc, PASSWD = "123456789" ]', "VNC uses the first 8"),
        (DEBIAN + f'GRAPHICS = [ TYPE = spice, PASSWD = "{"s" * 60}" ]', "SPICE uses the first 59"),
        (DEBIAN + "GRAPHICS = [ TYPE = vnc, LISTEN = 0.0.0.0, RANDOM_PASSWD = NO ]", "whoever reaches the host"),
        (DEBIAN + "GRAPHICS = [ TYPE = vnc, RANDOM_PASSWD = no ]", "whoever logs in on the host"),
        (DEBIAN + 'GRAPHICS = [ TYPE = spice, LISTEN = "::", RANDOM_PASSWD = FALSE ]', "LISTEN is ::"),
        (DEBIAN + "SCHED_REQUIREMENTS = x", "SCHED_REQUIREMENTS is kept, and nothing acts on it yet"),
        (DEBIAN + "CONTEXT = [ TARGET = hdb ]", "CONTEXT: TARGET = hdb is SATA on machine q35"),
        ("MEMORY = 1", "it has no DISK, and nothing to boot from"),
        (DEBIAN + "NIC_DEFAULT = [ SPOOFCHK = YES ] NIC = [ NETWORK = a ]", "NIC/SPOOFCHK is kept"),
        (DEBIAN + "NIC_DEFAULT = [ MODLE = 7 ]", "NIC_DEFAULT/MODLE is not a known attribute: did you mean MODEL?"),
        (DEBIAN + "NIC = [ NETWORK = a, MODEL = virtoi ]", "NIC 0: MODEL = 'virtoi' is none that is known of QEMU"),
        (DEBIAN + "OS = [ ARCH = i686, FIRMWARE = UEFI ]", "it is a package of its own (ovmf-ia32) on the node"),
        (
            DEBIAN + "HYPERVISOR = xen MEMORY_TUNE_OFFSET = 7",
            "MEMORY_TUNE_OFFSET is kept, and nothing acts on it",
        ),
        (DEBIAN + "FEATURES = [ GIC = 2 ]", "FEATURES/GIC is kept, and nothing acts on it yet"),
        (DEBIAN + PC + "FEATURES = [ PCIHOLE64 = 7 ]", "PCIHOLE64 is kept, and nothing acts on it on machine pc"),
        (DEBIAN + "HYPERVISOR = xen EMULATOR = qemu", "EMULATOR is kept, and nothing acts on it on Xen"),
        (DEBIAN + "HYPERVISOR = xen CPU_MODEL = [ MODEL = x ]", "CPU_MODEL/MODEL is kept, and nothing acts on"),
    ],
)
def test_doubtful(text: str, warning: str) -> None:
    [said] = validate(parse(text))
    assert warning in said and said == said.strip()
    assert "123456789" not in said


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("MEMROY = 3", "did you mean MEMORY"),
        ("FEATURES = [ FOOBAR = 3 ]", "FEATURES/FOOBAR is not a known attribute"),
        ("NIC = [ NETWORK = a, FOOBAR = 3 ]", "NIC/FOOBAR is not a known attribute"),
        ("DISK = [ IMGAE = a ]", "did you mean IMAGE"),
        ("MYATTR = 3", ""),
        ("SITE = [ FOOBAR = 3 ]", ""),
    ],
)
def test_strict_refuses_what_is_not_known(text: str, named: str) -> None:
    if not named:
        assert validate(parse(DEBIAN + text), strict=True) == []
        return
    with pytest.raises(InvalidValue, match=named) as caught:
        validate(parse(DEBIAN + text), strict=True)
    assert "strict: false" in caught.value.remedy


def test_strict_leaves_keys_that_the_catalog_has() -> None:
    had = parse(DEBIAN + "FEATURES = [ FOOBAR = 3 ]")
    assert validate(had, strict=True, stored=[had]) == [
        "FEATURES/FOOBAR is not a known attribute, and nothing acts on it"
    ]
    with pytest.raises(InvalidValue, match="FEATURES/OTHER"):
        validate(parse(DEBIAN + "FEATURES = [ FOOBAR = 3, OTHER = 1 ]"), strict=True, stored=[had])
    slip = parse(DEBIAN + "MEMROY = 3")
    with pytest.raises(InvalidValue, match="did you mean MEMORY"):
        validate(slip, strict=True, stored=[slip])


def test_the_smallest_template_of_oned_is_taken_with_a_warning(machine: Callable[..., Vm]) -> None:
    text = (ONED / "01-minimal.tmpl").read_text()
    (said,) = validate(parse(text))
    assert said.startswith("it has no DISK, and nothing to boot from. Add DISK")
    vm = machine(text)
    assert (vm.name, vm.cpu, vm.memory, vm.disks, vm.nics, vm.context) == ("minimal", 0.5, 128, (), (), None)


PVH = "MEMORY = 64 DISK = [ IMAGE = a ] OS = [ MACHINE = xenpvh, KERNEL = /k ]"


def test_one_hypervisor_that_takes_it_is_enough() -> None:
    with pytest.raises(InvalidValue, match="no such machine type"):
        validate(parse(PVH))
    assert validate(parse(PVH), hypervisors=("kvm", "xen")) == []
    with pytest.raises(InvalidValue, match="no such machine type"):
        validate(parse(PVH + " HYPERVISOR = kvm"), hypervisors=("kvm", "xen"))
    # The first one's words, where none does.
    with pytest.raises(InvalidValue, match="Xen has no such machines"):
        validate(parse(PVH.replace("xenpvh", "microvm2")), hypervisors=("xen", "kvm"))
    refused = refusals_by_hypervisor(parse(PVH), "VM web", ("kvm", "xen"))
    assert set(refused) == {"kvm"} and "VM web" in str(refused["kvm"])


FULL = " ".join(f"DISK = [ IMAGE = a, TARGET = sd{letter} ]" for letter in "abcd")


@pytest.mark.parametrize("last", ["CONTEXT = [ A = 1 ]", "DISK = [ IMAGE = a, TYPE = CDROM ]"])
def test_a_drive_that_xen_has_no_more_is_missed_when_the_template_is_stored(last: str) -> None:
    text = f"MEMORY = 1 HYPERVISOR = xen {FULL} {last}"
    with pytest.raises(InvalidValue, match=r"one of the 4 emulated drives.* xvda is DISK 0") as caught:
        validate(parse(text), where="template web")
    assert "xvde" in caught.value.remedy
    assert validate(parse(text.replace("TARGET = sdd", "TARGET = sde"))) == []
    assert validate(parse(text.replace("HYPERVISOR = xen", 'OS = [ KERNEL = "/k" ] HYPERVISOR = xen'))) == []
    if "CONTEXT" in last:
        assert validate(parse(text + " CONTEXT_DEVICE = disk")) == []
