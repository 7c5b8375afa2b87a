# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a stand-in for libvirt that says what libvirt 9.0 has said; test_move_checks.py has the real one."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from libvirt_stand_in import LibvirtError, libvirt

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, NebulaError, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.arriving_hardware import (
    Hardware,
    of_own,
    of_running,
    processor_of_host,
    require,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

SITE = Site("", "c", 1, {})
QEMU = "/usr/bin/qemu-system-x86_64"
INCOMPATIBLE, NO_SUPPORT, INTERNAL = 91, 3, 1
LACKS = "the CPU is incompatible with host CPU: Host CPU does not provide required features: pcid, avx512f"
HOST = "<cpu><mode name='host-model' supported='yes'><model>EPYC</model></mode></cpu>"


class Host:
    """fails: what a comparison of a processor with features raises. common: what two processors have."""

    def __init__(self, fails: LibvirtError | None = None) -> None:
        self.fails = fails
        self.common = "<cpu><model>Nehalem</model></cpu>"
        self.compared: list[tuple[Any, ...]] = []
        self.types = ["pc-q35-7.2", "pc-q35-7.1", "pc-q35-6.2", "pc-q35-2.12", "pc-i440fx-7.2"]

    def getCapabilities(self) -> str:
        machines = "".join(f"<machine>{each}</machine>" for each in self.types)
        short = "<machine canonical='pc-q35-7.2'>q35</machine>" if self.types else ""
        other = "<guest><arch name='sparc'><machine>sun4m</machine></arch></guest>"
        return f"<capabilities>{other}<guest><arch name='x86_64'>{machines}{short}</arch></guest></capabilities>"

    def getDomainCapabilities(self, *_place: Any) -> str:
        return f"<domainCapabilities>{HOST}</domainCapabilities>"

    def compareHypervisorCPU(self, *asked: Any) -> int:
        self.compared.append(asked)
        if self.fails is not None and "<feature" in asked[4]:
            raise self.fails
        return 2

    def baselineHypervisorCPU(self, *asked: Any) -> str:
        assert len(asked[4]) == 2
        return self.common


def check(host: Host, hardware: Hardware) -> None:
    library = libvirt(lambda _uri: host)
    library.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE, library.VIR_CPU_COMPARE_INCOMPATIBLE = 1, 0
    library.VIR_ERR_NO_SUPPORT, library.VIR_ERR_CPU_INCOMPATIBLE = NO_SUPPORT, INCOMPATIBLE
    require(library, host, hardware, SITE, QEMU, "it")


def definition(cpu: str = "", machine: str = "pc-q35-7.2", emulator: str = QEMU) -> str:
    os_ = f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
    return f"<domain type='kvm'>{os_}{cpu}<devices><emulator>{emulator}</emulator></devices></domain>"


def running(cpu: str = "", machine: str = "pc-q35-7.2", processor: str = "") -> Hardware:
    return of_running(definition(cpu, machine), processor, "it")


def featured(model: str = "Haswell") -> str:
    return f"<cpu mode='custom'><model>{model}</model><feature policy='require' name='avx512f'/></cpu>"


# -- processors -------------------------------------------------------------------------------------------------------
def test_a_processor_that_this_host_has() -> None:
    host = Host()
    check(host, running(featured()))
    ((emulator, arch, machine, kind, text, flags),) = host.compared
    assert (emulator, arch, machine, kind, flags) == (QEMU, "x86_64", "pc-q35-7.2", "qemu", 1)
    assert ET.fromstring(text).findtext("model") == "Haswell"


@pytest.mark.parametrize(
    "cpu", ["", "<cpu><topology sockets='1' cores='2' threads='1'/></cpu>", "<cpu mode='maximum'/>"]
)
def test_one_that_every_host_has_is_not_compared(cpu: str) -> None:
    host = Host()
    check(host, running(cpu))
    assert host.compared == []


def test_the_features_that_it_lacks_are_named_and_what_to_set() -> None:
    with pytest.raises(Unsupported) as refused:
        check(Host(LibvirtError(LACKS, INCOMPATIBLE)), running(featured()))
    assert (
        refused.value.found == "it runs with processor Haswell, and this host's processor lacks features pcid, avx512f"
    )
    assert refused.value.remedy.startswith(
        'Set CPU_MODEL = [ MODEL = "Nehalem" ] in its template and start it anew first'
    )
    assert "move: cold" in refused.value.remedy


def test_one_that_comes_off_is_not_to_be_moved_cold() -> None:
    vm = Vm(1, "u", "web", "kvm", 1.0, 64, cpu_model={"MODEL": "Haswell", "FEATURES": "pcid, avx512f"})
    with pytest.raises(Unsupported) as refused:
        check(Host(LibvirtError(LACKS, INCOMPATIBLE)), of_own(vm))
    assert refused.value.found.startswith("it is to run with processor Haswell")
    assert refused.value.remedy == 'Set CPU_MODEL = [ MODEL = "Nehalem" ] in its template, or name another host'


@pytest.mark.parametrize(
    "common",
    ["", "no XML", "<cpu/>", "<cpu><model>Nehalem</model><feature policy='disable' name='vme'/></cpu>"],
)
def test_where_the_hosts_have_no_model_in_common_as_a_whole(common: str) -> None:
    host = Host(LibvirtError(LACKS, INCOMPATIBLE))
    host.common = common
    with pytest.raises(Unsupported) as refused:
        check(host, running(featured()))
    assert (
        "Set CPU_MODEL to a model that both hosts have in its template (virsh domcapabilities)" in refused.value.remedy
    )


def test_a_processor_of_which_its_libvirt_has_not_heard() -> None:
    with pytest.raises(Unsupported, match="Unknown CPU model EPYC-Next"):
        check(Host(LibvirtError("internal error: Unknown CPU model EPYC-Next", INTERNAL)), running(featured()))


def test_where_libvirt_compares_none_it_is_not_refused() -> None:
    check(Host(LibvirtError("this function is not supported", NO_SUPPORT)), running(featured()))


def test_what_libvirt_fails_at_is_no_lack_of_a_processor() -> None:
    with pytest.raises(LibvirtError, match="client socket"):
        check(Host(LibvirtError("client socket is closed", INTERNAL)), running(featured()))


@pytest.mark.parametrize("mode", ["host-passthrough", "maximum"])
def test_a_guest_with_all_of_its_host_is_compared_by_that(mode: str) -> None:
    whole = definition(f"<cpu mode='{mode}'/>")
    processor = processor_of_host(Host(), whole)
    assert ET.fromstring(processor).findtext("model") == "EPYC"
    host = Host()
    check(host, of_running(whole, processor, "it"))
    assert ET.fromstring(host.compared[0][4]).findtext("model") == "EPYC"
    assert processor_of_host(Host(), definition(featured())) == processor_of_host(Host(), definition()) == ""


# -- types of machines ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("runs", [True, False])
def test_a_type_of_machine_that_its_qemu_has_not(runs: bool) -> None:
    with pytest.raises(Unsupported) as refused:
        check(Host(), Hardware("x86_64", "pc-q35-8.0", "", runs))
    assert refused.value.found.endswith("has not; nearest are: pc-q35-7.2, pc-q35-7.1, pc-q35-6.2")
    assert f"as machine type pc-q35-8.0, which this host's {QEMU}" in refused.value.found
    assert ("move: cold" in refused.value.remedy) is runs
    assert ("Leave MACHINE out of OS" in refused.value.remedy) is not runs


def test_a_kind_of_machine_of_which_it_has_none() -> None:
    with pytest.raises(Unsupported, match="nearest are: none of that kind"):
        check(Host(), running(machine="sun4m"))


def test_types_that_it_has() -> None:
    check(Host(), of_own(Vm(1, "u", "web", "kvm", 1.0, 64)))
    check(Host(), of_own(Vm(1, "u", "web", "kvm", 1.0, 64, os=Os(machine="pc-i440fx-7.2"))))
    # libvirt without QEMU for it has better words for that.
    host = Host()
    host.types = []
    check(host, running(machine="pc-q35-8.0"))


# -- another host's word ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "offered",
    [
        "",
        "x",
        "<!DOCTYPE d [<!ENTITY a 'b'>]><domain/>",
        "<?xml version='1.0'?><domain/>",
        "<domain>" + " " * (1 << 20) + "</domain>",
        "<domain/>",
        definition(machine="-x"),
        definition(machine="a/b"),
        definition(featured("a&lt;b")),
        definition(featured("x" * 65)),
        definition("<cpu><model>a</model><vendor>a b</vendor></cpu>"),
        definition("<cpu><model>a</model><feature name='a b'/></cpu>"),
        definition("<cpu><model>a</model><feature name='a' policy='evil'/></cpu>"),
        definition("<cpu><model>a</model>" + "<feature name='a'/>" * 4097 + "</cpu>"),
    ],
)
def test_what_libvirt_writes_nowhere_is_refused(offered: str) -> None:
    with pytest.raises(ForeignObject):
        of_running(offered, "", "it")


@pytest.mark.parametrize("processor", ["x", "<!DOCTYPE a><cpu/>", "<cpu><model>a b</model></cpu>"])
def test_so_is_a_processor(processor: str) -> None:
    with pytest.raises(ForeignObject):
        of_running(definition("<cpu mode='host-passthrough'/>"), processor, "it")


def test_nothing_else_of_it_gets_to_libvirt() -> None:
    cpu = (
        "<cpu evil='1'><model evil='1'>Haswell</model><vendor>Intel</vendor><evil/><feature name='aes' evil='1'/></cpu>"
    )
    assert running(cpu).processor == (
        '<cpu mode="custom" match="exact"><model>Haswell</model><vendor>Intel</vendor>'
        '<feature policy="require" name="aes" /></cpu>'
    )


def test_errors_name_the_machine() -> None:
    with pytest.raises(NebulaError) as refused:
        check(Host(), running(machine="sun4m"))
    assert refused.value.asked == "it"


def test_a_definition_without_end_is_refused() -> None:
    deep = "<a>" * 100 + "</a>" * 100
    with pytest.raises(ForeignObject, match="elements in more than 64 others"):
        of_running(f"<domain>{deep}</domain>", "", "it")
