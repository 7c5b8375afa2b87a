# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AppArmor's profile of a container; tests/integration/test_stock_containers.py has it at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import confinement

UUID = "3f9a1c52-8e07-4d6b-b1a4-000000000005"
CAPABILITIES = "<capabilities><host><cpu/>{}</host><guest><os_type>exe</os_type></guest></capabilities>"
DAC = "<secmodel><model>dac</model><doi>0</doi></secmodel>"


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("", ""),
        (DAC, ""),
        ("<secmodel><model>selinux</model><doi>0</doi></secmodel>", ""),
        (f"{DAC}<secmodel><model>apparmor</model><doi>0</doi></secmodel>", "apparmor"),
    ],
)
def test_what_confines_containers_is_what_libvirt_says(models: str, expected: str) -> None:
    assert confinement.model(CAPABILITIES.format(models)) == expected


def test_a_profile_is_where_libvirt_looks_for_it_and_goes_with_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "PLACE", tmp_path)
    for name in ("TEMPLATE.lxc", "libvirt-another", f"libvirt-{UUID}.files"):
        (tmp_path / name).touch()
    confinement.write_profile(UUID)
    confinement.write_profile(UUID)
    text = (tmp_path / f"libvirt-{UUID}").read_text(encoding="ascii")
    assert f"profile libvirt-{UUID} flags=(attach_disconnected) {{" in text
    confinement.remove_profile(UUID)
    confinement.remove_profile(UUID)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["TEMPLATE.lxc", "libvirt-another"]
