# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every string of every object in every generated file: it comes out as it went in, or is refused by name. What the
real readers of these files make of it is in tests/integration/test_injection.py."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import injection
import pytest
from hostile import corpus, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from injection import FULL, MARK, disk_files, first, of, places, rendered, site, vm

from ansible_collections.nebula.provision.plugins.action.nebula_table import cell, table
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import json_value, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import Snapshot
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import Injected
from ansible_collections.nebula.provision.plugins.module_utils.model.lease import Lease
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.owner import Owner
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, Plan, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.system_snapshots import SystemSnapshot
from ansible_collections.nebula.provision.plugins.module_utils.model.template import StoredTemplate, Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Iommu, Numa, NumaNode, Tpm, Video, Vm

WORDS = corpus("word")
# Refused where a deployment file is written, whatever field holds it.
UNWRITABLE = [f"a{character}b" for character in "\0\x01\x1b\r\ud800\udcff\ufffe\uffff"]

Put = Callable[[str], Any]
# Class.field → how a deployment file comes by it. A field of the model that is neither here nor below fails a test.
WRITTEN: dict[str, Put] = {
    "Vm.uuid": lambda text: vm(uuid=text),
    "Vm.name": lambda text: vm(name=text),
    "Vm.cpu_model": lambda text: vm(cpu_model={"MODEL": text}),
    "Vm.emulator": lambda text: vm(emulator="/" + text),
    "Os.arch": lambda text: of("os", arch=text),
    "Os.machine": lambda text: of("os", machine=text),
    "Os.kernel": lambda text: of("os", kernel=text),
    "Os.initrd": lambda text: of("os", initrd=text),
    "Os.kernel_cmd": lambda text: of("os", kernel_cmd=text),
    "Os.root": lambda text: of("os", root=text),
    "Os.firmware": lambda text: of("os", firmware="/" + text),
    "Graphics.type": lambda text: of("graphics", type=text),
    "Graphics.listen": lambda text: of("graphics", listen=text),
    "Graphics.password": lambda text: of("graphics", password=text),
    "Graphics.keymap": lambda text: of("graphics", keymap=text),
    "Input.type": lambda text: first("inputs", type=text),
    "Input.bus": lambda text: first("inputs", bus=text),
    "Disk.target": lambda text: first("disks", target="vda" + text, bus="virtio"),
    "Disk.bus": lambda text: first("disks", bus=text),
    "Disk.luks_secret": lambda text: first("disks", luks_secret=text),
    "Disk.options": lambda text: first("disks", options={"SERIAL": text}),
    "Tpm.model": lambda text: vm(tpm=Tpm(model=text)),
    "Tpm.version": lambda text: vm(tpm=Tpm(version=text)),
    "Video.type": lambda text: vm(video=Video(text)),
    "Iommu.model": lambda text: vm(iommu=Iommu(text)),
    "Numa.access": lambda text: vm(numa=Numa("core", (NumaNode(1, 64, "", (0,), 0),), access=text)),
    "Iommu.options": lambda text: vm(iommu=Iommu("intel", {"eim": text})),
    "Nic.bridge": lambda text: first("nics", bridge=text),
    "Nic.mac": lambda text: first("nics", mac=text),
    "Nic.ip": lambda text: first("nics", ip=text, options={"FILTER": "clean-traffic"}),
    "Nic.model": lambda text: first("nics", model=text),
    "Nic.target": lambda text: first("nics", target=text),
    "Nic.options": lambda text: first("nics", options={"FILTER": text}),
    "Nic.network_values": lambda text: first("nics", network_values={"FILTER": text}),
    "Context.target": lambda text: of("context", target=text),
    "Context.bus": lambda text: of("context", bus=text),
    "DiskFiles.path": lambda text: disk_files(path=text),
    "DiskFiles.format": lambda text: disk_files(format=text),
    "DiskFiles.backing": lambda text: disk_files(backing=((text, text),)),
    "Site.directory": lambda text: site(directory="/x" + text),
    "Site.catalog": lambda text: site(catalog=text),
    "Site.accelerator": lambda text: site(accelerator=text),
    "Site.emulator": lambda text: site(emulator=text),
}
# More of those that hold many: each key has a place of its own.
WRITTEN.update({
    f"Disk.options {key}": lambda text, k=key: first("disks", options={k: text})
    for key in ("CACHE", "IO", "DISCARD", "ERROR_POLICY", "TOTAL_IOPS_SEC", "SIZE_IOPS_SEC", "VIRTIO_BLK_QUEUES")
})  # fmt: skip
WRITTEN.update({
    f"Nic.options {key}": lambda text, k=key: first("nics", options={"INBOUND_AVG_BW": "1", k: text})
    for key in ("INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB", "VIRTIO_QUEUES")
})  # fmt: skip
WRITTEN["Vm.cpu_model FEATURES"] = lambda text: vm(cpu_model={"MODEL": "qemu64", "FEATURES": text.replace(",", "")})
WRITTEN["Vm.features"] = lambda text: vm(features={"VIRTIO_SCSI_QUEUES": text})
# Not in a deployment file, and why that is: nothing of it may come out there.
ELSEWHERE = {
    "Vm.hypervisor": "chooses the driver",
    "Vm.attributes": "the user's own, for expressions of the context",
    "Vm.container": "for files of containers, tested by hypervisors/openvz/test_container_config.py",
    "Site.defaults": "an administrator's own, for files of containers",
    "Site.confinement": "the name of one of the models that libvirt has here, for files of containers",
    "Vm.former": "for verification by the host name; in no file",
    "Numa.policy": "one of four words, tested by model/instantiate/numa_nodes.py",
    "NumaNode.distances": "held to numbers by model/instantiate/numa_nodes.py, and written as numbers",
    "HostDevice.address": "held to the address of a device by hypervisors/libvirt/domain_hardware.py",
    "HostDevice.vendor": "by which the device was found",
    "HostDevice.device": "by which the device was found",
    "HostDevice.device_class": "by which the device was found",
    "MemoryEncryption.type": "one of two words, tested by model/instantiate/encrypted_memory.py",
    "Owner.name": "for expressions of the context; no node gets it",
    "Owner.uid": "digits, for expressions of the context; no node gets it",
    "Owner.group": "for expressions of the context; no node gets it",
    "Owner.gid": "digits, for expressions of the context; no node gets it",
    "Owner.attributes": "for expressions of the context; no node gets them",
    "Os.bootloader": "refused by model/libvirt_values.py, as KVM has none",
    "Os.sd_disk_bus": "one of two words, tested by model/instantiate/boot_order.py",
    "Os.boot": "read as numbers of devices; the order stands at these",
    "Disk.type": "CDROM or not",
    "Disk.image": "shown",
    "Disk.image_uuid": "names the file in a cache",
    "Disk.source": "a path, given by the engine; DiskFiles has it",
    "Disk.format": "DiskFiles has it",
    "Disk.driver": "DiskFiles has it",
    "Disk.fs": "chooses a program from a table",
    "Disk.inject_via": "one of four words, tested by model/injected_files.py",
    "Injected.partition": "held to a form by model/injected_files.py, compared by guest_disk/open/named_partition.py",
    "Injected.path": "a path in the guest, held to a form by model/injected_files.py and guest_disk/file_injection.py",
    "Injected.content": "the content of a file in the guest",
    "Snapshot.name": "shown; in the file it has its number",
    "Snapshot.mark": "made by us",
    "SystemSnapshot.name": "shown; in the files it has its number",
    "SystemSnapshot.mark": "made by us",
    "SystemSnapshot.definition": "shown where the machine is another by now",
    "Nic.network": "shown",
    "Nic.ip6": "for the context",
    "Nic.ip6_ula": "for the context",
    "Alias.network": "shown",
    "Alias.bridge": "compared with its NIC's",
    "Alias.mac": "for the context",
    "Alias.ip": "for the context, and for filters, which are held to addresses by model/nic_filter_rules.py",
    "Alias.ip6": "as ip",
    "Alias.ip6_ula": "as ip",
    "Alias.options": "for the context",
    "Alias.network_values": "for the context",
    "Context.variables": "context.sh has them",
    "Context.format": "one of three words, tested by model/instantiate/disk_buses.py",
    "Context.device": "disk or not",
    "ContextFile.sha256": "names the file that was fetched, and is compared first",
    "ContextFile.image": "shown",
    "ContextFile.source": "read, and goes no further",
    "ContextFile.target": "a name on the ISO",
}
HIDDEN: dict[str, Put] = {
    "Vm.hypervisor": lambda text: vm(hypervisor=text),
    "Vm.attributes": lambda text: vm(attributes={"A": text, "B": text}),
    "Vm.container": lambda text: vm(container={"A": text, "B": text}),
    "Site.defaults": lambda text: site(defaults={"A": text}),
    "Vm.former": lambda text: vm(former=text),
    "Owner.name": lambda text: vm(owner=Owner(text, text, text, text)),
    "Owner.attributes": lambda text: vm(owner=Owner(attributes={"A": text})),
    "Os.bootloader": lambda text: of("os", bootloader=text),
    "Os.boot": lambda text: of("os", boot=(text,)),
    "Disk.image": lambda text: first("disks", image=text),
    "Disk.image_uuid": lambda text: first("disks", image_uuid=text),
    "Disk.source": lambda text: first("disks", source=text),
    "Disk.format": lambda text: first("disks", format=text),
    "Disk.driver": lambda text: first("disks", driver=text),
    "Disk.fs": lambda text: first("disks", fs=text),
    "Injected.content": lambda text: first("disks", inject=(Injected("/" + text, text),)),
    "Snapshot.name": lambda text: first("disks", snapshots=(Snapshot(0, text),)),
    "Snapshot.mark": lambda text: first("disks", snapshots=(Snapshot(0, "a", mark=text),)),
    "SystemSnapshot.name": lambda text: vm(system_snapshots=(SystemSnapshot(0, text),)),
    "SystemSnapshot.mark": lambda text: vm(system_snapshots=(SystemSnapshot(0, "a", mark=text),)),
    "SystemSnapshot.definition": lambda text: vm(
        system_snapshots=(SystemSnapshot(0, "a", definition={"NIC 0": text}),)
    ),
    "Nic.network": lambda text: first("nics", network=text),
    "Nic.ip6": lambda text: first("nics", ip6=text),
    "Nic.ip6_ula": lambda text: first("nics", ip6_ula=text),
    **{f"Alias.{key}": lambda text, k=key: first("aliases", **{k: text}) for key in ("network", "bridge", "mac", "ip")},
    "Alias.ip6": lambda text: first("aliases", ip6=text, ip6_ula=text),
    "Alias.options": lambda text: first("aliases", options={"FILTER": text}, network_values={"FILTER": text}),
    "Context.variables": lambda text: of("context", variables={"A": text}),
}
# XML by its nature: it is tested to be well-formed, and is an administrator's power (docs/security.md).
ADMINISTRATORS = {"Vm.raw", "Vm.fragments"}
# Objects that no file is made of: the catalog keeps them, results show them, and what `ip`, nft and paths are made of
# is held to an alphabet first. tests/integration/test_injection.py has each of these.
KEPT = (Host, Image, Lease, Network, AddressRange, StoredTemplate, Plan, VmOutcome, Observed)


