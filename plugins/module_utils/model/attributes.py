# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes that templates are known to have, and which of a user's own look like slips of them."""

from __future__ import annotations

from collections.abc import Collection

from .template import Template


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IO_LIMITS = " ".join(
    f"{which}_{what}_SEC{more}"
    for which in ("TOTAL", "READ", "WRITE")
    for what in ("BYTES", "IOPS")
    for more in ("", "_MAX", "_MAX_LENGTH")
)

# For people, for Sunstone, or written by a real oned: being kept is all they are for.
NOTES = _words("""
    DESCRIPTION LOGO LABELS INFO ERROR LOCK TEMPLATE_ID SCHED_MESSAGE CREATED_BY
    SUNSTONE_CAPACITY_SELECT SUNSTONE_NETWORK_SELECT
""")

# Attributes with a single value.
SINGLES = NOTES | _words("""
    NAME CPU VCPU VCPU_MAX MEMORY MEMORY_MAX MEMORY_SLOTS MEMORY_RESIZE_MODE MEMORY_COST CPU_COST DISK_COST
    HYPERVISOR SCHED_REQUIREMENTS SCHED_RANK SCHED_DS_REQUIREMENTS SCHED_DS_RANK REQUIREMENTS RANK
    USER_PRIORITY PUBLIC AUTOMATIC_REQUIREMENTS CLUSTER_ID DEPLOY_ID EMULATOR HYPERV_OPTIONS SPICE_OPTIONS
    AS_GROUP AS_UID AS_GID
    CONTEXT_FORMAT CONTEXT_DEVICE INJECT_VIA
    ONBOOT CPUUNITS CPULIMIT CPUS CPUMASK DISKSPACE DISKINODES SWAPPAGES OSTEMPLATE
    LXC_SECURITY_PRIVILEGED LXC_PROFILES
""")

# Vectors, each with the names that it may hold; None: any.
VECTORS: dict[str, frozenset[str] | None] = {
    "DISK": _words(f"""
        IMAGE IMAGE_ID IMAGE_UID IMAGE_UNAME IMAGE_STATE DATASTORE DATASTORE_ID DEV_PREFIX TARGET DRIVER CACHE IO
        DISCARD TYPE FORMAT FS SIZE ORIGINAL_SIZE READONLY CLONE SAVE PERSISTENT SOURCE BUS ORDER DISK_ID DISK_TYPE
        IOTHREAD VIRTIO_BLK_QUEUES LUKS_SECRET SHAREABLE SERIAL ERROR_POLICY FORCE_BUS
        SIZE_IOPS_SEC {_IO_LIMITS} ALLOW_ORPHANS RECOVERY_SNAPSHOT_FREQ CLONE_TARGET LN_TARGET TM_MAD
        DISKSPACE DISKINODES MOUNT_TAG MOUNT_POINT OPENNEBULA_MANAGED
    """),
    "NIC": _words("""
        NETWORK NETWORK_ID NETWORK_UID NETWORK_UNAME NETWORK_MODE NIC_ID NAME IP IP6 IP6_GLOBAL IP6_ULA IP6_GATEWAY
        IP6_METHOD IP6_METRIC MAC MODEL TARGET BRIDGE SCRIPT FILTER VLAN_ID AR_ID TYPE RDP SSH VNC EXTERNAL
        GATEWAY GATEWAY6 DNS SEARCH_DOMAIN MTU GUEST_MTU METRIC METHOD NETWORK_ADDRESS NETWORK_MASK ROUTES
        SECURITY_GROUPS VIRTIO_QUEUES ISOLATION_BRIDGE QOS_CLASS FLOATING_IP FLOATING_ONLY VROUTER_IP VROUTER_IP6
        VROUTER_MANAGEMENT SCHED_REQUIREMENTS SCHED_RANK PCI_ID SHORT_ADDRESS ORDER OPENNEBULA_MANAGED
        INBOUND_AVG_BW INBOUND_PEAK_BW INBOUND_PEAK_KB OUTBOUND_AVG_BW OUTBOUND_PEAK_BW OUTBOUND_PEAK_KB
        PHYDEV VN_MAD CLUSTER_ID
    """),
    "NIC_DEFAULT": None,
    "NIC_ALIAS": _words("NETWORK NETWORK_ID NETWORK_UNAME PARENT IP IP6 MAC NAME EXTERNAL SECURITY_GROUPS NIC_ID"),
    "OS": _words("""
        ARCH MACHINE BOOT KERNEL KERNEL_DS INITRD INITRD_DS KERNEL_CMD ROOT BOOTLOADER UUID FIRMWARE FIRMWARE_SECURE
        FIRMWARE_FORMAT SD_DISK_BUS TPM
    """),
    "TPM": _words("MODEL VERSION"),
    "INJECT": _words("PATH CONTENT SRC MODE OWNER GROUP DISK"),
    "GRAPHICS": _words("TYPE LISTEN PORT PASSWD KEYMAP RANDOM_PASSWD COMMAND WEBSOCKET_PORT TLSPORT"),
    "VIDEO": _words("TYPE VRAM RESOLUTION IOMMU ATS"),
    "INPUT": _words("TYPE BUS"),
    "FEATURES": _words("""
        ACPI APIC PAE HYPERV LOCALTIME GUEST_AGENT VIRTIO_SCSI_QUEUES VIRTIO_BLK_QUEUES IOTHREADS HYPERV_OPTIONS
    """),
    "CPU_MODEL": _words("MODEL FEATURES"),
    "TOPOLOGY": _words("SOCKETS CORES THREADS PIN_POLICY NODE_AFFINITY HUGEPAGE_SIZE MEMORY_ACCESS"),
    "NUMA_NODE": None,
    "PCI": _words("DEVICE VENDOR CLASS TYPE NAME SHORT_ADDRESS ADDRESS PROFILE NETWORK NETWORK_ID IP MAC MODEL NIC_ID"),
    "CONTEXT": None,
    "RAW": _words("TYPE DATA DATA_VMX VALIDATE"),
    "BACKUP_CONFIG": None,
    "USER_INPUTS": None,
    "VM_GROUP": _words("ROLE VMGROUP_ID VMGROUP_NAME VMGROUP_UNAME"),
    "SCHED_ACTION": None,
    "SECURITY_GROUP_RULE": None,
    "QEMU_GUEST_AGENT": None,
    "HOT_RESIZE": _words("CPU_HOT_ADD_ENABLED MEMORY_HOT_ADD_ENABLED"),
    "MEMORY": None,
    "OPENVZ": None,
}

