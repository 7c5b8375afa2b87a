# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done by path is done where nobody but root, or whoever runs this, has power over the directories of the
path. What a guest or another user may have made is gone through by host/untrusted_trees.py,
host/untrusted_directories.py and host/confined_process.py, which begin each step at an open directory.

Whatever takes a path is listed here: a module once, where all of its directories are root's alone, or each function of
a module that also works elsewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
# They begin at descriptors, and say themselves why each step is safe.
HOMES = {
    f"module_utils/host/{name}.py"
    for name in ("untrusted_directories", "untrusted_trees", "confined_process", "kernel_calls")
}
OS = {
    *("chown", "lchown", "chmod", "lchmod", "rename", "replace", "renames", "mkdir", "makedirs", "mkfifo", "mknod"),
    *("open", "listdir", "scandir", "walk", "fwalk", "remove", "unlink", "rmdir", "removedirs", "symlink", "link"),
    *("truncate", "utime", "setxattr", "getxattr", "listxattr", "removexattr", "chdir", "chroot"),
}
# Of these, those that may have a descriptor in the place of the path.
BY_DESCRIPTOR = {"chown", "chmod", "listdir", "scandir", "truncate", "utime", "setxattr", "getxattr", "chdir"}
BY_DESCRIPTOR |= {"listxattr", "removexattr"}
SHUTIL = {"rmtree", "copytree", "move", "chown", "copy", "copy2", "copyfile", "copymode", "copystat", "unpack_archive"}
# Methods of pathlib.Path, with how many arguments each takes by position at most: others have some of their names.
METHODS = {
    **dict.fromkeys(("read_text", "read_bytes", "unlink", "rmdir", "iterdir", "touch"), 0),
    **dict.fromkeys(("write_text", "write_bytes", "mkdir", "rename", "replace", "symlink_to", "hardlink_to"), 1),
    **dict.fromkeys(("link_to", "chmod", "lchmod", "glob", "rglob", "open"), 1),
}
# Modules and objects whose functions have such names and take no path.
OTHERS = re.compile(r"^(?:dataclasses|units|libvirt|self\._libvirt|tarfile|os|shutil|self\.\w*|engine\.\w+)$")
# Functions of host/files.py that act where a path leads.
FILES = {
    *("write_atomically", "write_all", "remove_file", "remove_empty_directory", "make_directory", "adopt", "settle"),
    *("read_limited",),
}
# Programs that go through trees, or make, give away or remove something.
PROGRAMS = {
    *("rm", "cp", "mv", "chown", "chgrp", "chmod", "du", "tar", "find", "rsync", "ln", "mkdir", "rmdir", "install"),
    *("touch", "truncate", "dd", "chattr", "setfacl", "setfattr"),
}
SHELL = re.compile(
    rf"(?:^|[\n;&|({{]\s*|\b(?:then|do|else)\s+)({'|'.join(sorted(PROGRAMS - {'install'}))})\s+(?=-|/|\.|\$|\"|'|\x00)",
    re.MULTILINE,
)


