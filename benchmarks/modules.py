# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module weighs, and how long it takes to find that there is nothing to do, beside ansible.builtin.ping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from measure import MeasurementFailed, Row, take_turns
from payload import Payload, payloads, result
from setting import CHECKOUT, Ours, world

PING = "ansible.builtin.ping"
COLLECTION = "nebula.provision."
ON_THE_CONTROL_NODE = {"nebula_changes", "nebula_table"}
# They have something to do whenever they are called.
NEVER_IDLE = {"nebula_backup", "nebula_restore"}


def idle(root: str, catalog: str) -> dict[str, Mapping[str, Any]]:
    """Arguments with which a module finds nothing to do, on a node that site.yml prepared."""
    nowhere = f"{root}/nowhere"
    return {
        "nebula_context_iso": {"isos": "[]"},
        "nebula_datastore": {"datastores": [], "root": root},
        "nebula_demo_image": {"dest": f"{nowhere}/demo.qcow2", "cache": nowhere, "state": "absent"},
        "nebula_deploy": {"host": "world", "root": root},
        "nebula_frontend": {"root": root},
        "nebula_frontend_look": {"of": "catalog", "calls": "[]"},
        "nebula_guest_context": {"program": "", "images": []},
        "nebula_host": {"hosts": [], "root": root},
        "nebula_image": {"images": "[]", "root": root},
        "nebula_image_check": {"images": [], "root": root},
        "nebula_image_prepare": {"images": "[]", "root": root},
        "nebula_info": {"root": root},
        "nebula_install": {"installs": "[]", "root": root},
        "nebula_install_wait": {"installs": [], "vms": [], "catalog": catalog},
        "nebula_network": {"networks": [], "root": root},
        "nebula_node": {"root": root, "accelerator": "qemu"},
        "nebula_node_network": {"networks": [], "catalog": catalog, "root": root},
        "nebula_node_look": {"calls": "[]"},
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
    seconds = take_turns(rounds, {name: partial(_seconds, made[name], own) for name, own in arguments.items()})
    for name, payload in sorted(made.items()):
        if name != PING:
            yield Row.fact(
                f"payload of {payload.module}, beside ping's", payload.size / 1024, made[PING].size / 1024, "KiB"
            )
    for name, payload in sorted(made.items()):
        if name != PING:
            yield Row.fact(f"{payload.module} with nothing to do, beside ping", seconds[name], seconds[PING], "s")


def shipped() -> set[str]:
    """Modules that run on targets, and may find nothing to do there."""
    return {file.stem for file in (CHECKOUT / "plugins/modules").glob("nebula_*.py")} - ON_THE_CONTROL_NODE - NEVER_IDLE


def _seconds(payload: Payload, arguments: Mapping[str, Any]) -> float:
    done = payload.run(arguments)
    if result(done).get("changed"):
        raise MeasurementFailed(f"module {payload.module} was to find nothing to do, and changed something")
    return done.seconds
