# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which test runs when: the one table of it. Each test file is in exactly one tier (tests/unit/test_tiers.py):

- QUICK, and all of tests/unit: `make quick`, before each commit.
- TEST: `make test` runs these as well, as CI does with each change.
- SUITES: `make test-all` runs these, and `make test-NAME` one of them; CI runs those whose subject a change touches.

Files of tests/integration are named without their directory and ending."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INTEGRATION = "tests/integration"

# They take seconds each.
QUICK = (
    "test_backup_passages",
    *("test_boot", "test_context_files", "test_context_iso", "test_context_sh", "test_datastores", "test_download"),
    *("test_encrypted_disks", "test_formats", "test_guest_context", "test_hostile_archives", "test_hostile_images"),
    *("test_images", "test_injection", "test_kvm_deployment_files", "test_kvm_ended", "test_nebula_context_iso"),
    *("test_nebula_template", "test_planted_links", "test_roots", "test_saving", "test_transfer_ssh"),
)

# One whole life of every world, and what a change must not break.
TEST = (
    *("test_announcers", "test_audit", "test_backup", "test_capacity", "test_demo_image", "test_disk_tasks"),
    *(
        "test_backup_life",
        "test_disks",
        "test_hostile_disks",
        "test_hostile_downloads",
        "test_image_life",
    ),
    "test_importer",
    *("test_install", "test_installed", "test_inventory", "test_kills", "test_kvm", "test_kvm_firmware"),
    *("test_awx_jobs", "test_kvm_modules", "test_kvm_running"),
    *(
        "test_late_runs",
        "test_lxc_site",
        "test_moves",
        "test_nebula_image",
        "test_nebula_ovn",
        "test_network_uplinks",
        "test_node_network",
    ),
    *("test_node_filters", "test_nodes", "test_northbound", "test_northbound_node", "test_ovn", "test_power_cut"),
    *("test_progress", "test_site", "test_switches", "test_tenant", "test_topology"),
    *("test_openvz_site", "test_verify", "test_world", "test_xen"),
)
# Beside them: the tools (linters, sanity, importer, documentation), and molecule's scenario default.
TEST_TOOLS = ("tests/tools/test_tools.py", "tests/tools/test_molecule.py")
TEST_SCENARIOS = ("default",)
# What `make test` takes on the two slow cores that the suites' minutes are of.
TEST_MINUTES = 22


@dataclass(frozen=True)
class Suite:
    """subjects: files and directories whose change wants it. files: of tests/integration. scenarios: of molecule.
    targets: of the Makefile. environment: for all of these. again: files of another tier, which do more in this one's
    environment. minutes: what it takes on two slow cores, nothing cached."""

    subjects: tuple[str, ...]
    minutes: int
    files: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    again: tuple[str, ...] = ()


