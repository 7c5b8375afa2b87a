# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt 9.0 says of machines of fixtures/deployment/kvm (fixtures/arriving/CASE.live.xml, as if they ran on a
host with other directories, bridges and processors), and what becomes of it: goldens, written anew on purpose by
REGENERATE=1, each valid to libvirt's schema. CASE.arriving.xml is what libvirt 9.0 has made of the golden."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from xml.etree import ElementTree as ET

import deployment_files
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.arriving_definition import (
    adapted,
    check,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_xml import (
    MARK_PATH,
    NAMESPACE,
)

FIXTURES = deployment_files.FIXTURES.parent / "arriving"
CASES = sorted(path.name.partition(".")[0] for path in FIXTURES.glob("*.live.xml"))
ASKED = "virtual machine web-1: move"
Q35 = "vnc_and_context_on_virtio_scsi_q35"
EVIL = "/etc/shadow"
DRIVE = "devices/disk[@device='cdrom']"


def live_of(case: str) -> str:
    return (FIXTURES / f"{case}.live.xml").read_text(encoding="utf-8")


def own_of(case: str) -> str:
    return (deployment_files.FIXTURES / "kvm" / f"{case}.xml").read_text(encoding="utf-8")


def of_case(case: str) -> str:
    return adapted(live_of(case), own_of(case), ASKED)


Change = Callable[[ET.Element], object]


class NoSuchPlace(Exception):
    """The machine has no device that could be changed."""


def at(root: ET.Element, place: str) -> ET.Element:
    """The first element at the place; "" for the domain."""
    found = root.find(place) if place else root
    if found is None:
        raise NoSuchPlace(place)
    return found


def changed(text: str, *changes: Change) -> str:
    root = ET.fromstring(text)
    for change in changes:
        change(root)
    return ET.tostring(root, encoding="unicode")


def adding(place: str, fragment: str, first: bool = False) -> Change:
    """Put the fragment into the element at the place, as its last, or first."""

    def add(root: ET.Element) -> None:
        parent = at(root, place)
        parent.insert(0 if first else len(parent), ET.fromstring(fragment))

    return add


def setting(place: str, **values: str) -> Change:
    def set_(root: ET.Element) -> None:
        found = at(root, place)
        for name, value in values.items():
            found.set(name, value)

    return set_


def removing(place: str, tag: str) -> Change:
    def remove(root: ET.Element) -> None:
        parent = at(root, place)
        parent.remove(at(parent, tag))

    return remove


def as_written(text: str) -> list[str]:
    """Each element, however it is laid out."""
    root = ET.fromstring(text)
    for each in root.iter():
        each.tail = None
        each.text = (each.text or "").strip()
    return [ET.tostring(each, encoding="unicode") for each in root.iter()]


# -- goldens ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    root = ET.fromstring(of_case(case))
    ET.indent(root)
    deployment_files.compare(FIXTURES / f"{case}.adapted.xml", ET.tostring(root, encoding="unicode") + "\n")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.skipif(shutil.which("virt-xml-validate") is None, reason="needs libvirt-clients")
def test_golden_is_valid_to_the_schema(case: str) -> None:
    deployment_files.validate(FIXTURES / f"{case}.adapted.xml")


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_of_the_old_host(case: str) -> None:
    found = of_case(case)
    assert "/srv/old" in live_of(case)
    for word in ("/srv/old", "/opt/old", "oldnbr", "vnet", "/dev/pts", "192.0.2.7", "seclabel type", "/machine"):
        assert word not in found, word


@pytest.mark.parametrize("case", CASES)
def test_what_a_guest_sees_stays(case: str) -> None:
    live, found = ET.fromstring(live_of(case)), ET.fromstring(of_case(case))
    seen = [
        *("os/type", "cpu", "clock", "features", "memory", "vcpu", "devices/controller", "devices/memballoon"),
        *("devices/disk/target", "devices/disk/address", "devices/interface/mac", "devices/interface/model"),
        *("devices/interface/address", "devices/video", "devices/input"),
    ]
    for place in seen:
        for one, other in zip(live.findall(place), found.findall(place)):
            if place == "vcpu":
                one.attrib.pop("cpuset", None)
            assert as_written(ET.tostring(one, encoding="unicode")) == as_written(
                ET.tostring(other, encoding="unicode")
            )
        assert len(live.findall(place)) == len(found.findall(place))


@pytest.mark.parametrize("case", CASES)
def test_what_libvirt_makes_of_it_is_what_was_agreed_upon(case: str) -> None:
    check((FIXTURES / f"{case}.arriving.xml").read_text(encoding="utf-8"), of_case(case), ASKED)


@pytest.mark.parametrize("case", CASES)
def test_its_own_definition_is_what_was_agreed_upon(case: str) -> None:
    check(of_case(case), of_case(case), ASKED)


_PORT = "<virtualport type='openvswitch'><parameters interfaceid='{}'/></virtualport>"


@pytest.mark.parametrize("other", ["11111111-0000-4000-8000-000000000001", ""])
def test_a_nic_is_at_the_port_of_the_switch_that_is_its_own_here(other: str) -> None:
    """Whatever its old host says of it: by another name it would have the network of another machine."""
    place, port = "devices/interface", _PORT.format("22222222-0000-4000-8000-000000000002")
    own = changed(own_of(Q35), setting(f"{place}/source", bridge="br-int"), adding(place, port))
    live = changed(live_of(Q35), setting(f"{place}/source", bridge="br-other"))
    live = changed(live, adding(place, _PORT.format(other))) if other else live
    found = ET.fromstring(adapted(live, own, ASKED))
    assert at(found, f"{place}/source").get("bridge") == "br-int"
    (made,) = at(found, place).findall("virtualport")
    assert as_written(ET.tostring(made, encoding="unicode")) == as_written(port)


# -- what can't come --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (setting("", type="qemu"), "type qemu on its host, and this one's are of type kvm"),
        (removing("devices", "disk"), "without disk vda"),
        (removing("devices", "interface"), "without interface 02:00:0a:01:00:0a"),
        (adding("devices", "<disk type='file' device='disk'><target dev='vdz'/></disk>"), "disk vdz, which it is not"),
        (adding("devices", "<disk type='file' device='disk'/>"), "disk , which it is not"),
        (adding("devices", "<interface type='bridge'><mac address='52:54:00:00:00:01'/></interface>"), "interface 52"),
        (setting("devices/disk", device="lun"), "disk vda is of another kind"),
        (setting("devices/disk", type="block"), "disk vda is of another kind"),
        (setting("devices/disk/driver", type="raw"), "disk vda is of another format"),
        (setting("devices/disk/driver", name="phy"), "disk vda is of another format"),
        (removing("devices/disk", "driver"), "disk vda is of another format"),
        (setting("devices/interface", type="direct"), "attached in another way"),
        (setting("devices/interface", type="ethernet"), "attached in another way"),
    ],
)
def test_a_machine_that_is_not_what_its_plan_says_is_refused(change: Change, found: str) -> None:
    with pytest.raises(Unsupported, match=found) as error:
        adapted(changed(live_of(Q35), change), own_of(Q35), ASKED)
    assert "move: cold" in error.value.remedy


