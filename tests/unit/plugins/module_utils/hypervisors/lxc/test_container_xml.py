# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployment files of LXC: goldens, written anew on purpose by REGENERATE=1, and each valid to libvirt's schema."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from xml.etree import ElementTree as ET

import deployment_files
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import container_xml

FIXTURES = deployment_files.FIXTURES / "lxc"
CASES = deployment_files.cases("lxc")
load = partial(deployment_files.load, "lxc")


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    deployment_files.compare(FIXTURES / f"{case}.xml", container_xml.render(*load(case)).text)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.skipif(shutil.which("virt-xml-validate") is None, reason="needs libvirt-clients")
def test_golden_is_valid_to_the_schema(case: str) -> None:
    deployment_files.validate(FIXTURES / f"{case}.xml")


def test_no_two_machines_of_a_host_have_the_same_users() -> None:
    vm, site = load("root_alone")
    starts = set()
    for number in (0, 1, 5, 16383):
        domain = ET.fromstring(container_xml.render(dataclasses.replace(vm, vm_id=number), site).text)
        uid, gid = domain.find("idmap/uid"), domain.find("idmap/gid")
        assert uid is not None and gid is not None and uid.attrib == gid.attrib
        assert (uid.get("start"), uid.get("count")) == ("0", "65536")
        starts.add(int(uid.get("target", "0")))
    assert len(starts) == 4 and all(start % 65536 == 0 and start > 524288 for start in starts)


def test_the_digest_is_that_of_all_but_the_generation() -> None:
    vm, site = load("root_alone")
    first, again = (container_xml.render(vm, dataclasses.replace(site, generation=number)) for number in (1, 2))
    assert first.digest == again.digest and first.text != again.text
    assert container_xml.render(dataclasses.replace(vm, memory=300), site).digest != first.digest


@pytest.mark.parametrize(("limit", "quota"), [(0, -1), (20, 20000), (150, 150000)])
def test_what_a_container_that_runs_gets_of_processors(limit: int, quota: int) -> None:
    vm, site = load("root_alone")
    limited = dataclasses.replace(vm, cpu=0.5, cpu_limit=limit)
    for shares in (0, 1000):
        text = container_xml.render(limited, dataclasses.replace(site, cpu_shares=shares)).text
        expected = {"vcpu_period": 100000, "vcpu_quota": quota, **({"cpu_shares": 500} if shares else {})}
        assert container_xml.scheduler_parameters(text) == expected


def test_raw_that_is_no_xml_is_refused() -> None:
    vm, site = load("root_alone")
    with pytest.raises(InvalidValue, match="RAW"):
        container_xml.render(dataclasses.replace(vm, raw={"lxc": "<features>"}), site)
