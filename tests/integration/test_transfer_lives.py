# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Persistent images of machines on nodes that do not see the datastores, from the decision to the way back, over a real
sshd: killed anywhere, full, damaged, without an answer. Whatever happens, what a machine wrote is somewhere, and told.

The hypervisor is a stand-in, which keeps machines and runs none: what is proven here is where files are."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file, rsync
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Deployment, Driver, Mark, Survey
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model import image_deliveries
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Inventory
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SSH
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import frontends, transfer_key, transfers
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.audit_findings import compare
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision as images
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_audit as storage_audit
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout, node_image_files
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.tests.integration.test_transfer_ssh import MIB, failed, needs, sshd_for
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.test_store_killed import (
    Killer,
)

pytestmark = needs
TEMPLATE = 'CPU = 0.1\nMEMORY = 32\nDISK = [ IMAGE = "data", TARGET = "vda" ]\n'
KILLS = 24


class Shelf(Driver):
    """Keeps machines in files, as what a hypervisor has outlives a run that is killed."""

    name = "kvm"
    capabilities = frozenset(("shutdown",))

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(exist_ok=True)

    @classmethod
    def choose_accelerator(cls, wanted: str, cached: Any) -> dict[str, str]:
        return {"accelerator": "wood", "reason": "it is a shelf", "key": "shelf"}

    def close(self) -> None:
        pass

    def render(self, vm, site):
        return Deployment(f"name = {vm.name}\n", vm.name)

    def survey(self, catalog):
        return Survey(tuple(ObservedVm(int(each.name), *each.read_text().split()) for each in self.place.iterdir()))

    def inventory(self):
        return (), ()

    def state(self, mark):
        with contextlib.suppress(FileNotFoundError):
            return (self.place / str(mark.vm_id)).read_text().split()[1]

    def _set(self, mark: Mark, state: str) -> None:
        (self.place / str(mark.vm_id)).write_text(f"{mark.uuid} {state}")

    def define(self, vm, deployment, mark):
        if self.state(mark) is None:
            self._set(mark, "POWEROFF")

    def start(self, mark):
        self._set(mark, "RUNNING")

    def shutdown(self, mark, timeout):
        self._set(mark, "POWEROFF")

    def cancel(self, mark):
        self._set(mark, "POWEROFF")

    def change_medium(self, vm, mark, path):
        return True

    def remove(self, mark):
        with contextlib.suppress(FileNotFoundError):
            (self.place / str(mark.vm_id)).unlink()
            return True
        return False


