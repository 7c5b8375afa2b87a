# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each change of docs/changes.md on a machine of KVM that runs: what the page says becomes of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from changes_of_machines import OPERATIONS
from in_world import in_world

from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for
from ansible_collections.nebula.provision.tests.integration.real_changes import Tried, a_site, named, text_of
from ansible_collections.nebula.provision.tests.integration.running_machines import MIB, has
from ansible_collections.nebula.provision.tests.integration.test_switches import host

# Whose guest has to be up, as it has to agree.
ASKED = ("a disk goes", "a NIC goes", "`memory`, of which", "another medium")
# What a running definition does not show.
UNSEEN = ("a disk becomes larger", "`context`")
# The kernel of a test machine has no scheduler of packets, and its processor no IOMMU; and it is a node, not its
# hypervisor, that filters (test_node_filters.py). A kernel of its own makes no difference to a context here.
NOT_HERE = ("limits of a NIC", "what it has of its host", "`SECURITY_GROUPS`", "`context` of")


@contextmanager
def directories() -> Iterator[None]:
    """Those that machines are shown, which only this world has."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755,nosuid,nodev", "tmpfs", "/srv"], check=True)
    try:
        Path("/srv/shared").mkdir()
        yield
    finally:
        subprocess.run(["umount", "/srv"], check=True)


def files(node: Node) -> dict[str, str]:
    found = {"os": node.base}
    for name in ("data", "iso", "other"):
        path = Path(node.root) / "datastores/1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(8 * MIB))
        found[name] = str(path)
    return found


def shown(node: Node) -> str:
    domain = ET.fromstring(node.domain(node.vm(0)).XMLDesc(1))
    for each in domain.iterfind("devices/disk/source"):
        # The context's own changes with it, and to QEMU a new file of the same name is none.
        each.attrib.pop("index", None)
        each.set("file", os.path.normpath(each.get("file", "")))
    return text_of(domain)


HERE = [each.what for each in OPERATIONS if not each.what.startswith(NOT_HERE)]


@in_world
@pytest.mark.parametrize("state", ["POWEROFF", "SUSPENDED"])
@pytest.mark.parametrize("what", HERE)
def test_a_change_of_a_machine_that_does_not_run(what: str, state: str) -> None:
    with host() as switch, directories(), a_node() as node, a_site(node, switch, "kvm", files(node), node.size) as site:
        tried = Tried(node, site, {}, lambda: shown(node))
        tried.bring(state="running", **named(what).before)
        tried.change_at_rest(named(what), state)
        tried.bring(state="absent", hard=True)


@in_world
@pytest.mark.parametrize("what", HERE)
def test_a_change(image: str, what: str) -> None:
    with host() as switch, directories(), a_node() as node:
        node.take(image)
        with a_site(node, switch, "kvm", files(node), node.size) as site:
            vm, tried = node.vm(0), Tried(node, site, {}, lambda: shown(node))
            tried.bring(state="running", **named(what).before)
            if what.startswith(ASKED):
                wait_for(lambda: "nebula-guest: ready" in node.console(vm), "the guest to be up", 120)
                wait_for(lambda: has(node, vm) == (256, 1), "the guest to have what it is to have", 60)
            tried.change(named(what), not what.startswith(UNSEEN))
            tried.bring(state="absent", hard=True)
