# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of ours is known by its owner, and by its start time or something that only we could make: a lock that it
holds, a unit, a file that it has open. Its number, its name and its arguments are anybody's, or another's after a
while. So whatever goes by these is listed here, with the reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
HOME = "module_utils/host/processes.py"
# What goes by a number, a name or arguments, as text of paths and programs has it. NUL stands for what is filled in.
IN_TEXT = {
    "cmdline": re.compile(r"(?:^|/)cmdline$"),
    "comm": re.compile(r"(?:^|/)comm$"),
    "/proc/number": re.compile(r"/proc/(?:\x00|[$%*\[{]|$)"),
    "pid file": re.compile(r"\.pid$|(?:^|/)pid$|pidfile"),
    **{name: re.compile(rf"(?:^|[\s;|&(/]){name}(?:$|\s)") for name in ("pgrep", "pkill", "pidof", "killall", "kill")},
}
CALLS = {"kill", "killpg", "pidfd_open", "pidfd_send_signal"}
ASKS = {"of_root", "is_of_root"}
CHILD = "a child of this very process, which has not been waited for"
NAMED = "libvirt has just named its parent, and it is sent a signal at most"
HOLDS = "the kernel tells who holds the lock at this moment"
# Where, what, and by what else the process is known.
KNOWN = {
    (
        "module_utils/guest_disk/customize/package_network.py",
        "is_of_root",
    ): "its start time is in the name of the table",
    ("module_utils/guest_disk/file_injection.py", "/proc/number"): "this process itself",
    ("module_utils/guest_disk/open/appliance_qemu.py", "/proc/number"): CHILD,
    ("module_utils/guest_disk/open/kernel_mount.py", "/proc/number"): CHILD,
    ("module_utils/guest_disk/open/nbd.py", "/proc/number"): "the kernel tells which process serves a device",
    ("module_utils/guest_disk/open/nbd.py", "pid file"): "the kernel's own, in /sys/block",
    ("module_utils/guest_disk/repair/repair_steps.py", "cmdline"): "a file of a guest, /etc/kernel/cmdline",
    ("module_utils/host/command.py", "killpg"): CHILD,
    ("module_utils/host/command.py", "pidfd_open"): CHILD,
    ("module_utils/host/confined_process.py", "/proc/number"): CHILD,
    ("module_utils/host/confined_process.py", "killpg"): CHILD,
    ("module_utils/host/id_mapped_mounts.py", "/proc/number"): CHILD,
    ("module_utils/host/lock_files.py", "/proc/number"): HOLDS,
    ("module_utils/host/lock_files.py", "comm"): "it is shown, and nothing goes by it",
    (
        "module_utils/host/hypervisor_daemons.py",
        "/proc/number",
    ): "it has the other end of a socket now; its start time is kept",
    (
        "module_utils/host/hypervisor_daemons.py",
        "pidfd_open",
    ): "its start time is compared while the descriptor is open",
    (
        "module_utils/host/hypervisor_daemons.py",
        "pidfd_send_signal",
    ): "its start time is compared while the descriptor is open",
    ("module_utils/hypervisors/libvirt/domain_xml.py", "cmdline"): "an element of a definition",
    ("module_utils/hypervisors/libvirt/domains.py", "/proc/number"): "a command that a person is told",
    ("module_utils/hypervisors/lxc/console_logger.py", "of_root"): "all of the program is compared; no number is kept",
    ("module_utils/hypervisors/lxc/disk_hook.py", "/proc/number"): CHILD,
    ("module_utils/hypervisors/lxc/hooks.py", "/proc/number"): "its start time is in the file",
    ("module_utils/hypervisors/lxc/hooks.py", "is_of_root"): "its start time is in the file",
    ("module_utils/hypervisors/lxc/init_process.py", "/proc/number"): NAMED,
    (
        "module_utils/hypervisors/lxc/init_process.py",
        "is_of_root",
    ): "libvirt has just named it; its program is compared",
    ("module_utils/hypervisors/lxc/init_process.py", "pidfd_open"): NAMED,
    ("module_utils/hypervisors/lxc/init_process.py", "pidfd_send_signal"): NAMED,
    ("module_utils/hypervisors/lxc/live_disks.py", "/proc/number"): "libvirt has just named its parent",
    ("module_utils/hypervisors/lxc/live_nics.py", "/proc/number"): "libvirt has just named its parent",
    ("module_utils/hypervisors/lxc/start_hook.py", "/proc/number"): CHILD,
    (
        "module_utils/hypervisors/openvz/container_migration.py",
        "of_root",
    ): "program and arguments are compared; the number is shown, and nothing goes by it",
    ("module_utils/hypervisors/openvz/container_migration.py", "kill"): "a sentence for whoever reads it",
    ("module_utils/hypervisors/xen/xenconsoled.py", "of_root"): "each one of that program counts; no number is kept",
    ("module_utils/hypervisors/xen/xen_domain_xml.py", "cmdline"): "an element of a definition",
    ("module_utils/hypervisors/xen/xl_logs.py", "is_of_root"): "its output is the very file that names it",
    (
        "module_utils/hypervisors/xen/xl_logs.py",
        "of_root",
    ): "program and arguments are compared; no number is kept",
    (
        "module_utils/hypervisors/xen/xl_migration.py",
        "of_root",
    ): "program and arguments are compared; the number is shown, and nothing goes by it",
    ("module_utils/hypervisors/xen/xl_migration.py", "kill"): CHILD,
    ("module_utils/hypervisors/xen/xl.py", "/proc/number"): "it is shown, and nothing goes by it",
    ("module_utils/hypervisors/xen/xl.py", "cmdline"): "it is shown, and nothing goes by it",
    ("module_utils/hypervisors/xen/xl.py", "kill"): "a sentence for whoever reads it",
    ("module_utils/install/make_media.py", "/proc/number"): "this process itself",
    ("module_utils/network/host_address_move.py", "of_root"): "program and arguments are compared; no number is kept",
    ("module_utils/network/ovn/cluster.py", "/proc/number"): "of a daemon that daemons.py knows by its lock",
    ("module_utils/network/ovn/cluster.py", "cmdline"): "of a daemon that daemons.py knows by its lock",
    ("module_utils/network/ovn/daemons.py", "is_of_root"): "it holds the lock on its pid file",
    ("module_utils/network/ovn/daemons.py", "pid file"): "the process that it names has to hold the lock on it",
    ("module_utils/network/ovn/ovn_host_setup.py", "/proc/number"): "the parents of this process",
    ("module_utils/reconcile/nodes/node_setup.py", "kill"): "a sentence for whoever reads it",
    ("module_utils/storage/mounted_disks.py", "/proc/number"): "a sentence for whoever reads it",
    ("module_utils/storage/qemu_img.py", "/proc/number"): "this process itself",
    ("plugin_utils/catalog_reader.py", "killpg"): CHILD,
    (
        "module_utils/hypervisors/libvirt/guest_file_systems.py",
        "pid file",
    ): "a number that a guest has for its own process",
    ("plugin_utils/guest/ask_agent.py", "pid file"): "a number that a guest has for its own process",
    ("plugin_utils/background_modules.py", "/proc/number"): "its start time is kept beside it",
    ("plugin_utils/background_modules.py", "kill"): "its start time is kept beside it",
}