@pytest.mark.parametrize("text", ["", "x", "<domain", "<domain/>", "<domain type='kvm'/>", "<!DOCTYPE x>"])
def test_what_is_no_definition_is_refused(text: str) -> None:
    with pytest.raises((Unsupported, ForeignObject)):
        adapted(text, own_of(Q35), ASKED)


@pytest.mark.parametrize("tag", ["name", "uuid"])
def test_another_machine_is_refused(tag: str) -> None:
    def other(root: ET.Element) -> None:
        at(root, tag).text = "one-99"

    with pytest.raises(ForeignObject, match="offers another machine"):
        adapted(changed(live_of(Q35), other), own_of(Q35), ASKED)


def test_an_empty_drive_stays_empty() -> None:
    live = changed(live_of(Q35), removing(DRIVE, "source"))
    found = at(ET.fromstring(adapted(live, own_of(Q35), ASKED)), DRIVE)
    assert found.find("source") is None and found.find("readonly") is not None


# -- a TPM -------------------------------------------------------------------------------------------------------------
TPM = "<tpm model='tpm-{}'><backend type='{}' version='{}'/></tpm>"
OWN_TPM = TPM.format("crb", "emulator", "2.0")


def with_tpm(text: str, *tpms: str) -> str:
    return changed(text, *(adding("devices", each) for each in tpms))


