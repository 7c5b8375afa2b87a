# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container of OpenVZ can be, what is refused by name, and what is kept without effect."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import openvz_declaration
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import (
    refusals_by_hypervisor,
    validate,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

GOOD = 'MEMORY = 128 DISK = [ IMAGE = "debian-12" ]'
UBC = 'MEMORY = [ PRIVVMPAGES = "65536:69632", KMEMSIZE = "14372700:14790164" ]'


def check(text: str) -> list[str]:
    return validate(parse(text), where="VM a", hypervisors=["openvz"])


def built(text: str, *images: Image) -> Vm:
    return build(
        parse(text),
        vm_id=7,
        uuid="5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d11",
        name="a",
        hypervisor="openvz",
        images=dict(enumerate(images)),
        nics=[],
    )


def image(**values: object) -> Image:
    return Image(1, "debian-12", **{"type": ImageType.OS, "format": "tar", "source": "/x", **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (GOOD + 'DISK = [ IMAGE = "data" ]', r"DISK 1 \(IMAGE = data\): a container has one root file system"),
        (GOOD + "DISK = [ TYPE = fs, SIZE = 10 ]", r"DISK 1 \(TYPE = fs\): a container has one root file system"),
        ("MEMORY = 128 DISK = [ TYPE = fs, SIZE = 10 ]", "it has nothing to boot from"),
        (GOOD + "DISK = [ TYPE = swap, SIZE = 1 ] DISK = [ TYPE = swap, SIZE = 2 ]", "DISK 2: TYPE = swap: there is"),
        (
            GOOD + 'SWAPPAGES = "0:1M" DISK = [ TYPE = swap, SIZE = 1 ]',
            "SWAPPAGES: DISK 1 with TYPE = swap says it too",
        ),
        (GOOD + "GRAPHICS = [ TYPE = vnc ]", "GRAPHICS/TYPE: a container has no screen"),
        (GOOD + "INPUT = [ TYPE = tablet ]", "INPUT/TYPE: a container has no screen"),
        (GOOD + 'TPM = [ MODEL = "tpm-crb" ]', "TPM: a container has none"),
        (GOOD + 'OS = [ BOOT = "disk0" ]', "OS/BOOT: a container has no order of devices"),
        (GOOD + 'OS = [ KERNEL = "/vmlinuz" ]', "OS/KERNEL: a container runs its host's kernel"),
        (GOOD + 'OS = [ FIRMWARE = "UEFI" ]', "OS/FIRMWARE: a container has no firmware"),
        (GOOD + 'OS = [ BOOTLOADER = "pygrub" ]', "OS/BOOTLOADER: a container runs its host's kernel"),
        (GOOD + 'INJECT = [ PATH = "/a", CONTENT = "b" ]', "INJECT/PATH: a container's root has no partitions"),
        ('MEMORY = 128 DISK = [ SOURCE = "a.tar.gz" ]', "it is no plain absolute path"),
        ('MEMORY = 128 DISK = [ SOURCE = "/a/$(id).tar.gz" ]', "it is no plain absolute path"),
        ('MEMORY = 128 DISK = [ IMAGE = "a b" ]', "the name 'a b' as that of an OS template"),
        ('MEMORY = 128 DISK = [ SOURCE = "/a/-rf.tar.gz" ]', "the name '-rf' as that of an OS template"),
        (GOOD + 'OSTEMPLATE = "../x"', "OSTEMPLATE: the name '../x'"),
        (GOOD + 'DISKSPACE = "1:2:3"', "DISKSPACE = '1:2:3': it is no limit that vzctl reads"),
        ('MEMORY = 1 DISKSPACE = 5 DISK = [ IMAGE = "d", DISKSPACE = 6 ]', "beside it stands DISKSPACE = 5"),
        (GOOD + "CPUUNITS = 1", "CPUUNITS = '1': it is not a whole number of at least 8"),
        (GOOD + "CPUUNITS = 500001", "CPUUNITS = 500001: it is too large"),
        (GOOD + "CPUS = 0", "CPUS = '0'"),
        (GOOD + 'CPUMASK = "0,x"', "CPUMASK = '0,x': it is no list of processors"),
        (GOOD + "ONBOOT = maybe", "ONBOOT = 'maybe': it is neither yes nor no"),
        (GOOD + 'SWAPPAGES = "many"', "SWAPPAGES = 'many'"),
        (
            'MEMORY = [ KMEMSIZES = "1:2" ] DISK = [ IMAGE = "d" ]',
            "MEMORY/KMEMSIZES = 1:2: there is no such beancounter",
        ),
        ('MEMORY = [ NUMPROC = "1M" ] DISK = [ IMAGE = "d" ]', "NUMPROC = '1M'"),
        (UBC + UBC + 'DISK = [ IMAGE = "d" ]', "MEMORY: it is there twice"),
        ('MEMORY = [ PHYSPAGES = "0:unlimited" ] DISK = [ IMAGE = "d" ]', "all of its limits are unlimited"),
        ('MEMORY = [ NUMPROC = "5" ] DISK = [ IMAGE = "d" ]', "it has neither PHYSPAGES nor PRIVVMPAGES"),
        (GOOD + 'NIC = [ NETWORK = "n", TARGET = "a;b" ]', "TARGET = 'a;b'"),
        (GOOD + 'RAW = [ TYPE = openvz, DATA = "A=$(id)" ]', r"RAW: DATA: A=\$\(id\)"),
        (GOOD + 'RAW = [ TYPE = openvz, DATA = "rm -rf" ]', "it is no line of a container's configuration"),
        (GOOD + 'RAW = [ TYPE = openvz, DATA = "VE_PRIVATE=/etc" ]', "RAW: DATA: VE_PRIVATE: it says where or which"),
        (GOOD + 'CONTEXT = [ FIREWALL = "[22 10.0.0.0/8" ]', "there is no ] after it"),
        ('MEMORY = [ PHYSPAGES = "5:4" ] DISK = [ IMAGE = "d" ]', 'barrier is above its limit. .* first: "4:5"'),
        (UBC.replace("14372700:", "unlimited:") + 'DISK = [ IMAGE = "d" ]', "KMEMSIZE = .*: its barrier is above"),
        (GOOD + 'SWAPPAGES = "2G:1G"', "SWAPPAGES = '2G:1G': its barrier is above its limit"),
        ('MEMORY = [ PHYSPAGES = "0:9999999999999999999" ] DISK = [ IMAGE = "d" ]', "no kernel counts to 9999"),
        (GOOD + 'DISKSPACE = "20:10"', "DISKSPACE = '20:10': its soft limit is above its hard one"),
        (GOOD + 'DISKSPACE = "1G:1048575"', "DISKSPACE = '1G:1048575': its soft limit is above its hard one"),
        (GOOD + 'DISKINODES = "0:0"', "DISKINODES = '0:0': nothing has room in it"),
        (GOOD + 'CPUMASK = "3-1"', "CPUMASK = '3-1': it is no list of processors"),
        (GOOD + "CPUMASK = 4096", "CPUMASK = '4096': it is no list of processors. Write numbers below 4096"),
        (GOOD + 'CONTEXT = [ CONTEXT_DIRECTORY = "mnt" ]', "CONTEXT_DIRECTORY = 'mnt': it is no plain absolute path"),
        (GOOD + 'CONTEXT = [ CONTEXT_DIRECTORY = "/" ]', "CONTEXT_DIRECTORY = '/': it is no plain absolute path"),
        (
            GOOD + 'CONTEXT = [ CONTEXT_DIRECTORY = "/proc/x" ]',
            "something is mounted at /proc when the container starts",
        ),
        (GOOD + 'CONTEXT = [ HOSTNAME = "a b" ]', "CONTEXT/HOSTNAME = 'a b': it is no name of a host"),
        (GOOD + 'CONTEXT = [ SET_HOSTNAME = "-x" ]', "CONTEXT/SET_HOSTNAME = '-x': it is no name of a host"),
        (
            GOOD + 'CONTEXT = [ NAMESERVER = "10.0.0.1 ns1" ]',
            "CONTEXT/NAMESERVER = '10.0.0.1 ns1': 'ns1' is no address",
        ),
        (GOOD + 'CONTEXT = [ NAMESERVER = "$(id)" ]', r"CONTEXT/NAMESERVER = '\$\(id\)': it holds '\$'"),
        (GOOD + 'CONTEXT = [ SEARCHDOMAIN = "$NAME`id`" ]', "CONTEXT/SEARCHDOMAIN = .*: it holds '`'"),
        (GOOD + 'RAW = [ TYPE = openvz, DATA = "PATH=/tmp" ]', "RAW: DATA: PATH: vzctl reads no such key"),
        (
            GOOD + 'RAW = [ TYPE = openvz, DATA = "FEATURE=nfs:on" ]',
            "FEATURE: vzctl reads no .* Did you mean FEATURES?",
        ),
        (GOOD + 'RAW = [ TYPE = openvz, DATA = "NUMPROC=many" ]', "RAW: DATA: NUMPROC = 'many': it is no limit"),
        (GOOD + 'DISK = [ TYPE = swap, SIZE = "1 GB" ]', "DISK 1: SIZE = '1 GB': it is not a whole number"),
        (GOOD + 'DISK = [ TYPE = swap, SIZE = "0:1024M" ]', "DISK 1: SIZE = '0:1024M': it is not a whole number"),
        (
            GOOD + 'DISK = [ TYPE = swap, SIZE = 1, TARGET = "/x" ]',
            "it is no name of a disk device.* Containers of LXC",
        ),
    ],
)
def test_what_no_container_can_have_is_refused_by_name(text: str, error: str) -> None:
    with pytest.raises(InvalidValue, match=error):
        check(text)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        UBC + 'DISK = [ SOURCE = "/srv/centos-5-x86.tar.bz2" ]',
        GOOD + "DISK = [ TYPE = swap, SIZE = 1024 ] ONBOOT = yes CPUS = 2 CPUUNITS = 2000 CPULIMIT = 25",
        GOOD + 'NIC = [ NETWORK = "n" ] CONTEXT = [ FIREWALL = "[22] 10.0.0.0/8" ]',
        GOOD + 'NIC = [ NETWORK = "n", MODEL = veth ] CONTEXT = [ FIREWALL = "[22] 10.0.0.0/8" ]',
        GOOD + 'RAW = [ TYPE = openvz, DATA = "FEATURES=\\"nfs:on\\"" ]',
        GOOD + 'SWAPPAGES = "0:1024M" DISKSPACE = "10485760:11530240" DISKINODES = "200000:220000" CPUMASK = "0-1,3"',
        GOOD + 'OS = [ ARCH = "x86_64" ]',
    ],
)
def test_what_a_container_can_have_is_taken_without_a_word(text: str) -> None:
    assert check(text) == []


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('DISK = [ IMAGE = "d", BUS = virtio ]', "DISK/BUS is kept, and nothing acts on it on this hypervisor"),
        ('DISK = [ IMAGE = "d", TARGET = sda ]', "DISK/TARGET is kept"),
        ('DISK = [ IMAGE = "d", DRIVER = raw ]', "DISK/DRIVER is kept"),
        ('DISK = [ IMAGE = "d", CACHE = none ]', "DISK/CACHE is kept"),
        ('DISK = [ SOURCE = "/d.tar", FORMAT = raw ]', "DISK/FORMAT is kept"),
        ('DISK = [ IMAGE = "d", READONLY = yes ]', "DISK/READONLY is kept"),
        ('DISK = [ IMAGE = "d" ] NIC = [ NETWORK = "n", BRIDGE = br0 ]', "NIC/BRIDGE is kept"),
        ('DISK = [ IMAGE = "d" ] NIC = [ NETWORK = "n", SCRIPT = x ]', "NIC/SCRIPT is kept"),
        ('DISK = [ IMAGE = "d" ] NIC = [ NETWORK = "n", MODEL = virtio ]', "NIC 0: MODEL = virtio is kept"),
        ('DISK = [ IMAGE = "d" ] NIC = [ NETWORK = "n", TARGET = t ]', "NIC/TARGET is kept"),
        ('DISK = [ IMAGE = "d" ] OS = [ MACHINE = q35 ]', "OS/MACHINE is kept"),
        ('DISK = [ IMAGE = "d" ] FEATURES = [ ACPI = yes ]', "FEATURES/ACPI is kept"),
        ('DISK = [ IMAGE = "d" ] CPU_MODEL = [ MODEL = host-model ]', "CPU_MODEL/MODEL is kept"),
        ('DISK = [ IMAGE = "d" ] EMULATOR = "/bin/qemu"', "EMULATOR is kept"),
    ],
)
def test_what_has_no_effect_is_named_in_a_warning(text: str, warning: str) -> None:
    (found,) = check("MEMORY = 128 " + text)
    assert warning in found


