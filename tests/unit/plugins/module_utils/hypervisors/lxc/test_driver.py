# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver of containers says of itself; tests/integration/test_lxc.py has what it does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver, Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domains import error_of_libvirt
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import container_xml, hooks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import driver as lxc
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import REMEDIES, LxcDriver


def test_nothing_is_emulated_and_nothing_is_probed() -> None:
    chosen = LxcDriver.choose_accelerator("", {})
    assert chosen == LxcDriver.choose_accelerator("qemu", chosen) and chosen["accelerator"] == "lxc"
    assert 0 < LxcDriver.overhead("lxc").of(64, 1) < 64
    assert LxcDriver.versions()["kernel"]


def test_what_libvirt_can_not_do_to_a_container_is_no_capability() -> None:
    assert LxcDriver.capabilities == {"shutdown", "reboot", "suspend", "resume", "adjust", "back_up"}
    assert LxcDriver.suspends_in_memory and LxcDriver.has_directories
    assert not Driver.suspends_in_memory and not Driver.has_directories


def test_its_site_names_libvirts_controller() -> None:
    driver = object.__new__(LxcDriver)
    driver._confinement = lambda: "apparmor"
    site = driver.site(Site("", "c", 0, {}))
    assert (site.emulator, site.confinement) == (container_xml.EMULATOR, "apparmor")


def test_definitions_are_brought_to_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no machine starts with the host, libvirt has made no directory of those."""
    synced: list[str] = []
    monkeypatch.setattr(hooks, "DEFINED", tmp_path)
    real = lxc.sync_directory

    def sync(path: str) -> None:
        real(path)
        synced.append(path)

    monkeypatch.setattr(lxc, "sync_directory", sync)
    object.__new__(LxcDriver).settle_definitions()
    assert synced == [str(tmp_path)]


class Busy(Exception):
    """What libvirt raises, by its code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def get_error_code(self) -> int:
        return self.code


@pytest.mark.parametrize(
    ("failures", "asked", "fails"), [([], 1, False), ([9, 9], 3, False), ([9] * 9, 5, True), ([38], 1, True)]
)
def test_a_busy_container_is_frozen_in_the_end(failures: list[int], asked: int, fails: bool) -> None:
    left, times = list(failures), []

    def suspend() -> None:
        times.append(1)
        if left:
            raise Busy(left.pop(0))

    driver = object.__new__(LxcDriver)
    driver._libvirt = SimpleNamespace(libvirtError=Busy, VIR_ERR_OPERATION_FAILED=9)
    driver._found = lambda _mark: SimpleNamespace(suspend=suspend)
    driver._explained = lambda _asked: contextlib.nullcontext()
    with pytest.raises(Busy) if fails else contextlib.nullcontext():
        driver.suspend(Mark("c", 1, "u", 1), "")
    assert len(times) == asked


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("Failed to open tty /run/libvirt/lxc/one-0.devpts/0: Permission denied", "chmod 0755 /run/libvirt"),
        ("Unable to create directory /sys/fs/cgroup/unified: No such file or directory", "version 2"),
        ("cannot find init path '/sbin/init' relative to container root", "no init that can be started"),
    ],
)
def test_what_libvirt_says_has_a_remedy(text: str, remedy: str) -> None:
    assert remedy in error_of_libvirt("starting virtual machine 0", text, REMEDIES).remedy
