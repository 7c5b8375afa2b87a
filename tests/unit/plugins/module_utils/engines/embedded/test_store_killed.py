# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL in the middle of what is done to a catalog, many times: whole or not at all, and the next run goes on."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded import schema
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import frontends
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

KILLS = 40
TEMPLATE = 'OS = [ BOOT = "nic0" ]\nCPU = 0.1\nMEMORY = 32\nNIC = [ NETWORK = "Public" ]\nGRAPHICS = [ TYPE = "VNC" ]\n'


class Killer:
    """Runs work in processes that it kills at a random moment of the time that the work takes. kills: how many were."""

    def __init__(self) -> None:
        self.chance = random.Random(3)
        self.takes = 0.0
        self.kills = 0

    def __call__(self, work: Callable[[], Any]) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        began = time.monotonic()
        handle = os.pidfd_open(pid)
        try:
            # The first one is measured.
            wait = self.chance.random() * self.takes if self.takes else 60.0
            over = bool(select.select([handle], [], [], wait)[0])
            if not over:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            _pid, status = os.waitpid(pid, 0)
        finally:
            os.close(handle)
        assert not over or status == 0
        self.kills += not over
        if over:
            # What it takes by now: other work on the machine comes and goes.
            self.takes = time.monotonic() - began


@pytest.fixture
def killer():
    killer = Killer()
    before = temporary_files()
    yield killer
    # SQLite has its own unlinked as soon as they are open: what is seen of them was left by a kill in between.
    for path in temporary_files() - before:
        path.unlink(missing_ok=True)
    # Else the moments were not within the work.
    assert killer.kills >= KILLS // 4


def temporary_files() -> set[Path]:
    return set(Path("/var/tmp").glob("etilqs_*"))


def params(root: Path) -> dict[str, Any]:
    return {"root": str(root), "local": False, "allow_ephemeral": False}


def begin(root: Path) -> str:
    return frontends.present(params(root), False).payload["frontend"]["catalog"]


def add_image(root: Path, name: str) -> None:
    with contextlib.closing(EmbeddedEngine(str(root))) as engine, engine.session():
        image = engine.images.allocate(Image(None, name))
        Path(image.source).write_text(name, encoding="utf-8")
        engine.images.update(image.id, state=ImageState.READY)


def test_as_a_catalog_is_begun(tmp_path: Path, killer: Killer) -> None:
    for number in range(KILLS):
        root = tmp_path / str(number)
        killer(lambda root=root: begin(root))
        catalog = begin(root)
        assert begin(root) == catalog and len(catalog) == 36
        frontends.absent(params(root), False)
        assert not root.exists(), list(root.rglob("*"))


@pytest.mark.parametrize("then", ["absent", "present"])
def test_as_a_catalog_is_removed(tmp_path: Path, killer: Killer, then: str) -> None:
    for number in range(KILLS):
        root = tmp_path / str(number)
        former = begin(root)
        for name in ("a", "b", "c"):
            add_image(root, name)
        (root / "datastores" / "1" / (".upload-" + "0" * 64)).write_text("half", encoding="utf-8")
        killer(lambda root=root: frontends.absent(params(root), False))
        if then == "present":
            catalog = begin(root)
            with contextlib.closing(EmbeddedEngine(str(root))) as engine:
                found = {image.name: image for image in engine.images.pool()}
            # All of them, or those that wait to be removed, or none of a new catalog.
            assert len(found) == (3 if catalog == former else 0)
            for image in found.values():
                assert image.state == ImageState.DELETE or Path(image.source).exists()
        frontends.absent(params(root), False)
        assert not root.exists(), list(root.rglob("*"))


def test_as_a_catalog_is_migrated(tmp_path: Path, killer: Killer, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ";\n".join(f"ALTER TABLE hosts ADD COLUMN c{i} TEXT NOT NULL DEFAULT 'x{i}'" for i in range(20))
    for number in range(KILLS):
        root = tmp_path / str(number)
        catalog = begin(root)
        with contextlib.closing(EmbeddedEngine(str(root))) as engine, engine.session():
            engine.hosts.allocate(Host(None, "node1", hypervisor="kvm", memory=4096, cpu=4.0))
        with monkeypatch.context() as newer:
            newer.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, steps))
            newer.setattr(schema, "VERSION", schema.VERSION + 1)
            killer(lambda root=root: EmbeddedEngine(str(root)))
            with contextlib.closing(EmbeddedEngine(str(root))) as engine:
                row = engine.store.rows("SELECT * FROM hosts")[0]
                assert [row[f"c{i}"] for i in range(20)] == [f"x{i}" for i in range(20)]
                assert engine.catalog() == catalog


def test_as_machines_are_decided(tmp_path: Path, killer: Killer) -> None:
    root = tmp_path / "nebula"
    begin(root)
    with contextlib.closing(EmbeddedEngine(str(root))) as engine, engine.session():
        engine.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=1 << 20, cpu=1000.0))
        engine.networks.allocate(
            Network(None, "Public", bridge="nbr0", address_ranges=(AddressRange(0, "IP4", 900, ip="10.66.0.10"),))
        )
        engine.templates.allocate("web", parse(TEMPLATE))

    def decide(batch: int) -> None:
        with contextlib.closing(EmbeddedEngine(str(root))) as engine, engine.session():
            items = [{"name": f"b{batch}-%i", "count": 10, "template": "web"}]
            outcomes, _warnings = reconcile(engine, items, None)
            if any(outcome.error for outcome in outcomes):
                raise RuntimeError([str(outcome.error) for outcome in outcomes])
            engine.vms.plans()

    made = 0
    for batch in range(KILLS):
        killer(lambda batch=batch: decide(batch))
        with contextlib.closing(EmbeddedEngine(str(root))) as engine:
            machines = engine.vms.pool()
            leases = [tuple(row) for row in engine.store.rows("SELECT vm_id, offset FROM leases ORDER BY vm_id")]
            ports = [tuple(row) for row in engine.store.rows("SELECT vm_id, port FROM vnc_ports ORDER BY vm_id")]
            host = engine.hosts.info("node1")
        # All ten of them with all that they need, or none; no id, lease or port was lost to those that were not.
        assert len(machines) - made in (0, 10)
        made = len(machines)
        assert [machine.id for machine in machines] == [vm_id for vm_id, _offset in leases] == list(range(made))
        assert [offset for _vm_id, offset in leases] == list(range(made))
        assert [vm_id for vm_id, _port in ports] == list(range(made)) and len({port for _vm_id, port in ports}) == made
        assert (host.vms, host.memory_used) == (made, 32 * made)
    assert made