class Site:
    """A front-end, and nodes of it. Steps are those of role vm."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory, self.stack = directory, stack
        self.root = directory / "front"
        told = frontends.present(
            {"root": str(self.root), "local": False, "allow_ephemeral": False, "transfer_key": True}, False
        )
        self.key = told.payload["frontend"]["transfer_key"]
        self.catalog = told.payload["frontend"]["catalog"]
        self.nodes: dict[str, Path] = {}
        self.hosts: dict[str, Any] = {}
        self.bars_router_advertisements: set[str] = set()
        self.sent: list[str] = []

    @contextlib.contextmanager
    def engine(self):
        with contextlib.closing(EmbeddedEngine(str(self.root))) as engine:
            yield engine

    def add_node(self, name: str) -> Path:
        there = self.nodes[name] = self.directory / name
        there.mkdir(mode=0o711)
        node_file.update(str(there), lambda before: replace(before, catalog=self.catalog))
        (there / "datastores/0").mkdir(parents=True)
        node_image_files.make_places(str(there))
        self.hosts[name] = self.stack.enter_context(sshd_for(self.directory / f"sshd-{name}", there, self.key)).host
        with self.engine() as engine, engine.session():
            engine.hosts.allocate(Host(None, name, state=HostState.MONITORED, memory=1 << 20, cpu=1000.0, transfer=SSH))
        return there

    def add_image(self, name: str, content: bytes, **facts: Any) -> None:
        with self.engine() as engine, engine.session():
            image = engine.images.allocate(Image(None, name, size=-(-len(content) // MIB), **facts))
            Path(image.source).write_bytes(content)
            datastore_layout.protect(image.source, writable=False)
            engine.images.update(image.id, state=ImageState.READY)

    def image(self, name: str = "data") -> Image:
        with self.engine() as engine:
            return engine.images.info(name)

    def content(self, name: str = "data") -> bytes:
        return Path(self.image(name).source).read_bytes()

    def driver(self, name: str) -> Shelf:
        return Shelf(self.directory / f"shelf-{name}")

    def observed(self) -> list[Observed]:
        return [
            Observed(name, reached=False)
            if name in self.bars_router_advertisements
            else poll(self.driver(name), str(there), name, self.catalog)
            for name, there in self.nodes.items()
        ]

    def decide(self, *items: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        with self.engine() as engine, engine.session():
            observed = self.observed()
            engine.vms.observe(observed)
            items = [{"template": "data", **item} if item["state"] != "absent" else item for item in items]
            outcomes, _warnings = reconcile(engine, items, None)
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
            plans = engine.vms.plans()
        return plans, image_deliveries.images_to_send(plans, observed)

    def send(self, lacking: dict[str, Any]) -> list[str]:
        self.sent = sorted(image["image"] for told in lacking.values() for image in told["images"])
        return failed(transfers.send(str(self.root), lacking, self.hosts, False))

    def act(self, plans: Any) -> dict[str, Any]:
        return {
            host: Batch(plan, self.driver(host), str(self.nodes[host])).apply()
            for host, plan in plans.items()
            if host not in self.bars_router_advertisements
        }

    def record(self, outcomes: dict[str, Any]) -> list[str]:
        with self.engine() as engine, engine.session():
            for host, said in outcomes.items():
                engine.vms.record(host, said)
        return [each.error["found"] for said in outcomes.values() for each in said if each.error]

    def fetch(self) -> list[str]:
        with self.engine() as engine:
            return failed(transfers.fetch(engine, str(self.root), self.observed(), self.hosts, False))

    def run(self, *items: dict[str, Any]) -> list[str]:
        """What role vm does; what went wrong."""
        plans, lacking = self.decide(*items)
        wrong = self.send(lacking)
        wrong += self.record(self.act(plans))
        return wrong + self.fetch()

    def up(self, name: str = "one", **more: Any) -> dict[str, Any]:
        return {"name": name, "state": "running", **more}

    def down(self, name: str = "one") -> dict[str, Any]:
        return {"name": name, "state": "absent"}

    def machine(self, name: str = "one") -> Any:
        with self.engine() as engine:
            return next(iter(engine.vms.pool(names=[name])), None)

    def disk(self, name: str = "one") -> Path:
        record = self.machine(name)
        return self.nodes[record.host] / f"datastores/0/{record.id}/disk.0"

    def files(self, name: str = "node1") -> list[str]:
        """What is of images on a node."""
        there = self.nodes[name]
        return sorted(str(path.relative_to(there)) for d in ("cache", "transfer") for path in (there / d).rglob("*.*"))

    def own(self, name: str = "node1") -> list[str]:
        found = [
            *node_image_files.kept_files(str(self.nodes[name])),
            *node_image_files.returning_sizes(str(self.nodes[name])),
        ]
        return found + os.listdir(self.nodes[name] / "transfer/in")

    def findings(self) -> list[str]:
        with self.engine() as engine:
            ledger = engine.ledger()
            observed = [replace(each, inventory=Inventory()) for each in self.observed()]
        found = [*compare(ledger, observed), *storage_audit.findings(ledger.images, str(self.root), deep=True)]
        return [
            str(each) for each in found if each.kind in ("file-left", "image-file", "image-left", "image-unfinished")
        ]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(rsync, "USER", "root")
    with contextlib.ExitStack() as stack:
        made = Site(tmp_path, stack)
        made.add_node("node1")
        with made.engine() as engine, engine.session():
            engine.templates.allocate("data", parse(TEMPLATE))
        yield made


@pytest.fixture
def data(site):
    site.add_image("data", b"old" * MIB, persistent=True)
    return site


@pytest.mark.parametrize("clock", [None, 0, 4_000_000_000])
def test_what_a_machine_writes_is_the_images_own_at_the_end(data, clock):
    assert data.run(data.up()) == []
    assert data.machine().state == "RUNNING" and data.image().state == ImageState.USED_PERS
    assert data.disk().read_bytes() == b"old" * MIB and data.sent == ["data"] and data.findings() == []
    assert data.run(data.up()) == [] and data.sent == []
    data.disk().write_bytes(b"new" * MIB)
    if clock is not None:
        # A node whose clock is wrong, or a guest's file system that is older than the image.
        os.utime(data.disk(), (clock, clock))
    assert data.content() == b"old" * MIB
    assert data.run(data.down()) == []
    image = data.image()
    assert (image.state, image.generation, image.operation, image.sha256) == (ImageState.READY, 1, None, "")
    assert data.content() == b"new" * MIB
    assert os.stat(image.source).st_mode & 0o222 == 0
    assert data.own() == [] and data.findings() == []
    # And again from there.
    assert data.run(data.up()) == []
    assert data.disk().read_bytes() == b"new" * MIB


def set_size(site: Site, size: int) -> None:
    with site.engine() as engine:
        (item,), _warnings = images.apply(engine, [{"name": "data", "size": size}], images.Settings())
    assert item.error is None, item.error


def test_a_disk_that_somebody_made_larger_comes_back_once_the_list_says_so(data):
    assert data.run(data.up()) == []
    data.disk().write_bytes(b"new" * MIB)
    os.truncate(data.disk(), 200 * MIB)
    (wrong,) = data.run(data.down())
    assert "200 MiB there, and the catalog has a disk of 3 MiB; nothing of it was sent" in wrong
    image = data.image()
    assert (image.state, data.content()) == (ImageState.LOCKED_USED_PERS, b"old" * MIB)
    assert [name for name in os.listdir(data.root / "datastores/1") if "return" in name] == []
    set_size(data, 250)
    assert data.run() == []
    # What it really is.
    assert (data.image().state, data.image().size) == (ImageState.READY, 200)
    assert len(data.content()) == 200 * MIB and data.content().startswith(b"new" * MIB)
    assert data.fetch() == [] and data.own() == [] and data.findings() == []


def test_a_disk_that_somebody_made_larger_is_saved_once_the_list_says_so(data):
    assert data.run(data.up()) == []
    os.truncate(data.disk(), 200 * MIB)
    saving = {"state": "poweroff", "save_as": [{"disk": 0, "image": "golden"}]}
    wrong = data.run({**data.up(), **saving})
    assert "it has 200 MiB on this host, and 3 MiB in the catalog" in data.image("golden").error, wrong
    assert "set SIZE = 200 for this disk in the list" in data.image("golden").error
    # Nothing was copied, neither there nor here.
    assert data.image("golden").state == ImageState.ERROR and not Path(data.image("golden").source).exists()
    assert not [name for name in data.own() if not name.startswith("own-")]
    larger = [{"IMAGE": "data", "TARGET": "vda", "SIZE": 200}]
    assert data.run({**data.up(), **saving, "disks": larger}) == []
    assert (data.image("golden").state, data.image("golden").size) == (ImageState.READY, 200)
    assert len(data.content("golden")) == 200 * MIB


def test_killed_anywhere_and_run_again(data):
    """Each life of the machine writes something else; each of its runs is killed once, then done."""
    killer, lost = Killer(), []
    for number in range(KILLS):
        killer(lambda: data.run(data.up()))
        wrong = data.run(data.up())
        assert data.machine().state == "RUNNING", wrong
        before, now = data.content(), f"{number:04}".encode() * MIB
        assert data.disk().read_bytes() == before
        data.disk().write_bytes(now)
        killer(lambda: data.run(data.down()))
        wrong = data.run(data.down())
        image = data.image()
        if image.state != ImageState.READY or data.content() != now:
            lost.append((number, image, wrong))
        assert lost == [] and data.machine() is None
        # What a kill left is gone with the next run or two, on both sides.
        data.fetch()
    data.run(data.up())
    data.run(data.down())
    assert data.own() == [] and data.findings() == []
    assert [name for name in os.listdir(data.root / "datastores/1") if "return" in name] == []
    assert killer.kills >= KILLS // 4


def test_its_last_run_was_killed_before_it_could_say_that_it_ran(data):
    """The guest wrote; the front-end never heard that it ran, and it is to end."""
    plans, lacking = data.decide(data.up())
    data.send(lacking)
    data.act(plans)
    data.disk().write_bytes(b"new" * MIB)
    assert data.run(data.down()) == []
    assert (data.image().state, data.content()) == (ImageState.READY, b"new" * MIB)


def test_a_machine_that_never_ran(data):
    plans, _lacking = data.decide(data.up())
    (wrong,) = data.record(data.act(plans))
    assert "did not come here" in wrong
    assert data.run(data.down()) == []
    assert (data.image().state, data.content()) == (ImageState.READY, b"old" * MIB)


def test_killed_as_it_was_sent_by_either_side(data):
    """rsync on the node's side, killed at any moment: the next run sends the rest."""
    big = os.urandom(24 * MIB)
    data.add_image("big", big)
    plans, lacking = data.decide(data.up(), data.up("two", disks=[{"IMAGE": "big", "TARGET": "vda"}]))
    killed = 0
    for delay in (0.05, 0.15, 0.3, 0.5):
        watch = threading.Timer(delay, lambda: kill_below(data.hosts["node1"]["pid"]))
        watch.start()
        wrong = data.send(lacking)
        watch.join()
        killed += bool(wrong)
        assert all("Run again" in text or "sshd" in text for text in wrong), wrong
    assert killed
    assert data.send(lacking) == [] and data.record(data.act(plans)) == []
    base = data.nodes["node1"] / "cache"
    assert big in [path.read_bytes() for path in base.iterdir()]
    assert os.listdir(data.nodes["node1"] / "transfer/in") == []