def goes_by(tree: ast.AST) -> Iterator[str]:
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    within = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and id(node) not in within:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        if text and id(node) not in documentation:
            yield from (name for name, pattern in IN_TEXT.items() if pattern.search(text))
        if isinstance(node, ast.Attribute):
            yield from {node.attr} & (CALLS if ast.unparse(node.value) in ("os", "signal") else ASKS)
        elif isinstance(node, ast.ImportFrom):
            names = {name.name for name in node.names}
            yield from names & (CALLS if node.module in ("os", "signal") else ASKS)


def test_whatever_goes_by_a_number_or_a_name_of_a_process_is_known_with_its_reason() -> None:
    found = {
        (str(path.relative_to(PLUGINS)), name)
        for path in sorted(PLUGINS.rglob("*.py"))
        if str(path.relative_to(PLUGINS)) != HOME
        for name in goes_by(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - set(KNOWN) == set(), "use host/processes.py with a start time, or say here what else it is known by"
    assert set(KNOWN) - found == set(), "no longer there"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("open(f'/proc/{pid}/cmdline')", "cmdline"),
        ("Path('/proc', str(pid), 'comm').read_text()", "comm"),
        ("glob('/proc/*/stat')", "/proc/number"),
        ("open('/proc/%d/exe' % pid)", "/proc/number"),
        ("run(['pgrep', '-f', name])", "pgrep"),
        ("run(('/usr/bin/pidof', name))", "pidof"),
        ("run('pkill -f x || true', shell=True)", "pkill"),
        (r"TEXT = '#!/bin/sh\nkill \"$process\"'", "kill"),
        ("os.kill(pid, 9)", "kill"),
        ("from os import killpg", "killpg"),
        ("open('/run/it.pid')", "pid file"),
        ("Path(directory, f'{name}.pid')", "pid file"),
        ("processes.is_of_root(pid)", "is_of_root"),
        ("from ..host.processes import of_root", "of_root"),
    ],
)
def test_what_goes_by_a_number_is_seen(code: str, name: str) -> None:
    assert name in set(goes_by(ast.parse(code)))