@pytest.mark.parametrize("hypervisor", ["kvm", "xen"])
def test_other_hypervisors_refuse_the_vector_by_name(hypervisor: str) -> None:
    with pytest.raises(
        InvalidValue, match=r"MEMORY/(KMEMSIZE|PRIVVMPAGES): a vector of beancounters is for containers"
    ):
        validate(parse(UBC + 'DISK = [ IMAGE = "d" ]'), where="VM a", hypervisors=[hypervisor])
    assert set(refusals_by_hypervisor(parse(UBC + 'DISK = [ IMAGE = "d" ]'), "VM a", [hypervisor, "openvz"])) == {
        hypervisor
    }


def test_other_hypervisors_take_no_file_in_place_of_an_image() -> None:
    with pytest.raises(InvalidValue, match="DISK 0: it names no IMAGE"):
        validate(parse('MEMORY = 1 DISK = [ SOURCE = "/a.tar" ]'), hypervisors=["kvm"])


def test_the_memory_to_be_placed_is_that_of_the_limits() -> None:
    assert demands(parse(UBC)).memory == 272
    assert demands(parse('MEMORY = [ PHYSPAGES = "0:512M", PRIVVMPAGES = "0:unlimited" ]')).memory == 512
    vm = built(UBC + 'DISK = [ IMAGE = "debian-12" ]', image())
    assert vm.memory == 272 and vm.container["KMEMSIZE"] == "14372700:14790164"