def test_no_field_is_without_a_case() -> None:
    fields = {*injection.strings(Vm), *injection.strings(Site), *injection.strings(DiskFiles)}
    assert fields == {name for name in (*WRITTEN, *ELSEWHERE, *ADMINISTRATORS) if " " not in name}
    assert set(HIDDEN) <= set(ELSEWHERE)


def expected(field: str, text: str) -> list[str]:
    """The forms that a text may have in the file."""
    # The bytes that VNC looks at, in whole characters.
    cut = text.encode(errors="surrogatepass")[:8].decode(errors="ignore") if field == "Graphics.password" else text
    cut = text.replace(",", "") if field == "Vm.cpu_model FEATURES" else cut
    return [cut, cut.lower(), cut.strip(), cut.strip().lower()]


@functools.cache
def of_plain_letters(field: str) -> list[tuple[str, str]]:
    """The places of a file in which the field has letters that mean nothing anywhere."""
    return places(rendered(WRITTEN[field](MARK)))


def is_literal(field: str, text: str) -> bool:
    """False if it was refused; fails if it is in the file in any other form, or anything else of the file moved."""
    put = WRITTEN[field]
    try:
        found = places(rendered(put(text)))
    except NebulaError as error:
        assert "XML" not in type(error).__name__ and error.asked
        return False
    mark = MARK[:8] if field == "Graphics.password" else MARK
    try:
        model = of_plain_letters(field)
    except NebulaError:
        raise AssertionError(f"{field}: {text!r} is taken, and plain letters are not") from None
    assert any(mark in value for _place, value in model), f"{field} is in no deployment file"
    assert [place for place, _value in found] == [place for place, _value in model], text
    for (place, value), (_same, wanted) in zip(found, model):
        assert value in [wanted.replace(mark, form) for form in expected(field, text)], f"{place}: {text!r}"
    return True


