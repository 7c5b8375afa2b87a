# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations of containers: goldens, written anew on purpose by REGENERATE=1, and what is read from such a file."""

from __future__ import annotations

import dataclasses
import subprocess
from functools import partial
from typing import Any

import deployment_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import container_config
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.container_config import read, render
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Alias, Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

FIXTURES = deployment_files.FIXTURES / "openvz"
CASES = deployment_files.cases("openvz")
load = partial(deployment_files.load, "openvz")
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d11"
CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
# "Example of full VM definition file", line by line.
SEED = (FIXTURES / "seed.one").read_text(encoding="utf-8")


def machine(**values: Any) -> tuple[Vm, Site]:
    root = Disk(0, "", image="debian-12", source="/srv/debian", format="tar", driver="tar")
    vm = Vm(7, UUID, "web", "openvz", 1.0, **{"memory": 256, "disks": (root,), **values})
    files = {disk.disk_id: DiskFiles(f"/srv/disk.{disk.disk_id}", "tar") for disk in vm.disks}
    if vm.context is not None:
        files[vm.context.disk_id] = DiskFiles(f"/vms/7/disk.{vm.context.disk_id}", "raw")
    return vm, Site("/vms/7", CATALOG, 3, files, "openvz")


def values(vm: Vm, site: Site) -> dict[str, str]:
    return dict(read(render(vm, site).text).values)


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    deployment_files.compare(FIXTURES / f"{case}.conf", render(*load(case)).text)


def test_every_golden_has_its_case() -> None:
    assert sorted(path.stem for path in FIXTURES.glob("*.conf")) == CASES


@pytest.mark.parametrize("case", CASES)
def test_a_shell_reads_of_a_golden_what_vzctl_reads(case: str) -> None:
    """vzctl's scripts source it."""
    path = FIXTURES / f"{case}.conf"
    found = dict(read(path.read_text(encoding="utf-8")).values)
    script = f'. "{path}"; ' + " ".join(f'printf "%s=%s\\n" {name} "${name}";' for name in found)
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name}={value}" for name, value in found.items()] and not done.stderr


def test_the_seeds_machine_from_its_template() -> None:
    """Its context's variables are set by then, and its file is on the host."""
    template = parse(SEED)
    assert not [warning for warning in validate(template, hypervisors=["openvz"]) if "SOURCE" in warning]
    (ip,) = [nic.ip for nic in demands(template).nics]
    network = {"DNS": "111.111.111.2", "BRIDGE": "eth0"}
    vm = build(
        template,
        vm_id=145,
        uuid=UUID,
        name="vps145",
        hypervisor="openvz",
        images={},
        nics=[Nic(0, 0, "Public", "eth0", "02:00:6f:6f:6f:6f", ip, network_values=network)],
    )
    assert vm.memory == 272 and [disk.type for disk in vm.disks] == ["FILE", "SWAP"]
    assert vm.context is not None
    variables = {"HOSTNAME": "vps145.example.org", "NAMESERVER": "111.111.111.2"}
    vm = dataclasses.replace(vm, context=dataclasses.replace(vm.context, variables=variables))
    _vm, site = load("seed")
    assert render(vm, site).text == (FIXTURES / "seed.conf").read_text(encoding="utf-8")


