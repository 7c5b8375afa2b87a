# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host restores what it is asked for, and says what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import (
    MachineRestored,
    MachineToRestore,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import node_restores

UUID = "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11"


def test_it_is_restored_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = MachineToRestore("c", Vm(7, "u", "web-7", "kvm", 1.0, 64), 3, "/backups", "latest")
    asked: list[Any] = []

    class Driver:
        def close(self) -> None:
            asked.append("closed")

    def restore(*given: Any, passphrases: Mapping[str, str]) -> MachineRestored:
        asked.append((given[0], given[2:], passphrases))
        return MachineRestored(7, "web-7", "b", (0, 2), ("tpm",), ("it is larger",))

    monkeypatch.setattr(node_restores, "open_driver", lambda _name: Driver())
    monkeypatch.setattr(node_restores.disk_restores, "restore", restore)
    secrets = [{"uuid": UUID, "passphrase": "geheim"}]
    params = {"request": json.dumps(to_plain(wanted)), "hypervisor": "kvm", "root": "/srv", "key": None}
    result = node_restores.restore({**params, "luks_secrets": json.dumps(secrets)}, True)
    assert asked == [(wanted, ("/srv", True), {UUID: "geheim"}), "closed"]
    assert result.changed and result.warnings == ["it is larger"]
    shown = {"vm_id": 7, "name": "web-7", "backup": "b", "disks": [0, 2], "files": ["tpm"]}
    assert result.payload == {"restored": shown}


def test_the_key_is_given_beside_the_request_to_who_reads_the_backup() -> None:
    wanted = MachineToRestore("c", Vm(7, "u", "web-7", "kvm", 1.0, 64), 3, "/backups", "latest")
    params = {"request": json.dumps(to_plain(wanted)), "key": "k-Zx9"}
    assert node_restores.request_of(params).key == "k-Zx9"
    params["request"] = json.dumps(to_plain(replace(wanted, directory="")))
    assert node_restores.request_of(params).key == ""
