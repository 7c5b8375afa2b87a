# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with UEFI, secure boot and a TPM start for real, and leave nothing of these behind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Tpm
from ansible_collections.nebula.provision.tests.integration.kvm_node import a_node, wait_for

STATES = Path("/var/lib/libvirt/swtpm")


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="needs swtpm")
@in_world
def test_secure_boot_and_a_tpm() -> None:
    with a_node() as node:
        vm = node.vm(1, memory=128, os=Os(machine="q35", firmware="UEFI", firmware_secure=True), tpm=Tpm())
        vm = replace(vm, context=replace(vm.context, target="sda"))
        outcome = node.one(vm)
        assert outcome.error is None, outcome.error
        # The firmware finds no boot loader on the disk, and says so: it came as far as that.
        wait_for(lambda: "BdsDxe" in node.console(vm), "the firmware to look for something to boot", 120)
        command = Path(f"/proc/{node.qemu(vm)}/cmdline").read_bytes().decode().split("\0")
        assert any("tpm-crb" in word for word in command)
        variables = node.directory(vm) / "one-1_VARS.fd"
        # Microsoft's keys are in it: it is the template that enforces secure boot.
        assert b"Microsoft" in variables.read_bytes().replace(b"\0", b"")
        assert (STATES / vm.uuid).is_dir()
        assert node.one(vm, "DONE", hard=True).error is None
        assert not variables.exists()
        assert not (STATES / vm.uuid).exists()
