# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what hosts show of their system datastores with the shared datastores of the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import NebulaError
from .datastore import SHARED_MARK, SYSTEM, Datastore, DatastoreType, mark_anew
from .item_reader import read_item
from .specifications.datastore import KEYS

# What to do about a host that does not show its shared datastore.
REMEDY = "mount the shared datastore there and run again, or take the host out of its hosts (nebula_datastores)"


def datastore_of(datastores: Sequence[Datastore], host: str) -> Datastore | None:
    """Return the shared datastore that the host has; None if it has a system datastore of its own."""
    return next((each for each in datastores if each.shared and host in each.hosts), None)


def named_by(items: Iterable[Any], host: str) -> str:
    """Return the name of the shared datastore that a list of datastores gives the host, "" if none does. What is wrong
    with an item, the catalog says."""
    for item in items:
        try:
            read = read_item(item, KEYS, "datastore") if isinstance(item, Mapping) else {}
        except NebulaError:
            continue
        system = read.get("type") == DatastoreType.SYSTEM.name and read.get("state") != "absent"
        if system and read.get("shared") and host in (read.get("hosts") or ()):
            return str(read["name"])
    return ""


def remedy_for(datastores: Sequence[Datastore], host: str) -> str:
    """Return what to do about a host that does not show its shared datastore."""
    datastore, text = datastore_of(datastores, host), REMEDY.capitalize()
    if datastore is None or not datastore.mark:
        return text
    return f"{text}. {mark_anew(datastore.mark, f'<nebula_root>/datastores/{SYSTEM}/{SHARED_MARK}')}"


def is_common(datastores: Sequence[Datastore], *hosts: str) -> bool:
    """Return whether all of these hosts have the same shared datastore."""
    found = datastore_of(datastores, hosts[0])
    return found is not None and all(host in found.hosts for host in hosts)


def learned(datastore: Datastore, datastores: Sequence[Datastore], catalog: str, shown: Mapping[str, str]) -> str:
    """Return the mark by which a datastore is known from now on, where none is known: what the first of its hosts shows
    that shows one which is no other's. "" if none does. shown: the marks that hosts have shown, by name."""
    taken = {each.mark for each in datastores if each.mark}
    marks = (shown.get(host, "") for host in datastore.hosts)
    return next((mark for mark in marks if mark.startswith(f"{catalog}.") and mark not in taken), "")


def faults(datastores: Sequence[Datastore], catalog: str, shown: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the system datastores of hosts that are to have a shared one and do not show it, by the
    hosts' names. Of hosts that are not in `shown` nothing is known."""
    found = {}
    for datastore in datastores:
        is_shown = datastore.mark in shown.values()
        for host in datastore.hosts if datastore.shared else ():
            mark = shown.get(host)
            if mark is not None and (not mark or mark != datastore.mark):
                found[host] = (
                    f"does not show shared datastore {datastore.name}: its system datastore "
                    f"{_what_it_is(datastores, catalog, mark, is_shown)}"
                )
    return found


def strangers(datastores: Sequence[Datastore], shown: Mapping[str, str]) -> dict[str, str]:
    """Return the names of shared datastores that hosts show which are not among their hosts, by the hosts' names."""
    by_mark = {each.mark: each for each in datastores if each.mark}
    return {
        host: by_mark[mark].name
        for host, mark in shown.items()
        if mark in by_mark and host not in by_mark[mark].hosts and datastore_of(datastores, host) is None
    }


def _what_it_is(datastores: Sequence[Datastore], catalog: str, mark: str, is_shown: bool) -> str:
    """Return what a host shows instead of its datastore. is_shown: another one shows that."""
    if not mark:
        return "has no mark of one, as where nothing is mounted"
    other = next((each for each in datastores if each.mark == mark), None)
    if other is not None:
        return f"is shared datastore {other.name}"
    if not mark.startswith(f"{catalog}."):
        return f"is one of catalog {mark.rpartition('.')[0]}"
    if not is_shown:
        return "has another mark than the one by which that is known, which no host shows"
    return "is another directory than that of its other hosts"