UTILS = "plugins/module_utils"
SUITES = {
    "site": Suite(
        subjects=(
            *("playbooks", "site.yml", "ansible.cfg", "inventories", "meta", "plugins/action", "plugins/filter"),
            *("plugins/plugin_utils", "plugins/modules", "plugins/doc_fragments", "plugins/test", f"{UTILS}/reconcile"),
            *(f"{UTILS}/{name}" for name in ("engines", "hypervisors", "model", "text", "runner.py", "arguments.py")),
            *(f"roles/{role}" for role in ("frontend", "image", "network", "node", "template", "verify", "vm")),
            *("roles/demo_image", "roles/machine_backup", "roles/values", f"{UTILS}/calls"),
        ),
        files=(
            *("test_site_life", "test_bad_input", "test_secrets", "test_foreign", "test_lost_catalog"),
            *("test_given_up_host", "test_second_runs", "test_machine", "test_guide"),
            *("test_destroy_limit", "test_daily_work"),
        ),
        minutes=27,
    ),
    "ansible": Suite(
        subjects=(
            *("plugins/action", "plugins/connection", "plugins/filter", "plugins/inventory", "plugins/lookup"),
            *("plugins/plugin_utils", "plugins/test", "meta"),
            *("requirements", "ansible.cfg", "roles/awx"),
        ),
        files=(
            *("test_ansible", "test_awx_jobs_life", "test_guest_connection", "test_guest_connection_console"),
            *("test_guest_connection_life", "test_inventory_over_ssh"),
        ),
        targets=("matrix",),
        minutes=19,
    ),
    "transfer": Suite(
        subjects=(
            *(
                f"{UTILS}/storage/{name}.py"
                for name in ("transfer_methods", "node_image_files", "uploads", "datastore_layout")
            ),
            *(
                f"{UTILS}/reconcile/{name}.py"
                for name in ("transfers", "datastores", "nodes/transfer_user", "nodes/luks_secrets")
            ),
            *(f"{UTILS}/host/rsync.py", f"{UTILS}/calls/transfer.py", f"{UTILS}/calls/datastore.py"),
        ),
        files=("test_role_transfer", "test_role_transfer_life", "test_transfer_lives"),
        minutes=13,
    ),
    "images": Suite(
        subjects=(
            *(f"{UTILS}/storage", "roles/image", "roles/image_check", "roles/image_prepare"),
            *(f"{UTILS}/guest_disk", f"{UTILS}/reconcile/images", f"{UTILS}/model/injected_files.py"),
            *(f"{UTILS}/calls/image{name}.py" for name in ("", "_check", "_prepare")),
        ),
        files=(
            *("test_image_check", "test_image_check_live", "test_image_recipes", "test_image_edits"),
            *("test_image_reworks", "test_nebula_image_sent", "test_foreign_disks"),
        ),
        minutes=18,
    ),
    "living": Suite(
        subjects=(
            *(f"{UTILS}/hypervisors/libvirt/{name}" for name in ("live_capacity.py", "live_device_changes.py")),
            *(f"{UTILS}/hypervisors/libvirt/{name}" for name in ("live_devices.py", "live_values.py", "kvm.py")),
            *(f"{UTILS}/hypervisors/libvirt/{name}" for name in ("domain_events.py", "hotplug_slots.py")),
            *(f"{UTILS}/model/{name}" for name in ("waiting_changes.py", "template_changes.py", "device_matching.py")),
            *(f"{UTILS}/model/instantiate/{name}" for name in ("growth.py", "reserved_slots.py", "pc_hardware.py")),
            *(f"{UTILS}/model/instantiate/{name}" for name in ("numa_nodes.py", "shared_directories.py")),
            *(f"{UTILS}/hypervisors/libvirt/{name}" for name in ("domain_hardware.py", "domain_numa.py")),
            *(f"{UTILS}/{name}.py" for name in ("storage/given_directories", "model/system_snapshots")),
            f"{UTILS}/storage/snapshot_changes.py",
            f"{UTILS}/hypervisors/libvirt/running_snapshots.py",
            f"{UTILS}/hypervisors/carry_out/system_snapshot_tasks.py",
            f"{UTILS}/hypervisors/carry_out/disk_restores.py",
            *(f"{UTILS}/storage/{name}.py" for name in ("backup_search", "disk_swap", "restored_disks")),
            *("roles/machine_restore", f"{UTILS}/reconcile/machine_restores.py"),
            *(f"{UTILS}/hypervisors/{name}.py" for name in ("standing_still", "still_disks")),
            *(f"{UTILS}/storage/{name}.py" for name in ("root_backups", "luks_stream")),
            f"{UTILS}/hypervisors/carry_out/root_transfers.py",
            *(f"{UTILS}/storage/backup_{name}.py" for name in ("files", "place", "manifests", "merging", "by_hand")),
            *(f"{UTILS}/storage/backup_{name}.py" for name in ("secrets", "verification")),
            f"{UTILS}/model/backup_retention.py",
        ),
        files=(
            *("test_machine_restore", "test_restored_machines", "test_role_machine_restore", "test_brought_backups"),
            *("test_kvm_broken_off", "test_kvm_changes", "test_kvm_living", "test_kvm_hardware"),
            *("test_backup_place", "test_shared_directories", "test_stored_chains", "test_system_snapshots"),
            "test_system_snapshot_faults",
            *("test_lxc_backups", "test_openvz_backups", "test_xen_backups", "test_role_restored_elsewhere"),
        ),
        minutes=27,
    ),
    "disks": Suite(
        subjects=(
            *(f"{UTILS}/storage/{name}.py" for name in ("machine_disks", "disk_saving")),
            *(f"{UTILS}/guest_disk/{name}" for name in ("file_injection.py", "open")),
            *(f"{UTILS}/hypervisors/libvirt/{name}.py" for name in ("guest_agent", "guest_file_systems")),
            *(f"{UTILS}/hypervisors/libvirt/{name}.py" for name in ("running_disks", "quiesce")),
            *(f"{UTILS}/hypervisors/carry_out/disk_saves_and_snapshots.py", f"{UTILS}/reconcile/vms/save_as.py"),
        ),
        files=("test_disk_frozen", "test_file_injection", "test_inject"),
        minutes=5,
    ),
    "network": Suite(
        subjects=(
            *(f"{UTILS}/network", "roles/network", f"{UTILS}/calls/node_network.py"),
            *(f"{UTILS}/reconcile/network_lists.py", f"{UTILS}/reconcile/nodes/node_networks.py"),
            *("extensions/molecule/network", "tests/tools/nodes.py"),
        ),
        files=(
            *("test_firewalls", "test_forced_phydev", "test_forced_phydev_ssh", "test_role_network"),
            *("test_nic_aliases", "test_site_filters", "test_switches_life", "test_switches_site"),
            *("test_shared_bridge", "test_jumbo_frames", "test_jumbo_machines"),
        ),
        scenarios=("network",),
        minutes=20,
    ),
    "ovn": Suite(
        subjects=(
            *(f"{UTILS}/network/{name}" for name in ("ovn", "northbound")),
            *("roles/ovn", "playbooks/ovn.yml", "plugins/plugin_utils/looking.py", "tests/tools/nodes.py"),
            *(f"{UTILS}/calls/{name}.py" for name in ("ovn", "ovn_central", "ovn_host", "router")),
            *(f"{UTILS}/reconcile/ovn_{name}.py" for name in ("northbound", "central", "host")),
        ),
        files=(
            *("test_ovn_cluster", "test_ovn_elsewhere", "test_ovn_life", "test_ovn_migration", "test_role_ovn"),
            *("test_second_runs_ovn", "test_tenants"),
        ),
        minutes=18,
    ),
    "fleet": Suite(
        subjects=(
            *(f"{UTILS}/hypervisors/moves", f"{UTILS}/model/move.py", f"{UTILS}/reconcile/vms/move_rounds.py"),
            *(f"{UTILS}/hypervisors/carry_out/{name}.py" for name in ("arrival", "departure", "moves", "fence")),
            f"{UTILS}/hypervisors/carry_out/moved_roots.py",
            *(f"{UTILS}/hypervisors/libvirt/{name}.py" for name in ("migration", "migration_calls")),
            f"{UTILS}/hypervisors/libvirt/arriving_definition.py",
            *(f"{UTILS}/engines/embedded/vms/{name}.py" for name in ("moving", "move_records")),
            *(f"{UTILS}/{name}.py" for name in ("model/shared_datastores", "storage/shared_datastore")),
            *(
                f"roles/vm/tasks/{name}.yml"
                for name in ("choose", "foreseen_moves", "maintain", "maintenance", "move", "moves", "relocate")
            ),
            *(f"roles/vm/tasks/{name}_moves.yml" for name in ("begun", "chosen", "further")),
            *("playbooks/maintenance.yml", "plugins/filter/between_hosts.py", "plugins/filter/meeting_places.py"),
            "extensions/molecule/fleet",
        ),
        files=(
            *("test_container_moves", "test_fleet", "test_hostile_moves", "test_killed_moves", "test_move_belongings"),
            *("test_move_checks", "test_move_faults", "test_move_tpm", "test_openvz_moves", "test_role_moves"),
            *("test_moved_traffic", "test_tortured_moves"),
        ),
        scenarios=("fleet",),
        minutes=40,
    ),
    "backups": Suite(
        subjects=(
            *(f"{UTILS}/hypervisors/libvirt/{name}.py" for name in ("backup_job", "backup_checkpoints", "disk_jobs")),
            *(f"{UTILS}/hypervisors/libvirt/{name}.py" for name in ("consistent_moment", "qemu_monitor")),
            *(f"{UTILS}/hypervisors/carry_out/{name}.py" for name in ("machine_backups", "machine_reading")),
            *(f"{UTILS}/storage/{name}.py" for name in ("disk_exports", "disk_bitmaps")),
            *(f"{UTILS}/hypervisors/backups", f"{UTILS}/hypervisors/moves/passage.py", "roles/machine_backup"),
            *(
                "playbooks/backup_machines.yml",
                "plugins/filter/backed_up.py",
                "plugins/modules/nebula_machine_backup.py",
            ),
            *(f"{UTILS}/reconcile/backup_choice.py", f"{UTILS}/reconcile/nodes/node_backups.py"),
            *(f"{UTILS}/model/{name}.py" for name in ("given_backup", "machine_backup", "template_secrets")),
        ),
        files=(
            *("test_backed_up_state", "test_backup_chains", "test_backup_faults", "test_machine_backups"),
            *("test_restore_drill", "test_role_machine_backup"),
        ),
        minutes=20,
    ),
    "install": Suite(
        subjects=(
            *("roles/install_os", "plugins/lookup", f"{UTILS}/calls/install.py"),
            *(f"{UTILS}/calls/install_wait.py", f"{UTILS}/install", f"{UTILS}/reconcile/isos.py"),
        ),
        files=("test_install_life", "test_role_install_os", "test_installer_iso"),
        scenarios=("install_os",),
        minutes=25,
    ),
    "context": Suite(
        subjects=(
            *("roles/guest_context", f"{UTILS}/context", f"{UTILS}/model/context.py", f"{UTILS}/text/context_sh.py"),
            *(f"{UTILS}/guest_disk/customize/context_program.py", f"{UTILS}/guest_disk/inspect/root_file_system.py"),
            *(f"{UTILS}/host/console", f"{UTILS}/reconcile/verify_guests.py"),
            *(f"{UTILS}/calls/verify.py", "extensions/molecule/context"),
        ),
        files=("test_cloud_init", "test_guest_context_offline", "test_guest_growth", "test_guest_network"),
        scenarios=("context",),
        minutes=25,
    ),
    "xen": Suite(
        subjects=(
            *(f"{UTILS}/hypervisors/{name}" for name in ("xen", "base.py", "registry.py")),
            *(f"tests/tools/xen_{name}.py" for name in ("host", "pair", "operations", "troubles", "migration")),
            "tests/tools/xen_switches.py",
            *("extensions/molecule/xen", "extensions/molecule/xen_install"),
        ),
        files=("test_xen_libvirt", "test_xen_migration", "test_xen_switches", "test_xen_tenants"),
        # test_xen belongs to `make test`, and is here once more, with each operation on each kind.
        again=("test_xen",),
        scenarios=("xen", "xen_install"),
        environment=(("NEBULA_XEN", "all"),),
        minutes=120,
    ),
    "containers": Suite(
        subjects=(
            *(f"{UTILS}/hypervisors/{name}" for name in ("lxc", "openvz", "base.py", "registry.py")),
            *(f"{UTILS}/storage/{name}.py" for name in ("roots", "tar_archive", "mounted_disks", "file_system_growth")),
            *(f"{UTILS}/context/directory.py", f"{UTILS}/model/container_user_ids.py", "extensions/molecule/lxc"),
        ),
        files=(
            *("test_bad_containers", "test_container_faults", "test_container_systems", "test_hostile_roots"),
            *("test_lxc", "test_lxc_boot", "test_lxc_changes"),
            *("test_lxc_disks", "test_lxc_kills", "test_mixed_hosts", "test_openvz", "test_openvz_saved"),
        ),
        scenarios=("lxc",),
        minutes=30,
    ),
    "stock": Suite(
        subjects=(
            *(f"{UTILS}/network/networks_at_boot.py", f"{UTILS}/host", "roles/node", "tests/tools/stock_host.py"),
            *(
                f"{UTILS}/guest_disk/file_injection.py",
                f"{UTILS}/guest_disk/open/kernel_mount.py",
                "extensions/molecule/stock",
            ),
            f"{UTILS}/hypervisors/lxc",
        ),
        files=(
            *("test_stock_containers", "test_stock_host", "test_stock_injection", "test_stock_switches"),
            "test_stock_tunnels",
        ),
        scenarios=("stock",),
        minutes=60,
    ),
    "together": Suite(
        subjects=(
            *(f"{UTILS}/engines", f"{UTILS}/sync.py", f"{UTILS}/host/files.py", f"{UTILS}/storage/backup_directory.py"),
            *(f"{UTILS}/hypervisors/carry_out", f"{UTILS}/host/node_file.py", f"{UTILS}/calls/vm.py"),
        ),
        files=("test_runs_at_once", "test_at_once", "test_disk_full"),
        minutes=12,
    ),
    "attack": Suite(
        subjects=(
            *("plugins/action", "plugins/connection", "plugins/filter", "plugins/plugin_utils", "roles/values"),
            *("playbooks", "roles/node", "tests/tools/forging.py"),
            *(f"{UTILS}/reconcile/{name}.py" for name in ("host_identity", "audit_findings")),
            f"{UTILS}/engines/embedded/host_marks.py",
            *(f"{UTILS}/model/answers", f"{UTILS}/model/dataclass_json.py", f"{UTILS}/engines/embedded/vms"),
            *("tests/tools/mutated_answers.py", "tests/unit/test_answers.py"),
            *(f"{UTILS}/host/{name}.py" for name in ("untrusted_directories", "untrusted_trees", "files", "processes")),
            *(
                f"{UTILS}/context/directory.py",
                f"{UTILS}/guest_disk/guest_tree.py",
                f"{UTILS}/hypervisors/openvz/private_area.py",
            ),
        ),
        files=("test_forged_site", "test_host_identity", "test_hostile_answers", "test_tree_attacks"),
        targets=("forged",),
        minutes=18,
    ),
    "torture": Suite(
        subjects=("tests/torture",),
        targets=("torture",),
        minutes=240,
    ),
    "installer": Suite(
        subjects=("tests/installer",),
        targets=("installer",),
        minutes=60,
    ),
}
# Rooms of the product that no suite has as its subject, since `make test` has all that there is of them.
WITHOUT_SUITE = frozenset({"roles/project"})

