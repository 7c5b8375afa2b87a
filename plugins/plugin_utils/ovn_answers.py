# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what hosts of OVN answer. The host that was asked counts as the one that answered: no name and no kind is taken
from an answer.

A value that is not of its kind is left out, or replaced by one that is refused later under the host's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

DATABASES = ("northbound", "southbound")
KINDS = ("none", "standalone", "clustered")
# A request of this collection has some 500 characters.
LONGEST_REQUEST = 4096
LONGEST_SENTENCE = 2000
LONGEST_WORD = 256
MOST_FINDINGS = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
# What deals with machines, their files and disks.
_OF_MACHINES = re.compile(r"\b(?:virsh|xl|xm|vzctl|rm|kill|dd|mkfs|one-\d+)\b")
LOOK_THERE = "Look at it on the host itself"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})\Z")
_PLACE = r"ssl:(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252}):[0-9]{1,5}"
_CONNECTION = re.compile(rf"{_PLACE}\Z")
_CONNECTIONS = re.compile(rf"{_PLACE}(?:,{_PLACE}){{0,2}}\Z")


def answers_by_host(results: Any, hosts: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each host with its registered result, as far as it was asked and has answered."""
    for host, result in zip(hosts, results or ()):
        if isinstance(result, Mapping) and not any(result.get(key) for key in ("skipped", "failed", "unreachable")):
            yield str(host), result


def request(host: str, kind: str, result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the request for a certificate of the host that was asked for it; None if it was not asked."""
    if "request" not in result:
        return None
    given = _mapping(result["request"])
    installed = _mapping(given.get("installed"))
    return {
        "name": host,
        "kind": kind,
        # One that is too long is too long for what signs, too.
        "request": text(given.get("request"), LONGEST_REQUEST + 1, "no text"),
        "installed": {
            which: digest for which in DATABASES if _DIGEST.match(digest := text(installed.get(which), LONGEST_WORD))
        },
    }


def member(host: str, address: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a central host brings along for a cluster. address: the inventory's, "" to take the host's word."""
    given = _mapping(result.get("member"))
    databases = _mapping(given.get("databases"))
    rank = given.get("rank")
    return {
        "name": host,
        "address": address or _address(given.get("address")),
        "databases": {which: _copy(_mapping(databases.get(which))) for which in DATABASES},
        "rank": int(rank) if isinstance(rank, int) and rank in (0, 1, 2) else 2,
    }


def unregistered_address(address: str, result: Mapping[str, Any]) -> str | None:
    """Return the tunnels' address of a node if the southbound database has another chassis for it; None if it has the
    right one. address: from the inventory, "" to take the node's word."""
    given = _mapping(result.get("host"))
    held_by = text(given.get("held_by"), LONGEST_WORD)
    return _address(address or given.get("encap_ip")) if _NAME.match(held_by.replace("_", "-")) else None


def connection(
    result: Mapping[str, Any], database: str, addresses: Sequence[str] = ("",), port: int | None = None
) -> str:
    """Return how others connect to the database; "" if the answer does not say so.
    addresses, port: those of central hosts in the inventory. No others are accepted, unless the inventory leaves the
    address of a host to that host ("")."""
    found = text(_mapping(result.get("connections")).get(database), 4 * LONGEST_WORD)
    if not _CONNECTIONS.match(found):
        return ""
    known = {_canonical(address) for address in addresses}
    for place in found.split(","):
        address, _colon, number = place.removeprefix("ssl:").rpartition(":")
        if ("" not in known and _canonical(address.strip("[]")) not in known) or (port and int(number) != port):
            return ""
    return found


def _canonical(address: str) -> str:
    """Return an address in its canonical form, and a name unchanged."""
    return _address(address) or address.lower()


def part_in_ovn(host: str, kind: str, result: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the host's part in OVN; None if its answer says nothing of it."""
    given = _mapping(result.get("part"))
    if not given:
        return None
    state, address = (text(given.get(key), LONGEST_WORD) for key in ("state", "address"))
    return {"host": host, "part": kind, "state": state, "address": address}


def findings(host: str, result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return how the host differs. A finding is about the host that was asked, whatever host the answer names."""
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import Finding
    from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import ovn_findings

    given = result.get("consistency")
    found = []
    for each in given[:MOST_FINDINGS] if isinstance(given, Sequence) and not isinstance(given, str) else ():
        if isinstance(each, Mapping):
            what, why, remedy = (text(each.get(key), LONGEST_SENTENCE) for key in ("object", "found", "remedy"))
            # A host's part in OVN has nothing to do with machines, of which the catalog knows more than the host.
            remedy = LOOK_THERE if _OF_MACHINES.search(remedy) else remedy
            finding = Finding(ovn_findings.KIND, host, what, why, remedy)
            found.append(ovn_findings.finding_view(finding))
    return found


def text(value: Any, longest: int, otherwise: str = "") -> str:
    """Return the value, cut off if it is too long; return `otherwise` if it is no text."""
    return str(value)[:longest] if isinstance(value, str) else otherwise


def _copy(given: Mapping[str, Any]) -> dict[str, str]:
    kind, cluster, address = (text(given.get(key), LONGEST_WORD) for key in ("kind", "cluster", "address"))
    return {
        "kind": kind if kind in KINDS else "none",
        "cluster": cluster if _UUID.match(cluster) else "",
        "address": address if _CONNECTION.match(address) else "",
    }


def _address(value: Any) -> str:
    found = text(value, LONGEST_WORD)
    try:
        return str(ip_address(found))
    except ValueError:
        return found if _NAME.match(found) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