def test_a_tpm_is_this_hosts_own_and_what_comes_of_it_is_kept() -> None:
    """Whatever the machine's run comes to: it is all that there is of it."""
    live = with_tpm(live_of(Q35), OWN_TPM.replace("/>", "><encryption secret='u'/></backend>"))
    result = adapted(live, with_tpm(own_of(Q35), OWN_TPM), ASKED)
    (found,) = ET.fromstring(result).findall("devices/tpm")
    assert (found.get("model"), len(found)) == ("tpm-crb", 1)
    assert found[0].attrib == {"type": "emulator", "version": "2.0", "persistent_state": "yes"}
    assert len(found[0]) == 0
    check(result, result, ASKED)
    with pytest.raises(ForeignObject):
        check(changed(result, adding("devices", TPM.format("tis", "emulator", "2.0"))), result, ASKED)


@pytest.mark.parametrize(
    ("live", "own", "found"),
    [
        ([OWN_TPM], [], "its TPM is of type emulator, and not the one that it is to have"),
        ([TPM.format("crb", "passthrough", "2.0")], [OWN_TPM], "its TPM is of type passthrough"),
        ([TPM.format("tis", "emulator", "2.0")], [OWN_TPM], "its TPM is of another model or version"),
        ([TPM.format("crb", "emulator", "1.2")], [OWN_TPM], "its TPM is of another model or version"),
        ([], [OWN_TPM], "it runs with another number of TPMs"),
        ([OWN_TPM, OWN_TPM], [OWN_TPM], "it runs with another number of TPMs"),
    ],
)
def test_another_tpm_than_it_is_to_have_is_refused(live: list[str], own: list[str], found: str) -> None:
    with pytest.raises(Unsupported, match=found):
        adapted(with_tpm(live_of(Q35), *live), with_tpm(own_of(Q35), *own), ASKED)


