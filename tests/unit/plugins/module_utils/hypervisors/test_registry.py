# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisors there are: each is found by its name, and imported only where somebody asks for it. What a driver
says of itself is compared with what it has in test_base_seam.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xl

PACKAGE = "ansible_collections.nebula.provision.plugins.module_utils.hypervisors"
COLLECTIONS = Path(__file__).resolve().parents[5] / "collections"


def test_each_name_has_a_driver_of_its_own() -> None:
    found = dict(registry.DRIVERS)
    assert set(found) == {"kvm", "lxc", "openvz", "xen", "xen_libvirt"}
    assert len(registry.DRIVERS) == len(set(found.values())) == 5
    assert all(issubclass(driver, Driver) and driver.name == name for name, driver in found.items())
    with pytest.raises(KeyError):
        registry.DRIVERS["vmware"]


def test_a_hypervisor_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        Unsupported, match=r"hypervisor vmware: .* no driver for it\. Known: kvm, xen, xen_libvirt, lxc"
    ):
        registry.open_driver("vmware")


def test_a_driver_is_opened_where_its_hypervisor_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file by which a dom0 is known is one of the test's own."""
    monkeypatch.setattr(xl, "CAPABILITIES", tmp_path / "capabilities")
    monkeypatch.setattr(xl, "find", lambda name: f"/usr/sbin/{name}")
    with pytest.raises(HypervisorError, match="booted without Xen"):
        registry.open_driver("xen")
    (tmp_path / "capabilities").write_text("control_d\n", encoding="ascii")
    assert type(registry.open_driver("xen")) is registry.DRIVERS["xen"]


@pytest.mark.parametrize(("asked", "imported"), [("", []), ("kvm", ["libvirt.kvm"]), ("xen", ["xen.driver"])])
def test_only_the_driver_that_is_asked_for_is_imported(asked: str, imported: list[str]) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(COLLECTIONS)!r})
from {PACKAGE} import registry
list(registry.DRIVERS), len(registry.DRIVERS), "vmware" in registry.DRIVERS
if {asked!r}:
    registry.DRIVERS[{asked!r}]
print(*sorted(set(map({PACKAGE!r}.__add__, (".libvirt.kvm", ".xen.driver", ".xen.libvirt_driver"))) & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.split() == [f"{PACKAGE}.{name}" for name in imported]