# Why a path is safe.
ROOT = "in directories of nebula_root, or beside files of it, which are root's"
MACHINE = "in directories of machines, which are root's; what is below a root of a container is none of it"
OF_HOST = "in directories of the host's own, which are root's"
OF_OVN = "in directories of the host's own, which are root's or OVN's, and in some that this run has made"
RUN = "in a directory of root's below /run, 0700, or with nobody else's names in it"
SCRATCH = "in a directory that this run has made, 0700"
KERNEL = "in /proc, /sys or /dev, or the root, which the kernel and root make"
CONFINED = "in a root of its own, which confined_process.py makes, with no other user's rights than the container's"
NAMED = "where an administrator says, and read through a descriptor that is looked at"
CONTROL = "on the control node, what is of whoever runs Ansible"
GUEST = "it runs in a guest"
WORD = "no program: a word, or a sentence for whoever reads it"
# backup_place.py refuses other directories, whose content may be anybody's all the same: no link is followed there.
BACKUPS = "in a directory of backups, which only root can change"
# The user who owns what arrives is the front-end's, whose plans root carries out.
ARRIVES = "in directories of the user of transfers, by descriptors that follow no link, or moved out first"
# By module, where that holds for all of its paths.
BY_MODULE = {
    ROOT: (
        "module_utils/context/files_on_node.py",
        "module_utils/context/context_downloads.py",
        "module_utils/context/files_on_frontend.py",
        "module_utils/engines/embedded/copies/restore.py",
        "module_utils/engines/embedded/copies/read_copy.py",
        "module_utils/engines/embedded/store.py",
        "module_utils/engines/embedded/vms/disk_task_rows.py",
        "module_utils/guest_disk/open/image_overlay.py",
        "module_utils/host/node_file.py",
        "module_utils/hypervisors/moves/node_moves.py",
        "module_utils/host/rsync.py",
        "module_utils/install/conclude.py",
        "module_utils/install/make_media.py",
        "module_utils/network/router_advertisements.py",
        "module_utils/network/networks_at_boot.py",
        "module_utils/reconcile/backups.py",
        "module_utils/reconcile/datastores.py",
        "module_utils/reconcile/frontend_directories.py",
        "module_utils/reconcile/frontends.py",
        "module_utils/reconcile/images/image_files_stored.py",
        "module_utils/reconcile/images/image_removal.py",
        "module_utils/reconcile/nodes/node_setup.py",
        "module_utils/reconcile/nodes/transfer_user.py",
        "module_utils/reconcile/transfer_key.py",
        "module_utils/reconcile/transfers.py",
        "module_utils/storage/datastore_audit.py",
        "module_utils/storage/backup_directory.py",
        "module_utils/storage/datastore_layout.py",
        "module_utils/storage/demo_image.py",
        "module_utils/storage/foreign_disks.py",
        "module_utils/storage/disk_creation.py",
        "module_utils/storage/disk_formats.py",
        "module_utils/storage/image_files.py",
        "module_utils/storage/final_names.py",
        "module_utils/storage/disk_saving.py",
        "module_utils/storage/disk_swap.py",
        "module_utils/storage/snapshot_changes.py",
        "module_utils/storage/restored_disks.py",
        "module_utils/storage/sparse_file.py",
        "module_utils/reconcile/machine_restores.py",
    ),
    MACHINE: (
        "module_utils/host/console/console_log.py",
        "module_utils/host/console/kept_evidence.py",
        "module_utils/host/vm_log.py",
        "module_utils/hypervisors/carry_out/arrival.py",
        "module_utils/hypervisors/carry_out/batch.py",
        "module_utils/hypervisors/carry_out/definition.py",
        "module_utils/hypervisors/carry_out/departure.py",
        "module_utils/hypervisors/carry_out/fence.py",
        "module_utils/hypervisors/carry_out/removal.py",
        "module_utils/hypervisors/carry_out/state_changes.py",
        "module_utils/hypervisors/carry_out/suspension.py",
        "module_utils/hypervisors/adoption_checks.py",
        "module_utils/hypervisors/directory_modes.py",
        "module_utils/hypervisors/node_inventory.py",
        "module_utils/hypervisors/standing_still.py",
        "module_utils/hypervisors/still_disks.py",
        "module_utils/hypervisors/libvirt/kvm.py",
        "module_utils/hypervisors/carry_out/disk_restores.py",
        "module_utils/hypervisors/machine_record.py",
        "module_utils/storage/machine_disks.py",
    ),
    OF_HOST: (
        "module_utils/guest_disk/customize/package_network.py",
        "module_utils/host/hypervisor_daemons.py",
        "module_utils/host/systemd_units.py",
        "module_utils/hypervisors/libvirt/arriving_firmware.py",
        "module_utils/hypervisors/libvirt/qemu_logs.py",
        "module_utils/hypervisors/libvirt/tpm_state.py",
        "module_utils/hypervisors/lxc/confinement.py",
        "module_utils/hypervisors/lxc/hooks.py",
        "module_utils/hypervisors/lxc/veth_link.py",
        "module_utils/hypervisors/openvz/container_migration.py",
        "module_utils/hypervisors/openvz/driver.py",
        "module_utils/hypervisors/openvz/moving_marks.py",
        "module_utils/hypervisors/openvz/template_archive.py",
        "module_utils/hypervisors/openvz/template_cache.py",
        "module_utils/hypervisors/openvz/vzctl.py",
        "module_utils/hypervisors/xen/xenconsoled.py",
        "module_utils/hypervisors/xen/driver.py",
        "module_utils/hypervisors/xen/libvirt_driver.py",
        "module_utils/hypervisors/xen/log_limits.py",
        "module_utils/hypervisors/xen/xl_logs.py",
        "module_utils/hypervisors/xen/dom0.py",
        "module_utils/hypervisors/xen/switch_ports.py",
        "module_utils/hypervisors/xen/vif_script.py",
        "module_utils/hypervisors/xen/xl.py",
        "module_utils/network/openvswitch_bridges.py",
        "module_utils/storage/datastore_mark.py",
        "module_utils/storage/shared_datastore.py",
    ),
    OF_OVN: (
        "module_utils/network/ovn/bridges_at_boot.py",
        "module_utils/network/ovn/central.py",
        "module_utils/network/ovn/certificates.py",
        "module_utils/network/ovn/cluster.py",
        "module_utils/network/ovn/daemons.py",
        "module_utils/network/ovn/cluster_port_filter.py",
        "module_utils/network/ovn/ovn_host_setup.py",
    ),
    RUN: ("module_utils/compiled.py", "module_utils/network/host_address_move.py"),
    SCRATCH: (
        "module_utils/guest_disk/customize/context_program.py",
        "module_utils/guest_disk/customize/recipes.py",
        "module_utils/guest_disk/inspect/initrd.py",
        "module_utils/guest_disk/inspect/inspection.py",
        "module_utils/guest_disk/open/appliance_install.py",
    ),
    KERNEL: (
        "module_utils/deps.py",
        "module_utils/guest_disk/open/nbd.py",
        "module_utils/host/id_mapped_mounts.py",
        "module_utils/host/kvm_device.py",
        "module_utils/host/loop_devices.py",
        "module_utils/host/memory_encryption.py",
        "module_utils/host/mounts.py",
        "module_utils/host/numa_topology.py",
        "module_utils/host/pci_devices.py",
        "module_utils/host/processes.py",
        "module_utils/hypervisors/lxc/init_process.py",
        "module_utils/hypervisors/xen/xenstore.py",
        "module_utils/network/host_firewall_tables.py",
        "module_utils/network/host_firewall.py",
        "module_utils/network/multicast_limit.py",
        "module_utils/network/nat.py",
        "module_utils/network/bridge_sysctls.py",
        "module_utils/storage/file_system_growth.py",
    ),
    NAMED: (
        "module_utils/context/files_attribute.py",
        "module_utils/context/iso9660.py",
        "module_utils/engines/template_items.py",
        "module_utils/install/installer_iso.py",
        "module_utils/reconcile/images/check_image.py",
        "module_utils/reconcile/images/prepare_image.py",
        "module_utils/reconcile/isos.py",
        "module_utils/storage/importer.py",
        "module_utils/storage/qcow2_header.py",
    ),
    CONTROL: (
        "action/nebula_image.py",
        "connection/guest.py",
        "lookup/install_answers.py",
        "lookup/misspelt.py",
        "lookup/unknown_tags.py",
        "plugin_utils/catalog_reader.py",
        "plugin_utils/module_calls.py",
        "plugin_utils/payloads.py",
        "plugin_utils/role_variables.py",
        "plugin_utils/template_files.py",
        "plugin_utils/upload.py",
    ),
    GUEST: (
        "module_utils/context/guest_settings.py",
        "module_utils/storage/demo_guest.py",
        "plugin_utils/guest/ask_agent.py",
        "plugin_utils/guest/use_console.py",
    ),
    BACKUPS: tuple(f"module_utils/storage/backup_{name}.py" for name in ("files", "manifests", "merging", "place")),
    WORD: (
        "module_utils/hypervisors/openvz/openvz_declaration.py",
        "module_utils/reconcile/host_identity.py",
        "module_utils/storage/backup_by_hand.py",
        "module_utils/storage/tar_reader.py",
    ),
}
# By module and function: these also work where others can write, or are the only ones that do not.
BY_FUNCTION: dict[str, str | dict[str, str]] = {
    "module_utils/context/directory.py": "the top of a context of a machine; below it untrusted_directories.py goes",
    "module_utils/guest_disk/file_injection.py": {
        "_clear": "what is held and of this user, in a directory with the sticky bit",
        "_lock_directory": "with O_NOFOLLOW, and whose it is, is looked at",
        "_unmount": KERNEL,
        "inject_and_report": ROOT,
        "loop_devices_of": KERNEL,
        "scratch": "directories of 0700 that this user has made",
    },
    "module_utils/guest_disk/open/appliance_qemu.py": {
        "": "its socket, in a directory that this run has made",
        "_open_chain": "it is read, and its header is judged",
        "_script": SCRATCH,
    },
    "module_utils/guest_disk/open/kernel_mount.py": {
        "View.open": "the top of what is mounted; below it untrusted_directories.py goes",
        "_make_file": SCRATCH,
    },
    "module_utils/host/kvm_probe.py": {
        "boot": "a directory of 0711 that this run has made, where nobody else makes a name",
        "qemu_user": OF_HOST,
    },
    "module_utils/host/download.py": {"Download.blocks": "it opens a connection"},
    "module_utils/host/files.py": "what others call; their modules are listed here",
    "module_utils/host/lock_files.py": {
        "_make_place": RUN,
        "_open_or_make": RUN,
        "holders": KERNEL,
        "is_trusted": KERNEL,
        "process_text": KERNEL,
        "release": RUN,
    },
    "module_utils/host/progress.py": {
        "Reporter.say": "in the directory that Ansible made for this run, of who became root; no link is followed"
    },
    "module_utils/host/real_paths.py": "nothing is done there: it tells where a path leads to",
    "module_utils/host/sandbox.py": {
        "": "a root of its own, which is empty",
        "_owned_by_user": ROOT,
        "_new_files": ROOT,
        "_may_access": ROOT,
    },
    "module_utils/hypervisors/lxc/console_logger.py": MACHINE,
    "module_utils/hypervisors/lxc/disk_hook.py": {
        "loop": KERNEL,
        "make_place": RUN,
        "show": "the directory is taken from the container's user until the disk is mounted",
        "table": KERNEL,
        "user_namespace": KERNEL,
    },
    "module_utils/hypervisors/lxc/live_disks.py": "it has become the container's own root, in its namespaces",
    "module_utils/host/run_certificates.py": SCRATCH,
    "module_utils/hypervisors/backups/giving.py": MACHINE,
    "module_utils/hypervisors/backups/taking.py": SCRATCH,
    "module_utils/hypervisors/backups/bringing.py": SCRATCH,
    "module_utils/hypervisors/lxc/driver.py": {
        "LxcDriver._freeze": "the top of a mounted disk, in a directory of root's; nothing is read or changed there",
    },
    "module_utils/hypervisors/moves/file_streams.py": MACHINE,
    "module_utils/hypervisors/moves/passage.py": "in a directory of the move's own, of root's or QEMU's user",
    "module_utils/hypervisors/libvirt/migration.py": {
        "forget": "a directory in one of root's, which shutil.rmtree opens below without following a link",
    },
    "module_utils/hypervisors/libvirt/socket_places.py": RUN,
    "module_utils/hypervisors/libvirt/disk_jobs.py": RUN,
    "module_utils/hypervisors/libvirt/backup_job.py": {
        # The watchdog's words.
        "": MACHINE,
        "BackupJob._begin": "in a directory of root's below /run, and in the machine's own",
        "BackupJob._leave_watchdog": RUN,
        "BackupJob._own_socket": "what is linked to is looked at by its new name, in a directory that root alone has",
        "BackupJob._remove_places": "in one of root's, which shutil.rmtree opens below without following a link",
        "BackupJob._end": "in the same, and in the machine's own directory",
    },
    "module_utils/hypervisors/carry_out/machine_reading.py": MACHINE,
    "module_utils/storage/disk_exports.py": RUN,
    "module_utils/hypervisors/base.py": {"Driver.checkpoint_complete": MACHINE},
    "module_utils/hypervisors/lxc/start_hook.py": {
        "mapped": KERNEL,
        "mounted": KERNEL,
        "show": "the tops of layers, in a directory of 0700 beside the root",
        "show_all": MACHINE,
    },
    "module_utils/hypervisors/openvz/private_area.py": {
        "_open_root": "the top of a container's root; below it host/untrusted_trees.py and guest_disk/guest_tree.py go",
        "_written_paths": "beside the root, in a directory of root's",
        "check_mounts": WORD,
        "clear_unfinished": "the top of a container's root, in a directory of root's",
        "is_made": "the top of a container's root, in a directory of root's",
        "save": "in a directory of root's; tar opens each directory below the one above",
        "take_in": "beside the root, in a directory of root's; in the root confined_process.py goes",
        "write_context": "beside the root, in a directory of root's; in the root guest_disk/guest_tree.py goes",
    },
    "module_utils/storage/node_image_files.py": ARRIVES,
    "module_utils/storage/mounted_disks.py": {
        "_give_to_root": "a directory that containers of an older version had, in one of root's, taken by a descriptor",
        "_make_place": RUN,
        "close_old_directories": RUN,
        "mount": "the directory is root's; it is looked at whether its point is a link",
        "points": "names that are numbers, of places that are unmounted without following a link",
        "release": "only directories that are empty are removed",
    },
    "module_utils/storage/file_blocks.py": {"_write_back": "a new disk, among those of a machine or images; no link"},
    "module_utils/storage/luks_stream.py": "in directories of backups, which are root's",
    "module_utils/storage/root_backups.py": "in directories of backups, which are root's; what is read there, no link",
    "module_utils/storage/backup_secrets.py": "in directories of backups, which are root's; what is read, no link",
    "module_utils/storage/root_overlay.py": "the tops of layers, in a directory of 0700 beside the root",
    "module_utils/storage/device_nodes.py": {
        "_make": "a node that is held open, by its descriptor in /proc",
        "make": "the top of a new root, in a directory of root's; below it untrusted_directories.py goes",
    },
    "module_utils/storage/root_copying.py": CONFINED,
    "module_utils/storage/root_saving.py": CONFINED,
    "module_utils/storage/root_unpacking.py": CONFINED,
    "module_utils/storage/roots.py": "the tops of roots, in directories of root's; below them confined_process.py goes",
    "module_utils/storage/tree_walk.py": CONFINED,
    "module_utils/storage/uploads.py": {
        "_append": "a chunk in the directory that Ansible made for this run, of who became root",
        "_forget_old": ROOT,
        "append": ROOT,
        "remove": ROOT,
    },
    "plugin_utils/background_modules.py": "a directory of 0700 that this run has made",
}


