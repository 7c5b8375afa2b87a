#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_verify
short_description: Wait until guests themselves say that they are up and contextualised
version_added: 0.1.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Reads the serial console logs of virtual machines on the node where it runs, from their last start on, and waits
    for all of them at once.
  - Believed is the guest of M(nebula.provision.nebula_demo_image) when it reports that it is ready, without an error,
    with the wanted name and addresses.
  - Believed is a guest with cloud-init when its table of network devices (C(ci-info)) has the wanted addresses and its
    login prompt the wanted name. Where no address is wanted, cloud-init has to name its datasource OpenNebula.
  - For any other guest a pattern can be given. It then decides alone.
  - A guest that is not believed in time fails the task, after all others were waited for. The message names what is
    missing and shows the last lines of the console. They are the guest's own words and may hold what a script of the
    context printed. Characters that do not print are escaped.
  - Who was believed is remembered beside the console (C(.verified)) until M(nebula.provision.nebula_deploy) starts or
    reboots the machine, since consoles rotate. It counts only where the log no longer holds the beginning of a boot,
    and for the same name, addresses and pattern.
  - In check mode consoles are read once, and nothing fails.
options:
  vms:
    description:
      - The machines, a list of dicts as M(nebula.provision.nebula_vm_record) returns them, or its JSON. Further keys
        are ignored, and so are machines without a console, as check mode predicts them.
      - C(id) and C(name) are for messages and results.
      - C(console), the path of the log. Rotated logs beside it (C(.0) to C(.2)) are read too.
      - C(hostname), the wanted host name, with or without domain. Empty for any.
      - C(addresses), the wanted IP addresses. Null for a machine without context, which is waited for only if it has a
        pattern.
    type: json
    required: true
  timeout:
    description: Seconds to wait, for all machines together.
    type: int
    default: 180
  pattern:
    description:
      - Regular expression that one line of the console since the last boot has to match.
      - C({name}), C({hostname}) and C({ip}) (the first address) stand for those of the machine.
    type: str
    default: ""
  patterns:
    description: Such regular expressions by the name of the machine. They go before O(pattern).
    type: dict
    default: {}
extends_documentation_fragment:
  - nebula.provision.attributes.info
  - nebula.provision.progress
"""

EXAMPLES = r"""
- name: Wait for the guests
  nebula.provision.nebula_verify:
    vms:
      - id: 0
        name: web-0
        console: /var/lib/nebula/datastores/0/0/console.log
        hostname: web-0
        addresses: [10.66.0.10]

- name: Wait for a login prompt
  nebula.provision.nebula_verify:
    vms: "{{ __nebula_vm_records }}"
    pattern: "^{hostname} login:"
    timeout: 300
"""

RETURN = r"""
vms:
  description: What became of each machine, in the order of O(vms).
  returned: always
  type: list
  elements: dict
  contains:
    vm_id: {description: Id of the machine., type: int, sample: 0}
    name: {description: Its name., type: str, sample: web-0}
    verified: {description: Whether its guest was believed., type: bool, sample: true}
    seconds: {description: Seconds until it was believed or given up., type: float, sample: 3.2}
    evidence:
      description: What convinced. Empty if nothing did.
      type: str
      sample: "nebula-guest: web-0, 10.66.0.10/24"
    missing:
      description: What the guest did not say. Empty if it was believed.
      type: list
      elements: str
    last_lines:
      description: The last lines of the console, up to 20, where the guest was not believed.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nebula.provision.plugins.module_utils.arguments import PROGRESS
from ansible_collections.nebula.provision.plugins.module_utils.host import console
from ansible_collections.nebula.provision.plugins.module_utils.host.progress import Reporter
from ansible_collections.nebula.provision.plugins.module_utils.items.verify import machines_of
from ansible_collections.nebula.provision.plugins.module_utils.runner import execute
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item, Result


def run(params, check_mode):
    progress = Reporter(params["_progress_file"])

    def report(done, failed, total):
        progress.report(done, failed, total, word="verified")

    machines = machines_of(params["vms"], params["pattern"], params["patterns"])
    verdicts = console.wait(machines, 0 if check_mode else params["timeout"], report, keep=not check_mode)
    failed = [] if check_mode else [verdict for verdict in verdicts if verdict.error is not None]
    return Result(
        [Item(verdict.wanted.name, error=verdict.error, changed=False) for verdict in failed],
        {"vms": [shown(verdict) for verdict in verdicts]},
    )


def shown(verdict):
    return {
        "vm_id": verdict.wanted.vm_id,
        "name": verdict.wanted.name,
        "verified": verdict.verified,
        "seconds": round(verdict.seconds, 1),
        "evidence": verdict.evidence,
        "missing": list(verdict.missing),
        "last_lines": list(verdict.last_lines),
    }


def main():
    spec = {
        "vms": {"type": "json", "required": True},
        "timeout": {"type": "int", "default": 180},
        "pattern": {"type": "str", "default": ""},
        "patterns": {"type": "dict", "default": {}},
        **PROGRESS,
    }
    execute(AnsibleModule(argument_spec=spec, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