def test_killed_as_it_came_back(data):
    data.run(data.up())
    new = os.urandom(24 * MIB)
    data.disk().write_bytes(new)
    plans, _lacking = data.decide(data.down())
    data.record(data.act(plans))
    for delay in (0.05, 0.2, 0.4):
        watch = threading.Timer(delay, lambda: kill_below(data.hosts["node1"]["pid"]))
        watch.start()
        if data.fetch():
            assert data.image().state == ImageState.LOCKED_USED_PERS and data.content() == b"old" * MIB
        watch.join()
    data.fetch()
    assert (data.image().state, data.content()) == (ImageState.READY, new)
    data.fetch()
    assert data.own() == []


def kill_below(pid: int) -> None:
    """What a process has started, by their ids, down to the last."""
    found, todo = [], [pid]
    while todo:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{todo[-1]}/task/{todo[-1]}/children").read_text()
            todo.pop()
            children = [int(each) for each in text.split()]
            found += children
            todo += children
            continue
        todo.pop()
    for each in reversed(found):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, 9)


def test_no_room_for_what_comes_back(data, monkeypatch):
    data.run(data.up())
    data.disk().write_bytes(b"new" * MIB)
    with monkeypatch.context() as full:
        full.setattr(datastore_layout, "RESERVE", 1 << 60)
        (wrong,) = data.run(data.down())
    assert "MiB are free" in wrong and "Make room" in wrong and "data" in wrong
    assert data.image().state == ImageState.LOCKED_USED_PERS and data.content() == b"old" * MIB
    assert any("is on host node1" in text for text in data.findings())
    assert data.fetch() == []
    assert (data.image().state, data.content()) == (ImageState.READY, b"new" * MIB)


