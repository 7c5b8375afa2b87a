#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_install_wait
short_description: Wait until installations are at their ends
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Watches virtual machines that install an operating system, on the node where they run, and waits for all of them at
    once. Role C(install_os) uses it.
  - An installation is at its end when its guest has ended the machine (by switching off, or by a reboot where that ends
    it), or when a line of the console since the last start matches a pattern.
  - Where C(marker) is set, a guest that ends its machine must have said C(nebula-install:) C(finished) on its serial
    console before. Without it the installation has failed.
  - Where C(keys) is set, a key is pressed once a second as long as nothing is written, for at most a minute. The ISO of
    Windows asks for one. It is only done where C(fresh) says that the machine was started by this run.
  - A hypervisor that does not answer is asked again for a minute.
  - A machine that was ended by somebody else, that is gone, that said what no installer recovers from, or that takes
    too long fails the task, after all others were waited for. Nothing is done to any machine.
  - In check mode it looks once, and nothing fails. What would is warned of, but for what takes too long.
options:
  installs:
    description: The installations, a list of dicts as M(nebula.provision.nebula_install) returns them (C(waits)).
    type: list
    elements: dict
    required: true
  vms:
    description:
      - Their virtual machines, as M(nebula.provision.nebula_vm_record) returns them. Installations without a machine in
        this list are left out.
    type: list
    elements: dict
    required: true
  catalog:
    description: UUID of the catalog that the machines belong to.
    type: str
    required: true
  hypervisor:
    description: What runs the machines of this node.
    type: str
    choices: [kvm, lxc, openvz, xen, xen_libvirt]
    default: kvm
extends_documentation_fragment:
  - nebula.provision.engine.unused
  - nebula.provision.attributes.info
  - nebula.provision.progress
"""

EXAMPLES = r"""
- name: Wait for the installations of this node
  nebula.provision.nebula_install_wait:
    installs: "{{ prepared.waits }}"
    vms: "{{ __nebula_vm_records | selectattr('host', 'eq', inventory_hostname) }}"
    catalog: "{{ prepared.catalog }}"
"""

RETURN = r"""
waited:
  description: What became of each installation that has a machine here.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the image that is installed., type: str, sample: debian12}
    vm_id: {description: Id of its machine., type: int, sample: 3}
    installed: {description: Whether it is at its end., type: bool, sample: true}
    how: {description: How that is known., type: str, sample: its guest ended the machine}
    seconds: {description: Seconds that it was watched., type: float, sample: 11.5}
    percent: {description: How much of the disk was written., type: int, sample: 12}
    last_lines:
      description: The last lines of the console, up to 20, where it has failed.
      type: list
      elements: str
errors:
  description: The installations that failed, with C(name), C(asked), C(found) and C(remedy).
  returned: on failure
  type: list
  elements: dict
"""

import contextlib
import json

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.arguments import ENGINE, PROGRESS
from ansible_collections.nebula.provision.plugins.module_utils.deps import respawn_if_missing
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host.progress import Reporter
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.registry import DRIVERS, open_driver
from ansible_collections.nebula.provision.plugins.module_utils.install import watch
from ansible_collections.nebula.provision.plugins.module_utils.install.waits import ending_view, watched_of
from ansible_collections.nebula.provision.plugins.module_utils.model import defaults
from ansible_collections.nebula.provision.plugins.module_utils.runner import execute
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item, Result


def run(params, check_mode):
    watched = watched_of(params["installs"], params["vms"], now=check_mode)
    if not watched:
        return Result(payload={"waited": []})
    progress = Reporter(params["_progress_file"])
    with contextlib.closing(open_driver(params["hypervisor"])) as driver:

        def states():
            return {vm.vm_id: (vm.state, vm.ended) for vm in driver.survey(params["catalog"]).vms}

        def say(lines):
            progress.say(json.dumps(lines, ensure_ascii=False))

        def press(vm_id):
            # The machine may have ended in between; the next look finds out.
            with contextlib.suppress(NebulaError):
                driver.press_key(Mark(params["catalog"], vm_id))

        def count(vm_id):
            try:
                return driver.written(Mark(params["catalog"], vm_id))
            except NebulaError:
                return None

        endings = watch.watch(watched, states, say, press, count)
    failed = [ending for ending in endings if ending.error is not None]
    payload = {"waited": [ending_view(ending) for ending in endings]}
    if check_mode:
        # In check mode a foreseen start may resolve the error, and a single look cannot exceed a time limit.
        foreseen = [ending.error for ending in failed if not isinstance(ending.error, TimedOut)]
        return Result([], payload, [f"In check mode this is no failure: {error}" for error in foreseen])
    return Result([Item(ending.watched.name, error=ending.error, changed=False) for ending in failed], payload)


def main():
    module = AnsibleModule(
        argument_spec={
            "installs": {"type": "list", "elements": "dict", "required": True},
            "vms": {"type": "list", "elements": "dict", "required": True},
            "catalog": {"type": "str", "required": True},
            "hypervisor": {"type": "str", "choices": sorted(DRIVERS), "default": defaults.HYPERVISOR},
            **ENGINE,
            **PROGRESS,
        },
        supports_check_mode=True,
    )
    respawn_if_missing(module, [*DRIVERS[module.params["hypervisor"]].libraries])
    execute(module, run)


if __name__ == "__main__":
    main()
