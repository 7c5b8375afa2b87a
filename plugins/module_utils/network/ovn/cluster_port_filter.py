# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps all but the members of a cluster from the ports by which these speak with each other.

A server of OVSDB has one authority for all its ports, and the southbound database's signs for the hosts, too. By
the port of the cluster a host could write what its role forbids, so that nftables keeps others away from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from ...errors import ForeignObject, MissingDependency
from ...host.command import run
from ...host.files import remove_file, write_atomically
from .paths import our_path

TABLE = "nebula_ovn_cluster"
FILE = "cluster.nft"
TIMEOUT = 60.0
_CHAIN, _OTHERS = "input", "others"


def path(root: str) -> str:
    return our_path(root, "central", FILE)


def text(catalog: str, addresses: Sequence[str], ports: Sequence[int]) -> str:
    """Return what nft reads: it replaces the table as a whole, in one transaction."""
    rules = [(_CHAIN, f"tcp dport {port} jump {_OTHERS}") for port in sorted(ports)]
    rules += [(_OTHERS, f"{'ip6' if ':' in each else 'ip'} saddr {each} return") for each in sorted(addresses)]
    rules.append((_OTHERS, "drop"))
    comment = _comment(catalog, addresses, ports)
    lines = [
        # So that there is something to delete.
        f"add table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"add table inet {TABLE}",
        f"add chain inet {TABLE} {_OTHERS}",
        f"add chain inet {TABLE} {_CHAIN} {{ type filter hook input priority -20; policy accept; }}",
        *(f'add rule inet {TABLE} {chain} {rule} comment "{comment}"' for chain, rule in rules),
    ]
    return "\n".join(lines) + "\n"


def expected(catalog: str, addresses: Sequence[str], ports: Sequence[int]) -> list[str]:
    """Return the comments that the table's rules are to have."""
    return [_comment(catalog, addresses, ports)] * (len(ports) + len(addresses) + 1)


def observe() -> list[str] | None:
    """Return the comments of the rules that are there; None where there is no such table."""
    try:
        done = run(["nft", "-j", "list", "table", "inet", TABLE], timeout=TIMEOUT, check=False)
    except MissingDependency:
        return None
    if done.returncode != 0:
        return None
    entries: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return [str(entry["rule"].get("comment", "")) for entry in entries if "rule" in entry]


def comments_of_catalog(catalog: str, found: Sequence[str] | None) -> list[str]:
    return [comment for comment in found or () if comment.startswith(f"nebula:{catalog}:")]


def refuse_foreign(catalog: str, found: Sequence[str] | None) -> None:
    if found and not comments_of_catalog(catalog, found):
        raise ForeignObject(
            f"nftables: table inet {TABLE}",
            "there is one of that name that does not carry this catalog's mark",
            f"See what it is for (nft list table inet {TABLE}); if it can go, nft delete table inet {TABLE}",
        )


def keep(root: str, catalog: str, addresses: Sequence[str], ports: Sequence[int]) -> None:
    """Put the rules in, before a server listens. The units read the file, and so do it before they start the server."""
    write_atomically(path(root), text(catalog, addresses, ports), mode=0o600)
    run(["nft", "-f", path(root)], timeout=TIMEOUT)


def remove(root: str, catalog: str) -> None:
    if comments_of_catalog(catalog, observe()):
        run(["nft", "delete", "table", "inet", TABLE], timeout=TIMEOUT)
    if os.path.lexists(path(root)):
        remove_file(path(root))


def _comment(catalog: str, addresses: Sequence[str], ports: Sequence[int]) -> str:
    digest = hashlib.sha256(json.dumps([sorted(addresses), sorted(ports)]).encode()).hexdigest()
    return f"nebula:{catalog}:{digest[:16]}"