# Words that mean something of their own to a field, and stand for other elements there.
MEANT = {
    "Os.machine": lambda text: "q35" in text or not text,
    "Os.firmware": lambda text: text.upper() in ("BIOS", "UEFI", "EFI"),
    "Vm.cpu_model": lambda text: text in ("host-passthrough", "host-model", "maximum"),
    "Site.accelerator": lambda text: text == "kvm",
    "Nic.options VIRTIO_QUEUES": lambda text: text in ("0", "1"),
    "Vm.cpu_model FEATURES": lambda text: not text.replace(",", "").strip(),
}


@pytest.mark.parametrize("field", WRITTEN)
def test_the_corpus_in_deployment_files(field: str) -> None:
    taken = 0
    for text in WORDS.values():
        if not text or MEANT.get(field, lambda _text: False)(text):
            continue
        taken += is_literal(field, text)
    numbers = ("QUEUES", "IOPS", "BW", "_KB")
    assert taken or any(word in field for word in numbers) or field in ("Vm.features", "Disk.bus", "Context.target")


@pytest.mark.parametrize("field", WRITTEN)
def test_any_text_in_deployment_files(field: str) -> None:
    @fuzzed(30)
    @given(st.text(min_size=1, max_size=20))
    def search(text: str) -> None:
        if not MEANT.get(field, lambda _text: False)(text) and text.strip():
            is_literal(field, text)

    search()


