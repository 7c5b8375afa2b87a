# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployment files of Xen: goldens, written anew on purpose by REGENERATE=1. That the real xl takes them is tested in
scenario `xen`."""

from __future__ import annotations

import ast
import dataclasses
import re
from functools import partial

import deployment_files
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import config
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Os
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

FIXTURES = deployment_files.FIXTURES / "xen"
CASES = deployment_files.cases("xen")
load = partial(deployment_files.load, "xen")
# What the seed's machine had, as its author copied it: blanks and capitals are the copyist's, and two values were lost.
SEED = {"name": "one-226", "builder": "hvm", "boot": "c", "vnc": "1", "vnclisten": "0.0.0.0", "vncunused": "0"}
SEED_DISKS = ["disk.0,xvdb,w", "disk.1,xvda,w", "disk.2,xvdc:cdrom,r"]
SEED_VIF = {"mac=02:00:c0:a8:46:96", "ip=192.168.70.150", "bridge=br0"}


def values(text: str) -> dict[str, object]:
    """The file as xm read it: as Python."""
    found: dict[str, object] = {}
    for node in ast.parse(text).body:
        assert isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    text = config.render(*load(case)).text
    deployment_files.compare(FIXTURES / f"{case}.cfg", text)
    values(text)


@pytest.mark.parametrize("case", CASES)
def test_xm_runs_it_as_a_program_of_python_and_finds_the_same(case: str) -> None:
    """What it takes of the file are the names that are set after that, if they hold text, numbers or lists."""
    vm, _site = load(case)
    text = (FIXTURES / f"{case}.cfg").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    exec(compile(text, case, "exec"), {"__builtins__": {}}, names)
    assert names == values(text) and all(isinstance(value, (str, int, list)) for value in names.values())
    assert (names["name"], names["uuid"]) == (f"one-{vm.vm_id}", vm.uuid)
    assert (names["memory"], names["vcpus"]) == (str(vm.memory), str(vm.vcpu or 1))
    assert (names.get("kernel", ""), names.get("extra", "")) == (vm.os.kernel, vm.os.kernel_cmd)
    disks, nics = names["disk"], names["vif"]
    assert isinstance(disks, list) and isinstance(nics, list)
    # Both split them at commas; xm keeps what is before a disk's last two as where it is.
    assert [entry.rsplit(",", 2)[0].partition(":")[2] for entry in disks] == config.disks_of(text)
    assert [dict(pair.split("=") for pair in nic.split(","))["mac"] for nic in nics] == config.macs_of(text)


def test_every_golden_has_its_case() -> None:
    assert sorted(path.stem for path in FIXTURES.glob("*.cfg")) == CASES


def test_the_seed_line_by_line() -> None:
    text = config.render(*load("seed")).text
    found = values(text)
    assert {name: found[name] for name in SEED} == SEED
    assert "#O CPU_CREDITS = 256" in text
    disks = found["disk"]
    assert isinstance(disks, list)
    assert [each.removeprefix("file:/var/lib/nebula/datastores/0/226/") for each in disks] == SEED_DISKS
    vif = found["vif"]
    assert isinstance(vif, list)
    assert set(vif[0].split(",")) >= SEED_VIF


# What such a machine was made from, in the words of that time; BOOT as it is written today.
SEED_TEMPLATE = """
NAME     = "one-226"
CPU      = 1
MEMORY   = 512
OS       = [ BOOT = "disk1" ]
DISK     = [ IMAGE = "installer", TARGET = "xvdb" ]
DISK     = [ IMAGE = "data", TARGET = "xvda" ]
NIC      = [ NETWORK = "Public", IP = "192.168.70.150" ]
GRAPHICS = [ TYPE = "vnc", LISTEN = "0.0.0.0" ]
CONTEXT  = [ TARGET = "xvdc:cdrom", DRIVER = "file:", NETWORK = "YES" ]
"""


def test_the_seed_from_its_template() -> None:
    template = parse(SEED_TEMPLATE)
    validate(template, hypervisors=("xen",))
    kinds = {"installer": ImageType.OS, "data": ImageType.DATABLOCK}
    (ip,) = [nic.ip for nic in demands(template).nics]
    vm = build(
        template,
        vm_id=226,
        uuid="5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d11",
        name="one-226",
        hypervisor="xen",
        images={n: Image(n, name, kind, size=100, source="/x") for n, (name, kind) in enumerate(kinds.items())},
        nics=[Nic(0, 0, "Public", "br0", "02:00:c0:a8:46:96", ip)],
        vnc_port=5900 + 205,
    )
    _vm, site = load("seed")
    assert config.render(vm, site).text == config.render(*load("seed")).text


def test_the_digest_is_of_everything_but_the_generation() -> None:
    vm, site = load("minimal")
    first = config.render(vm, site)
    later = config.render(vm, dataclasses.replace(site, generation=7))
    assert first.digest == later.digest
    assert first.text != later.text
    assert config.render(dataclasses.replace(vm, memory=129), site).digest != first.digest


@pytest.mark.parametrize("text", ["it's", 'a "b"', "back\\slash", "tab\tend", "line\nend", "ä€", "$HOME", ""])
def test_quoting(text: str) -> None:
    quoted = config.quoted(text)
    assert "\n" not in quoted
    assert ast.literal_eval(quoted) == text


@pytest.mark.parametrize(("cpu", "credits"), [(1, 256), (0.5, 128), (0.001, 1), (1.5, 384), (1000, 65535), (0.3, 77)])
def test_credits(cpu: float, credits: int) -> None:
    assert config.credits(cpu) == credits


def test_what_stands_in_it_is_read_back() -> None:
    text = config.render(*load("hvm_everything")).text
    assert config.port_of(text) == 5904
    assert config.macs_of(text) == ["02:00:c0:a8:46:96", "02:00:c0:a8:46:97"]
    place = "/var/lib/nebula/datastores/0/226"
    assert config.disks_of(text) == [f"{place}/disk.0", "/dev/sr0", f"{place}/disk.2"]


def test_a_password_is_read_back_whatever_the_kind() -> None:
    assert config.password_of(config.render(*load("hvm_everything")).text) == "pa'ss\\wo"
    assert config.password_of(config.render(*load("pv_kernel")).text) == "secret"
    assert config.password_of(config.render(*load("minimal")).text) == ""


def test_weight_and_cap_are_read_back() -> None:
    assert config.weights_of(config.render(*load("pv_kernel")).text) == (128, 50)
    assert config.weights_of(config.render(*load("hvm_everything")).text) == (384, 0)
    assert config.weights_of("name = 'somebody'") == (256, 0)


def test_lists_take_no_comma() -> None:
    vm, site = load("pv_kernel")
    with pytest.raises(InvalidValue, match="PASSWD"):
        config.render(dataclasses.replace(vm, graphics=Graphics(port=5900, password="a,b")), site)
    with pytest.raises(InvalidValue, match="comma"):
        disks = {0: DiskFiles("/var/a,b/disk.0", "raw"), 1: DiskFiles("/var/x/disk.1", "raw")}
        config.render(vm, dataclasses.replace(site, disks=disks))


def test_a_pvh_machine_needs_a_kernel() -> None:
    vm, site = load("pvh")
    with pytest.raises(InvalidValue, match="KERNEL"):
        config.render(dataclasses.replace(vm, os=Os(machine="xenpvh")), site)


def test_a_password_is_shown_by_no_repr() -> None:
    deployment = config.render(*load("pv_kernel"))
    assert not re.search("secret", repr(deployment))


@pytest.mark.parametrize(
    ("device", "number"),
    [
        *(("xvda", 51712), ("xvdb", 51728), ("xvdp", 51952), ("xvdq", 268439552)),
        *(("hda", 768), ("hdb", 832), ("hdc", 5632), ("hdd", 5696), ("sda", 2048), ("sdb", 2064), ("sdp", 2288)),
    ],
)
def test_devices_have_the_numbers_of_xens_vbd_interface(device: str, number: int) -> None:
    assert config.device_number(device) == number