def qcow2(path: Path, content: bytes) -> bytes:
    path.with_suffix(".raw").write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", path.with_suffix(".raw"), path], check=True)
    return path.read_bytes()


@pytest.mark.parametrize("way", ["mended", "given up"])
def test_what_comes_back_is_not_what_its_format_says(site, tmp_path, way):
    site.add_image("data", qcow2(tmp_path / "old", b"old" * MIB), persistent=True, format="qcow2")
    site.run(site.up())
    before = site.content()
    site.disk().write_bytes(b"no header" * MIB)
    (wrong,) = site.run(site.down())
    (name,) = node_image_files.returning_sizes(str(site.nodes["node1"]))
    assert "image data from host node1" in wrong and f"transfer/out/{name}" in wrong and "Mend it" in wrong
    kept = site.nodes["node1"] / "transfer/out" / name
    # However often it is tried, it stays there, and the image as it was.
    assert site.fetch() == [wrong] and kept.exists()
    assert site.image().state == ImageState.LOCKED_USED_PERS and site.content() == before
    with pytest.raises(WrongState, match="node1, and has not come back"):
        site.decide(site.up("two"))
    if way == "mended":
        kept.write_bytes(qcow2(tmp_path / "new", b"new" * MIB))
        assert site.fetch() == []
        assert (site.image().state, site.content()) == (ImageState.READY, (tmp_path / "new").read_bytes())
    else:
        kept.unlink()
        (wrong,) = site.fetch()
        assert "as it was before that machine" in wrong and "state: enabled" in wrong
        assert site.image().state == ImageState.ERROR and site.content() == before


