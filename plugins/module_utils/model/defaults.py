# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what counts where nobody says anything: each default of the collection once, with its source.

Python reads a default from here. Roles and the documentation of modules are YAML, which can't: tests compare them with
this file and name what differs. An option that is merely off or empty, or in the first of its states, has no line."""

from __future__ import annotations

# -- machines ---------------------------------------------------------------------------------------------------------
# OpenNebula's own hypervisor, and the one that most hosts have.
HYPERVISOR = "kvm"
# Ours: a whole processor, as a physical machine has.
CPU = 1.0
# As a real oned has them in its defaults for KVM (vmm_exec_kvm.conf).
MACHINE = "q35"
CACHE = "none"
DISCARD = "unmap"
NIC_MODEL = "virtio"
# The hosts that this collection is tested on have it.
ARCH = "x86_64"
# DEFAULT_DEVICE_PREFIX of a real oned (oned.conf).
DEV_PREFIX = "sd"
# DEFAULT_CDROM_DEVICE_PREFIX of the same, on boards with IDE. On others it would be SATA, and the prefix above is used.
CDROM_DEV_PREFIX = "hd"
# Paravirtual disks of Xen have no other name.
XEN_DEV_PREFIX = "xvd"
# Ours. A machine's own copy of an image is an overlay on KVM, which no raw file can be; Xen's block backend takes raw
# files without help of QEMU.
FORMAT = "qcow2"
XEN_FORMAT = "raw"
# Ours: the version that Windows 11 asks for, by the interface that was made for it.
TPM_MODEL = "tpm-crb"
TPM_VERSION = "2.0"

# -- machines and their disks that end ---------------------------------------------------------------------------------
# Ours. Of how many machines one run may destroy the disks without a word: a number, or a percentage of those that there
# are. A few are a day's work: one is set absent, a pattern is scaled down, as the demo's three machines are. More are
# what a slip takes: a count that lost a digit, a recreate that was left in the item of a pattern. A percentage would
# let a slip take thirty machines of three hundred, and what a disk holds is not worth less where there are many.
DESTROY_LIMIT = "3"

# -- consoles ---------------------------------------------------------------------------------------------------------
GRAPHICS_TYPE = "vnc"
# libvirt's own (vnc_listen of qemu.conf): nobody but users of the host reaches a console before somebody says so.
GRAPHICS_LISTEN = "127.0.0.1"
# Display 0 of the RFB protocol; OpenNebula's own first port too (VNC_PORTS in oned.conf).
FIRST_GRAPHICS_PORT = 5900
LAST_GRAPHICS_PORT = 65535
# virtlogd's own (max_size, max_backups of virtlogd.conf), for machines of KVM: a log that has so many bytes is renamed,
# and so many older ones are kept. Consoles of other drivers are bounded by us in the same way.
CONSOLE_LOG_BYTES = 2 << 20
KEPT_CONSOLE_LOGS = 3

# -- waiting, in seconds ----------------------------------------------------------------------------------------------
# All of these are ours: long enough for guests and programs that are emulated, as in the tests.
# For a guest to obey the power button. (A real oned gives a guest of Xen 300.)
SHUTDOWN_SECONDS = 120
# For a guest to let go of a disk or NIC. (One that answers does so within a second or two, and pciehp takes five.)
DETACH_SECONDS = 60
# Machines that are started anew at a time, where they have something that waits for that.
RESTART_BATCH = "1"
# Machines that move to other hosts at a time.
MOVE_BATCH = "2"
# Hosts on which Ansible acts at a time, where its own settings say nothing else.
FORKS = 5
# Where a host is met that a machine moves to. (The first of the ports that libvirt takes for migrations by itself.)
MOVE_PORT = 49152
# For a machine to move; that it is given up and runs on where it was costs nothing but the time.
MOVE_SECONDS = 3600
# For the other host of a move to be there: both begin in the same task.
MEETING_SECONDS = 60
# For a guest to be up and contextualised.
VERIFY_SECONDS = 180
# For AWX to update a project.
AWX_PROJECT_SECONDS = 300
# For an installer. (Debian's own takes half an hour and more when it is emulated.)
INSTALL_SECONDS = 3600
# For the first guest of an image that was installed to be up.
TRIAL_SECONDS = 300
# For another run that is at the same image.
IMAGE_WAIT_SECONDS = 600
# The same where an image is prepared: programs of the guest's own are a part of that.
PREPARE_WAIT_SECONDS = 900
# For the guest of a live check to answer.
IMAGE_CHECK_SECONDS = 600
# For each answer of a guest's agent, and for its console to show a prompt, in connection plugin guest.
GUEST_ANSWER_SECONDS = 20
# How long a download may send nothing, and what it has to bring on average, before it is given up.
DOWNLOAD_STALL_SECONDS = 30
DOWNLOAD_MIN_KIB_PER_SECOND = 16
# How old lists of packages may be before they are fetched anew.
PACKAGE_CACHE_SECONDS = 3600

# -- sizes and places -------------------------------------------------------------------------------------------------
# MiB. Ours: the most of an image (256 GiB), and the memory that a host keeps for its own programs.
IMAGE_MAX_SIZE = 262144
RESERVED_MEMORY = 512
# MiB. Ours: the most of a file that connection plugin guest fetches. A guest says itself when its file has ended.
GUEST_MAX_FETCH = 1024
# Modules of memory that a machine can get while it runs.
MEMORY_SLOTS = 16
# Slots that are reserved for disks and NICs of a running machine; 0 leaves that to its hypervisor.
HOTPLUG_SLOTS = 0
# Ours: nothing is promised twice.
MEMORY_OVERCOMMIT = 1.0
CPU_OVERCOMMIT = 1.0
# FHS: variable data of one program, and what is kept for its sake.
ROOT = "/var/lib/nebula"
BACKUPS = "/var/backups/nebula"
KEPT_BACKUPS = 10
# Ours. Backups of machines, beside those of the catalog; how many are made at a time; which of them are kept: a week of
# single runs, two weeks by day, two months by week, a year by month.
MACHINE_BACKUPS = "/var/backups/nebula-machines"
BACKUPS_AT_ONCE = 2
KEPT_MACHINE_BACKUPS = {"last": 7, "daily": 14, "weekly": 8, "monthly": 12}
