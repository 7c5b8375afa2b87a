#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_vm_record
short_description: Take over what nodes did and say
version_added: 0.1.0
description:
  - Brings the catalog to what the nodes reported. States, errors and history of virtual machines come from here,
    never from what was merely wanted.
  - A node without an outcome has not answered. Its machines keep that as their error, and the next run goes on with
    them.
options:
  outcomes:
    description:
      - For each host, the registered result of M(nebula.provision.nebula_deploy) with
        O(nebula.provision.nebula_deploy#module:state=applied).
      - Hosts that had a plan and whose result is missing or has no outcomes did not answer.
      - A dict, taken as JSON text.
    type: json
  observed:
    description:
      - What nodes answered when polled.
    type: list
    elements: dict
  ids:
    description: The machines to return as they are now, beside those that moved.
    type: list
    elements: int
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Record what the node did
  nebula.provision.nebula_vm_record:
    outcomes: "{{ {'host1': deployed} }}"
"""

RETURN = r"""
vms:
  description: The machines of O(ids) and those that moved, as M(nebula.provision.nebula_vm) shows them.
  returned: always
  type: list
  elements: dict
refused_answers:
  description: By host, why its answer was refused. Nothing of it was taken over, as if the host had not answered.
  returned: always
  type: dict
  version_added: 0.2.0
returning:
  description: Whether the files of images are on their way back from hosts.
  returned: always
  type: bool
  version_added: 0.2.0
failed_vms:
  description: Those whose last operation failed, a sentence each.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.arguments import ENGINE, parse_json
from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import deliveries
from ansible_collections.nebula.provision.plugins.module_utils.printable import printable
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.view import (
    done_number_of,
    observed_of,
    outcomes_of,
    refused_answers,
    vm_view,
)
from ansible_collections.nebula.provision.plugins.module_utils.runner import closing, execute
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item, Result


def run(params, check_mode):
    moved = {}
    answers = parse_json(params["outcomes"], "outcomes") if params["outcomes"] else {}
    with closing(open_engine(params, check_mode)) as engine, engine.session():
        before = {record.id: record.state for record in engine.vms.pool(ids=params["ids"] or [])}
        observed = observed_of(params["observed"] or [])
        refused = refused_answers(observed)
        for record in engine.vms.observe(observed):
            moved[record.id] = record
        for host, answer in answers.items():
            try:
                records = engine.vms.record(host, outcomes_of(answer or {}, host), done_number_of(answer, host))
            except (InvalidValue, ForeignObject) as error:
                refused[host] = str(error)
                records = engine.vms.record(host, None)
            for record in records:
                moved[record.id] = record
        shown = {record.id: record for record in engine.vms.pool(ids=params["ids"] or [])}
        returning = deliveries.returning(engine.images.pool())
    shown.update(moved)
    items = [
        Item(
            record.name,
            {"state": before.get(record.id, "")},
            {"state": record.state, "error": record.error},
            changed=True,
        )
        for record in moved.values()
    ]
    result = Result(items, warnings=[*refused.values()])
    result.payload = {
        "vms": [vm_view(shown[vm_id], params["root"]) for vm_id in sorted(shown) if shown[vm_id].state != "DONE"],
        "returning": returning,
        "refused_answers": refused,
        "failed_vms": [
            printable(f"VM {each.name} (id {each.id}) is {each.state}: {each.error}")
            for each in shown.values()
            if each.error
        ],
    }
    return result


def main():
    spec = dict(
        outcomes={"type": "json", "no_log": True},
        observed={"type": "list", "elements": "dict"},
        ids={"type": "list", "elements": "int"},
        **ENGINE,
    )
    execute(AnsibleModule(argument_spec=spec, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
