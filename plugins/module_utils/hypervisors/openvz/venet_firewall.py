# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes FIREWALL of a context for addresses on venet, which is on no bridge: a table of nftables for each container,
made by the action scripts that vzctl itself runs when it mounts the container and when it unmounts it. So it is
there before the container runs, also where the host boots, and gone when it has ended. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from ...model import context_firewall
from ...model.logical_network import TCP, UDP
from ...model.nic_filter_rules import GuardRule, family_of
from ...model.vm import Vm
from . import openvz_declaration

MARK = "# nebula: the firewall of CONTEXT"
DEVICE = "venet0"
# After those of the host's own firewall.
_PRIORITY = 10
_PROTOCOLS = {TCP: "tcp", UDP: "udp"}
_IP = {4: "ip", 6: "ip6"}


def table_of(ctid: int) -> str:
    return f"nebula_ct{ctid}"


def guarded_addresses(vm: Vm) -> tuple[Sequence[str], Sequence[GuardRule]]:
    """Return the addresses to be guarded, and what may come in to them; both empty where nothing is guarded."""
    text = vm.context.variables.get(context_firewall.VARIABLE, "") if vm.context is not None else ""
    if not context_firewall.is_firewall(text):
        return (), ()
    venets = [nic for nic in vm.nics if openvz_declaration.model_of(nic.model) == openvz_declaration.VENET]
    found = [address for nic in venets for address in (nic.ip, nic.ip6, nic.ip6_ula) if address]
    inside = {nic.nic_id for nic in venets}
    aliases = [alias for alias in vm.aliases if alias.parent_id in inside and not alias.external]
    found += [address for alias in aliases for address in (alias.ip, alias.ip6, alias.ip6_ula) if address]
    addresses = [str(ipaddress.ip_address(address)) for address in found]
    return addresses, context_firewall.read(text, f"virtual machine {vm.name}") if addresses else ()


def mount_script(ctid: int, addresses: Sequence[str], passing: Sequence[GuardRule]) -> str:
    """Return the script CTID.mount: a container whose rules can't be made is not started."""
    table = table_of(ctid)
    lines = [f"table inet {table}", f"delete table inet {table}", f"table inet {table} {{", "  chain passing {"]
    lines += [
        "    ct state established,related accept",
        *(f"    {each}" for each in _accept_rules(passing)),
        "    drop",
        "  }",
    ]
    for hook in ("forward", "output"):
        lines += [f"  chain {hook} {{", f"    type filter hook {hook} priority {_PRIORITY}; policy accept;"]
        lines += [f'    oifname "{DEVICE}" {each} jump passing' for each in _matches("daddr", addresses)]
        lines.append("  }")
    return "\n".join(["#!/bin/sh", MARK, "exec nft -f - <<'RULES'", *lines, "}", "RULES", ""])


def unmount_script(ctid: int) -> str:
    return "\n".join(["#!/bin/sh", MARK, f"nft delete table inet {table_of(ctid)} 2>/dev/null", "exit 0", ""])


def _accept_rules(passing: Iterable[GuardRule]) -> Iterable[str]:
    for rule in passing:
        sides = list(_matches("saddr", rule.addresses)) or [""]
        protocol = _PROTOCOLS.get(rule.protocol, "")
        ports = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in rule.ports)
        words = f"meta l4proto {protocol}" if protocol else ""
        words = f"{protocol} dport {{ {ports} }}" if protocol and ports else words
        for side in sides:
            yield " ".join(filter(None, (side, words, "accept")))


def _matches(side: str, addresses: Iterable[str]) -> Iterable[str]:
    """Yield an expression for the addresses of each family."""
    there = list(addresses)
    for family, ip in _IP.items():
        found = [address for address in there if family_of(address) == family]
        if found:
            yield f"{ip} {side} {{ {', '.join(found)} }}"
