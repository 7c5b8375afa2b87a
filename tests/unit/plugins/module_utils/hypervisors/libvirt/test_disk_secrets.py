# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of encrypted disks in a libvirt that is a stand-in by the reference of its API (libvirt-secret): those of one
owner are kept and removed, all others stay as they are, and none is ever read back or told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from libvirt_stand_in import Connection, Domain, LibvirtError, libvirt

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, HypervisorError, InUse
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.disk_secrets import (
    MARK,
    LibvirtSecrets,
)

ONE = "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11"
TWO = "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a12"


class Secret:
    def __init__(self, host: Host, xml: str) -> None:
        self.host, self.xml, self.value = host, xml, b""

    def UUIDString(self) -> str:
        return ET.fromstring(self.xml).findtext("uuid") or ""

    def XMLDesc(self, _flags: int) -> str:
        return self.xml

    def setValue(self, value: bytes) -> None:
        self.value = value

    def undefine(self) -> None:
        self.host._fail("undefine")
        del self.host.secrets[self.UUIDString()]


class Host(Connection):
    """libvirt defines a secret of the same UUID anew, with the value that it had."""

    def __init__(self, *domains: Domain) -> None:
        super().__init__(*domains)
        self.secrets: dict[str, Secret] = {}

    def secretDefineXML(self, text: str) -> Secret:
        self._fail("secretDefineXML")
        new = Secret(self, text)
        found = self.secrets.setdefault(new.UUIDString(), new)
        found.xml = text
        return found

    def secretLookupByUUIDString(self, uuid: str) -> Secret:
        self._fail("secretLookupByUUIDString")
        if uuid not in self.secrets:
            raise LibvirtError(f"Secret not found: no secret with matching uuid '{uuid}'", 66)
        return self.secrets[uuid]

    def listAllSecrets(self) -> list[Secret]:
        self._fail("listAllSecrets")
        return list(self.secrets.values())

    def add(self, uuid: str, description: str | None) -> Secret:
        said = "" if description is None else f"<description>{description}</description>"
        return self.secretDefineXML(f"<secret><uuid>{uuid}</uuid>{said}</secret>")


@pytest.fixture
def host() -> Host:
    return Host()


def kept(host: Host, owner: str = "node1") -> LibvirtSecrets:
    return LibvirtSecrets(libvirt(), host, owner)


def test_a_secret_is_kept_closed_and_by_its_owner(host: Host) -> None:
    secrets = kept(host)
    assert not secrets.check(ONE)
    secrets.keep(ONE, "pässword")
    element = ET.fromstring(host.secrets[ONE].xml)
    assert (element.get("ephemeral"), element.get("private")) == ("no", "yes")
    assert element.findtext("description") == f"{MARK}node1"
    assert host.secrets[ONE].value == "pässword".encode()
    assert secrets.check(ONE) and secrets.ours() == {ONE}


def test_a_secret_becomes_another_one(host: Host) -> None:
    secrets = kept(host)
    secrets.keep(ONE, "first")
    secrets.keep(ONE, "second")
    assert host.secrets[ONE].value == b"second" and len(host.secrets) == 1


def test_an_owner_has_its_own_and_no_others(host: Host) -> None:
    kept(host, "node1").keep(ONE, "a")
    host.add(TWO, None)
    host.add("3", "somebody's")
    assert kept(host, "node1").ours() == {ONE}
    assert kept(host, "node11").ours() == set() == kept(host, "node").ours()


@pytest.mark.parametrize(
    ("description", "words"),
    [(None, "without a description"), ("of the boss", "of the boss"), (f"{MARK}node2", "node2")],
)
def test_somebody_elses_is_neither_changed_nor_taken_for_ours(host: Host, description: str | None, words: str) -> None:
    host.add(ONE, description).setValue(b"theirs")
    for act in (lambda: kept(host).check(ONE), lambda: kept(host).keep(ONE, "ours")):
        with pytest.raises(
            ForeignObject, match=f"libvirt secret {ONE}: .*{words}.*Leave it out of nebula_luks"
        ) as told:
            act()
        assert "ours" not in str(told.value)
    assert host.secrets[ONE].value == b"theirs"


def test_a_secret_is_removed_and_one_that_is_not_there_needs_nothing(host: Host) -> None:
    secrets = kept(host)
    secrets.keep(ONE, "a")
    secrets.remove(ONE)
    secrets.remove(ONE)
    assert host.secrets == {}


def disk(uuid: str) -> str:
    return (
        "<domain><devices><disk><source file='/x'><encryption format='luks'>"
        f"<secret type='passphrase' uuid='{uuid}'/></encryption></source></disk></devices></domain>"
    )


def test_a_secret_that_a_machine_needs_stays(host: Host) -> None:
    secrets = kept(host)
    secrets.keep(ONE, "a")
    host.domains = [Domain(name, name) for name in ("web", "db", "other", "gone")]
    for domain, uuid in zip(host.domains, (ONE, ONE, TWO, ONE)):
        domain.xml = disk(uuid)
    # One that ends while it is looked at needs none any more.
    host.domains[3].fails["XMLDesc"] = LibvirtError("Domain not found", 42)
    with pytest.raises(InUse, match=r"disks of db, web are opened with it.*End these machines first"):
        secrets.remove(ONE)
    assert ONE in host.secrets
    host.domains = host.domains[2:]
    secrets.remove(ONE)
    assert host.secrets == {}


@pytest.mark.parametrize(
    ("call", "act", "asked"),
    [
        ("listAllSecrets", lambda secrets: secrets.ours(), "listing libvirt's secrets"),
        ("secretLookupByUUIDString", lambda secrets: secrets.check(ONE), f"looking for libvirt secret {ONE}"),
        ("secretDefineXML", lambda secrets: secrets.keep(TWO, "geheim"), f"defining libvirt secret {TWO}"),
        ("undefine", lambda secrets: secrets.remove(ONE), f"removing libvirt secret {ONE}"),
    ],
)
def test_an_error_of_libvirt_says_what_was_asked_and_no_secret(host: Host, call: str, act: Any, asked: str) -> None:
    secrets = kept(host)
    secrets.keep(ONE, "geheim")
    host.fails[call] = LibvirtError("the daemon is gone")
    with pytest.raises(HypervisorError) as caught:
        act(secrets)
    assert (caught.value.asked, caught.value.found) == (asked, "the daemon is gone")
    assert "geheim" not in repr(caught.value)


def test_a_description_that_can_not_be_read_is_nobodys(host: Host) -> None:
    host.secrets[ONE] = SimpleNamespace(UUIDString=lambda: ONE, XMLDesc=lambda _flags: "<secret")  # type: ignore[assignment]
    assert kept(host).ours() == set()
    with pytest.raises(ForeignObject, match="without a description"):
        kept(host).check(ONE)