class _Seen(ast.NodeVisitor):
    """What is done by path, by the function in which it is."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.found: set[tuple[str, str]] = set()
        self.documentation: set[int] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.inside.append(node.name)
        self.generic_visit(node)
        self.inside.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.inside.append(node.name)
        self.generic_visit(node)
        self.inside.pop()

    def visit_Expr(self, node: ast.Expr) -> None:
        self.documentation.add(id(node.value))
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = {name.name for name in node.names}
        known = {"os": OS, "shutil": SHUTIL}.get(node.module or "", set())
        self._take(*(f"{node.module}.{name}" for name in names & known))

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if ast.unparse(called) in ("opened", "files.opened") and not _begins_open(node, "open"):
            # host/files.py opens it as os.open() does.
            self._take("os.open")
        if isinstance(called, ast.Attribute):
            whose = ast.unparse(called.value)
            if whose == "os" and called.attr in OS and not _begins_open(node, called.attr):
                self._take(f"os.{called.attr}")
            elif whose == "shutil" and called.attr in SHUTIL:
                self._take(f"shutil.{called.attr}")
            elif whose.endswith("files") and called.attr in FILES:
                self._take(called.attr)
            elif called.attr in METHODS and not OTHERS.match(whose) and _is_of_path(node, called.attr):
                self._take(f"Path.{called.attr}")
        elif isinstance(called, ast.Name) and called.id in {"open", *FILES}:
            self._take(called.id)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        # Handed on, and called elsewhere.
        if ast.unparse(node) in {f"shutil.{name}" for name in SHUTIL}:
            self._take(ast.unparse(node))
        self.generic_visit(node)

    def _visit_words(self, node: ast.List | ast.Tuple) -> None:
        first = node.elts[0] if node.elts else None
        if isinstance(first, ast.Call) and first.args:
            # find("rm")
            first = first.args[0]
        name = str(first.value).rpartition("/")[2] if isinstance(first, ast.Constant) else ""
        if name in PROGRAMS and len(node.elts) > 1:
            self._take(name)
        self.generic_visit(node)

    visit_List = visit_Tuple = _visit_words

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        # NUL stands for what is filled in.
        self._take_text("".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and id(node) not in self.documentation:
            self._take_text(node.value)

    def _take_text(self, text: str) -> None:
        if re.search(r"^import \w", text, re.MULTILINE):
            # A program of its own, with names between signs where something is put in.
            try:
                self.visit(ast.parse(re.sub(r"@\w+@|\{\w+(?:![rs])?\}", "None", text)))
            except SyntaxError:
                self._take("a program that can't be read")
            return
        self._take(*(match[1] for match in SHELL.finditer(text)))

    def _take(self, *names: str) -> None:
        self.found |= {(".".join(self.inside), name) for name in names}


def _begins_open(node: ast.Call, name: str) -> bool:
    if any(keyword.arg in ("dir_fd", "src_dir_fd") for keyword in node.keywords):
        return True
    first = ast.unparse(node.args[0]) if node.args else ""
    return name in BY_DESCRIPTOR and re.search(r"(?:^|[._])fd$|\.fileno\(\)$", first) is not None


def _is_of_path(node: ast.Call, name: str) -> bool:
    if len(node.args) > METHODS[name]:
        return False
    if name == "open":
        mode = node.args[0] if node.args else None
        return mode is None or (
            isinstance(mode, ast.Constant) and re.fullmatch("[rwxabt+]+", str(mode.value)) is not None
        )
    # Of a dataclass; and of texts, which have two.
    return name not in ("replace", "rename") or (len(node.args) == 1 and not node.keywords)


def by_path(text: str) -> set[tuple[str, str]]:
    seen = _Seen()
    seen.visit(ast.parse(text))
    return seen.found


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, set[str]]]:
    """What is done by path, by module and function."""
    seen: dict[str, dict[str, set[str]]] = {}
    for path in sorted(PLUGINS.rglob("*.py")):
        name = str(path.relative_to(PLUGINS))
        if name not in HOMES:
            for function, what in by_path(path.read_text(encoding="utf-8")):
                seen.setdefault(name, {}).setdefault(function, set()).add(what)
    return seen


def known() -> dict[str, str | dict[str, str]]:
    grouped = [(name, reason) for reason, names in BY_MODULE.items() for name in names]
    assert len({name for name, _reason in grouped} | {*BY_FUNCTION}) == len(grouped) + len(BY_FUNCTION), "listed twice"
    return {**dict(grouped), **BY_FUNCTION}


def is_known(reason: str | dict[str, str], function: str, what: set[str]) -> bool:
    if isinstance(reason, dict):
        return function in reason
    return reason != WORD or what <= PROGRAMS


def test_whatever_is_done_by_path_is_known_with_its_reason(found: dict[str, dict[str, set[str]]]) -> None:
    unknown = [
        (name, function, what)
        for name, functions in found.items()
        for function, what in functions.items()
        if not is_known(known().get(name, {}), function, what)
    ]
    assert unknown == [], (
        "use host/untrusted_trees.py or host/untrusted_directories.py, or say here who else can write there"
    )


def test_whatever_is_known_is_there(found: dict[str, dict[str, set[str]]]) -> None:
    gone = {name for name in known() if name not in found}
    functions = {
        (name, function)
        for name, reasons in BY_FUNCTION.items()
        if isinstance(reasons, dict)
        for function in reasons
        if function not in found.get(name, {})
    }
    assert (gone, functions) == (set(), set()), "no longer there"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        *((f"os.{name}(path, x)", f"os.{name}") for name in sorted(OS)),
        *((f"shutil.{name}(path, x)", f"shutil.{name}") for name in sorted(SHUTIL)),
        ("with contextlib.suppress(OSError): shutil.rmtree", "shutil.rmtree"),
        ("from shutil import rmtree", "shutil.rmtree"),
        ("from os import walk", "os.walk"),
        ("open(path)", "open"),
        ("Path(path).open('wb')", "Path.open"),
        ("(place / name).write_text(text, encoding='utf-8')", "Path.write_text"),
        ("Path(path).read_text()", "Path.read_text"),
        ("path.unlink(missing_ok=True)", "Path.unlink"),
        ("Path(path).mkdir(0o700, parents=True)", "Path.mkdir"),
        ("path.rename(target)", "Path.rename"),
        ("path.replace(target)", "Path.replace"),
        ("path.symlink_to(target)", "Path.symlink_to"),
        ("files.write_atomically(path, text)", "write_atomically"),
        ("remove_file(path)", "remove_file"),
        ("with files.opened(path, flags) as fd: pass", "os.open"),
        ("run(['rm', '-rf', path])", "rm"),
        ("run(('/usr/bin/chown', user, path))", "chown"),
        ("run([find('tar'), '-C', path])", "tar"),
        ("run('cd x && rm -rf y', shell=True)", "rm"),
        ("run(f'mv {path} {target}', shell=True)", "mv"),
        ("TEXT = 'import os\\nos.chown(PATH, 0, 0)\\n'", "os.chown"),
        ("TEXT = 'import os\\nos.chown(@PATH@, {user}, 0)\\n'", "os.chown"),
        ("TEXT = 'import os\\n(((\\n'", "a program that can't be read"),
    ],
)
def test_what_is_done_by_path_is_seen(code: str, what: str) -> None:
    assert what in {name for _function, name in by_path(code)}


@pytest.mark.parametrize(
    "code",
    [
        "os.open(name, flags, dir_fd=top)",
        "opened(name, flags, dir_fd=top)",
        "os.rename(new, name, src_dir_fd=top, dst_dir_fd=top)",
        "os.listdir(fd)",
        "os.utime(file.fileno())",
        "os.chown(level.fd, 0, 0)",
        "os.fchmod(fd, 0o600)",
        "text.replace('a', 'b')",
        "dataclasses.replace(image)",
        "libvirt.open(uri)",
        '"Remove it: rm -r /x"',
    ],
)
def test_what_begins_at_something_open_is_not(code: str) -> None:
    assert by_path(code) == set()
