# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts a machine's template into what anybody may read who has a backup of it, and secrets by their names.

Plain is only what is known to be no secret: of a context the variables that say what they are (names, addresses, keys
that are public), and outside of it the attributes that model/attributes.py knows, but those of a secret's name,
contents of INJECT, and what RAW hands to a hypervisor. What a user's own attribute holds nobody knows. What a secret
names by an expression ($ADMIN_PASSWORD) is a secret, too, and so is an address with a user's name or password in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from .attributes import SINGLES, TABLE, VECTORS
from .template import Template, Value, is_secret

# Variables of contexts whose values anybody may read.
_PLAIN_OF_CONTEXT = frozenset((
    "NETWORK", "HOSTNAME", "SET_HOSTNAME", "DNS", "DNS_HOSTNAME", "SEARCH_DOMAIN", "TIMEZONE", "TARGET", "DEV_PREFIX",
    "DRIVER", "DISK_ID", "USERNAME", "USERNAME_SUDO", "SSH_PUBLIC_KEY", "GROW_FS", "GROW_ROOTFS", "RESIZE_FS",
    "REPORT_READY", "FILES", "FILES_DS", "INIT_SCRIPTS", "UNAME", "GNAME", "UID", "GID", "IGNORE_RESIZE_FS",
    "SECURETTY", "FIREWALL", "VROUTER_ID", "VROUTER_MANAGEMENT",
))  # fmt: skip
# What the networks of a machine put there.
_OF_NICS = re.compile(
    r"(?:ETH\d+(?:_ALIAS\d+)?|PCI\d+)_(?:ADDRESS|DNS|EXTERNAL|GATEWAY|IP|IP6|IP6_GATEWAY|IP6_METHOD|IP6_METRIC"
    r"|IP6_PREFIX_LENGTH|IP6_ULA|MAC|MASK|METHOD|METRIC|MTU|NETWORK|ROUTES|SEARCH_DOMAIN|VLAN_ID|VROUTER_IP|VROUTER_IP6"
    r"|VROUTER_MANAGEMENT)",
    re.ASCII,
)
# Keys of vectors that the table of attributes knows, or we write ourselves, and what restoring writes beside them.
_KNOWN = frozenset((("OS", "SUSPENDS"), *((entry.vector, name) for entry in TABLE for name in entry.names)))
_OURS = frozenset(("RESTORED_FROM",))
# Names that are no secret's to a template at large, and that a key stands behind all the same.
_KEYS = re.compile(r"_KEY(?:_BASE64)?\Z")
_PUBLIC = re.compile(r"PUBLIC_KEY(?:_BASE64)?\Z")
# An address with a user's name, and maybe a password, or with words behind it that may let anybody in.
_WITH_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/\s]*@|\S*\?)")
_EXPRESSION = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
# As names() writes them: the attribute, its number where there are several, and the key of a vector.
_NAME = re.compile(r"([A-Z0-9_]+)(?: (\d{1,6}))?(?:/([A-Z0-9_]+))?", re.ASCII)


def part(template: Template) -> tuple[Template, dict[str, str]]:
    """Return the template without its secrets, and these by their names: CONTEXT/PASSWORD, INJECT 1/CONTENT where there
    are several of that name. An empty value is none."""
    named: frozenset[str] = frozenset()
    while True:
        plain, secrets = _parted(template, named)
        names = {name.upper() for value in secrets.values() for name in _EXPRESSION.findall(value)}
        if names.difference(SINGLES, VECTORS) <= named:
            return plain, secrets
        named |= names.difference(SINGLES, VECTORS)


def join(template: Template, secrets: Mapping[str, str]) -> Template:
    """Return the template with these secrets where they were. Names of what it does not have are passed over."""
    found: list[tuple[str, Value]] = []
    counted: dict[str, int] = {}
    several = _several(template)
    for name, value in template.attributes:
        number = counted[name] = counted.get(name, -1) + 1
        place = f"{name} {number}" if name in several else name
        if isinstance(value, str):
            found.append((name, secrets.get(place, value)))
            continue
        inner = {key: text for key, text in secrets.items() if key.startswith(place + "/")}
        vector = {**dict(value), **{key[len(place) + 1 :]: text for key, text in inner.items()}}
        found.append((name, tuple(vector.items())))
    return Template(tuple(found))


def is_name(name: str) -> bool:
    """Return whether part() may have called a secret so."""
    return _NAME.fullmatch(name) is not None


def _several(template: Template) -> frozenset[str]:
    counted = Counter(name for name, _value in template.attributes)
    return frozenset(name for name, count in counted.items() if count > 1)


def _parted(template: Template, named: frozenset[str]) -> tuple[Template, dict[str, str]]:
    """Return the same. named: what secrets name by expressions, beside what is every machine's."""
    plain: list[tuple[str, Value]] = []
    secrets: dict[str, str] = {}
    counted: dict[str, int] = {}
    several = _several(template)
    for name, value in template.attributes:
        number = counted[name] = counted.get(name, -1) + 1
        place = f"{name} {number}" if name in several else name
        if isinstance(value, str):
            known = name in SINGLES or name in _OURS
            hidden = bool(value) and (not known or name in named or _is_hidden(name, value))
            # An empty one keeps its place among those of its name.
            plain.append((name, "" if hidden else value))
            secrets.update({place: value} if hidden else {})
            continue
        taken = {key for key, text in value if text and (name in named or _is_hidden_in(name, key, text))}
        plain.append((name, tuple((key, text) for key, text in value if key not in taken)))
        secrets.update({f"{place}/{key}": text for key, text in value if key in taken})
    return Template(tuple(plain)), secrets


def _is_hidden(key: str, text: str) -> bool:
    of_key = _KEYS.search(key) is not None and _PUBLIC.search(key) is None
    return is_secret(key) or of_key or _WITH_USER.search(text) is not None


def _is_hidden_in(name: str, key: str, text: str) -> bool:
    if _is_hidden(key, text):
        return True
    if name == "CONTEXT":
        return key not in _PLAIN_OF_CONTEXT and _OF_NICS.fullmatch(key) is None
    if (name, key) not in _KNOWN and (name != "NIC_DEFAULT" or ("NIC", key) not in _KNOWN):
        return True
    return (name, key) == ("INJECT", "CONTENT") or (name == "RAW" and key != "TYPE")
