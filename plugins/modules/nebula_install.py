#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_install
short_description: Steps of installing operating systems from ISOs into images, on the front-end
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Says which step is due for each installation by what the catalog and the nodes say, and does what of it is the
    front-end's to do. Role C(install_os) calls it between the roles that do the rest, and is what to use.
  - Nothing is remembered between calls but in the catalog. A run that was killed anywhere is gone on with by the next.
options:
  installs:
    description:
      - The installations, a list of dicts or its JSON. The keys are those of C(nebula_installs) of role C(install_os).
    type: json
    required: true
  state:
    description:
      - V(begun) checks all of them before anything is made, and says which ISOs are to be stored (RV(isos)) and which
        machines are to be ended first (RV(vms)).
      - V(prepared) makes blank disks, answers and templates, and says which machines are to run (RV(vms)) and to be
        waited for (RV(waits)).
      - V(recorded) takes what was waited for (O(waited)), and says which machines have done their work (RV(vms)).
      - V(converted) makes OS images of what is installed, and says which machines are to try them (RV(vms)).
      - V(concluded) takes what the guests of those said (O(verified)), and says which machines are not needed any more.
      - V(shown) only looks. What is the matter with one is said in its C(error), and is no failure.
      - In check mode V(begun) says what is due and nothing is changed; the states after it, which would act on what was
        not made, are skipped.
    type: str
    choices: [begun, prepared, recorded, converted, concluded, shown]
    default: begun
  only:
    description: Names of those to be looked at. All of O(installs) if it is not given.
    type: list
    elements: str
  answers:
    description:
      - The rendered answers by the name of the installation, a dict or its JSON. A dict with C(error) in place of a
        text says why they can't be, which is an error of that installation alone.
    type: json
  observed:
    description: What the nodes said when they were polled, as M(nebula.provision.nebula_vm) takes it.
    type: list
    elements: dict
  waited:
    description:
      - What M(nebula.provision.nebula_install_wait) returned as C(waited). For each node a dict with its name (C(host))
        and that list (C(waited)), as the filter P(nebula.provision.answered#filter) makes them.
      - Of a node that is named, only what it says of its own machines counts.
      - An entry without C(host) is one of such a list itself, whatever node it is of.
    type: list
    elements: dict
  verified:
    description:
      - What M(nebula.provision.nebula_verify) returned as C(vms), in the form of O(waited), with C(vms) in the place of
        C(waited).
    type: list
    elements: dict
  until:
    description:
      - How far this run goes. What comes after V(installed), where the disk is a DATABLOCK, or V(converted), where it
        is an OS image that was not tried, is not due in it.
    type: str
    choices: [installed, converted, verified]
    default: verified
    version_added: 0.2.0
  _local:
    description: What the action plugin saw of ISOs on the control node, as JSON text. Not for use in tasks.
    type: json
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
"""

EXAMPLES = r"""
- name: What is due
  nebula.provision.nebula_install:
    installs:
      - name: debian12
        iso: /srv/isos/debian-12-netinst.iso
        size: 10240
    state: begun
  check_mode: true
"""

RETURN = r"""
installs:
  description: Each installation, and how far it is.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the image., type: str, sample: debian12}
    step: {description: "How far it is, in words.", type: str, sample: installing}
    due: {description: The step that is due., type: str, sample: wait}
    image: {description: Id of the image., type: int}
    type: {description: Its type., type: str, sample: DATABLOCK}
    state: {description: Its state., type: str, sample: USED_PERS}
    machine: {description: Name of the machine that installs., type: str, sample: install-debian12}
    host: {description: The host of that machine., type: str}
    how: {description: What convinced., type: str}
    seconds: {description: How long the installation took. Null if that is not known., type: int}
    error: {description: What is the matter with it., type: str}
going:
  description: Names of the installations for which something is due, and nothing is the matter with them.
  returned: always
  type: list
  elements: str
isos:
  description: ISOs that are to be stored, as role C(image) takes them.
  returned: always
  type: list
  elements: dict
vms:
  description: What is to become of machines, as role C(vm) takes it.
  returned: always
  type: list
  elements: dict
waits:
  description: What is to be waited for, as M(nebula.provision.nebula_install_wait) takes it.
  returned: always
  type: list
  elements: dict
patterns:
  description: By what each machine that tries an image is believed, as role C(verify) takes it.
  returned: always
  type: dict
timeout:
  description: Seconds that these may take.
  returned: always
  type: int
refused_answers:
  description:
    - By host, why what it answered in O(observed), O(waited) or O(verified) was refused. It counts as a host that did
      not answer, and what was done about other hosts is not concerned.
  returned: always
  type: dict
  version_added: 0.2.0
catalog:
  description: UUID of the catalog.
  returned: always
  type: str
errors:
  description: The installations that can't be, with C(name), C(asked), C(found) and C(remedy). The others go on.
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import install as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