# -- what a hostile host may put in -----------------------------------------------------------------------------------
QEMU = "xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'"
HOSTILE: dict[str, Change] = {
    # Devices.
    "hostdev": adding("devices", "<hostdev mode='subsystem' type='usb'><source/></hostdev>"),
    "filesystem": adding("devices", f"<filesystem><source dir='{EVIL}'/><target dir='x'/></filesystem>"),
    "tpm": adding("devices", f"<tpm><backend type='passthrough'><device path='{EVIL}'/></backend></tpm>"),
    "shmem": adding("devices", f"<shmem name='x'><server path='{EVIL}'/></shmem>"),
    "redirdev": adding("devices", f"<redirdev type='dev'><source path='{EVIL}'/></redirdev>"),
    "smartcard": adding("devices", "<smartcard mode='host'/>"),
    "parallel": adding("devices", f"<parallel type='dev'><source path='{EVIL}'/></parallel>"),
    "vsock": adding("devices", "<vsock><cid auto='no' address='3'/></vsock>"),
    "lease": adding("devices", f"<lease><lockspace>x</lockspace><key>k</key><target path='{EVIL}'/></lease>"),
    "nvram": adding("devices", "<nvram/>"),
    "crypto": adding("devices", "<crypto model='virtio'/>"),
    "pstore": adding("devices", f"<pstore backend='acpi-erst'><path>{EVIL}</path></pstore>"),
    "serial file": adding("devices", f"<serial type='file'><source path='{EVIL}'/></serial>"),
    "serial dev": adding("devices", f"<serial type='dev'><source path='{EVIL}'/></serial>"),
    "serial pipe": adding("devices", f"<serial type='pipe'><source path='{EVIL}'/></serial>"),
    "serial tcp": adding("devices", "<serial type='tcp'><source mode='bind' host='0.0.0.0' service='1'/></serial>"),
    "serial unix": adding("devices", f"<serial type='unix'><source mode='connect' path='{EVIL}'/></serial>"),
    "serial log": adding("devices", f"<serial type='pty'><log file='{EVIL}' append='off'/></serial>"),
    "console file": adding("devices", f"<console type='file'><source path='{EVIL}'/></console>"),
    "console log": adding("devices/console", f"<log file='{EVIL}'/>"),
    "channel unix": adding(
        "devices", f"<channel type='unix'><source path='{EVIL}'/><target type='virtio' name='x'/></channel>"
    ),
    "channel file": adding(
        "devices", f"<channel type='file'><source path='{EVIL}'/><target type='virtio' name='x'/></channel>"
    ),
    "channel tcp": adding("devices", "<channel type='tcp'><source mode='connect' host='h' service='1'/></channel>"),
    "channel of the agent": adding("devices/channel", f"<source mode='connect' path='{EVIL}'/>"),
    "channel with a log": adding("devices/channel", f"<log file='{EVIL}' append='on'/>"),
    "spice with a log": adding(
        "devices", f"<channel type='spicevmc'><log file='{EVIL}'/><source path='{EVIL}'/></channel>"
    ),
    "rng egd": adding(
        "devices", "<rng model='virtio'><backend model='egd' type='tcp'><source host='h' service='1'/></backend></rng>"
    ),
    "rng file": adding("devices", f"<rng model='virtio'><backend model='random'>{EVIL}</backend></rng>"),
    "rng hwrng": adding("devices", "<rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>"),
    "audio file": adding("devices", f"<audio id='1' type='file' path='{EVIL}'/>"),
    "audio of the host": adding("devices", "<audio id='1' type='alsa'><input dev='hw:0'/></audio>"),
    "input evdev": adding("devices", f"<input type='evdev'><source dev='{EVIL}'/></input>"),
    "input passthrough": adding("devices", f"<input type='passthrough'><source evdev='{EVIL}'/></input>"),
    "input without a source": adding("devices", "<input type='passthrough'/>"),
    "memory nvdimm": adding("devices", f"<memory model='nvdimm'><source><path>{EVIL}</path></source></memory>"),
    "memory of a node": adding("devices", "<memory model='dimm'><source><nodemask>1</nodemask></source></memory>"),
    "video rendered": adding("devices/video/model", f"<acceleration accel3d='yes' rendernode='{EVIL}'/>"),
    "emulator": adding("devices", f"<emulator>{EVIL}</emulator>"),
    # Disks and NICs.
    "disk source": setting("devices/disk/source", file=EVIL),
    "second disk source": adding("devices/disk", f"<source file='{EVIL}'/>", first=True),
    "disk source of the network": adding(
        "devices/disk", "<source protocol='nbd' name='x'><host name='h'/></source>", first=True
    ),
    "disk source in another namespace": adding("devices/disk", f"<x:source xmlns:x='x' file='{EVIL}'/>", first=True),
    "backing store": adding("devices/disk", f"<backingStore type='file'><source file='{EVIL}'/></backingStore>"),
    "mirror": adding("devices/disk", f"<mirror type='file' file='{EVIL}'><source file='{EVIL}'/></mirror>"),
    "data store": adding("devices/disk/source", f"<dataStore type='file'><source file='{EVIL}'/></dataStore>"),
    "transient": adding("devices/disk", "<transient shareBacking='yes'/>"),
    "raw access": setting("devices/disk", rawio="yes", sgio="unfiltered"),
    "secret of a disk": adding("devices/disk", "<encryption format='luks'><secret uuid='u'/></encryption>"),
    "login of a disk": adding("devices/disk", "<auth username='u'><secret type='ceph' uuid='u'/></auth>"),
    "bridge": setting("devices/interface/source", bridge="virbr-evil"),
    "interface script": adding("devices/interface", f"<script path='{EVIL}'/>"),
    "interface downscript": adding("devices/interface", f"<downscript path='{EVIL}'/>"),
    "interface rom": adding("devices/interface", f"<rom bar='on' file='{EVIL}'/>"),
    "interface backend": adding("devices/interface", f"<backend type='passt' logFile='{EVIL}' tap='{EVIL}'/>"),
    "interface target": setting("devices/interface/target", dev="eth-evil", managed="no"),
    "interface vlan": adding("devices/interface", "<vlan trunk='yes'><tag id='666'/></vlan>"),
    "interface route": adding("devices/interface", "<route family='ipv4' address='0.0.0.0' gateway='192.0.2.66'/>"),
    "interface filter": setting("devices/interface", trustGuestRxFilters="yes"),
    "file in another namespace": setting("devices/video/model", **{"{x}heads": EVIL}),
    # Graphics.
    "graphics": setting("devices/graphics", listen="203.0.113.66", port="5966", passwd="evil"),
    "graphics listen": adding("devices/graphics", "<listen type='address' address='203.0.113.66'/>"),
    "graphics socket": adding("devices", f"<graphics type='vnc' socket='{EVIL}'/>"),
    "graphics rendered": adding("devices", f"<graphics type='egl-headless'><gl rendernode='{EVIL}'/></graphics>"),
    # How it begins.
    "kernel": adding("os", f"<kernel>{EVIL}</kernel>"),
    "initrd": adding("os", f"<initrd>{EVIL}</initrd>"),
    "command line": adding("os", "<cmdline>init=/bin/evil</cmdline>"),
    "dtb": adding("os", f"<dtb>{EVIL}</dtb>"),
    "shim": adding("os", f"<shim>{EVIL}</shim>"),
    "loader": adding("os", f"<loader readonly='no' type='pflash'>{EVIL}</loader>"),
    "firmware": setting("os", firmware="evil"),
    "nvram of os": adding("os", f"<nvram template='{EVIL}'>{EVIL}</nvram>"),
    "varstore": adding("os", f"<varstore template='{EVIL}' path='{EVIL}'/>"),
    "acpi table": adding("os", f"<acpi><table type='slic'>{EVIL}</table></acpi>"),
    "smbios of the host": adding("os", "<smbios mode='host'/>"),
    "init": adding("os", f"<init>{EVIL}</init>"),
    "bootloader": adding("", f"<bootloader>{EVIL}</bootloader>"),
    # The rest.
    "qemu:commandline": adding("", f"<q:commandline {QEMU}><q:arg value='{EVIL}'/></q:commandline>"),
    "qemu:capabilities": adding("", f"<q:capabilities {QEMU}><q:add capability='x'/></q:capabilities>"),
    "qemu:override": adding("", f"<q:override {QEMU}><q:device alias='x'/></q:override>"),
    "seclabel": adding("", "<seclabel type='none' model='evil'/>"),
    "partition": adding("", f"<resource><partition>{EVIL}</partition></resource>"),
    "metadata": adding("", f"<metadata><x:vm xmlns:x='urn:nebula:provision:vm:1' directory='{EVIL}'/></metadata>"),
    "memory of a file": adding("", "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>"),
    "huge pages": adding("", "<memoryBacking><hugepages><page size='1048576' unit='KiB'/></hugepages></memoryBacking>"),
    "memtune": adding("", "<memtune><hard_limit unit='T'>9</hard_limit></memtune>"),
    "blkiotune": adding("", f"<blkiotune><device><path>{EVIL}</path></device></blkiotune>"),
    "processors": setting("vcpu", cpuset="666"),
    "nodes": adding("", "<numatune><memory mode='strict' nodeset='666'/></numatune>"),
    "cputune": adding("", "<cputune><vcpupin vcpu='0' cpuset='666'/></cputune>"),
    "sysinfo": adding("", f"<sysinfo type='fwcfg'><entry name='x' file='{EVIL}'/></sysinfo>"),
    "launchSecurity": adding("", "<launchSecurity type='sev'><policy>0x1</policy></launchSecurity>"),
    "idmap": adding("", "<idmap><uid start='0' target='0' count='1'/></idmap>"),
    "keywrap": adding("", "<keywrap><cipher name='aes' state='on'/></keywrap>"),
    "throttle groups": adding("", "<throttlegroups><throttlegroup/></throttlegroups>"),
    "unknown": adding("", f"<whatever>{EVIL}</whatever>"),
    "unknown below features": adding("features", f"<whatever file='{EVIL}'/>"),
    "unknown of a controller": adding("devices/controller", f"<whatever><file>{EVIL}</file></whatever>"),
    "feature in another namespace": adding("features", "<x:acpi xmlns:x='x'/>"),
    "disk in another namespace": adding("devices", f"<x:disk xmlns:x='x'><x:source file='{EVIL}'/></x:disk>"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("case", CASES)
def test_nothing_of_a_hostile_host_gets_here(case: str, what: str) -> None:
    """Refused, or what comes is what would have come without it, to the last word."""
    try:
        live = changed(live_of(case), HOSTILE[what])
    except NoSuchPlace:
        pytest.skip("this machine has nothing of the kind")
    try:
        found = adapted(live, own_of(case), ASKED)
    except (ForeignObject, Unsupported) as error:
        assert error.remedy
        return
    known, console = elements(of_case(case)), f"/{ET.fromstring(own_of(case)).findtext('name')[4:]}/console.log"
    for each in elements(found) - known:
        # One more terminal, as any machine may have it, with the log of its own; and one for SPICE.
        assert each == '<channel type="spicevmc" />' or (each.startswith('<serial type="pty">') and console in each)


def elements(text: str) -> set[str]:
    inner = (each for each in ET.fromstring(text).iter() if each.tag not in ("domain", "devices"))
    return {ET.tostring(each, encoding="unicode").strip() for each in inner}


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_is_put_in_after_it_was_agreed_upon(what: str) -> None:
    agreed = of_case(Q35)
    sent = changed(agreed, HOSTILE[what])
    if as_written(sent) != as_written(agreed):
        with pytest.raises(ForeignObject, match="another definition"):
            check(sent, agreed, ASKED)


@pytest.mark.parametrize(
    "change",
    [
        removing("devices", "disk"),
        removing("devices", "interface"),
        removing("devices/disk", "source"),
        removing("devices/disk", "backingStore"),
        removing("devices/disk/backingStore/source", "seclabel"),
        removing(DRIVE, "readonly"),
        removing("devices/interface", "source"),
        removing("devices/interface", "target"),
        lambda root: _exchange(root, "source"),
        lambda root: _exchange(root, "backingStore"),
    ],
)
def test_nothing_is_left_out_or_exchanged_after_it_was_agreed_upon(change: Change) -> None:
    """A disk that is read only, an image that others have, a NIC that is filtered by its name."""
    agreed = of_case(Q35)
    with pytest.raises(ForeignObject, match="another definition"):
        check(changed(agreed, change), agreed, ASKED)


def _exchange(root: ET.Element, tag: str) -> None:
    """What the first two disks have of it."""
    one, other = root.findall("devices/disk")[:2]
    left, right = at(one, tag), at(other, tag)
    one.remove(left)
    other.remove(right)
    one.append(right)
    other.append(left)


@pytest.mark.parametrize(
    "begin",
    [
        "<?xml version='1.0' encoding='UTF-7'?>",
        "<?xml version='1.0'?>",
        "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/shadow'>]>",
        "<!DOCTYPE domain [<!ATTLIST source file CDATA '/etc/shadow'>]>",
        "<!-- +AC0-+AC0-+AD4-+ADw-hostdev/+AD4- -->",
        "<?evil?>",
    ],
)
def test_nothing_is_sent_that_libvirt_may_read_in_another_way(begin: str) -> None:
    agreed = of_case(Q35)
    check(agreed, agreed, ASKED)
    with pytest.raises(ForeignObject):
        check(begin + agreed, agreed, ASKED)
    if begin.startswith("<!--"):
        with pytest.raises(ForeignObject):
            check(agreed.replace("<devices>", "<devices>" + begin), agreed, ASKED)


@pytest.mark.parametrize("text", ["", "x", "<domain>", "<domain/>x", "<a>" * 5000 + "</a>" * 5000])
def test_what_is_no_definition_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(ForeignObject):
        check(text, of_case(Q35), ASKED)


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("0-3", True),
        ("0,1,2,3", True),
        ("3,0-2", True),
        ("0-1,2-3", True),
        ("0-4", False),
        ("0-2", False),
        ("0-3,^1", False),
        ("0-99999999", False),
        ("0-" + "9" * 5000, False),
        ("0-\u00b2", False),
        ("", False),
        ("0-", False),
        ("3-0", False),
    ],
)
def test_numbers_of_processors_are_the_same_however_they_are_written(written: str, same: bool) -> None:
    agreed = "<domain><cputune><vcpupin vcpu='0' cpuset='0,1,2,3'/></cputune></domain>"
    sent = agreed.replace("0,1,2,3", written)
    if same:
        check(sent, agreed, ASKED)
    else:
        with pytest.raises(ForeignObject):
            check(sent, agreed, ASKED)


