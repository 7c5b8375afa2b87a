# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines whose image is encrypted, and the secrets that open them, on a real libvirtd."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from canaries import ways
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InUse
from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import CRASH, SAVE_AS, DiskTask
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import luks_secrets
from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST, Node, a_node

SECRET = "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11"
PHRASE = "correct horse, battery staple"


def open_options(path: str | Path, phrase: str = PHRASE) -> list[str]:
    return [
        "--object",
        f"secret,id=key,data={phrase.replace(',', ',,')}",
        "--image-opts",
        f"driver=qcow2,file.driver=file,file.filename={path},encrypt.key-secret=key",
    ]


def encrypt(plain: str, path: str) -> None:
    """Quick to open. QEMU measures how fast keys are derived, and gives up where it took no time at all."""
    argv = ["qemu-img", "convert", "--object", f"secret,id=key,data={PHRASE.replace(',', ',,')}", "-f", "raw"]
    argv += ["-O", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10", plain, path]
    for _attempt in range(100):
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        assert "accurate CPU usage" in done.stderr, done.stderr
    raise AssertionError(done.stderr)


def first_sector(path: str | Path, place: str) -> bytes:
    raw = f"{place}/first.raw"
    subprocess.run(["qemu-img", "convert", *open_options(path), "-O", "raw", raw], check=True, capture_output=True)
    data = Path(raw).read_bytes()[:512]
    os.unlink(raw)
    return data


@contextmanager
def an_encrypted_node() -> Iterator[tuple[Node, Vm]]:
    with a_node() as node:
        plain, crypt = f"{node.root}/plain.raw", f"{node.root}/crypt.qcow2"
        Path(plain).write_bytes(GUEST.ljust(1 << 20, b"\0"))
        encrypt(plain, crypt)
        node.take(crypt)
        os.unlink(plain)
        os.unlink(crypt)
        vm = node.vm(1)
        try:
            yield node, replace(vm, disks=(replace(vm.disks[0], luks_secret=SECRET),))
        finally:
            for secret in node.driver._connection().listAllSecrets():
                secret.undefine()


def keep(node: Node, wanted: dict[str, str], check_mode: bool = False) -> dict[str, Any]:
    changes = Changes(check_mode)
    luks_secrets.set_secrets(node.driver, node.root, wanted, changes)
    return changes.after


@in_world
def test_a_machine_of_an_encrypted_image_has_a_copy_that_only_the_secret_opens() -> None:
    with an_encrypted_node() as (node, vm):
        refused = node.carry_out(node.plan(vm))[0]
        assert refused.error is not None
        assert "secret" in refused.error["found"].lower()
        assert "nebula_luks_secrets" in refused.error["remedy"]
        assert keep(node, {SECRET: PHRASE}) == {f"secret {SECRET}": "present"}
        outcome = node.one(vm)
        assert outcome.error is None, outcome.error
        node.wait_for_boots(vm, 1)
        disk = node.directory(vm) / "disk.0"
        facts = json.loads(
            subprocess.run(
                ["qemu-img", "info", "-U", "--output=json", str(disk)], check=True, capture_output=True
            ).stdout
        )
        assert facts["encrypted"]
        assert "backing-filename" not in facts
        for file in (disk, Path(node.base)):
            assert GUEST[:64] not in file.read_bytes()
        live = node.one(vm, tasks=(saving(node, "a"),))
        assert "encrypted" in live.error["found"]
        node.one(vm, "POWEROFF", hard=True)
        # What it is saved as is as closed.
        saved = saving(node, "b")
        assert node.one(vm, "POWEROFF", tasks=(saved,)).error is None
        assert GUEST[:64] not in Path(saved.target).read_bytes()
        assert first_sector(saved.target, node.root) == GUEST


def saving(node: Node, token: str) -> DiskTask:
    target = f"{node.root}/datastores/1/saved-{token}"
    os.makedirs(os.path.dirname(target), mode=0o711, exist_ok=True)
    return DiskTask(SAVE_AS, token, 0, consistency=CRASH, image_id=1, image="s", target=target, format="qcow2")


@in_world
def test_a_persistent_encrypted_image_is_written_in_place() -> None:
    with an_encrypted_node() as (node, copied):
        keep(node, {SECRET: PHRASE})
        vm = replace(copied, disks=(replace(copied.disks[0], clone=False, save=True, driver="qcow2"),))
        assert node.one(vm).error is None
        node.wait_for_boots(vm, 1)
        assert node.one(vm, "DONE", hard=True).error is None
        assert first_sector(node.base, node.root) == GUEST


@in_world
def test_secrets_of_a_node() -> None:
    other = "11111111-2222-4333-8444-555555555555"
    with an_encrypted_node() as (node, vm):
        connection = node.driver._connection()

        def there() -> set[str]:
            return {secret.UUIDString() for secret in connection.listAllSecrets()}

        assert keep(node, {SECRET: PHRASE, other: "x"}, check_mode=True)
        assert there() == set()
        assert len(keep(node, {SECRET: "wrong", other: "x"})) == 2
        assert keep(node, {SECRET: "wrong", other: "x"}) == {}
        refused = node.carry_out(node.plan(vm))[0]
        assert refused.error is not None
        # Another passphrase is a change, and the next start takes it.
        assert keep(node, {SECRET: PHRASE, other: "x"}) == {f"secret {SECRET}": "present"}
        assert node.one(vm).error is None
        assert keep(node, {SECRET: PHRASE}) == {f"secret {other}": "absent"}
        assert there() == {SECRET}
        with pytest.raises(InUse, match="one-1"):
            keep(node, {})
        # Nobody reads one back, and the node's file does not tell it.
        text = (Path(node.root) / "nebula.node").read_text()
        assert not ways(PHRASE, text)
        assert SECRET in text
        foreign = f"<secret ephemeral='no' private='yes'><uuid>{other}</uuid><description>mine</description></secret>"
        connection.secretDefineXML(foreign)
        with pytest.raises(ForeignObject, match="mine"):
            keep(node, {SECRET: PHRASE, other: "x"})
        node.one(vm, "DONE", hard=True)
        changes = Changes(False)
        luks_secrets.remove_all(node.driver, node.root, changes)
        assert changes.after == {f"secret {SECRET}": "absent"}
        assert there() == {other}
