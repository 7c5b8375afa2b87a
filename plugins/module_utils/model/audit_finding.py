# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes how a node and the catalog differ (Finding), and lists the kinds of such differences."""

from __future__ import annotations

from ..dataclass import dataclass
from ..printable import printable

# Something is lost, left over, or not what the catalog says; a decision was not carried out yet, and the next run does.
DIFFERENCE, UNFINISHED = "difference", "unfinished"

# Each kind of finding by its word, as docs/audit.md explains them.
KINDS = {
    "catalog-damaged": "the catalog's file is damaged",
    "catalog-books": "what the catalog counts is not what its machines have",
    "address-shared": "two machines have the same address",
    "history-gap": "steps of a machine's history are missing",
    "machine-unfinished": "what was decided about a machine was not carried out",
    "machine-failed": "a machine failed",
    "machine-state": "a machine is in another state than it was left in",
    "image-file": "an image's file is missing, or not as it was stored",
    "image-unfinished": "an image was not stored or removed completely",
    "image-failed": "an image could not be stored",
    "image-left": "a file in the image datastore belongs to no image",
    "host-silent": "a host gave no answer",
    "host-unknown": "a host is not in the catalog, or not in the inventory",
    "host-catalog": "a host follows another catalog, or a newer copy of this one",
    "datastore-mark": "a host does not show its shared datastore, or shows one that is not its own",
    "host-unseen": "something of a host could not be looked at",
    "domain-missing": "a machine has no domain",
    "domain-left": "a domain of this catalog belongs to no machine that is to be on this host",
    "domain-copied": "a second domain carries the mark of a machine",
    "domain-foreign": "a domain of another catalog has its files where this one's are",
    "domain-differs": "a domain is not as its machine's definition says",
    "directory-missing": "a machine has no directory",
    "directory-left": "a directory in the system datastore belongs to no machine of this host",
    "directory-mark": "a machine's directory lacks its mark, or carries another's",
    "disk-missing": "a machine's disk is not there",
    "disk-differs": "a machine's disk is not what the catalog says",
    "file-left": "a file of a killed run, or in a machine's directory, is left over",
    "checkpoint": "a suspended machine has no saved memory, or one that is not suspended has",
    "bridge-missing": "a network's bridge is not there",
    "bridge-left": "a bridge, or a VLAN or VXLAN device, with the catalog's mark belongs to no network",
    "bridge-differs": "a network's bridge, its uplink, or a machine's port is not as the network says",
    "rules-missing": "a network's nftables rules are not there, or those that filter what a machine sends and gets",
    "ovn-differs": "what OVN has is not what the catalog says, or what runs it on a host is not as it is to be",
    "rules-left": "nftables rules with the catalog's mark belong to no network or machine",
}


@dataclass(frozen=True)
class Finding:
    """Describes one difference.
    kind: a key of KINDS.
    host: "" for the front-end's own.
    object: what it is about.
    found, remedy: as in errors, without secrets."""

    kind: str
    host: str
    object: str
    found: str
    remedy: str
    severity: str = DIFFERENCE

    def __str__(self) -> str:
        where = f"host {self.host}: " if self.host else ""
        return printable(f"{where}{self.object}: {self.found}. {self.remedy}")
