# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site that is tortured: up to ten machines that halt with their first instruction, some with a console, volatile
or persistent disks, and one that gets disks, NICs and a processor while it runs; what its lists say, and how they are
changed by chance."""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# cli; hlt; jmp: provisioning is what is tortured, not emulation.
HALTING = b"\xfa\xf4\xeb\xfc".ljust(510, b"\0") + b"\x55\xaa"
BRIDGE = "nbr0"
NETWORK = {
    "name": "Public",
    "bridge": BRIDGE,
    "network_address": "10.66.0.0",
    "network_mask": "255.255.255.0",
    "gateway": "10.66.0.1",
    "nat": True,
    # Enough for all machines and those of a teardown that was killed, and little more: what is lost is missed soon.
    "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 34}],
}
BODY = """
CPU = 0.05
MEMORY = 32
DISK = [ IMAGE = "halt", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
CONTEXT = [ NETWORK = "YES" ]
"""
PASSWORD = "pl4nted!"
CONSOLE = f'GRAPHICS = [ TYPE = "VNC", LISTEN = "127.0.0.1", PASSWD = "{PASSWORD}" ]\n'
TEMPLATES = {
    "web": BODY,
    "vnc": BODY + CONSOLE + 'DISK = [ TYPE = "fs", SIZE = 8, FORMAT = "qcow2", DEV_PREFIX = "vd" ]\n',
    "grower": BODY + "VCPU_MAX = 2\nMEMORY_MAX = 64\n",
    "keeper": BODY + CONSOLE + 'DISK = [ IMAGE = "kept", DEV_PREFIX = "vd" ]\n',
}
PLAYBOOKS = {
    "site": "site.yml",
    "vm": "tests/torture/vm.yml",
    "teardown": "playbooks/teardown.yml",
}


@dataclass(frozen=True)
class Grower:
    """A machine that is changed while it runs. disks: volatile ones, each of so many MB. anew: it is started anew
    instead where something of it comes with a start only.

    A guest that halts lets nothing go: what it loses it loses while it is off."""

    state: str = "running"
    disks: int = 0
    size: int = 8
    nics: int = 1
    vcpu: int = 1
    memory: int = 32
    model: str = "virtio"
    anew: bool = False

    def changed(self, chance: random.Random) -> Grower:
        if self.state == "poweroff":
            return replace(self, state="running")
        what = chance.choice(("disks", "size", "nics", "vcpu", "memory", "model", "off"))
        if what == "disks" and self.disks < 3:
            return replace(self, disks=self.disks + 1)
        if what == "size" and self.disks and self.size < 32:
            return replace(self, size=self.size + 8)
        if what == "nics" and self.nics < 3:
            return replace(self, nics=self.nics + 1)
        if what == "vcpu" and self.vcpu < 2:
            return replace(self, vcpu=2)
        if what == "memory" and self.memory < 64:
            return replace(self, memory=self.memory + 16)
        if what == "model":
            return replace(self, model="e1000" if self.model == "virtio" else "virtio", anew=True)
        return replace(self, state="poweroff", disks=0, size=8, nics=1, vcpu=1, memory=32)

    def item(self) -> dict[str, Any]:
        disks = [{"TYPE": "fs", "SIZE": self.size, "DEV_PREFIX": "vd"}] * self.disks
        return {
            "name": "grower",
            "template": "grower",
            "state": self.state,
            "vcpu": self.vcpu,
            "memory": self.memory,
            "disks": [{"IMAGE": "halt", "DEV_PREFIX": "vd"}, *disks],
            "nics": [{"NETWORK": "Public", "MODEL": self.model}] * self.nics,
            "detach": self.state == "poweroff",
            "restart": ("rolling", "all")[self.disks % 2] if self.anew else "never",
        }


@dataclass(frozen=True)
class Lists:
    """What the inventory says of machines. keeper, solo: the state of each."""

    web: int = 6
    token: str = "first"
    web_state: str = "running"
    vnc: int = 2
    memory: int = 32
    keeper: str = "running"
    solo: str = "running"
    grower: Grower = Grower()

    def changed(self, chance: random.Random) -> Lists:
        """The next lists: one to three things of them are different."""
        changes: dict[str, Any] = {}
        for what in chance.sample(
            ("web", "token", "web_state", "vnc", "memory", "keeper", "solo", "grower", "grower"), chance.randint(1, 3)
        ):
            if what == "web":
                changes["web"] = chance.choice([n for n in range(3, 8) if n != self.web])
            elif what == "token":
                changes["token"] = f"t{chance.randrange(1 << 30):08x}"
            elif what == "web_state":
                # Rarely off, and on again with the next change.
                off = self.web_state == "running" and chance.random() < 0.4
                changes["web_state"] = "poweroff" if off else "running"
            elif what == "vnc":
                changes["vnc"] = chance.choice([n for n in range(4) if n != self.vnc])
            elif what == "grower":
                changes["grower"] = self.grower.changed(chance)
            elif what == "memory":
                changes["memory"] = 40 if self.memory == 32 else 32
            else:
                changes[what] = chance.choice(
                    [s for s in ("running", "poweroff", "absent") if s != getattr(self, what)]
                )
        return replace(self, **changes)

    def items(self) -> list[dict[str, Any]]:
        # Guests that halt do not hear the power button.
        return [
            {"hard": True, **item}
            for item in (
                {
                    "name": "web-%i",
                    "count": self.web,
                    "template": "web",
                    "state": self.web_state,
                    "context": {"TOKEN": self.token},
                },
                {"name": "vnc-%i", "count": self.vnc, "template": "vnc", "memory": self.memory, "recreate": True},
                {"name": "keeper", "template": "keeper", "state": self.keeper},
                {"name": "solo", "template": "web", "state": self.solo},
                self.grower.item(),
            )
        ]

    def expected(self) -> dict[str, Expected]:
        """By name, the machines that there are to be."""
        web = Expected(self.web_state, 32, self.token)
        found = {f"web-{i}": web for i in range(self.web)}
        found |= {f"vnc-{i}": Expected("running", self.memory, console=True) for i in range(self.vnc)}
        found["grower"] = Expected(
            # What it may grow to: the balloon of a guest that halts keeps it all.
            self.grower.state,
            64,
            disks=self.grower.disks + 1,
            nics=self.grower.nics,
            size=self.grower.size,
        )
        for name in ("keeper", "solo"):
            if getattr(self, name) != "absent":
                found[name] = Expected(getattr(self, name), 32, console=name == "keeper")
        return found


@dataclass(frozen=True)
class Expected:
    state: str
    memory: int
    token: str = ""
    console: bool = False
    disks: int = 0
    nics: int = 1
    size: int = 0


@dataclass
class Scene:
    """One inventory in the world's directory; which lists it says is the caller's."""

    directory: Path
    lists: Lists = field(default_factory=Lists)

    @classmethod
    def begin(cls) -> Scene:
        scene = cls(Path(os.environ["NEBULA_WORLD"]))
        (scene.directory / "halt.raw").write_bytes(HALTING.ljust(1 << 20, b"\0"))
        (scene.directory / "home").mkdir()
        # As on a machine without udev: what is changed about it has to be given back.
        os.chown("/dev/kvm", 0, 0)
        os.chmod("/dev/kvm", 0o600)
        return scene

    @property
    def root(self) -> Path:
        return self.directory / "nebula"

    @property
    def temporary(self) -> Path:
        return self.directory / "remote"

    def command(self, play: str, lists: Lists) -> list[str]:
        variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_remote_tmp": str(self.temporary),
            "nebula_root": str(self.root),
            "nebula_reserved_memory": 0,
            "nebula_accelerator": "qemu",
            "nebula_manage_packages": False,
            "nebula_verify": False,
            # What is lost is lost by the lists.
            "nebula_destroy_limit": "100%",
            "nebula_teardown_persistent": True,
            "nebula_images": [
                {"name": "halt", "path": str(self.directory / "halt.raw")},
                {"name": "kept", "type": "DATABLOCK", "persistent": True, "size": 8},
            ],
            "nebula_networks": [NETWORK],
            "nebula_templates": [{"name": name, "template": text} for name, text in TEMPLATES.items()],
            "nebula_vms": lists.items(),
        }
        inventory = self.directory / "hosts.json"
        hosts = {"hosts": {"node1": variables}}
        inventory.write_text(json.dumps({"nebula_frontend": hosts, "nebula_nodes": {"hosts": {"node1": {}}}}))
        program = Path(sys.executable).parent / "ansible-playbook"
        return [str(program), "-i", str(inventory), PLAYBOOKS[play]]

    def environment(self) -> dict[str, str]:
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "HOME": str(self.directory / "home"),
            "LC_ALL": "C.UTF-8",
        }
        environment.pop("PYTHONPATH", None)
        return environment
