# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that several files have in common. Functions in a world take paths as strings, as JSON has them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_list_decision import Settings
from ansible_collections.nebula.provision.tests.integration.guests import agent as agent_guest
from ansible_collections.nebula.provision.tests.integration.guests import demo
from ansible_collections.nebula.provision.tests.integration.image_runs import disk, site, sshd
from ansible_collections.nebula.provision.tests.integration.node_namespaces import made_namespaces, wire
from ansible_collections.nebula.provision.tests.integration.sent_site import IMAGE

__all__ = ["disk", "site", "sshd"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def image() -> str:
    """Return the path of the demo image, which is built outside of a world: that reaches no package mirror."""
    return str(demo.image())


@pytest.fixture
def agent() -> str:
    """Return the path of an image whose guest has an agent."""
    return str(agent_guest.image())


@pytest.fixture
def written_image(tmp_path: Path) -> str:
    """Return the path of an image whose guest writes to its disk and halts."""
    path = tmp_path / "image.raw"
    path.write_bytes(IMAGE)
    return str(path)


@pytest.fixture
def programs(request: pytest.FixtureRequest) -> str:
    """Return the directory of an ansible-core's programs, which are installed where they are not: the current one's,
    that of the oldest (`floor`), or that of the newest (`newest`)."""
    if request.param == "current":
        return str(Path(sys.executable).parent)
    newer = [str(ROOT / "tests/tools/newer_python.sh")]
    if request.param == "newest" and subprocess.run(newer, capture_output=True, check=False).returncode:
        pytest.skip("the newest ansible-core wants a newer Python than there is")
    subprocess.run(["make", "-s", "-C", str(ROOT), f"{request.param}-venv"], check=True)
    return str(ROOT / f".venv-{request.param}/bin")


@pytest.fixture
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


# --- a node's network ---


@pytest.fixture
def namespaces():
    with made_namespaces() as make:
        yield make


@pytest.fixture
def node(namespaces):
    return namespaces()


@pytest.fixture
def world(namespaces, node):
    """Return what is beyond the node's uplink. It knows the way to the machines, so that only the node keeps it from
    them."""
    made = namespaces()
    wire(node, "uplink", made, "eth0")
    node.run("ip", "address", "add", "192.0.2.1/24", "dev", "uplink")
    made.run("ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
    made.run("ip", "route", "add", "10.66.0.0/15", "via", "192.0.2.1")
    return made


# --- a catalog and its images ---


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "nebula"
    path.mkdir()
    return path


@pytest.fixture
def apply(root):
    """Apply items with an engine of its own, as one run of the module does, and return the last one."""

    def run(*items, check=False, fails=False, **options):
        engine = EmbeddedEngine(str(root), check_mode=check, create=True)
        try:
            done, warnings = image_list_decision.apply(engine, items, Settings(check_mode=check, **options))
        finally:
            engine.close()
        last = done[-1]
        last.warnings = warnings
        if not fails:
            assert last.error is None, str(last.error)
        return last

    return run


@pytest.fixture
def catalog(root):
    @contextlib.contextmanager
    def opened():
        engine = EmbeddedEngine(str(root), create=True)
        try:
            with engine.session():
                yield engine
        finally:
            engine.close()

    return opened


@pytest.fixture
def stored(apply, disk):
    """Store the disk of the test's file as an image, and return what it is then."""

    def store(name="demo", **values):
        return apply({"name": name, "path": str(disk), "remote_src": True, **values}).after

    return store


@pytest.fixture
def used(catalog):
    """Have a machine use an image. writable: None for as the image is persistent."""

    def use(name="demo", writable=None):
        with catalog() as engine:
            engine.store.db.execute(
                "INSERT OR IGNORE INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body,"
                " stime) VALUES (7, 'web', 'u', 3, 1, 'RUNNING', 1, 64, '', '', 0)"
            )
            image = engine.images.info(name)
            engine.images.uses.acquire(7, 0, image.id, writable=image.persistent if writable is None else writable)

    return use


@pytest.fixture
def freed(catalog):
    def free():
        with catalog() as engine:
            engine.images.uses.release(7, written=True)

    return free
