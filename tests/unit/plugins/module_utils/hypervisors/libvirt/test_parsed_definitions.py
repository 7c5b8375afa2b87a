# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import (
    domain_hardware,
    live_capacity,
    live_devices,
    live_values,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.parsed_definitions import parsed
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Vm

GOLDENS = Path(__file__).resolve().parents[5] / "fixtures" / "deployment" / "kvm"


def test_a_definition_is_parsed_once() -> None:
    text = "<domain><name>once</name></domain>"
    assert parsed(text) is parsed("".join(["<domain>", "<name>once</name></domain>"]))
    with pytest.raises(ET.ParseError):
        parsed("<domain>")


@pytest.mark.parametrize("removes", [True, False])
@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDENS.glob("*.xml")))
def test_nobody_changes_it(name: str, removes: bool) -> None:
    text, other = ((GOLDENS / f"{each}.xml").read_text(encoding="utf-8") for each in (name, "emulated"))
    before = [ET.tostring(parsed(each)) for each in (text, other)]
    vm = Vm(0, "u", "web", "kvm", 1.0, 64, growth=Growth(256, 4, 2))
    for live, wanted in ((text, other), (other, text), (text, text)):
        for plan in (
            lambda live=live, wanted=wanted: live_devices.plan_steps(live, wanted, "/d/0", vm, removes),
            lambda live=live, wanted=wanted: live_values.plan_values(live, wanted),
            lambda live=live: live_capacity.plan_resizing(live, vm, removes),
            lambda live=live: live_devices.another_name(live, "/d/0/disk.0"),
            lambda live=live: live_devices.has_drive(live, "hda"),
            lambda live=live: domain_hardware.weights_of(live),
        ):
            try:
                plan()
            except Exception as problem:
                # What can't be done is refused, and changes nothing either.
                assert type(problem).__name__ == "Unsupported", problem
    assert [ET.tostring(parsed(each)) for each in (text, other)] == before
