# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flow of site.yml as runs of single modules, each a process of its own as Ansible starts it, but without Ansible:
for tests that break something within one of them, hundreds of times."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "/usr/lib/python3/dist-packages"
HOST = "node1"
RUN = """
import importlib, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
importlib.import_module("ansible_collections.nebula.provision.plugins.modules." + sys.argv[1]).main()
"""
WITHOUT_ROOT = ("nebula_node_network", "nebula_context_iso", "nebula_demo_image")
NETWORK = {
    "name": "Public",
    "bridge": "nbr0",
    "network_address": "10.66.0.0",
    "network_mask": "255.255.255.0",
    "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 200}],
}
TEMPLATE = """
CPU = 0.01
MEMORY = 32
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "base", DEV_PREFIX = "vd" ]
DISK = [ TYPE = "FS", FORMAT = "qcow2", FS = "ext4", SIZE = 8, DEV_PREFIX = "vd" ]
DISK = [ TYPE = "SWAP", SIZE = 4, DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""


class Failed(AssertionError):
    def __init__(self, module: str, result: Mapping[str, Any]) -> None:
        super().__init__(f"{module}: {result.get('msg')}\n{json.dumps(result.get('errors') or result.get('error'))}")
        self.result = result


@dataclass(frozen=True)
class Step:
    """One module run. arguments: made when it is due, since they hold what earlier steps returned."""

    module: str
    arguments: Callable[[], dict[str, Any]]


class Flow:
    """One host that is front-end and node, below `root`; sources lie in `place`. before: a command to run modules by.
    environment: for the next module runs."""

    def __init__(self, root: Path, place: Path) -> None:
        self.root = root
        self.place = place
        self.environment: dict[str, str] = {}
        self.prefix: list[str] = []
        self.umask = 0o022
        self.networks: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        place.mkdir(parents=True, exist_ok=True)
        self.base = place / "base.raw"
        self.base.write_bytes(GUEST.ljust(1 << 20, b"\0"))
        self.packed = place / "packed.raw.gz"
        # Not zeroes, of which nothing would be written.
        self.content = GUEST + b"".join(hashlib.sha512(str(n).encode()).digest() for n in range(6144)) + bytes(1 << 18)
        self.packed.write_bytes(gzip.compress(self.content, 1))

    def attempt(self, module: str, **arguments: Any) -> dict[str, Any]:
        """The module's result, failed or not. That it says nothing at all is a failure of the test."""
        done = subprocess.run(
            [*self.prefix, sys.executable, "-c", RUN, module],
            input=self.told_to(module, arguments),
            env=self.surroundings(self.environment),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            umask=self.umask,
        )
        assert done.stdout.strip().startswith("{"), f"{module}:\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        self.answers[module] = json.loads(done.stdout)
        return self.answers[module]

    def told_to(self, module: str, arguments: Mapping[str, Any]) -> str:
        """What the module reads."""
        own = {} if module in WITHOUT_ROOT else {"root": str(self.root)}
        return json.dumps({"ANSIBLE_MODULE_ARGS": {**own, **arguments}})

    def surroundings(self, environment: Mapping[str, str]) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT / "collections"), DISTRIBUTION])
        return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment}

    def run(self, module: str, **arguments: Any) -> dict[str, Any]:
        result = self.attempt(module, **arguments)
        if result.get("failed"):
            raise Failed(module, result)
        return result

    # -- the steps of a site.yml ---------------------------------------------------------------------------------------
    def begin(self) -> list[Step]:
        """Up to the templates."""
        return [
            Step("nebula_frontend", dict),
            Step("nebula_node", lambda: {"accelerator": "qemu", "manage_services": False}),
            Step("nebula_host", lambda: {"hosts": [{"name": HOST, "memory": 65536, "cpu": 64}]}),
            Step("nebula_network", lambda: {"networks": [NETWORK]}),
            Step("nebula_node_network", self.told),
            Step("nebula_image", lambda: {"images": json.dumps(self.images())}),
            Step("nebula_template", lambda: {"name": "web", "template": TEMPLATE}),
        ]

    def told(self) -> dict[str, Any]:
        found = self.answers["nebula_network"]
        return {"networks": found["networks"], "catalog": found["catalog"]}

    def images(self) -> list[dict[str, Any]]:
        return [
            {"name": "base", "path": str(self.base), "remote_src": True},
            {"name": "packed", "path": str(self.packed), "remote_src": True},
            {"name": "data", "type": "DATABLOCK", "size": 8, "format": "qcow2", "fs": "ext4"},
            {"name": "plain", "type": "DATABLOCK", "size": 4},
        ]

    def take(self, step: Step) -> dict[str, Any]:
        return self.run(step.module, **step.arguments())

    def decision(self, *vms: dict[str, Any]) -> dict[str, Any]:
        """The arguments of nebula_vm, after a look at the node."""
        observed = self.run("nebula_deploy", host=HOST, state="polled")["observed"]
        return {
            "vms": json.dumps(vms),
            "observed": json.dumps([observed]),
            "hosts": [HOST],
            "return_plans": True,
            "destroy_limit": "100%",
        }

    def decide(self, *vms: dict[str, Any]) -> dict[str, Any]:
        return self.run("nebula_vm", **self.decision(*vms))

    def plan(self) -> dict[str, Any] | None:
        """The arguments of nebula_deploy: what the last decision wants of the node."""
        text = self.answers["nebula_vm"]["plans"].get(HOST)
        return None if text is None else {"host": HOST, "state": "applied", "plan": text}

    def recording(self) -> dict[str, Any]:
        """The arguments of nebula_vm_record."""
        decided = self.answers["nebula_vm"]
        outcomes = {HOST: self.answers["nebula_deploy"]} if HOST in decided["plans"] else {}
        return {"outcomes": json.dumps(outcomes), "ids": [vm["id"] for vm in decided["vms"] if vm["id"] is not None]}

    def record(self) -> dict[str, Any]:
        return self.run("nebula_vm_record", **self.recording())

    def bring(self, *vms: dict[str, Any]) -> dict[str, Any]:
        """Decide, act, record; what was recorded."""
        self.decide(*vms)
        plan = self.plan()
        if plan is not None:
            self.run("nebula_deploy", **plan)
        return self.record()

    # -- what has to hold ----------------------------------------------------------------------------------------------
    def left_behind(self) -> list[str]:
        """Files below the root that are only there while something is written."""
        names = [str(path.relative_to(self.root)) for path in self.root.rglob("*")]
        marks = (".tmp", ".part", ".new", ".raw", "-journal", ".partial")
        return sorted(name for name in names if name.endswith(marks) or "/.upload-" in name)

    def check_catalog(self) -> None:
        path = self.root / "nebula.db"
        if not path.exists() or not path.stat().st_size:
            return
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                return
            # READY (1), USED (2) and PERSISTENTUSED (8) promise a whole file.
            rows = db.execute("SELECT name, source, sha256 FROM images WHERE state IN (1, 2, 8)").fetchall()
        for name, source, sha256 in rows:
            assert Path(source).is_file(), f"image {name} is READY, and {source} is not there"
            if sha256:
                assert hashlib.sha256(Path(source).read_bytes()).hexdigest() == sha256, f"image {name} is not whole"

    def modes(self) -> dict[str, int]:
        return {
            str(path.relative_to(self.root)): stat.S_IMODE(path.lstat().st_mode)
            for path in self.root.rglob("*")
            if not path.is_symlink()
        }
