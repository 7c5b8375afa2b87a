# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a backup of a machine: what its manifest says, and what one run is asked to back up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Optional

from ..dataclass import dataclass
from . import defaults
from .vm import Vm

FORMAT = 1
FULL, INCREMENTAL = "full", "incremental"
# In which moment of the guest its disks were read: it was off; its agent had frozen its file systems; it had not, as if
# the power had been cut; it stood still.
OFF, FROZEN, CRASH_CONSISTENT, STOOD_STILL = "off", "frozen", "crash-consistent", "stood still"
# How the data of a disk is stored.
QCOW2, LUKS, TAR = "qcow2", "luks", "tar"
# What else of a machine's is in a backup, beside its disks and secrets: its NVRAM, and the state of its TPM.
FURTHER_FILES = ("nvram", "tpm")
# Where the directory of backups is.
FRONTEND, NODE = "frontend", "node"
# What else of a machine's is in its backup: variables of UEFI, and the state of its TPM, which is a secret.
NVRAM, TPM = "nvram", "tpm"
# That directory in a datastore.
IN_DATASTORE = "machine_backups"


@dataclass(frozen=True)
class StoredFile:
    """Describes one file of a backup, beside its manifest.
    size: bytes.
    sha256: of the file as it lies there.
    holds: bytes of what is in it, where it is a container whose last sector is filled up; else 0."""

    name: str
    size: int
    sha256: str
    holds: int = 0


@dataclass(frozen=True)
class BackedUpDisk:
    """Describes one disk of a backup.
    format: of the machine's own disk: qcow2, raw or tar.
    size: bytes that the guest sees; 0 for the root of a container.
    stored: how the file holds it: QCOW2 (a plain qcow2), LUKS (a qcow2 within a LUKS container) or TAR.
    below: the name of the file on which this one rests, of the backup's parent; "" if it holds all of the disk.
    luks: the machine's own disk was encrypted."""

    disk_id: int
    target: str
    format: str
    size: int
    file: StoredFile
    stored: str = QCOW2
    below: str = ""
    image: str = ""
    luks: bool = False


@dataclass(frozen=True)
class MachineBackup:
    """Describes what a backup's manifest says.
    id: by which it is known among those of its machine: the time and a random end.
    catalog, vm_id, uuid: whose machine it is, and which.
    host: on which it was made.
    time: when, in seconds since 1970.
    kind: FULL or INCREMENTAL. parent: the id of the backup that an incremental one rests on.
    reason: why it is a full one where an incremental one was possible or asked for; a sentence.
    way: how the disks were read; a sentence's part.
    consistency: OFF, FROZEN, CRASH_CONSISTENT or STOOD_STILL.
    checkpoint: by which its hypervisor knows what is written from now on; "" if nothing is kept there.
    unchanged: names, by disk id, what must be as it was for a disk of a machine that is off to count as not written to.
    left_out: the machine's disks that are not in it, a sentence each.
    files: what else of the machine's is in it, NVRAM and TPM, by what they are. With a key they are containers.
    template: the machine's template as plain attributes, without secrets.
    secrets: names of what was left out of it, or is in secrets_file.
    secrets_file: these, under the user's key; None without a key.
    by_hand: commands that restore the disks without this collection.
    seal: HMAC of all the rest with the user's key; "" without a key."""

    id: str
    catalog: str
    vm_id: int
    uuid: str
    name: str
    host: str
    hypervisor: str
    time: int
    kind: str
    state: str
    consistency: str
    way: str
    disks: tuple[BackedUpDisk, ...]
    owner: str = ""
    parent: str = ""
    reason: str = ""
    checkpoint: str = ""
    unchanged: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    template: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    secrets_file: Optional[StoredFile] = None
    by_hand: tuple[str, ...] = ()
    compressed: bool = False
    encrypted: bool = False
    seal: str = ""
    format: int = FORMAT


@dataclass(frozen=True)
class MachineToBackUp:
    """Describes a machine of a run of backups, as the front-end asks its host for it.
    generation: the decision that the catalog has of it; its host refuses another one.
    template: as in MachineBackup. secrets: by name, what was left out of the template."""

    vm: Vm
    generation: int
    host: str
    owner: str = ""
    template: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class BackupPassage:
    """Says how a host and the front-end meet, where the front-end writes what it reads of the host's machines.
    token: names this run between the two.
    gives: it is the host with the machines, and waits for the front-end to come; else it is the front-end.
    peer: the other one's name.
    address, port: where the host is met. address: "" at the host, which listens on all of its own.
    certificate: the other one's; own_certificate, key: by which this one is known, all as PEM.
    meeting: seconds in which the other one has to be there, while nothing else is under way.
    encrypted: the front-end stores it under the user's key, which the host does not get."""

    token: str
    gives: bool
    peer: str
    address: str = ""
    port: int = defaults.MOVE_PORT
    certificate: str = ""
    own_certificate: str = ""
    key: str = field(default="", repr=False)
    meeting: int = defaults.MEETING_SECONDS
    encrypted: bool = False


@dataclass(frozen=True)
class BackupRequest:
    """Describes a run of backups on one host.
    directory: where they lie. at: FRONTEND or NODE.
    full: no incremental ones.
    consistency: auto, agent or crash, as in model/plan.py.
    compress: by zstd. key: the user's, "" for no encryption.
    rate: MiB a second that each machine's data takes at most, 0 for all there is.
    at_once: how many machines.
    stand_still: machines of hypervisors that can't be read while they run may stand still for it.
    passage: how the front-end gets at machines of another host; None where directory and machines are on one."""

    catalog: str
    directory: str
    at: str
    machines: tuple[MachineToBackUp, ...]
    full: bool = False
    consistency: str = "auto"
    compress: bool = True
    key: str = field(default="", repr=False)
    rate: int = 0
    at_once: int = 2
    stand_still: bool = False
    passage: Optional[BackupPassage] = None

    @property
    def is_encrypted(self) -> bool:
        """Return whether what is read is stored under a key."""
        return bool(self.key) or (self.passage is not None and self.passage.encrypted)
