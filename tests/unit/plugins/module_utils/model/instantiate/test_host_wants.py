# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a template wants of a host for its machine alone."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.former_machine import FormerMachine
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.host_wants import (
    HostWants,
    read_devices,
    wants_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import HostDevice
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


def template(said: str) -> Template:
    return parse(f'MEMORY = 1024 DISK = [ IMAGE = "demo" ] {said}')


CORE = 'TOPOLOGY = [ PIN_POLICY = "CORE" ]'


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("said", [CORE, 'PCI = [ CLASS = "0302" ]', 'MEMORY_ENCRYPTION = [ TYPE = "SEV" ]'])
def test_a_machine_that_was_made_before_has_none_until_it_is_told_to(version: int, said: str) -> None:
    known = template(said)
    former = FormerMachine(known, known, known, known, hardware_version=version)
    assert wants_of(known, "kvm", "VM web", former) is None
    changed = template('TOPOLOGY = [ PIN_POLICY = "THREAD" ]')
    assert wants_of(changed, "kvm", "VM web", former) is not None
    assert isinstance(wants_of(known, "kvm", "VM web"), HostWants)
    assert wants_of(known, "lxc", "VM web") is None
    assert wants_of(template(""), "kvm", "VM web") is None


def test_devices_by_address_and_by_what_they_are() -> None:
    text = 'PCI = [ SHORT_ADDRESS = "3B:00.1" ] PCI = [ VENDOR = "0x10DE", CLASS = "0302" ] PCI = [ DEVICE = "1eb8" ]'
    assert read_devices(template(text), "VM web") == (
        HostDevice("0000:3b:00.1"),
        HostDevice("", "10de", "", "0302"),
        HostDevice("", "", "1eb8"),
    )


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ('PCI = [ TYPE = "NIC", CLASS = "0200" ]', "PCI 0: TYPE = NIC: no interface of a host is handed to a machine"),
        ('PCI = [ SHORT_ADDRESS = "1:0" ]', "SHORT_ADDRESS = '1:0': it is no address of a device. Write it as lspci"),
        ('PCI = [ SHORT_ADDRESS = "01:00.8" ]', "it is no address of a device"),
        ('PCI = [ VENDOR = "nvidia" ]', "VENDOR = 'nvidia': it is not four hexadecimal digits"),
        ('PCI = [ NAME = "gpu" ]', "it says of no device which one. Give SHORT_ADDRESS, or VENDOR, DEVICE or CLASS"),
        ('PCI = [ SHORT_ADDRESS = "01:00.0" ] PCI = [ SHORT_ADDRESS = "0000:01:00.0" ]', "it is there twice"),
        ('MEMORY_ENCRYPTION = [ TYPE = "TDX" ]', "one that is to be must not run without"),
        ('MEMORY_ENCRYPTION = [ TYPE = "" ]', "Known are SEV, SEV-ES"),
        ('MEMORY_ENCRYPTION = [ TYPE = "SEV-SNP" ]', "TYPE = SEV-SNP: no machine's memory is encrypted so"),
        ('MEMORY_ENCRYPTION = [ TYPE = "SEV" ] MEMORY_TUNE_OFFSET = much', "MEMORY_TUNE_OFFSET = 'much': it is not"),
    ],
)
def test_what_no_machine_can_have(said: str, found: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        wants_of(template(said), "kvm", "VM web")
    assert found in str(caught.value) and str(caught.value).startswith("VM web: ")
    if "ENCRYPTION" in said:
        with pytest.raises(InvalidValue, match="MEMORY_"):
            validate(template(said), hypervisors=["kvm"])
    else:
        assert any(found in text for text in validate(template(said), hypervisors=["kvm"]))
