# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module weighs, and what a task of it computes where there is nothing to do, beside ansible.builtin.ping: in
seconds of the processors, of Ansible's part and the module's. All are tasks of one playbook, so that each round has all
of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from measure import CPU, MeasurementFailed, Median, Row
from payload import payloads, result
from setting import CHECKOUT, Ours, playbook, world

PING = "ansible.builtin.ping"
COLLECTION = "nebula.provision."
# The last two call other modules: Ansible's own, and those below.
ON_THE_CONTROL_NODE = {"nebula_changes", "nebula_table", "nebula_builtin", "nebula_call"}
# They have something to do whenever they are called.
NEVER_IDLE = {"nebula_backup", "nebula_restore"}
# They call what the roles would call, so that there is always something to look at; again.py and provisioning.py
# measure them.
LOOKS = {"nebula_frontend_look", "nebula_node_look", "nebula_vm_round"}
# What a call may take that has nothing to look at, of a call of ansible.builtin.ping by the same playbook.
TIMES_PING = 1.3
# They are short.
ROUNDS = 5


def idle(root: str, catalog: str) -> dict[str, Mapping[str, Any]]:
    """Arguments with which a module finds nothing to do, on a node that site.yml prepared."""
    nowhere = f"{root}/nowhere"
    return {
        "nebula_context_iso": {"isos": "[]"},
        "nebula_datastore": {"datastores": [], "root": root},
        "nebula_demo_image": {"dest": f"{nowhere}/demo.qcow2", "cache": nowhere, "state": "absent"},
        "nebula_deploy": {"host": "world", "root": root},
        "nebula_frontend": {"root": root},
        "nebula_guest_context": {"program": "", "images": []},
        "nebula_host": {"hosts": [], "root": root},
        "nebula_image": {"images": "[]", "root": root},
        "nebula_image_check": {"images": [], "root": root},
        "nebula_image_prepare": {"images": "[]", "root": root},
        "nebula_info": {"root": root},
        "nebula_install": {"installs": "[]", "root": root},
        "nebula_install_wait": {"installs": [], "vms": [], "catalog": catalog},
        "nebula_machine_backup": {"state": "chosen", "directory": nowhere, "root": root},
        "nebula_machine_restore": {"state": "listed", "directory": nowhere, "root": root},
        "nebula_network": {"networks": [], "root": root},
        "nebula_node": {"root": root, "accelerator": "qemu"},
        "nebula_node_network": {"networks": [], "catalog": catalog, "root": root},
        # Without a catalog there is nothing to tell OVN; northbound.py measures it with a thousand machines.
        "nebula_ovn": {"root": nowhere},
        "nebula_ovn_central": {"name": "world", "catalog": catalog, "root": root, "state": "absent"},
        "nebula_ovn_host": {"name": "world", "catalog": catalog, "root": root, "state": "absent"},
        "nebula_packages": {"names": []},
        "nebula_router": {"routers": [], "root": root},
        "nebula_security_group": {"security_groups": [], "root": root},
        "nebula_template": {"templates": "[]", "root": root},
        "nebula_transfer": {"state": "fetched", "observed": [], "hosts": {}, "root": root},
        "nebula_verify": {"vms": "[]"},
        "nebula_vm": {"vms": "[]", "root": root},
        "nebula_vm_record": {"outcomes": "{}", "root": root},
    }


def rows(rounds: int) -> Iterator[Row]:
    root = str(world() / "nebula-modules")
    ours = Ours(root)
    ours.site()
    made = payloads([PING, *(COLLECTION + name for name in sorted(shipped()))])
    catalog = result(made[COLLECTION + "nebula_host"].run({"hosts": [], "root": root}))["catalog"]
    given = idle(root, catalog)
    arguments = {PING: {}, **{COLLECTION + name: given[name] for name in sorted(shipped())}}
    for name, payload in sorted(made.items()):
        if name != PING:
            yield Row.fact(
                f"payload of {payload.module}, beside ping's", payload.size / 1024, made[PING].size / 1024, "KiB"
            )
    called = _tasks(max(rounds, ROUNDS), arguments)
    for name, taken in sorted(called.items()):
        if name != PING:
            module = name.removeprefix(COLLECTION)
            yield Row.at_most(
                f"task of {module} with nothing to do, beside ping's", taken, called[PING], CPU, TIMES_PING
            )


def shipped() -> set[str]:
    """Modules that run on targets, and may find nothing to do there."""
    others = ON_THE_CONTROL_NODE | NEVER_IDLE | LOOKS
    return {file.stem for file in (CHECKOUT / "plugins/modules").glob("nebula_*.py")} - others


def _tasks(rounds: int, arguments: Mapping[str, Mapping[str, Any]]) -> dict[str, Median]:
    """What a task of each module computes in a playbook that has one of each."""
    written = world() / "modules.yml"
    tasks = [{"name": name, name: dict(own)} for name, own in arguments.items()]
    # The first task of a play has more to do than others.
    tasks = [{"name": "the first", PING: {}}, *tasks]
    written.write_text(json.dumps([{"hosts": "world", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    runs = [playbook(written, {}) for _ in range(rounds + 1)]
    if any(run.changed for run in runs):
        raise MeasurementFailed("a module was to find nothing to do, and changed something")
    # In the first run Ansible packs the modules.
    return {
        name: Median.of([task.processor for run in runs[1:] for task in run.profile if task.name == name])
        for name in arguments
    }
