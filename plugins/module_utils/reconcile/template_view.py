# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows templates as results do: without secrets."""

from __future__ import annotations

from typing import Any

from ..model.template import StoredTemplate, Template, Value, is_secret

_SECRET = "(secret)"
_OTHER_SECRET = "(another secret)"


def template_view(stored: StoredTemplate) -> dict[str, Any]:
    """Return a template as results show it: what it asks for in short, and all its attributes but the secret ones."""
    template = stored.template
    return {
        "id": stored.id,
        "name": stored.name,
        "registered": stored.registered,
        "cpu": template.get("CPU"),
        "vcpu": template.get("VCPU"),
        "memory": template.get("MEMORY"),
        "disks": [
            {key.lower(): disk[key] for key in ("IMAGE", "IMAGE_ID", "TYPE", "SIZE", "TARGET") if key in disk}
            for disk in template.vectors("DISK")
        ],
        "nics": [
            {key.lower(): nic[key] for key in ("NETWORK", "NETWORK_ID", "IP", "MODEL") if key in nic}
            for nic in template.vectors("NIC")
        ],
        "attributes": redacted(template),
    }


def redacted(template: Template, previous: Template | None = None) -> dict[str, Any]:
    """Return the template as a dict, with secrets hidden. previous: a secret that differs from the one in it is marked
    so; each is compared with the one in its place among the single values, or vectors, of that name."""
    before: dict[tuple[str, bool], list[Value]] = {}
    for name, value in (template if previous is None else previous).attributes:
        before.setdefault((name, isinstance(value, str)), []).append(value)
    shown: dict[str, Any] = {}
    for name, value in template.attributes:
        left = before.get((name, isinstance(value, str)))
        old = left.pop(0) if left else ""
        if isinstance(value, str):
            visible: Any = _visible(name, name, value, str(old))
        else:
            known = {} if isinstance(old, str) else dict(old)
            visible = {key: _visible(name, key, text, known.get(key)) for key, text in value}
        shown.setdefault(name, []).append(visible)
    return {name: values[0] if len(values) == 1 else values for name, values in shown.items()}


def _visible(name: str, key: str, value: str, old: str | None) -> str:
    # Any variable of a context may be a secret, and so may what RAW hands to the hypervisor.
    if name == "CONTEXT" or is_secret(key) or (name == "RAW" and key != "TYPE") or (name, key) == ("INJECT", "CONTENT"):
        return _SECRET if value == old else _OTHER_SECRET
    return value