def test_a_host_that_vanished(data):
    data.run(data.up())
    data.disk().write_bytes(b"new" * MIB)
    plans, _lacking = data.decide(data.down())
    data.record(data.act(plans))
    data.bars_router_advertisements.add("node1")
    (wrong,) = data.fetch()
    assert "host node1, which did not answer" in wrong and "forget_host" in wrong
    assert data.image().state == ImageState.LOCKED_USED_PERS and data.content() == b"old" * MIB
    with data.engine() as engine:
        for refused in (
            lambda: engine.images.delete("data"),
            lambda: engine.images.update("data", state=ImageState.DELETE),
            lambda: engine.images.update("data", state=ImageState.READY),
            lambda: engine.images.update("data", persistent=False),
        ):
            with (
                pytest.raises(WrongState, match=r"is on host node1, and has not come back yet.*forget_host"),
                engine.session(),
            ):
                refused()
        with pytest.raises(InUse, match=r"data.*is still there.*forget_host"), engine.session():
            engine.hosts.delete("node1")
    # It answers again: nothing was lost.
    data.bars_router_advertisements.clear()
    assert data.fetch() == [] and data.content() == b"new" * MIB


def test_a_host_that_is_gone_for_good(data):
    data.run(data.up())
    data.bars_router_advertisements.add("node1")
    with data.engine() as engine, engine.session():
        engine.hosts.forget("node1")
    image = data.image()
    assert image.state == ImageState.ERROR and "host node1, which was forgotten" in image.error
    with data.engine() as engine, engine.session():
        engine.images.update("data", state=ImageState.READY, error="", size=image.size)
    assert data.content() == b"old" * MIB and data.image().generation == 1


def test_somebody_removed_the_machines_directory(data):
    data.run(data.up())
    data.disk().write_bytes(b"new" * MIB)
    shutil.rmtree(data.disk().parent)
    assert data.run(data.down()) == []
    assert (data.image().state, data.content()) == (ImageState.READY, b"new" * MIB)


def test_made_anew_it_goes_on_with_its_disk(data):
    """A recreated machine keeps what is the image's own; nothing goes back and forth."""
    data.run(data.up())
    data.disk().write_bytes(b"new" * MIB)
    assert data.run(data.up(recreate=True, memory=64)) == [] and data.sent == []
    assert data.disk().read_bytes() == b"new" * MIB and data.image().state == ImageState.USED_PERS
    assert data.run(data.down()) == [] and data.content() == b"new" * MIB


def test_two_nodes_at_once(data):
    """One image to both, in one task, and what two machines wrote back from both."""
    data.add_node("node2")
    data.add_image("base", b"base" * MIB)
    data.add_image("more", b"mor" * MIB, persistent=True)
    disks = [{"IMAGE": "base", "TARGET": "vdb", "DRIVER": "raw"}]
    ups = [
        data.up("one", host="node1", disks=[{"IMAGE": "data", "TARGET": "vda"}, *disks]),
        data.up("two", host="node2", disks=[{"IMAGE": "more", "TARGET": "vda"}, *disks]),
    ]
    assert data.run(*ups) == [] and data.sent == ["base", "base", "data", "more"]
    assert {data.machine(name).host for name in ("one", "two")} == {"node1", "node2"}
    for name in ("one", "two"):
        data.disk(name).write_bytes(name.encode() * MIB)
    assert data.run(data.down("one"), data.down("two")) == []
    assert (data.content("data"), data.content("more")) == (b"one" * MIB, b"two" * MIB)
    assert data.findings() == []