# OpenNebula acts on these; nothing here does yet, and silence would promise otherwise. "" is the attribute itself.
WITHOUT_EFFECT = {
    **dict.fromkeys(
        (
            "TOPOLOGY", "NUMA_NODE", "PCI", "NIC_ALIAS", "NIC_DEFAULT", "VM_GROUP", "SCHED_REQUIREMENTS", "SCHED_RANK",
            "REQUIREMENTS", "RANK", "SCHED_DS_REQUIREMENTS", "SCHED_DS_RANK", "VCPU_MAX", "MEMORY_MAX", "MEMORY_SLOTS",
            "HOT_RESIZE", "VIDEO", "BACKUP_CONFIG", "SCHED_ACTION", "EMULATOR", "QEMU_GUEST_AGENT",
            "MEMORY_RESIZE_MODE", "MEMORY_COST", "CPU_COST", "DISK_COST", "USER_INPUTS", "USER_PRIORITY", "PUBLIC",
            "AUTOMATIC_REQUIREMENTS", "CLUSTER_ID", "DEPLOY_ID", "HYPERV_OPTIONS", "SPICE_OPTIONS", "AS_GROUP",
            "AS_UID", "AS_GID", "ONBOOT", "CPUUNITS", "CPULIMIT", "CPUS", "CPUMASK", "DISKSPACE", "DISKINODES",
            "SWAPPAGES", "OSTEMPLATE", "OPENVZ", "LXC_SECURITY_PRIVILEGED", "LXC_PROFILES", "SECURITY_GROUP_RULE",
        ),
        ("",),
    ),
    "NIC": (
        "SECURITY_GROUPS", "FLOATING_IP", "FLOATING_ONLY", "RDP", "SSH", "VNC", "NETWORK_UID", "NETWORK_UNAME",
        "NETWORK_MODE", "NIC_ID", "NAME", "BRIDGE", "AR_ID", "TYPE", "MTU", "ISOLATION_BRIDGE", "QOS_CLASS",
        "SCHED_REQUIREMENTS", "SCHED_RANK", "PCI_ID", "SHORT_ADDRESS", "ORDER", "OPENNEBULA_MANAGED", "PHYDEV",
        "VN_MAD", "CLUSTER_ID",
    ),
    "DISK": (
        "LUKS_SECRET", "MOUNT_TAG", "MOUNT_POINT", "RECOVERY_SNAPSHOT_FREQ", "IMAGE_UID", "IMAGE_UNAME", "IMAGE_STATE",
        "DATASTORE", "DATASTORE_ID", "DISK_TYPE", "ORIGINAL_SIZE", "CLONE", "SAVE", "PERSISTENT", "SOURCE", "ORDER",
        "DISK_ID", "ALLOW_ORPHANS", "CLONE_TARGET", "LN_TARGET", "TM_MAD", "DISKSPACE", "DISKINODES",
        "OPENNEBULA_MANAGED",
    ),
    "OS": ("FIRMWARE_FORMAT",),
    "GRAPHICS": ("COMMAND", "WEBSOCKET_PORT", "TLSPORT"),
    "FEATURES": ("HYPERV_OPTIONS",),
    "RAW": ("DATA_VMX", "VALIDATE"),
}  # fmt: skip

