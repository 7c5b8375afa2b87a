# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps secrets of encrypted disks in libvirt. Ours say so in their description; nobody can read one back, so that
what a secret is has to be remembered elsewhere, in a form that does not tell it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from ...errors import ForeignObject, HypervisorError, InUse
from ..base import Secrets

MARK = "nebula.provision: disk secret of "


class LibvirtSecrets(Secrets):
    """Keeps the secrets of one owner with libvirt. owner: whose they are, beside those of others on the same host."""

    def __init__(self, libvirt: Any, connection: Any, owner: str) -> None:
        self._libvirt = libvirt
        self._connection = connection
        self._mark = MARK + owner

    def ours(self) -> set[str]:
        """Return the UUIDs of our secrets that are here."""
        with self._explained("listing libvirt's secrets"):
            return {
                secret.UUIDString()
                for secret in self._connection.listAllSecrets()
                if self._description(secret) == self._mark
            }

    def check(self, uuid: str) -> bool:
        """Return whether the secret is there. Raise ForeignObject if it is somebody else's."""
        secret = self._find(uuid)
        if secret is not None and self._description(secret) != self._mark:
            raise ForeignObject(
                f"libvirt secret {uuid}",
                f"it is somebody else's ({self._description(secret) or 'without a description'})",
                "Leave it out of nebula_luks_secrets: machines use it as it is",
            )
        return secret is not None

    def keep(self, uuid: str, passphrase: str) -> None:
        self.check(uuid)
        element = ET.Element("secret", {"ephemeral": "no", "private": "yes"})
        ET.SubElement(element, "uuid").text = uuid
        ET.SubElement(element, "description").text = self._mark
        with self._explained(f"defining libvirt secret {uuid}"):
            secret = self._connection.secretDefineXML(ET.tostring(element, encoding="unicode"))
            secret.setValue(passphrase.encode())

    def remove(self, uuid: str) -> None:
        secret = self._find(uuid)
        if secret is None:
            return
        users = self._users(uuid)
        if users:
            raise InUse(
                f"libvirt secret {uuid}: remove",
                f"disks of {', '.join(users)} are opened with it",
                "End these machines first, or keep it in nebula_luks_secrets",
            )
        with self._explained(f"removing libvirt secret {uuid}"):
            secret.undefine()

    def _users(self, uuid: str) -> list[str]:
        found = []
        for domain in self._connection.listAllDomains():
            with contextlib.suppress(self._libvirt.libvirtError):
                root = ET.fromstring(domain.XMLDesc(0))
                if any(each.get("uuid") == uuid for each in root.iterfind(".//encryption/secret")):
                    found.append(domain.name())
        return sorted(found)

    def _find(self, uuid: str) -> Any:
        lv = self._libvirt
        try:
            return self._connection.secretLookupByUUIDString(uuid)
        except lv.libvirtError as error:
            if error.get_error_code() == lv.VIR_ERR_NO_SECRET:
                return None
            raise HypervisorError(f"looking for libvirt secret {uuid}", str(error)) from error

    def _description(self, secret: Any) -> str:
        with contextlib.suppress(self._libvirt.libvirtError, ET.ParseError):
            return ET.fromstring(secret.XMLDesc(0)).findtext("description") or ""
        return ""

    @contextlib.contextmanager
    def _explained(self, asked: str) -> Iterator[None]:
        try:
            yield
        except self._libvirt.libvirtError as error:
            raise HypervisorError(asked, " ".join(str(error).split())) from error
