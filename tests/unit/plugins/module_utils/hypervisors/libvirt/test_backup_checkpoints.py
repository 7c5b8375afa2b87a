# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import (
    backup_checkpoints,
    qemu_monitor,
)

ONE, TWO = "nebula-0123abcd-20261130T120000Z-aaaaaa", "nebula-0123abcd-20261130T120001Z-bbbbbb"
NO_CHECKPOINT, INTERNAL, NO_DOMAIN = 101, 1, 42


class LibvirtError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code

    def get_error_code(self) -> int:
        return self.code


LIBVIRT = mock.Mock(
    libvirtError=LibvirtError,
    VIR_ERR_NO_DOMAIN_CHECKPOINT=NO_CHECKPOINT,
    VIR_ERR_NO_DOMAIN=NO_DOMAIN,
    VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY=2,
)


class Domain:
    """Has checkpoints; those that are broken can't be deleted with their bitmaps."""

    def __init__(self, *names: str, broken: bool = False, active: bool = True) -> None:
        self.names, self.broken, self.active = list(names), broken, active

    def isActive(self) -> bool:
        return self.active

    def listAllCheckpoints(self) -> list[Any]:
        return [mock.Mock(getName=lambda name=name: name) for name in self.names]

    def checkpointLookupByName(self, name: str) -> Any:
        if name not in self.names:
            raise LibvirtError(NO_CHECKPOINT)

        def delete(flags: int = 0) -> None:
            if not flags and (self.broken or not self.active):
                raise LibvirtError(INTERNAL)
            self.names.remove(name)

        return mock.Mock(delete=delete)


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bitmaps that QEMU was asked to remove."""
    found: list[str] = []
    nodes = [{"node-name": "n", "dirty-bitmaps": [{"name": each} for each in (ONE, TWO, "somebodys")] + [{}]}, {}]

    def ask(_lv: Any, _domain: Any, _asked: str, command: str, **arguments: Any) -> Any:
        if command == "block-dirty-bitmap-remove":
            found.append(arguments["name"])
        return nodes

    monkeypatch.setattr(qemu_monitor, "ask", ask)
    return found


def test_whole_ones_are_deleted(removed: list[str]) -> None:
    domain = Domain(ONE, TWO)
    backup_checkpoints.forget(LIBVIRT, domain, [ONE, "gone"], {}, "a backup")
    assert (domain.names, removed) == ([TWO], [])


def test_broken_ones_go_with_what_is_left_of_them(removed: list[str]) -> None:
    domain = Domain(ONE, TWO, broken=True)
    backup_checkpoints.forget(LIBVIRT, domain, [ONE], {}, "a backup")
    assert (domain.names, removed) == ([TWO], [ONE])


def test_those_of_a_machine_that_is_off(removed: list[str]) -> None:
    domain = Domain(ONE, active=False)
    backup_checkpoints.forget(LIBVIRT, domain, [ONE], {}, "a backup")
    assert (domain.names, removed) == ([], [])


def test_bitmaps_without_checkpoints(removed: list[str]) -> None:
    backup_checkpoints.remove_orphans(LIBVIRT, Domain(ONE), "nebula-0123abcd-", "a backup")
    backup_checkpoints.remove_orphans(LIBVIRT, Domain(), "nebula-ffffffff-", "a backup")
    assert removed == [TWO]


def test_a_domain_that_is_gone_has_none() -> None:
    domain = mock.Mock()
    domain.listAllCheckpoints.side_effect = LibvirtError(NO_DOMAIN)
    assert backup_checkpoints.names(LIBVIRT, domain) == []
    domain.listAllCheckpoints.side_effect = LibvirtError(INTERNAL)
    with pytest.raises(LibvirtError):
        backup_checkpoints.names(LIBVIRT, domain)
