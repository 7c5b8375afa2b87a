# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_events
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_events import DomainEvents


class Connection:
    def __init__(self) -> None:
        self.heard: dict[int, Any] = {}
        self.closed = False

    def domainEventRegisterAny(self, _domain: Any, number: int, heard: Any, _opaque: Any) -> None:
        self.heard[number] = heard

    def close(self) -> None:
        self.closed = True


DOMAIN = SimpleNamespace(UUIDString=lambda: "u")


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setattr(domain_events._Loop, "begin", lambda _libvirt: None)
    return Connection()


@pytest.fixture
def events(connection: Connection) -> DomainEvents:
    names = ("REBOOT", "DEVICE_REMOVED", "DEVICE_REMOVAL_FAILED", "BALLOON_CHANGE", "TRAY_CHANGE")
    numbers = {f"VIR_DOMAIN_EVENT_ID_{name}": number for number, name in enumerate(names)}
    return DomainEvents(SimpleNamespace(libvirtError=ValueError, **numbers), lambda: connection)


def test_a_reboot_is_heard_by_who_waits_for_it(connection: Connection, events: DomainEvents) -> None:
    connection.heard[0](None, DOMAIN, None)
    with events.rebooted("other") as other, events.rebooted("u") as happened:
        connection.heard[0](None, DOMAIN, None)
        assert happened.is_set() and not other.is_set()


@pytest.mark.parametrize(("number", "refused"), [(1, False), (2, True)])
def test_what_becomes_of_a_device_is_heard(
    connection: Connection, events: DomainEvents, number: int, refused: bool
) -> None:
    connection.heard[number](None, DOMAIN, "net1", None)
    with events.removed("u", "net0") as other, events.removed("u", "net1") as removal:
        connection.heard[number](None, DOMAIN, "net1", None)
        assert (removal.reported.is_set(), removal.refused) == (True, refused)
        assert not other.reported.is_set()


def test_what_a_guest_gives_back_is_heard(connection: Connection, events: DomainEvents) -> None:
    connection.heard[3](None, DOMAIN, 1024, None)
    for number, said in ((3, (1024,)), (4, ("sata0-0-1", 1))):
        with events.changed("other") as other, events.changed("u") as changed:
            connection.heard[number](None, DOMAIN, *said, None)
            assert changed.is_set() and not other.is_set()


def test_the_connection_is_closed(connection: Connection, events: DomainEvents) -> None:
    events.close()
    assert connection.closed
