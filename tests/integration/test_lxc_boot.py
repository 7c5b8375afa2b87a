# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers whose host was booted: libvirt starts them before any run does, and calls our programs for each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.host.node_file import Changes, NodeFile
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import (
    console_logger,
    disk_hook,
    hooks,
    start_hook,
    veth_link,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import LxcDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import root_overlay
from ansible_collections.nebula.provision.tests.integration.kvm_node import start_libvirtd, stop_libvirtd
from ansible_collections.nebula.provision.tests.integration.lxc_node import LxcNode, a_container_node

# Libvirt starts what is to start once in each boot, and keeps here that it has.
STARTED = Path("/run/libvirt/lxc/autostarted")


def halt(node: LxcNode) -> None:
    """As a power cut does it: nothing runs, nothing is mounted, and what is on the disk is there."""
    for domain in node.driver._connection().listAllDomains():
        if domain.isActive():
            domain.destroy()
    stop_libvirtd()
    for directory in Path(node.root, "datastores", "0").glob("*/disk.*"):
        while directory.is_mount():
            subprocess.run(["umount", str(directory)], check=True)
    STARTED.unlink(missing_ok=True)


@contextmanager
def a_prepared_node() -> Iterator[LxcNode]:
    """With the programs, which are taken back, and then a libvirtd that does not know of it."""
    with a_container_node() as node:
        changes = Changes(False)
        LxcDriver.prepare(changes, lambda facts: pytest.fail(f"nothing is to be remembered: {facts}"))
        programs = [start_hook.PROGRAM.path, disk_hook.PROGRAM.path]
        programs += [veth_link.PATH] * veth_link.PATH.parent.is_dir()
        assert list(changes.after) == [str(path) for path in programs]
        halt(node)
        start_libvirtd(node)
        try:
            yield node
            assert LxcDriver.give_back(Changes(False), NodeFile()) and not hooks.HOOKS.exists()
        finally:
            halt(node)
            for path in programs:
                path.unlink(missing_ok=True)
            start_libvirtd(node)


def defined(vm: Vm) -> bytes:
    return Path(f"/etc/libvirt/lxc/one-{vm.vm_id}.xml").read_bytes()


@in_world
def test_its_root_is_mounted_and_its_console_read() -> None:
    with a_prepared_node() as node:
        vm, other, off = (node.vm(vm_id) for vm_id in (20, 21, 22))
        assert [outcome.error for outcome in node.bring(vm, other)] == [None, None]
        assert node.one(off, "POWEROFF").error is None
        for each in (vm, other):
            node.wait_for_line(each, "nebula-guest: ready")
        kept = node.directory(vm) / "disk.0/etc/kept"
        kept.write_text("by the first")
        halt(node)
        assert not kept.exists() and (node.directory(vm) / "disk.0.layers/upper/etc/kept").exists()
        start_libvirtd(node)
        for each in (vm, other):
            node.wait_for_line(each, "nebula-guest: ready", 2)
        assert node.states() == {20: "RUNNING", 21: "RUNNING", 22: "POWEROFF"}
        assert kept.read_text() == "by the first"
        shell = node.directory(vm) / "disk.0/bin/busybox"
        assert shell.stat().st_uid == id_range(20).start
        assert not root_overlay.is_mounted(str(node.directory(off) / "disk.0"))
        # A run has nothing to do, and no second process reads a console.
        assert [(outcome.changed, outcome.error) for outcome in node.bring(vm, other)] == [(False, None)] * 2
        assert node.one(off).error is None
        node.wait_for_line(off, "nebula-guest: ready")
        assert readers() == 3
        # While a machine of some catalog is here, the program stays.
        assert not hooks.give_back(start_hook.PROGRAM, Changes(False)) and start_hook.PROGRAM.path.exists()
        ended = node.bring(vm, other, off, wanted="DONE", hard=True)
        assert [outcome.error for outcome in ended] == [None] * 3
        assert os.listdir(Path(node.root, "datastores", "0")) == []


def readers() -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += console_logger.PROGRAM.encode() in path.read_bytes().split(b"\0")
    return found


@in_world
def test_what_can_not_be_mounted_is_not_started_and_nothing_of_it_is_lost() -> None:
    with a_prepared_node() as node:
        vm = node.vm(23)
        node.one(vm)
        node.wait_for_line(vm, "nebula-guest: ready")
        (node.directory(vm) / "disk.0/etc/kept").touch()
        halt(node)
        place = Path(node.root, "datastores", "0", ".unpacked")
        place.rename(place.with_name("elsewhere"))
        start_libvirtd(node)
        assert node.states() == {23: "POWEROFF"}
        refused = node.one(vm)
        assert refused.state == "PROLOG_FAILURE" and refused.error is not None
        assert "is not on this node" in refused.error["found"], refused
        place.with_name("elsewhere").rename(place)
        assert node.one(vm).error is None
        assert (node.directory(vm) / "disk.0/etc/kept").exists()
        node.one(vm, "DONE", hard=True)