def test_a_node_with_another_catalogs_key_does_not_answer_for_it(data):
    """The other node's directory, and no file of it: the key that is let in there is not this front-end's."""
    data.run(data.up())
    data.disk().write_bytes(b"new" * MIB)
    plans, _lacking = data.decide(data.down())
    data.record(data.act(plans))
    right = dict(data.hosts["node1"])
    keys = Path(right["directory"]) / "keys"
    let_in = keys.read_text()
    keys.write_text("")
    (wrong,) = data.fetch()
    assert "Permission denied" in wrong and "AllowUsers" in wrong
    keys.write_text(let_in)
    other = data.stack.enter_context(sshd_for(data.directory / "sshd-other", data.directory, data.key)).host
    data.hosts["node1"] = {**right, "port": other["port"]}
    (wrong,) = data.fetch()
    assert "has other host keys than host node1 told" in wrong
    assert data.image().state == ImageState.LOCKED_USED_PERS and data.content() == b"old" * MIB
    data.hosts["node1"] = right
    assert data.fetch() == [] and data.content() == b"new" * MIB


def test_an_old_base_goes_once_no_machine_rests_on_it(data):
    there = data.nodes["node1"]
    data.add_image("base", b"base" * MIB)
    disks = [{"IMAGE": "base", "TARGET": "vda", "DRIVER": "raw"}]
    assert data.run(data.up("two", disks=disks)) == []
    (old,) = node_image_files.kept_files(str(there))
    assert data.run(data.down("two")) == []
    # Another machine may want it: it stays as long as the image is what it was.
    assert node_image_files.kept_files(str(there)) == (old,)
    with data.engine() as engine, engine.session():
        engine.images.update("base", generation=1)
    assert data.run(data.up("three", disks=disks)) == [] and data.sent == ["base"]
    assert node_image_files.kept_files(str(there)) == (old[:-1] + "1",)
    # One that a machine rests on stays, whatever the catalog holds by now.
    with data.engine() as engine, engine.session():
        engine.store.db.execute("UPDATE images SET generation = 2 WHERE name = 'base'")
    assert data.run(data.up("four", disks=disks)) == []
    assert node_image_files.kept_files(str(there)) == (old[:-1] + "1", old[:-1] + "2")
    assert data.run(data.down("three"), data.down("four")) == []
    assert node_image_files.kept_files(str(there)) == (old[:-1] + "2",)


def test_what_nothing_waits_for_is_told_by_the_audit(data):
    data.run(data.up())
    there = data.nodes["node1"]
    stray = "11111111-2222-4333-8444-555555555555-3"
    (there / "transfer/out" / stray).write_bytes(b"x")
    (there / "cache" / f"own-{stray}").write_bytes(b"x")
    found = data.findings()
    assert len(found) == 2 and all(stray in text and "the catalog does not have" in text for text in found)
    # Nor is it removed by a plan.
    assert data.run(data.down()) == []
    assert sorted(name for name in data.own() if stray in name) == [stray, f"own-{stray}"]


def test_in_check_mode_nothing_moves(data):
    _plans, lacking = data.decide(data.up())
    result = transfers.send(str(data.root), lacking, data.hosts, True)
    assert result.changed and data.own() == []
    with data.engine() as engine:
        assert not transfers.fetch(engine, str(data.root), data.observed(), data.hosts, True).changed


def test_nothing_of_ours_is_left_of_a_front_end_that_is_removed(site):
    key = Path(transfer_key.place(str(site.root)))
    (key / "sending.abc").mkdir()
    with site.engine() as engine, engine.session():
        engine.hosts.delete("node1")
    frontends.absent({"root": str(site.root)}, False)
    assert not site.root.exists(), list(site.root.rglob("*"))
