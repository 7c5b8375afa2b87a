# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each plugin is given by tests of data from outside: `text` stands wherever a string may be somebody else's. The
tests say which plugin has no line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOOKUPS = {"answer", "install_answers", "secret", "unresolved"}
# Terms that are one string ansible-core before 2.19 fills in itself, before output_directory has them. Of values that
# they are given, misspelt and unfit hand nothing on, has_module gives truth values, extra_variables and unknown_tags
# are given names that playbooks have, and settings_among_facts none.
UNTRIED_LOOKUPS = {
    *("extra_variables", "has_module", "misspelt", "output_directory", "settings_among_facts", "unfit", "unknown_tags")
}


# Filters that let nothing through but what has a form of its own.
STRICT = {"ovn_connection"}


def filters(text: str) -> dict[str, list[Any]]:
    """Arguments by the filter's name. `text` comes through each of them."""
    record = {"name": text, "state": "RUNNING", "error": text}
    point = {"point": text, "result": text, "why": text, "remedy": text}
    machine = f"image-check-{text}"
    trial = {"name": machine, "disks": [{"SIZE": 9}], "context": {"SET_HOSTNAME": text}, "inject": [text]}
    node = {"node": {"host_keys": [text]}}
    jobs = [{"name": text, "description": text, "playbook": text, "variables": {text: text}}]
    flows = [{"name": text, "nodes": [{"name": text, "approval": text}]}]
    return {
        "absent": [[record]],
        "awx_job_templates": [jobs, text, {text: text}],
        "awx_merged": [jobs, [{"name": text, "state": text}]],
        "awx_nodes": [flows, [], text, {"job_template": {text: text}}],
        "awx_problems": [[{"name": text, text: text}], flows, text, {text: text}, {text: text}],
        "awx_workflows": [flows, jobs, text],
        "chosen_machines": [[{"name": text}], [text]],
        "connection_variables": [{"ansible_host": text, "other": text}],
        "image_checks": [[{"name": text, "path": text}, text]],
        "answered": [[{"waited": [{"name": text, "how": text}]}], [text], "waited"],
        "image_heard": [[{"heard": {machine: text}}], ["node1"], [{"name": machine, "host": "node1"}]],
        "image_points": [[{"name": text, "error": text, "points": [point]}]],
        "image_said": [[trial], [{"name": text, "size": 8}], [], {machine: text}],
        "image_snapshots": [[record], [record]],
        "image_trials": [[{"name": text, "context": {text: text}}], [{"name": text, "size": 8}], text],
        "image_unasked": [[{"name": text}], [{"name": text, "persistent": True}]],
        "inner_mtus": [[{"host": {"inner_mtu": text}}], [text]],
        "installer_isos": [[{"install": text, "path": "http://x/"}], [{"name": text, "iso": text}]],
        "installer_problems": [[text], [{"name": text, "due": "", "step": text}]],
        "between_hosts": [[dict(record, moving=text, away=text)]],
        "meeting_places": [[{"inventory_hostname": text, "nebula_move_address": text, "ansible_host": text}]],
        "last_observed": [[{"inventory_hostname": text, "__nebula_deployed": {"observed": {"vms": [text]}}}]],
        "not_as_asked": [{text: {"failed": True, "msg": text}}, [record]],
        "observed": [[{"msg": text}, {"observed": {"facts": {text: text}}}], [text, text]],
        "ovn_connection": [[{"connections": {"southbound": text}}], "southbound"],
        "ovn_members": [[{"member": {"address": text, "rank": text}}], [text], [text]],
        "ovn_parts": [[{"msg": text}, {"part": {"host": text}, "consistency": [text]}], [text, text], [{}], [text]],
        "ovn_requests": [[{"request": {"request": text}}], [text], "host"],
        "ovn_unregistered": [[{"host": {"held_by": "x", "encap_ip": "192.0.2.1"}}], [text], [""]],
        "packed": [[{"name": text, text: [text]}]],
        "printable": [[text, {text: text}], text],
        "refused_everywhere": [{"networks": [{"name": text}], "earlier": {text: None}}, [{"refused": [text]}]],
        "topology_page": [
            {"networks": [{"name": text}], "vms": [{"name": text, "nics": [{"network": text, "ip": text}]}]}
        ],
        "variable": [{"name": text}, "name", text],
        "settings_among": [{f"nebula_{text}": text}, text],
        "unasked": [[{"name": text, "host": text, "state": "RUNNING"}], []],
        "waiting": [
            [{"name": text, "id": 3, "waits": [{"part": text, "found": text, "wanted": text}]}],
        ],
        "backed_up": [
            [{"inventory_hostname": text, "__nebula_backup_made": {"backups": [{"vm_id": 1, "error": text}]}}],
            {"machines": [{"vm_id": 1, "name": text, "host": text}], "at": "node"},
            text,
        ],
        "of_restores": [
            [{"inventory_hostname": text, "__nebula_restore_done": {"restored": {"vm_id": 1, "backup": text}}}],
            text,
            text,
        ],
        "unlisted": [{"unlisted_vms": [text], "networks": [text]}],
        "peers": [[{"inventory_hostname": text, "ansible_host": text, "__nebula_node": node}]],
    }