# Not slips of the finger, and silently without effect all the same. "" is the attribute itself.
_MEANT = {
    ("MACHINE", ""): "MACHINE in OS",
    ("DISK", "BOOT"): "BOOT in OS",
    ("DISK", "IO_THREADS"): "IOTHREAD",
    ("DISK", "VIRTIO_SCSI_QUEUES"): "VIRTIO_SCSI_QUEUES in FEATURES",
    ("FEATURES", "IOTHREAD"): "IOTHREADS",
    ("GRAPHICS", "PASSWORD"): "PASSWD",
    ("GRAPHICS", "ADDRESS"): "LISTEN",
    ("OS", "CMDLINE"): "KERNEL_CMD",
    ("NIC", "ADDRESS"): "IP",
}


def near_misses(template: Template) -> list[str]:
    """A sentence for each attribute that is not known and that looks like a slip of one that is.

    User attributes of their own kind (MYATTR) give none, nor does anything in CONTEXT.
    """
    found = []
    for name in template.names():
        if name in SINGLES or name in VECTORS:
            continue
        # Users invent single values (RACK, LOGS), hardly ever vectors: these are suspected sooner.
        if (name, "") in _MEANT:
            near = _MEANT[name, ""]
        elif template.vectors(name):
            near = nearest_known(name, frozenset(VECTORS), shortest=3, replaced_from=4)
        else:
            near = nearest_known(name, SINGLES | frozenset(VECTORS), shortest=4, replaced_from=5)
        if near:
            found.append(f"{name} is not a known attribute: did you mean {near}?")
    for name, known in VECTORS.items():
        if known is None:
            continue
        several = template.vectors(name)
        for index, vector in enumerate(several):
            shown = f"{name}[{index}]" if len(several) > 1 else name
            for key in vector:
                if key in known:
                    continue
                near = _MEANT.get((name, key)) or nearest_known(key, known, shortest=3, replaced_from=4)
                if near:
                    found.append(f"{shown}/{key} is not a known attribute: did you mean {near}?")
    return found


def without_effect(template: Template, but: Collection[str] = ()) -> list[str]:
    """A sentence for each known attribute that nothing acts on. but: those that its hypervisor does act on."""
    found = []
    for name, keys in WITHOUT_EFFECT.items():
        if name in but:
            continue
        if "" in keys and template.has(name):
            found.append(f"{name} is kept, and nothing acts on it yet")
        given = {key for vector in template.vectors(name) for key, value in vector.items() if value}
        found += [f"{name}/{key} is kept, and nothing acts on it yet" for key in keys if key in given]
    return found


def nearest_known(name: str, known: frozenset[str], shortest: int, replaced_from: int) -> str:
    """The known name that differs by one slip, "" if there is none: a letter too few, too many or (from the length
    replaced_from) another, two exchanged, or words run together. Names below `shortest` letters are not suspected."""
    if len(name) < shortest:
        return ""
    flat = name.replace("_", "")
    near = [
        word for word in known if _one_slip(name, word, len(name) >= replaced_from) or word.replace("_", "") == flat
    ]
    return min(near, key=lambda word: (word[0] != name[0], word)) if near else ""


def _one_slip(given: str, known: str, replaced: bool) -> bool:
    if abs(len(given) - len(known)) > 1 or len(known) < 3:
        return False
    start = 0
    while start < min(len(given), len(known)) and given[start] == known[start]:
        start += 1
    rest, wanted = given[start:], known[start:]
    return (
        (replaced and rest[1:] == wanted[1:])
        or rest[1:] == wanted
        or rest == wanted[1:]
        or (rest[:2] == wanted[:2][::-1] and rest[2:] == wanted[2:])
    )
