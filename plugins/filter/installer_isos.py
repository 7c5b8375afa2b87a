# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: installer_isos
short_description: ISOs that installations want, as role image takes them
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Turns C(isos) of M(nebula.provision.nebula_install) into images for role C(image).
  - A URL may hold a password, so that the module returns it without. It is taken from the list of installations again.
options:
  _input:
    description: What M(nebula.provision.nebula_install) returned as C(isos).
    type: list
    elements: dict
    required: true
  installs:
    description: The installations, as C(nebula_installs) of role C(install_os) has them.
    type: list
    elements: dict
    required: true
positional: installs
"""

EXAMPLES = r"""
- name: Store the ISOs
  ansible.builtin.include_role:
    name: nebula.provision.image
  vars:
    nebula_images: "{{ begun.isos | nebula.provision.installer_isos(nebula_installs) }}"
"""

RETURN = r"""
_value:
  description: Images of type CDROM.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def installer_isos(isos: Iterable[Mapping[str, Any]], installs: Iterable[Any]) -> list[dict[str, Any]]:
    given: dict[Any, Any] = {}
    for install in installs:
        if hasattr(install, "get"):
            # If two items have one name, neither is installed.
            given.setdefault(install.get("name"), install.get("iso"))
    images = []
    for iso in isos:
        image = {key: value for key, value in iso.items() if key != "install"}
        if "://" in str(image["path"]):
            wanted: Any = given.get(iso["install"])
            image["path"] = wanted.get("path") if hasattr(wanted, "get") else wanted
        images.append(image)
    return images


class FilterModule:
    def filters(self) -> Filters:
        return {"installer_isos": returns_no_templates(installer_isos)}
