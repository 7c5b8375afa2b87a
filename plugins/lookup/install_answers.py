# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: install_answers
short_description: The answers of unattended installations, rendered
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Renders the answers of all installations of a list at once, each from the template of its kind, or takes them from a
    file of the user's own.
  - An own file whose name ends in C(.j2) is a template. It may use the variables of the play, and C(install).
  - An installation without answers has none. Where answers can't be rendered, a dict with C(error) takes the place of
    their text, for M(nebula.provision.nebula_install) to say it of that installation alone.
options:
  _terms:
    description: Lists of installations as C(nebula_installs) of role C(install_os) has them.
    type: list
    elements: raw
    required: true
  only:
    description: Names of those to be rendered. All of the list if it is not given.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: The steps of the installations
  nebula.provision.nebula_install:
    installs: "{{ nebula_installs | nebula.provision.packed }}"
    answers: "{{ lookup('nebula.provision.install_answers', nebula_installs, only=begun.going) }}"
    only: "{{ begun.going }}"
    state: prepared
"""

RETURN = r"""
_list:
  description: A dict as JSON text, with the rendered answers by the name of the installation, or a dict with C(error).
  type: list
  elements: str
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.install import (
    answer_addresses,
    answer_files,
    installation_end,
)
from ansible_collections.nebula.provision.plugins.plugin_utils import control_node_paths
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import pack


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        only = self.get_option("only")
        found: dict[str, Any] = {}
        for term in terms:
            for install in term if isinstance(term, (list, tuple)) else [term]:
                if only is not None and (not isinstance(install, Mapping) or str(install.get("name")) not in only):
                    continue
                text = self._answers(install, variables or {})
                if text is not None:
                    # If two items have one name, neither is installed.
                    found.setdefault(str(install["name"]), text)
        return [without_templates(json.dumps(found))]

    def _answers(self, install: Any, variables: Mapping[str, Any]) -> str | dict[str, str] | None:
        if not isinstance(install, Mapping) or str(install.get("state") or "present") == "absent":
            return None
        answers = install.get("answers")
        if not isinstance(answers, Mapping) or not install.get("name"):
            return None
        try:
            plain = json.loads(str(pack(dict(answers), "answers")))
            return self._rendered(install, plain, variables)
        except NebulaError:
            # The module reports the error, together with those of the others.
            return None
        except Exception as error:
            # A template may raise any error; the others are still rendered.
            where = f"install {install['name']}: answers: "
            text = str(getattr(error, "message", "") or error)
            return {"error": text[len(where) :] if text.startswith(where) else text}

    def _rendered(self, install: Mapping[str, Any], answers: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
        where = f"install {install['name']}: answers"
        kind = answer_files.kind_of(answers.get("kind"), where)
        facts = facts_of(install, kind)
        if answers.get("file"):
            name = str(answers["file"])
            try:
                path = control_node_paths.find(name, variables, "templates" if name.endswith(".j2") else "files")
            except control_node_paths.FileNotThere as error:
                raise AnsibleError(f"{where}: file {name}: it {error}") from error
            if name.endswith(".j2"):
                return self._template(path, {"install": facts}, variables)
            return Path(path).read_text(encoding="utf-8")
        values = answer_files.variables_of(kind, answers, where)
        values["hostname"] = answer_files.host_of(kind, values, facts["name"])
        values["disk"] = values["disk"] or answer_files.disk_name(facts["bus"])
        values.update(answer_addresses.variables(values, where))
        path = self.find_file_in_search_path(variables, "templates", kind.template)
        if not path:
            raise AnsibleError(f"{where}: template {kind.template} is role install_os's: use it")
        return self._template(path, {"install": facts, "answers": values}, variables)

    def _template(self, path: str, own: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
        lookup = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
        try:
            # The template is trusted (ours or the user's); the values that it is filled with are not.
            return str(lookup.run([path], variables, template_vars=without_templates(own))[0])
        except AnsibleError as error:
            text = without_source(str(error.message or error), Path(path).read_text(encoding="utf-8"))
            raise AnsibleError(f"{Path(path).name}: {text}") from None


def without_source(text: str, source: str) -> str:
    """Return the message of a template's error without the template, which may hold passwords.

    ansible-core before 2.19 quotes the template in its message."""
    for quoted in (source, source.strip(), repr(source)[1:-1], repr(source.strip())[1:-1]):
        if quoted:
            text = text.replace(quoted, "…")
    return text.split(". String: ")[0]


def facts_of(install: Mapping[str, Any], kind: answer_files.Kind) -> dict[str, Any]:
    """Return the variables that describe the installation itself, for templates of answers."""
    windows = str(install.get("profile") or "") == "windows" or kind.name == "autounattend"
    firmware = str(install.get("firmware") or ("UEFI_SECURE" if windows else "BIOS")).upper()
    return {
        "name": str(install["name"]),
        "hostname": answer_files.host_name(str(install["name"])),
        "firmware": firmware,
        "uefi": firmware != "BIOS",
        "bus": str(install.get("bus") or ("sata" if windows and not install.get("drivers") else "virtio")),
        "drivers": bool(install.get("drivers")),
        "end": install["end"] if install.get("end") in installation_end.ENDS else installation_end.POWEROFF,
        "finished": installation_end.FINISHED,
        "serial": "ttyS0",
    }