def test_what_libvirt_numbers_itself_is_no_difference() -> None:
    agreed = of_case(Q35)
    sent = changed(
        agreed,
        adding("devices/disk", "<alias name='virtio-disk0'/>"),
        adding("devices/input", "<address type='usb' bus='0' port='9'/>"),
    )
    check(sent, agreed, ASKED)


def test_one_that_has_more_than_was_reserved_is_refused():
    live = """<domain type="qemu"><name>one-1</name><uuid>u</uuid><memory>{}</memory><vcpu>{}</vcpu>{}</domain>"""
    own = live.format(1024, 2, "")
    for memory, vcpu, what in ((2048, 2, "more memory"), (1024, 3, "more vcpu")):
        with pytest.raises(Unsupported, match=what):
            adapted(live.format(memory, vcpu, ""), own, "machine")
    with pytest.raises(ForeignObject, match="two elements memory"):
        adapted(live.format(1024, 2, "<memory>4096</memory>"), own, "machine")


def test_its_run_keeps_its_name_and_nothing_else_of_the_old_mark():
    mark = f'<metadata><n:vm xmlns:n="{NAMESPACE}" id="1" {{}}/></metadata>'
    machine = '<domain type="qemu"><name>one-1</name><uuid>u</uuid>{}<memory>1</memory><vcpu>1</vcpu></domain>'
    own = machine.format(mark.format('catalog="c"'))
    for name, kept in (("0f", "0f"), ("../x", None), ("f" * 33, None)):
        found = ET.fromstring(adapted(machine.format(mark.format(f'catalog="d" run="{name}"')), own, "machine"))
        element = found.find(MARK_PATH)
        assert element is not None and (element.get("catalog"), element.get("run")) == ("c", kept)