@pytest.mark.parametrize("field", WRITTEN)
def test_what_no_file_can_hold_is_refused(field: str) -> None:
    if is_literal(field, MARK[:8]):
        for text in UNWRITABLE:
            with pytest.raises(InvalidValue):
                rendered(WRITTEN[field](text))


@pytest.mark.parametrize("field", HIDDEN)
def test_what_stays_out_of_deployment_files(field: str) -> None:
    plain = rendered((FULL, injection.SITE))
    for text in WORDS.values():
        assert rendered(HIDDEN[field](text)) == plain


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_kept_comes_back(kind: type) -> None:
    """As the catalog's columns and results have it: JSON."""
    import json

    assert list(injection.strings(kind)) or kind is StoredTemplate
    for text in WORDS.values():
        value = to_plain(Template.from_attributes([["A", text], ["B", [["C", text]]]]).to_attributes())
        if any(0xD800 <= ord(c) < 0xE000 for c in text):
            continue
        assert json_value(json.dumps(value)) == value


def test_tables_show_nothing_that_a_terminal_obeys() -> None:
    for text in WORDS.values():
        assert cell(text).isprintable()
        lines = table([{"name": text, "list": [text, text]}], ["name", f"list={cell(text) or 'x'}"])
        assert len(lines) == 2 and all(line.isprintable() for line in lines)
