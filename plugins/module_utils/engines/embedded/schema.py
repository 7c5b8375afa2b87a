# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the catalog's tables, and the migrations between their versions. It uses features of SQLite 3.34 at most."""

from __future__ import annotations

from ...errors import CatalogError

# Each entry brings a catalog from version <index> to <index + 1>. An entry that was released is never edited.
MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE sequences (name TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;

    CREATE TABLE images (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, uuid TEXT NOT NULL UNIQUE, type INTEGER NOT NULL,
        state INTEGER NOT NULL, generation INTEGER NOT NULL DEFAULT 0, persistent INTEGER NOT NULL DEFAULT 0,
        datastore_id INTEGER NOT NULL DEFAULT 1, source TEXT NOT NULL DEFAULT '', format TEXT NOT NULL DEFAULT 'raw',
        size INTEGER NOT NULL DEFAULT 0, sha256 TEXT NOT NULL DEFAULT '', checksum TEXT NOT NULL DEFAULT '',
        origin TEXT NOT NULL DEFAULT '', dev_prefix TEXT NOT NULL DEFAULT '', target TEXT NOT NULL DEFAULT '',
        description TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '', attributes TEXT NOT NULL DEFAULT '{}');

    CREATE TABLE networks (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, uuid TEXT NOT NULL UNIQUE, vn_mad TEXT NOT NULL,
        bridge TEXT NOT NULL, nat INTEGER NOT NULL DEFAULT 0, state INTEGER NOT NULL,
        attributes TEXT NOT NULL DEFAULT '{}');
    CREATE TABLE address_ranges (
        network_id INTEGER NOT NULL REFERENCES networks(id) ON DELETE CASCADE, ar_id INTEGER NOT NULL,
        type TEXT NOT NULL, size INTEGER NOT NULL, ip TEXT NOT NULL DEFAULT '', mac TEXT NOT NULL,
        global_prefix TEXT NOT NULL DEFAULT '', ula_prefix TEXT NOT NULL DEFAULT '',
        first_free INTEGER NOT NULL DEFAULT 0, used INTEGER NOT NULL DEFAULT 0,
        attributes TEXT NOT NULL DEFAULT '{}', PRIMARY KEY (network_id, ar_id)) WITHOUT ROWID;
    CREATE TABLE leases (
        network_id INTEGER NOT NULL, ar_id INTEGER NOT NULL, offset INTEGER NOT NULL,
        vm_id INTEGER REFERENCES vms(id), nic_id INTEGER,
        PRIMARY KEY (network_id, ar_id, offset),
        FOREIGN KEY (network_id, ar_id) REFERENCES address_ranges(network_id, ar_id)) WITHOUT ROWID;
    CREATE INDEX leases_vm ON leases(vm_id);

    CREATE TABLE templates (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL, registered INTEGER NOT NULL);

    CREATE TABLE hosts (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, hypervisor TEXT NOT NULL, state INTEGER NOT NULL,
        memory INTEGER NOT NULL DEFAULT 0, cpu REAL NOT NULL DEFAULT 0, reserved_memory INTEGER NOT NULL DEFAULT 0,
        memory_overcommit REAL NOT NULL DEFAULT 1, cpu_overcommit REAL NOT NULL DEFAULT 1,
        memory_used INTEGER NOT NULL DEFAULT 0, cpu_used REAL NOT NULL DEFAULT 0, vms INTEGER NOT NULL DEFAULT 0,
        attributes TEXT NOT NULL DEFAULT '{}');

    CREATE TABLE vms (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, uuid TEXT NOT NULL, pattern TEXT NOT NULL DEFAULT '',
        position INTEGER, template TEXT NOT NULL DEFAULT '', state INTEGER NOT NULL, lcm_state INTEGER NOT NULL,
        host_id INTEGER REFERENCES hosts(id), generation INTEGER NOT NULL DEFAULT 1, seq INTEGER NOT NULL DEFAULT 0,
        wanted TEXT NOT NULL, settled INTEGER NOT NULL DEFAULT 0, orders TEXT NOT NULL DEFAULT '{}',
        cpu REAL NOT NULL, memory INTEGER NOT NULL, request TEXT NOT NULL, body TEXT NOT NULL,
        error TEXT NOT NULL DEFAULT '', stime INTEGER NOT NULL, etime INTEGER NOT NULL DEFAULT 0);
    CREATE UNIQUE INDEX vms_name ON vms(name) WHERE wanted != 'DONE';
    CREATE UNIQUE INDEX vms_uuid ON vms(uuid) WHERE state != 6;
    CREATE INDEX vms_pattern ON vms(pattern) WHERE wanted != 'DONE';
    CREATE INDEX vms_unsettled ON vms(host_id) WHERE settled = 0;
    CREATE INDEX vms_host ON vms(host_id) WHERE state != 6;
    CREATE TABLE vm_images (
        vm_id INTEGER NOT NULL REFERENCES vms(id), disk_id INTEGER NOT NULL,
        image_id INTEGER NOT NULL REFERENCES images(id), writable INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (vm_id, disk_id)) WITHOUT ROWID;
    CREATE INDEX vm_images_image ON vm_images(image_id);
    CREATE TABLE vnc_ports (
        host_id INTEGER NOT NULL REFERENCES hosts(id), port INTEGER NOT NULL, vm_id INTEGER NOT NULL REFERENCES vms(id),
        PRIMARY KEY (host_id, port)) WITHOUT ROWID;
    CREATE INDEX vnc_ports_vm ON vnc_ports(vm_id);
    CREATE TABLE history (
        vm_id INTEGER NOT NULL REFERENCES vms(id), step INTEGER NOT NULL, time INTEGER NOT NULL, host TEXT NOT NULL,
        state TEXT NOT NULL, action TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (vm_id, step)) WITHOUT ROWID;
    """,
    """
    ALTER TABLE hosts ADD COLUMN overhead TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE hosts ADD COLUMN overhead_used INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE vms ADD COLUMN overhead INTEGER NOT NULL DEFAULT 0;
    """,
    """
    ALTER TABLE images ADD COLUMN firmware TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN bus TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN luks_secret TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN snapshots TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN unfinished TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN operation TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN notes TEXT NOT NULL DEFAULT '{}';
    CREATE TABLE datastores (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, type INTEGER NOT NULL,
        capacity_check INTEGER NOT NULL DEFAULT 1, description TEXT NOT NULL DEFAULT '',
        attributes TEXT NOT NULL DEFAULT '{}');
    INSERT INTO datastores (id, name, type) VALUES (0, 'system', 1), (1, 'default', 0), (2, 'files', 2);
    """,
    """
    ALTER TABLE hosts ADD COLUMN transfer TEXT NOT NULL DEFAULT 'shared';
    """,
    """
    CREATE TABLE given_up (
        vm_id INTEGER PRIMARY KEY REFERENCES vms(id), host TEXT NOT NULL, ended INTEGER NOT NULL DEFAULT 0);
    """,
    # What is under way with images was written in five ways; from here on it is as model/image_operations.py writes it.
    # Texts that begin with { are JSON already: no SQL compares them, and the reader takes them as they are.
    r"""
    UPDATE images SET operation = '{"do":"clone","image_id":' || substr(operation, 7) || '}'
    WHERE substr(operation, 1, 6) = 'clone ';
    UPDATE images SET operation = '{"do":"save","origin":"'
    || replace(replace(substr(operation, 6), '\', '\\'), '"', '\"') || '"}'
    WHERE substr(operation, 1, 5) = 'save ';
    UPDATE images SET operation = '{"do":"return","host":"'
    || replace(replace(substr(operation, 13), '\', '\\'), '"', '\"') || '","ran":true}'
    WHERE substr(operation, 1, 12) = 'return from ';
    UPDATE images SET operation = '{"do":"return","host":"'
    || replace(replace(substr(operation, 31), '\', '\\'), '"', '\"') || '","ran":false}'
    WHERE substr(operation, 1, 30) = 'return, if there is one, from ';
    UPDATE images SET operation = '{"do":"prepare","was":"' || substr(operation, 9) || '"}'
    WHERE substr(operation, 1, 8) = 'prepare ';
    """,
    # holder: whose a lease is that is no machine's (networks/reserved.py). Group 0 is every catalog's. Where nothing
    # acted on PHYDEV, nothing does until it is asked for anew: the node may be reached by that interface.
    """
    ALTER TABLE leases ADD COLUMN holder TEXT NOT NULL DEFAULT '';
    CREATE INDEX leases_holder ON leases(holder) WHERE holder != '';
    CREATE TABLE security_groups (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, uuid TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL DEFAULT '', rules TEXT NOT NULL DEFAULT '[]');
    INSERT INTO security_groups (id, name, uuid, rules) VALUES (0, 'default', '00000000-0000-0000-0000-000000000000',
        '[{"rule_type":"inbound"},{"rule_type":"outbound"}]');
    CREATE TABLE routers (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, uuid TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL DEFAULT '', body TEXT NOT NULL DEFAULT '{}');
    UPDATE networks SET attributes = '{"PHYDEV_UNUSED": "YES", ' || substr(attributes, 2)
    WHERE vn_mad = 'bridge' AND attributes LIKE '%"PHYDEV": "_%';
    """,
    # shown: the host of that name has shown this mark. machine_id: of the last answer, a hint only.
    """
    CREATE TABLE host_marks (
        name TEXT PRIMARY KEY, mark TEXT NOT NULL UNIQUE, shown INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    INSERT INTO host_marks (name, mark) SELECT name, lower(hex(randomblob(16))) FROM hosts;
    ALTER TABLE hosts ADD COLUMN machine_id TEXT NOT NULL DEFAULT '';
    """,
    # Networks that are filtered already are told once which frames no longer pass (model/ethertypes.py).
    """
    UPDATE networks SET attributes = '{"ETHERTYPES_UNTOLD": "YES"' ||
    CASE trim(attributes) WHEN '{}' THEN '}' ELSE ', ' || substr(attributes, 2) END
    WHERE vn_mad = 'ovn' OR attributes LIKE '%"FILTERS_ON_NODE": "YES"%';
    """,
    # elsewhere: another host that says that it has the machine by now.
    """
    ALTER TABLE given_up ADD COLUMN elsewhere TEXT NOT NULL DEFAULT '';
    """,
    # plan_key_since: the newest plan that went out without a proof (plan_numbers.py).
    """
    INSERT INTO meta (key, value) VALUES ('plan_key', lower(hex(randomblob(32))));
    INSERT INTO meta (key, value) VALUES
        ('plan_key_since', coalesce((SELECT value FROM meta WHERE key = 'plan'), '0'));
    """,
    # kind: what holds a lease (networks/network_rows.py). vm_id is the machine of each kind but 'reserved'. It refers
    # to no row of vms: addresses are also held for machines that the catalog does not know. nic_id is set for a NIC
    # alone.
    """
    CREATE TABLE new_leases (
        network_id INTEGER NOT NULL, ar_id INTEGER NOT NULL, offset INTEGER NOT NULL,
        vm_id INTEGER, nic_id INTEGER, holder TEXT NOT NULL DEFAULT '', kind TEXT NOT NULL DEFAULT 'nic',
        PRIMARY KEY (network_id, ar_id, offset),
        FOREIGN KEY (network_id, ar_id) REFERENCES address_ranges(network_id, ar_id)) WITHOUT ROWID;
    INSERT INTO new_leases SELECT network_id, ar_id, offset, coalesce(vm_id, nic_id),
        CASE WHEN vm_id IS NOT NULL THEN nic_id END, holder,
        CASE WHEN holder != '' THEN 'reserved' WHEN vm_id IS NOT NULL AND nic_id IS NOT NULL THEN 'nic'
        WHEN vm_id IS NOT NULL THEN 'leaving' WHEN nic_id IN (SELECT vm_id FROM given_up) THEN 'given_up'
        ELSE 'unknown' END FROM leases;
    DROP TABLE leases;
    ALTER TABLE new_leases RENAME TO leases;
    CREATE INDEX leases_vm ON leases(vm_id);
    CREATE INDEX leases_holder ON leases(holder) WHERE holder != '';
    """,
    # Checksums, which were "algorithm:digest" with blanks between them, are JSON: digests by their algorithms.
    """
    ALTER TABLE images RENAME COLUMN checksum TO checksums;
    UPDATE images SET checksums = CASE trim(checksums) WHEN '' THEN '{}' ELSE
        '{"' || replace(replace(trim(checksums), ' ', '", "'), ':', '": "') || '"}' END;
    """,
    # waits: what a running machine gets at its next start; kept_memory: MiB that it holds until then (vms/waiting.py).
    """
    ALTER TABLE vms ADD COLUMN waits TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE vms ADD COLUMN kept_memory INTEGER NOT NULL DEFAULT 0;
    """,
    # What is taken from a running machine, until its node says that it is gone (vms/leaving_devices.py).
    """
    ALTER TABLE vms ADD COLUMN leaving TEXT NOT NULL DEFAULT '{}';
    """,
    # hardware: what machines can have of the host to themselves, as its node tells it (model/host.py). held: what a
    # running machine has of it, and is to have no more from its next start on (vms/host_places.py).
    """
    ALTER TABLE hosts ADD COLUMN hardware TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE vms ADD COLUMN held TEXT NOT NULL DEFAULT '{}';
    """,
    # move: the machine's newest move (model/move.py), which is open as long as move_host, the host that it moves to, is
    # set (vms/move_records.py). away: the host that it is to return to once that is out of maintenance.
    """
    ALTER TABLE vms ADD COLUMN move TEXT NOT NULL DEFAULT '';
    ALTER TABLE vms ADD COLUMN move_host INTEGER REFERENCES hosts(id);
    ALTER TABLE vms ADD COLUMN away TEXT NOT NULL DEFAULT '';
    CREATE INDEX vms_moving ON vms(move_host) WHERE move_host IS NOT NULL;
    """,
    # System datastores that several hosts see, and what their directories are known by (model/shared_datastores.py).
    """
    ALTER TABLE datastores ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE datastores ADD COLUMN hosts TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE datastores ADD COLUMN mark TEXT NOT NULL DEFAULT '';
    """,
)
VERSION = len(MIGRATIONS)


def refuse_newer(version: int, asked: str) -> None:
    """Raise CatalogError for a catalog, or a copy of one, that a newer collection wrote. version: its user_version"""
    if version > VERSION:
        raise CatalogError(
            asked,
            f"its schema is version {version}, this collection knows up to {VERSION}",
            "Use the newer nebula.provision that wrote it",
        )