def actions(text: str, root: str) -> dict[str, dict[str, Any]]:
    """Arguments by the action's name. They do nothing in check mode."""
    return {
        "nebula_backup": {"directory": f"{root}/{text}", "root": root},
        "nebula_builtin": {"module": "stat", "options": {"path": f"{root}/{text}"}},
        "nebula_call": {"module": "nebula_info", "options": {"vms": [text], "root": root}},
        "nebula_changes": {"changed": True, "diff": [{"before": text, "after": ""}], "warnings": [text]},
        "nebula_context_iso": {"dest": f"{root}/x.iso", "context": {"A": text}},
        "nebula_datastore": {"datastores": [{"name": text}], "root": root},
        "nebula_demo_image": {"dest": f"{root}/x.raw", "cache": text, "root": root},
        "nebula_deploy": {"host": text, "root": root},
        "nebula_frontend": {"root": root, "api_url": text},
        "nebula_frontend_look": {"of": "machines", "known": {"__nebula_frontend": {"uuid": text}}},
        "nebula_guest_context": {"program": text, "images": [{"path": text}], "root": root},
        "nebula_host": {"hosts": [{"name": text}], "root": root},
        "nebula_image": {"images": [{"name": text, "path": text}], "root": root},
        "nebula_image_check": {"images": [{"name": text, "path": text}], "said": {text: text}, "root": root},
        "nebula_image_prepare": {"images": [{"name": text}], "root": root},
        "nebula_info": {"vms": [text], "observed": [{"host": text, "error": text}], "root": root},
        "nebula_install": {"installs": [{"name": text, "iso": text}], "root": root},
        "nebula_install_wait": {"installs": [{"name": text}], "vms": [{"name": text}], "catalog": text},
        "nebula_machine_backup": {"state": "chosen", "vms": text, "root": root},
        "nebula_machine_restore": {"state": "listed", "directory": f"{root}/{text}", "root": root},
        "nebula_network": {"networks": [{"name": text, "description": text}], "root": root},
        "nebula_node": {"luks_secrets": [{"uuid": text, "passphrase": text}], "root": root},
        "nebula_node_look": {"known": {"__nebula_frontend": {"uuid": text}, "__nebula_networks": {"networks": [text]}}},
        "nebula_node_network": {"networks": [{"name": text}], "catalog": text, "known": [text], "root": root},
        "nebula_ovn": {"northbound": [text], "root": root},
        "nebula_ovn_central": {"name": text, "catalog": text, "state": "requested", "root": root},
        "nebula_ovn_host": {"name": text, "catalog": text, "state": "requested", "root": root},
        "nebula_packages": {"names": [text], "others": [text]},
        "nebula_restore": {"file": text, "observed": [{"host": text, "error": text}], "root": root},
        "nebula_router": {"routers": [{"name": text, "interfaces": [{"network": text}]}], "root": root},
        "nebula_security_group": {"security_groups": [{"name": text, "rules": [{"range": text}]}], "root": root},
        "nebula_table": {"title": text, "columns": ["name"], "rows": [{"name": text}], "notes": [text]},
        "nebula_template": {"templates": [{"name": text, "template": {"CPU": text}}], "root": root},
        "nebula_transfer": {
            "state": "fetched",
            "observed": [{"host": text}],
            "hosts": {text: {"address": text}},
            "root": root,
        },
        "nebula_verify": {"vms": [{"name": text}]},
        "nebula_vm": {"vms": [{"name": text, "template": text}], "root": root},
        "nebula_vm_record": {"outcomes": {text: {"msg": text}}, "root": root},
        "nebula_vm_round": {"calls": ["__nebula_poll_call"]},
    }