def test_what_the_seed_says_stands_in_its_file() -> None:
    found = dict(read((FIXTURES / "seed.conf").read_text(encoding="utf-8")).values)
    expected = {
        "ONBOOT": "yes",
        "KMEMSIZE": "14372700:14790164",
        "PRIVVMPAGES": "65536:69632",
        "PHYSPAGES": "0:unlimited",
        "OOMGUARPAGES": "26112:unlimited",
        "CPUUNITS": "2000",
        "CPULIMIT": "25",
        "CPUS": "2",
        "DISKSPACE": "10485760:11530240",
        "DISKINODES": "200000:220000",
        "SWAPPAGES": "0:1024M",
        "OSTEMPLATE": "centos-5-x86",
        "IP_ADDRESS": "111.111.111.111",
        "HOSTNAME": "vps145.example.org",
        "NAMESERVER": "111.111.111.2",
        "VE_PRIVATE": "/var/lib/nebula/datastores/0/145/images/private",
        "VE_ROOT": "/var/lib/nebula/datastores/0/145/images/root",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "NETIF" not in found


def test_the_digest_is_of_everything_but_the_generation() -> None:
    vm, site = machine()
    first, later = render(vm, site), render(vm, dataclasses.replace(site, generation=9))
    assert first.digest == later.digest and first.text != later.text
    assert render(dataclasses.replace(vm, memory=257), site).digest != first.digest


def test_a_number_of_memory_is_both_limits_of_vswap() -> None:
    found = values(*machine(memory=512))
    assert (found["PHYSPAGES"], found["SWAPPAGES"]) == ("0:512M", "0:0")
    root = machine()[0].disks[0]
    found = values(*machine(disks=(root, Disk(1, "", type="SWAP", size=128))))
    assert (found["PHYSPAGES"], found["SWAPPAGES"]) == ("0:256M", "0:128M")


def test_beancounters_stand_as_they_are_given() -> None:
    found = values(*machine(container={"PRIVVMPAGES": "1:2", "NUMPROC": "240"}))
    assert (found["PRIVVMPAGES"], found["NUMPROC"]) == ("1:2", "240")
    assert "SWAPPAGES" not in found
    # vzctl wants the others all the same.
    assert (found["PHYSPAGES"], found["NUMFILE"]) == ("unlimited", "unlimited")
    vm, site = machine(container={"PRIVVMPAGES": "1:2"})
    assert values(vm, dataclasses.replace(site, defaults={"NUMFILE": "9"}))["NUMFILE"] == "9"


def test_swap_space_is_said_once() -> None:
    root = machine()[0].disks[0]
    disks = (root, Disk(1, "", type="SWAP", size=128))
    with pytest.raises(InvalidValue, match="a disk of type swap says it too"):
        render(*machine(disks=disks, container={"PRIVVMPAGES": "1:2", "SWAPPAGES": "0:1M"}))


def test_processors_and_their_limits() -> None:
    found = values(*machine(cpu_limit=50, vcpu=3))
    assert (found["CPUUNITS"], found["CPULIMIT"], found["CPUS"]) == ("1000", "50", "3")
    found = values(*machine(vcpu=3, container={"CPUS": "2", "CPUUNITS": "77", "CPUMASK": "0-1"}))
    assert (found["CPUUNITS"], found["CPUS"], found["CPUMASK"]) == ("77", "2", "0-1")
    assert values(*machine())["CPUUNITS"] == "1000" and "CPUS" not in values(*machine())


def test_the_size_of_a_disk_is_that_of_its_quota() -> None:
    root = dataclasses.replace(machine()[0].disks[0], size=10)
    assert values(*machine(disks=(root,)))["DISKSPACE"] == "10240:10240"
    assert values(*machine(disks=(root,), container={"DISKSPACE": "1:2"}))["DISKSPACE"] == "1:2"


def test_nics_are_venet_unless_they_say_veth() -> None:
    nics = (
        Nic(0, 0, "lan", "br0", "02:00:0a:00:00:01", "10.0.0.1", "fd00::1", target="one-7-0"),
        Nic(1, 1, "dmz", "br1", "02:00:0a:00:00:02", "10.0.1.1", model="VETH", target="one-7-1"),
        Nic(2, 1, "dmz", "br1", "02:00:0a:00:00:03", "10.0.1.2", model="virtio", target="one-7-2"),
    )
    found = values(*machine(nics=nics))
    assert found["IP_ADDRESS"] == "10.0.0.1 fd00::1 10.0.1.2"
    assert found["NETIF"] == "ifname=eth0,bridge=br1,mac=02:00:0A:00:00:02,host_ifname=one-7-1"
    assert read(render(*machine(nics=nics)).text).macs == ("02:00:0a:00:00:02",)


def test_aliases_of_a_venet_nic_are_addresses_of_it() -> None:
    nic = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:01", "10.0.0.1")
    inside = Alias(1, 0, "lan", "br0", "02:00:0a:00:00:02", "10.0.0.2", parent_id=0)
    outside = dataclasses.replace(inside, nic_id=2, ip="10.0.0.3", external=True)
    assert values(*machine(nics=(nic,), aliases=(inside, outside)))["IP_ADDRESS"] == "10.0.0.1 10.0.0.2"


def test_names_are_the_contexts_and_else_the_networks() -> None:
    nic = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:01", "10.0.0.1", network_values={"DNS": "1.1.1.1 9.9.9.9"})
    context = Context(1, "", variables={"HOSTNAME": "a.example.org", "SEARCH_DOMAIN": "example.org,example.net"})
    found = values(*machine(nics=(nic,), context=context))
    assert found["HOSTNAME"] == "a.example.org" and found["NAMESERVER"] == "1.1.1.1 9.9.9.9"
    assert found["SEARCHDOMAIN"] == "example.org example.net"
    assert values(*machine())["HOSTNAME"] == "web"
    assert "HOSTNAME" not in values(*machine(context=Context(1, "", variables={"HOSTNAME": "no host name"})))


def test_where_the_context_goes_is_the_variables_choice() -> None:
    assert read(render(*machine(context=Context(1, ""))).text).context == "/mnt"
    found = read(render(*machine(context=Context(1, "", variables={"CONTEXT_DIRECTORY": "/srv/context"}))).text)
    assert (found.context, found.iso) == ("/srv/context", "/vms/7/disk.1")
    for path in ("mnt", "/mnt/../etc", "/", "/a b", "/a/./b", "/a\nb", "/mnt/"):
        with pytest.raises(InvalidValue, match="CONTEXT_DIRECTORY"):
            render(*machine(context=Context(1, "", variables={"CONTEXT_DIRECTORY": path})))


def test_a_hosts_defaults_hold_where_the_template_says_nothing() -> None:
    vm, site = machine()
    site = dataclasses.replace(
        site, defaults={"NUMPROC": "100", "DISKINODES": "5:6", "VE_PRIVATE": "/elsewhere", "ONBOOT": "yes"}
    )
    found = values(vm, site)
    assert (found["NUMPROC"], found["DISKINODES"], found["ONBOOT"]) == ("100", "5:6", "no")
    assert found["VE_PRIVATE"] == "/vms/7/images/private"
    assert values(dataclasses.replace(vm, container={"NUMPROC": "9"}), site)["NUMPROC"] == "9"


def test_raw_goes_before_all_else() -> None:
    found = values(*machine(raw={"openvz": 'FEATURES="nfs:on"\nCPUUNITS=5\n', "kvm": 'NAME="x"'}))
    assert values(*machine(raw={"openvz": 'VE_PRIVATE="/etc"\n'}))["VE_PRIVATE"] == "/vms/7/images/private"
    assert (found["FEATURES"], found["CPUUNITS"], found["NAME"]) == ("nfs:on", "5", "one-7")


@pytest.mark.parametrize("text", ['a"b', "a\nb", "a$(id)", "a`id`", "a\\", "a'b", "a\rb", "a\0b"])
@pytest.mark.parametrize(
    "place",
    [
        lambda text: {"container": {"CPUMASK": text}},
        lambda text: {"context": Context(1, "", variables={"NAMESERVER": text})},
        lambda text: {"context": Context(1, "", variables={"SEARCHDOMAIN": f"x{text}"})},
        lambda text: {"nics": (Nic(0, 0, "lan", "br0" + text, "02:00:00:00:00:01", model="veth", target="x"),)},
        lambda text: {"disks": (Disk(0, "", image=text, source="/x", format="tar"),)},
    ],
)
def test_no_value_ends_its_line_or_is_run(text: str, place: Any) -> None:
    try:
        found = render(*machine(**place(text))).text
    except InvalidValue:
        return
    # A blank of any kind between two words is one blank.
    assert text.strip() != text or text in ("a\nb", "a\rb")
    assert set(read(found).values) <= {*container_config.ORDER} and text not in found


@pytest.mark.parametrize("text", ["a,b", "a;b", "a=b"])
def test_no_value_ends_a_field_of_an_interface(text: str) -> None:
    nic = Nic(0, 0, "lan", "br0", "02:00:00:00:00:01", model="veth", target=text)
    with pytest.raises(InvalidValue, match="it would end a field of NETIF"):
        render(*machine(nics=(nic,)))


def test_what_has_no_root_or_two_is_refused_by_name() -> None:
    with pytest.raises(InvalidValue, match="no disk with a root file system"):
        render(*machine(disks=(Disk(0, "", type="SWAP", size=1),)))
    root = machine()[0].disks[0]
    with pytest.raises(InvalidValue, match=r"disk 1 \(second\).*one root file system"):
        render(*machine(disks=(root, dataclasses.replace(root, disk_id=1, image="second"))))
    with pytest.raises(InvalidValue, match=r"disk 0 \(debian-12\): it is qcow2"):
        render(*machine(disks=(dataclasses.replace(root, format="qcow2"),)))


# -- reading ----------------------------------------------------------------------------------------------------------
def test_the_mark_is_the_first_line_and_no_other() -> None:
    text = render(*machine()).text
    found = read(text)
    assert found.mark == Mark(CATALOG, 7, UUID, 3) and found.directory == "/vms/7" and found.template == "/srv/disk.0"
    assert read('CPUS="1"\n' + text).mark is None
    assert read("").mark is None


def test_a_file_of_anybody_is_read_as_vzctl_reads_it() -> None:
    found = read('# people\nONBOOT=yes\n KMEMSIZE="1:2" \nNAME="a"b"\nbad line\nONBOOT="no"\nEMPTY=\n#CPUS="3"\n')
    assert dict(found.values) == {"ONBOOT": "yes", "KMEMSIZE": "1:2", "NAME": 'a"b', "EMPTY": ""}
    assert found.starts_with_host and found.memory == 0


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        ('PHYSPAGES="0:65536"', 256),
        ('PHYSPAGES="0:256M"', 256),
        ('PHYSPAGES="0:unlimited"', 0),
        ('PRIVVMPAGES="65536:69632"', 272),
        ('PHYSPAGES="0:64M"\nPRIVVMPAGES="65536:69632"', 64),
        ('PHYSPAGES="nonsense"', 0),
    ],
)
def test_its_memory_is_what_limits_it_in_either_unit(line: str, memory: int) -> None:
    assert read(line).memory == memory


def test_one_value_is_changed_and_all_else_stays() -> None:
    text = render(*machine()).text
    changed = container_config.with_value(text, "ONBOOT", "yes")
    assert changed == text.replace('ONBOOT="no"', 'ONBOOT="yes"') and read(changed).starts_with_host
    assert container_config.with_value('A="1"\n', "ONBOOT", "yes") == 'A="1"\nONBOOT="yes"\n'
    with pytest.raises(InvalidValue):
        container_config.with_value(text, "ONBOOT", 'yes"')


def test_ids_of_containers_are_those_of_machines_and_back() -> None:
    assert container_config.ctid_of(0) == 100000 and container_config.vm_id_of(100007) == 7
    assert container_config.vm_id_of(101) is None


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_any_text_is_refused_or_comes_back(text: str) -> None:
    try:
        found = values(*machine(container={"CPUMASK": text}))
    except InvalidValue:
        return
    assert found["CPUMASK"] == text