def test_what_only_a_container_has_goes_along_with_the_machine() -> None:
    vm = built(
        'MEMORY = 64 ONBOOT = "YES" CPUS = 2 DISKINODES = "1:2" DISK = [ IMAGE = "debian-12", DISKSPACE = "3:4" ]',
        image(),
    )
    assert vm.container == {"ONBOOT": "yes", "CPUS": "2", "DISKINODES": "1:2", "DISKSPACE": "3:4"}
    assert not vm.attributes and vm.memory == 64


@pytest.mark.parametrize("driver", ["", ", DRIVER = raw", ", DRIVER = qcow2", ", DRIVER = tar"])
def test_a_root_is_a_tar_whatever_driver_says(driver: str) -> None:
    (disk,) = built(f'MEMORY = 64 DISK = [ IMAGE = "debian-12"{driver} ]', image()).disks
    assert (disk.format, disk.driver, disk.clone) == ("tar", "tar", True)
    (disk,) = built(f'MEMORY = 64 DISK = [ SOURCE = "/srv/a-1.tar.gz"{driver} ]').disks
    assert (disk.source, disk.format, disk.driver, disk.type, disk.image) == (
        "/srv/a-1.tar.gz",
        "tar",
        "tar",
        "FILE",
        "",
    )


@pytest.mark.parametrize(("more", "size"), [("", 0), (", SIZE = 100", 100)])
def test_what_it_makes_itself_is_as_large_as_size_says_and_else_without_a_limit(more: str, size: int) -> None:
    """The size of an image is that of a packed archive, and none of what comes out of it."""
    text = f'MEMORY = 64 DISK = [ IMAGE = "debian-12"{more} ] DISK = [ TYPE = swap, SIZE = 32 ]'
    root, swap = built(text, image(size=60)).disks
    assert (root.size, root.by_hypervisor) == (size, True)
    assert (swap.type, swap.size, swap.by_hypervisor) == ("SWAP", 32, True)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"format": "qcow2"}, "DISK 0: image debian-12: it is a disk .format qcow2., and a container of openvz has no"),
        ({"format": "raw"}, "it is a disk .format raw."),
        ({"type": ImageType.CDROM}, "CDROM"),
        ({"type": ImageType.DATABLOCK}, "none of them is of an image of type OS|it is of type DATABLOCK"),
        ({"persistent": True}, "it is persistent"),
        ({"name": "debian 12"}, "the name 'debian 12'"),
    ],
)
def test_an_image_of_the_wrong_kind_is_refused(values: dict[str, object], error: str) -> None:
    found = image()
    found = type(found)(**{**{name: getattr(found, name) for name in found.__dataclass_fields__}, **values})  # type: ignore[attr-defined]
    with pytest.raises(InvalidValue, match=error):
        built(GOOD, found)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (("debian-12", "/srv/x.tar.gz"), "debian-12"),
        (("", "/srv/one/centos-5-x86.tar.bz2"), "centos-5-x86"),
        (("", "/srv/a.TGZ"), "a"),
        (("", "/srv/a.tar"), "a"),
        (("", "/srv/70f38bbaf574"), "70f38bbaf574"),
        (("", "/srv/a.zip"), "a.zip"),
    ],
)
def test_the_name_of_a_template_is_that_of_its_image_or_file(given: tuple[str, str], name: str) -> None:
    assert openvz_declaration.template_name(*given) == name