# Those that look at all loop devices and at what killed runs left, measure memory, have the stock host, or load the
# machine as much as it bears: one after another. What the others need they have in worlds, namespaces and directories
# of their own.
ALONE = frozenset(
    (
        *("test_capacity", "test_disks", "test_file_injection", "test_guest_context_offline", "test_image_check"),
        *("test_image_edits", "test_image_reworks", "test_importer", "test_inject", "test_kills", "test_late_runs"),
        *("test_molecule", "test_power_cut", "test_runs_at_once", "test_stock_containers", "test_stock_host"),
        *("test_stock_injection", "test_stock_switches", "test_stock_tunnels", "test_world"),
    )
)
# Of these the first; and of the others what takes longest, which begins first.
FIRST_ALONE = ("test_molecule",)
LONGEST = ("test_tools", "test_xen", "test_site", "test_awx_jobs", "test_role_transfer", "test_install")

# pytest's marks by file; `root` is said by the tests themselves.
NEEDS = {
    "xen": ("test_xen", "test_xen_libvirt", "test_xen_migration", "test_xen_switches", "test_xen_tenants"),
    "guests": (
        *("test_ansible", "test_at_once", "test_audit", "test_bad_input", "test_boot", "test_capacity"),
        *(
            "test_cloud_init",
            "test_container_systems",
            "test_demo_image",
            "test_disk_frozen",
            "test_disk_full",
            "test_disk_tasks",
        ),
        *("test_encrypted_disks", "test_foreign", "test_given_up_host", "test_guest_context_offline"),
        "test_host_identity",
        "test_image_check",
        *("test_image_check_live", "test_inject", "test_install", "test_install_life", "test_kills", "test_kvm"),
        *(
            "test_kvm_broken_off",
            "test_kvm_changes",
            "test_kvm_ended",
            "test_kvm_firmware",
            "test_kvm_hardware",
            "test_kvm_living",
            "test_shared_directories",
            "test_kvm_modules",
            "test_kvm_running",
            "test_late_runs",
            "test_lost_catalog",
        ),
        *("test_container_moves", "test_openvz_moves"),
        *("test_move_belongings", "test_move_checks", "test_move_tpm"),
        *("test_fleet", "test_mixed_hosts", "test_move_faults", "test_moves", "test_nic_aliases", "test_nodes"),
        *("test_molecule", "test_power_cut", "test_role_install_os", "test_role_moves", "test_role_transfer"),
        *("test_role_transfer_life", "test_tortured_moves"),
        *("test_runs_at_once", "test_saving", "test_secrets", "test_site", "test_site_life", "test_stock_host"),
        *("test_stock_containers", "test_stock_injection", "test_stock_switches", "test_verify", "test_xen"),
        *("test_stock_tunnels", "test_xen_libvirt", "test_xen_migration", "test_xen_switches", "test_xen_tenants"),
    ),
}


def names(tier: str) -> tuple[str, ...]:
    """Files of a tier or suite, or of the unit tests alone, from the root of the checkout."""
    if tier == "unit":
        return ("tests/unit",)
    if tier == "quick":
        return ("tests/unit", *_paths(QUICK))
    if tier == "test":
        return ("tests/unit", *_paths((*QUICK, *TEST)), *TEST_TOOLS)
    return tuple(_paths((*SUITES[tier].files, *SUITES[tier].again)))


def _paths(files: tuple[str, ...]) -> Iterator[str]:
    return (f"{INTEGRATION}/{name}.py" for name in files)
