# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the passphrases of encrypted images on a node: its hypervisor has them, and the node's file remembers them in
a form that does not tell them."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...dataclass import replace
from ...errors import Ambiguous, HypervisorError, InvalidValue, NebulaError
from ...host import node_file
from ...hypervisors.base import Driver

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROUNDS = 100_000
_KEYS = ("uuid", "passphrase")


def wanted_of(items: Any) -> dict[str, str]:
    """Return passphrases by UUID. No error shows a passphrase."""
    if not isinstance(items, (list, tuple)):
        raise InvalidValue("option luks_secrets", f"it is a {type(items).__name__}", "Give a list of dicts")
    found: dict[str, str] = {}
    for index, item in enumerate(items):
        where = f"option luks_secrets, entry {index}"
        if not isinstance(item, Mapping) or sorted(item) != sorted(_KEYS):
            raise InvalidValue(where, "it is not a dict of uuid and passphrase", f"Give {' and '.join(_KEYS)}")
        uuid, passphrase = item["uuid"], item["passphrase"]
        if not isinstance(uuid, str) or not _UUID.fullmatch(uuid.lower()):
            raise InvalidValue(f"{where}: uuid", "it is no UUID", "Make one with uuidgen")
        if not isinstance(passphrase, str) or not passphrase:
            raise InvalidValue(f"{where}: passphrase", "it is no text, or empty", "Write it in quotes")
        if uuid.lower() in found:
            raise Ambiguous(f"{where}: uuid {uuid}", "it is in the list twice", "Give each one entry")
        found[uuid.lower()] = passphrase
    return found


def set_secrets(driver: Driver, root: str, wanted: Mapping[str, str], changes: node_file.Changes) -> None:
    """Have exactly these secrets of ours on the node."""
    known = node_file.read(root).secrets if os.path.isdir(root) else {}
    secrets = driver.secrets(root)
    if secrets is None:
        if wanted:
            raise driver.lacks("keep secrets of disks")
        return
    there = secrets.ours()
    for uuid in sorted(wanted):
        secrets.check(uuid)
        if uuid in there and _is(known.get(uuid, ""), wanted[uuid]):
            continue
        changes.did(f"secret {uuid}", "another" if uuid in there else "absent", "present")
        if not changes.check_mode:
            secrets.keep(uuid, wanted[uuid])
            _remember(root, {uuid: _fingerprint_of(wanted[uuid])})
    _remove(driver, root, sorted(there - set(wanted)), changes)
    if not changes.check_mode and set(known) - set(wanted):
        node_file.update(
            root, lambda before: replace(before, secrets={k: v for k, v in before.secrets.items() if k in wanted})
        )


def remove_all(driver: Driver, root: str, changes: node_file.Changes) -> None:
    secrets = driver.secrets(root)
    if secrets is not None:
        _remove(driver, root, sorted(secrets.ours()), changes)
    if not changes.check_mode and os.path.exists(os.path.join(root, node_file.NAME)):
        node_file.update(root, lambda before: replace(before, secrets={}))


def error_of_secrets_left(error: NebulaError, root: str, uuids: Iterable[str]) -> HypervisorError:
    """Return the error for passphrases that can't be removed, as the hypervisor does not answer."""
    return HypervisorError(
        f"giving the node back: passphrases of secrets {', '.join(sorted(uuids))}",
        f"the hypervisor that keeps them does not answer: {error}",
        "Start it, then run again; if it is gone for good, remove /etc/libvirt/secrets/UUID.* of these, and them from "
        f"secrets in {os.path.join(root, node_file.NAME)}",
    )


def _remove(driver: Driver, root: str, uuids: Sequence[str], changes: node_file.Changes) -> None:
    secrets = driver.secrets(root)
    for uuid in uuids if secrets is not None else ():
        changes.did(f"secret {uuid}", "present", "absent")
        if secrets is not None and not changes.check_mode:
            secrets.remove(uuid)


def _remember(root: str, fingerprint: Mapping[str, str]) -> None:
    node_file.update(root, lambda before: replace(before, secrets={**before.secrets, **fingerprint}))


def _fingerprint_of(passphrase: str) -> str:
    salt = os.urandom(16)
    return f"{salt.hex()}:{_derived(passphrase, salt).hex()}"


def _is(fingerprint: str, passphrase: str) -> bool:
    salt, _colon, derived = fingerprint.partition(":")
    try:
        return bool(derived) and hmac.compare_digest(_derived(passphrase, bytes.fromhex(salt)), bytes.fromhex(derived))
    except ValueError:
        return False


def _derived(passphrase: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, _ROUNDS)