def test_a_disk_that_only_raw_names_stays_on_its_host():
    disk = '<disk type="file" device="disk"><source file="/x"/><target dev="{}" bus="virtio"/></disk>'
    machine = f"""<domain type="qemu"><name>one-1</name><uuid>u</uuid><memory>1</memory><vcpu>1</vcpu>
      <devices>{disk.format("vda")}{disk.format("vdx")}</devices></domain>"""
    assert adapted(machine, machine, "machine", {"vda", "vdx"})
    with pytest.raises(Unsupported, match="vdx is a file of its host's"):
        adapted(machine, machine, "machine", {"vda"})


def test_who_decrypts_a_disk_may_be_named() -> None:
    """libvirt does so of its own accord, where it is QEMU itself; the secret is as by the own definition."""
    secret = "<encryption format='luks'><secret type='passphrase' uuid='{}'/></encryption>"
    own = changed(own_of(Q35), adding("devices/disk/source", secret.format("ours")))
    theirs = adding("devices/disk/source", secret.format("theirs"))
    for engine, found in (("qemu", "qemu"), ("librbd", None)):
        offered = changed(live_of(Q35), theirs, setting("devices/disk/source/encryption", engine=engine))
        encryption = at(ET.fromstring(adapted(offered, own, ASKED)), "devices/disk/source/encryption")
        assert (encryption.get("engine"), at(encryption, "secret").get("uuid")) == (found, "ours")