def test_the_distribution_is_the_longest_word_that_is_known() -> None:
    known = ["debian", "debian-3.0", "centos", "default"]
    assert openvz_declaration.distribution_of("debian-12-x86", known) == "debian"
    assert openvz_declaration.distribution_of("debian-3.0-x86", known) == "debian-3.0"
    assert openvz_declaration.distribution_of("debianish-1", known) == ""
    openvz_declaration.check_saved_name("centos-5-vm36", known, "VM a")
    for name in ("web", "default-1", "Centos-5"):
        with pytest.raises(InvalidValue, match=f"image {name}: its name begins with no distribution"):
            openvz_declaration.check_saved_name(name, known, "VM a")
    with pytest.raises(InvalidValue, match="as that of an OS template"):
        openvz_declaration.check_saved_name("centos/5", known, "VM a")


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("debain-12-web", "Did you mean debian-12-web? Begin it"),
        ("Debian-12", "Did you mean debian-12? Begin it"),
        ("centso", "Did you mean centos? Begin it"),
        ("redhat-el-6", "Did you mean redhat-el6? Begin it"),
        ("web", "is in it. Begin it with one of these, and a dash: centos, debian, redhat-el6"),
    ],
)
def test_a_name_of_no_distribution_is_refused_with_the_nearest_that_there_is(name: str, suggested: str) -> None:
    with pytest.raises(InvalidValue) as error:
        openvz_declaration.check_saved_name(name, ["centos", "debian", "default", "redhat-el6"], "VM a")
    assert suggested in str(error.value)


def test_a_machine_without_a_root_is_refused_before_it_comes_to_a_host() -> None:
    with pytest.raises(InvalidValue, match="VM a: its disks: none of them has a root file system"):
        openvz_declaration.check_images(Os(), parse("MEMORY = 64 DISK = [ TYPE = swap, SIZE = 4 ]"), {}, "VM a")
