# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Knows the attributes of templates: what becomes of each, and which of a user's own attributes look like slips."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..dataclass import dataclass
from ..errors import InvalidValue, NebulaError
from . import beancounters
from .flags import FALSE
from .object_names import nearest_word
from .template import Template

ACTS, REFUSED, NO_EFFECT, KEPT = "acts", "refused", "no effect", "kept"
# Attributes of the machine itself that only a container of OpenVZ has.
CONTAINER = (
    "ONBOOT", "CPUUNITS", "CPUS", "CPUMASK", "DISKSPACE", "DISKINODES", "SWAPPAGES", "OSTEMPLATE",
)  # fmt: skip
# The columns of the table: on machines of these hypervisors different attributes act.
KVM, XEN = "kvm", "xen"


@dataclass(frozen=True)
class AttributeEffects:
    """Says what becomes of some attributes that OpenNebula's templates know, of a machine of KVM and of one of Xen.
    vector: where the attributes stand, "" for attributes of the machine itself.
    names: "" is the vector as such, "*" any attribute.
    kvm, xen: ACTS: it makes another machine. REFUSED: nothing that says yes is stored. NO_EFFECT: it is kept, with a
    warning. KEPT: it is for people, or a real oned wrote it.
    why: the reason, for what does not act everywhere.
    instead: what to do where it is refused."""

    vector: str
    names: tuple[str, ...]
    kvm: str
    xen: str
    why: str = ""
    instead: str = "Leave it out"

    def on(self, hypervisor: str) -> str:
        return self.xen if hypervisor == XEN else self.kvm

    def texts(self) -> list[str]:
        """Return the attributes as SINGLE, VECTOR or VECTOR/KEY."""
        return [f"{self.vector}/{name}" if self.vector and name else self.vector or name for name in self.names]


@dataclass(frozen=True)
class OwnEffect:
    """Says what becomes of an attribute on one hypervisor, whatever its column of the table says; a hypervisor declares
    its own in its folder. effect, why and instead are as in Entry."""

    effect: str
    why: str = ""
    instead: str = "Leave it out"


def _entry(
    vector: str, names: str, kvm: str, xen: str, why: str = "", instead: str = "Leave it out"
) -> AttributeEffects:
    # A full stop stands for the vector itself.
    return AttributeEffects(
        vector, tuple("" if name == "." else name for name in names.split()), kvm, xen, why, instead
    )


def _everywhere(vector: str, names: str, effect: str, why: str = "", instead: str = "Leave it out") -> AttributeEffects:
    return _entry(vector, names, effect, effect, why, instead)


_IO_LIMITS = " ".join(
    f"{which}_{what}_SEC{more}"
    for which in ("TOTAL", "READ", "WRITE")
    for what in ("BYTES", "IOPS")
    for more in ("", "_MAX", "_MAX_LENGTH")
)
_OF_NETWORKS = "the network says it"
_BY_ONED = "a real oned writes it itself"
_BY_ITEM = "a machine goes to the host that its item names, else to the one with most memory left"
_NO_CONTAINERS = "no machine here is a container of LXC"
_BY_BOOT = "where OS has no BOOT: a real oned takes it from there alone"
_OF_OPENVZ = "it is for containers of OpenVZ (openvz.md)"
_OF_VCENTER = "it is for vCenter"
_NO_ONEGATE = "there is no OneGate here: the guest gets it, and has nobody to report to"
_NO_SUNSTONE = "there is no Sunstone that would connect"
_RDP = (
    "SERVER_LAYOUT RESIZE_METHOD DISABLE_AUDIO DISABLE_BITMAP_CACHING DISABLE_GLYPH_CACHING DISABLE_OFFSCREEN_CACHING"
    " ENABLE_AUDIO_INPUT ENABLE_DESKTOP_COMPOSITION ENABLE_FONT_SMOOTHING ENABLE_FULL_WINDOW_DRAG"
    " ENABLE_MENU_ANIMATIONS ENABLE_THEMING ENABLE_WALLPAPER"
)
_CONNECTIONS = " ".join(("RDP SSH VNC", *(f"RDP_{name}" for name in _RDP.split())))

# All attributes of OpenNebula 7.4's templates, those of older ones that are still met, and ours. What is warned of,
# what is refused, which names look like slips and docs/attributes.md come from here.
TABLE = (
    # -- the machine itself
    _everywhere("", "NAME CPU VCPU MEMORY HYPERVISOR", ACTS),
    _everywhere("", "CONTEXT_FORMAT CONTEXT_DEVICE INJECT_VIA", ACTS, "ours: context.md and disks.md say what"),
    _entry("", "EMULATOR", ACTS, NO_EFFECT, "it names another QEMU; Xen's tools choose theirs themselves"),
    _everywhere("", "CPULIMIT", ACTS, "percents of one processor that a machine gets at most; 100 is a whole one"),
    _everywhere(
        "",
        "DESCRIPTION LOGO LABELS INFO ERROR LOCK TEMPLATE_ID SCHED_MESSAGE CREATED_BY SUNSTONE_CAPACITY_SELECT"
        " SUNSTONE_NETWORK_SELECT OS_PROFILE MEMORY_UNIT_COST INPUTS_ORDER"
        " USER_INPUTS_METADATA",
        KEPT,
        "for people, for Sunstone, or written by a real oned",
    ),
    _everywhere(
        "",
        "SCHED_REQUIREMENTS SCHED_RANK SCHED_DS_REQUIREMENTS SCHED_DS_RANK REQUIREMENTS RANK USER_PRIORITY",
        NO_EFFECT,
        _BY_ITEM,
    ),
    _entry(
        "",
        "VCPU_MAX MEMORY_MAX MEMORY_SLOTS MEMORY_RESIZE_MODE",
        ACTS,
        NO_EFFECT,
        "elsewhere nothing is set aside: what a machine gets while it runs, it gets of what its host has left",
    ),
    _entry("", "HOTPLUG_SLOTS", ACTS, NO_EFFECT, "ours: room for disks and NICs that come while the machine runs"),
    _entry("", "MEMORY_TUNE_OFFSET", ACTS, NO_EFFECT, "MB that QEMU may lock beside memory that is encrypted"),
    _everywhere("", "MEMORY_COST CPU_COST DISK_COST", NO_EFFECT, "nothing is billed"),
    _everywhere("", "PUBLIC AS_GROUP AS_UID AS_GID", NO_EFFECT, "there are no users who would have rights"),
    _everywhere("", "SUBMIT_ON_HOLD", NO_EFFECT, "an item with state: poweroff is made and not started"),
    _entry("", "HYPERV_OPTIONS HYPERV_TIMERS SPICE_OPTIONS", ACTS, NO_EFFECT, "libvirt's XML, in place of our own"),
    _everywhere(
        "",
        "AUTOMATIC_REQUIREMENTS AUTOMATIC_DS_REQUIREMENTS AUTOMATIC_NIC_REQUIREMENTS CLUSTER_ID DEPLOY_ID"
        " CLONING_TEMPLATE_ID TEMPLATE_NAME TM_MAD_SYSTEM IMPORTED VROUTER_ID VROUTER_KEEPALIVED_ID"
        " VROUTER_KEEPALIVED_PASSWORD QEMU_GA_EXEC",
        NO_EFFECT,
        _BY_ONED,
    ),
    _everywhere("", "VROUTER", NO_EFFECT, "a router is no machine here (nebula_routers)"),
    _everywhere("", "VCENTER_VM_FOLDER VCENTER_ESX_HOST VCENTER_CCR_REF", NO_EFFECT, _OF_VCENTER),
    _everywhere("", " ".join(CONTAINER), NO_EFFECT, _OF_OPENVZ),
    _everywhere("", "LXC_SECURITY_PRIVILEGED LXC_PROFILES LXC_UNPRIVILEGED LXC_SWAP", NO_EFFECT, _NO_CONTAINERS),
    _everywhere(
        "",
        "LXD_SECURITY_PRIVILEGED LXD_SECURITY_NESTING LXD_PROFILE",
        NO_EFFECT,
        "no machine here is a container of LXD",
    ),
    _everywhere(
        "MEMORY",
        " ".join(beancounters.NAMES),
        REFUSED,
        "a vector of beancounters is for containers of OpenVZ (openvz.md)",
        "Give one number of MB: MEMORY = 512",
    ),
    # -- disks
    _everywhere("DISK", "IMAGE IMAGE_ID DEV_PREFIX TARGET DRIVER TYPE FORMAT FS SIZE READONLY", ACTS),
    _entry("DISK", "BUS", ACTS, NO_EFFECT, "the target says it"),
    _entry(
        "DISK",
        f"CACHE IO DISCARD ERROR_POLICY SHAREABLE SERIAL IOTHREAD VIRTIO_BLK_QUEUES SIZE_IOPS_SEC {_IO_LIMITS}",
        ACTS,
        NO_EFFECT,
        "a disk of Xen is its kernel's, and not QEMU's",
    ),
    _entry("DISK", "FORCE_BUS", ACTS, NO_EFFECT, "ours: the system is known to start from another bus"),
    _entry("DISK", "LUKS_SECRET", ACTS, NO_EFFECT, "where the image is encrypted, in place of the image's own secret"),
    _entry(
        "DISK",
        "SOURCE MOUNT_TAG MOUNT_POINT",
        ACTS,
        NO_EFFECT,
        "of TYPE = FILESYSTEM, a directory of the host: disks.md",
    ),
    _everywhere("DISK", "UID_MAP GID_MAP", NO_EFFECT, "a guest's users are those of the directory"),
    _everywhere(
        "DISK",
        "RECOVERY_SNAPSHOT_FREQ",
        NO_EFFECT,
        "nothing runs between runs; disk_snapshots of an item makes snapshots",
    ),
    _everywhere("DISK", "IMAGE_UID IMAGE_UNAME", NO_EFFECT, "names of images are there once"),
    _entry("DISK", "ORDER", ACTS, NO_EFFECT, _BY_BOOT),
    _everywhere(
        "DISK",
        "CLONE SAVE PERSISTENT IMAGE_STATE DATASTORE DATASTORE_ID DISK_TYPE ORIGINAL_SIZE SIZE_PREV DISK_ID"
        " ALLOW_ORPHANS CLONE_TARGET LN_TARGET TM_MAD TM_MAD_SYSTEM CLUSTER_ID OPENNEBULA_MANAGED POOL_NAME"
        " QCOW2_STANDALONE SPARSE LVM_THIN_ENABLE PERSISTENT_SNAPSHOTS",
        NO_EFFECT,
        "the image says it",
    ),
    _everywhere(
        "DISK",
        "CEPH_HOST CEPH_USER CEPH_SECRET CEPH_CONF CEPH_KEY ISCSI_HOST ISCSI_IQN ISCSI_USER ISCSI_USAGE GLUSTER_HOST"
        " GLUSTER_VOLUME SHEEPDOG_HOST",
        NO_EFFECT,
        "images are files here",
    ),
    _everywhere("DISK", "CLONING ATTACH DISK_SNAPSHOT_TOTAL_SIZE DEVICE_MODEL", NO_EFFECT, _BY_ONED),
    _everywhere(
        "DISK",
        "VCENTER_ADAPTER_TYPE VCENTER_DISK_TYPE VCENTER_DS_REF VCENTER_INSTANCE_ID ADAPTER_TYPE",
        NO_EFFECT,
        _OF_VCENTER,
    ),
    _everywhere("DISK", "DISKSPACE DISKINODES", NO_EFFECT, _OF_OPENVZ),
    # -- interfaces
    _everywhere(
        "NIC",
        "NETWORK NETWORK_ID IP IP6 MAC MODEL TARGET IP6_GLOBAL IP6_ULA IP6_GATEWAY IP6_METHOD IP6_METRIC VLAN_ID"
        " EXTERNAL GATEWAY GATEWAY6 DNS SEARCH_DOMAIN GUEST_MTU METRIC METHOD NETWORK_ADDRESS NETWORK_MASK ROUTES"
        " VROUTER_IP VROUTER_IP6 VROUTER_MANAGEMENT IP6_PREFIX_LENGTH PREFIX_LENGTH",
        ACTS,
    ),
    _entry(
        "NIC",
        "FILTER VIRTIO_QUEUES INBOUND_AVG_BW INBOUND_PEAK_BW INBOUND_PEAK_KB OUTBOUND_AVG_BW OUTBOUND_PEAK_BW"
        " OUTBOUND_PEAK_KB",
        ACTS,
        NO_EFFECT,
        "an interface of Xen is its kernel's, and not QEMU's",
    ),
    _entry("NIC", "LINK", ACTS, NO_EFFECT, "ours: down is a cable that is pulled out"),
    _entry("NIC", "SCRIPT", REFUSED, ACTS, "libvirt runs none for interfaces of a bridge"),
    _everywhere(
        "NIC",
        "SECURITY_GROUPS FILTER_IP_SPOOFING FILTER_MAC_SPOOFING",
        ACTS,
        "by OVN, or on Linux bridges by their nodes: networks.md says what",
    ),
    _everywhere("NIC", "VLAN_TAGGED_ID", ACTS, "only Open vSwitch acts on it (networks with VN_MAD = ovswitch)"),
    _everywhere(
        "NIC",
        "TRUST SPOOFCHK",
        NO_EFFECT,
        "FILTER_MAC_SPOOFING and FILTER_IP_SPOOFING say here whether its addresses are watched over",
    ),
    _everywhere(
        "NIC",
        "FLOATING_IP FLOATING_ONLY EXTERNAL_IP",
        NO_EFFECT,
        "routers have such addresses, and name the machine (nebula_routers)",
    ),
    _everywhere("NIC", _CONNECTIONS, NO_EFFECT, _NO_SUNSTONE),
    _everywhere("NIC", "NETWORK_UID NETWORK_UNAME", NO_EFFECT, "names of networks are there once"),
    _everywhere(
        "NIC", "NETWORK_MODE SCHED_REQUIREMENTS SCHED_RANK", NO_EFFECT, "no network is chosen: NETWORK names it"
    ),
    _everywhere(
        "NIC",
        "BRIDGE BRIDGE_TYPE PHYDEV VN_MAD AR_ID MTU ISOLATION_BRIDGE CLUSTER_ID TYPE QOS_CLASS CVLANS"
        " OUTER_VLAN_ID PARENT_NETWORK_ID QINQ_TYPE CONF BRIDGE_CONF OVS_BRIDGE_CONF IP_LINK_CONF",
        NO_EFFECT,
        _OF_NETWORKS,
    ),
    _everywhere("NIC", "NIC_ID ALIAS_IDS PCI_ID SHORT_ADDRESS OPENNEBULA_MANAGED IP6_LINK ATTACH", NO_EFFECT, _BY_ONED),
    _everywhere(
        "NIC",
        "WHITE_PORTS_TCP WHITE_PORTS_UDP BLACK_PORTS_TCP BLACK_PORTS_UDP ICMP",
        NO_EFFECT,
        "SECURITY_GROUPS say what reaches it",
    ),
    _everywhere(
        "NIC", "EXTERNAL_PORT_RANGE INTERNAL_PORT_RANGE", NO_EFFECT, "no port of a host or router is led to a machine"
    ),
    _everywhere("NIC", "VCENTER_INSTANCE_ID VCENTER_NET_REF VCENTER_PORTGROUP_TYPE", NO_EFFECT, _OF_VCENTER),
    _everywhere("NIC", "NAME", ACTS, "PARENT of a NIC_ALIAS names the NIC by it"),
    _entry("NIC", "ORDER", ACTS, NO_EFFECT, _BY_BOOT),
    _everywhere("NIC_DEFAULT", ". *", ACTS, "what each NIC has that does not say it itself"),
    _everywhere(
        "NIC_DEFAULT",
        "NETWORK NETWORK_ID NETWORK_UID NETWORK_UNAME",
        REFUSED,
        "OpenNebula takes none there",
        "Name the network in each NIC",
    ),
    _everywhere(
        "NIC_ALIAS",
        "NETWORK NETWORK_ID PARENT NAME IP IP6 MAC EXTERNAL",
        ACTS,
        "a further address on a NIC: networks.md says what",
    ),
    _everywhere(
        "NIC_ALIAS",
        "IP6_GLOBAL IP6_ULA IP6_GATEWAY IP6_METHOD IP6_METRIC VLAN_ID GATEWAY GATEWAY6 DNS SEARCH_DOMAIN GUEST_MTU"
        " METRIC METHOD NETWORK_ADDRESS NETWORK_MASK ROUTES VROUTER_IP VROUTER_IP6 VROUTER_MANAGEMENT"
        " IP6_PREFIX_LENGTH PREFIX_LENGTH",
        ACTS,
        "variables of the context (ETHx_ALIASy_…)",
    ),
    _everywhere(
        "NIC_ALIAS",
        "SECURITY_GROUPS FILTER_IP_SPOOFING FILTER_MAC_SPOOFING FILTER",
        REFUSED,
        "the rules of its NIC count for all addresses of the NIC",
        "Say it in the NIC",
    ),
    _everywhere(
        "NIC_ALIAS",
        "MODEL TARGET VIRTIO_QUEUES INBOUND_AVG_BW INBOUND_PEAK_BW INBOUND_PEAK_KB OUTBOUND_AVG_BW OUTBOUND_PEAK_BW"
        " OUTBOUND_PEAK_KB",
        NO_EFFECT,
        "an alias has no interface of its own",
    ),
    _everywhere("NIC_ALIAS", _CONNECTIONS, NO_EFFECT, _NO_SUNSTONE),
    _everywhere("NIC_ALIAS", "NETWORK_UID NETWORK_UNAME", NO_EFFECT, "names of networks are there once"),
    _everywhere(
        "NIC_ALIAS",
        "NIC_ID PARENT_ID ALIAS_ID AR_ID BRIDGE VN_MAD OPENNEBULA_MANAGED IP6_LINK ATTACH",
        NO_EFFECT,
        _BY_ONED,
    ),
    # -- what it boots, and how
    _everywhere("OS", "MACHINE BOOT KERNEL KERNEL_DS INITRD INITRD_DS KERNEL_CMD ROOT UUID FIRMWARE", ACTS),
    _entry("OS", "SD_DISK_BUS", ACTS, NO_EFFECT, "disks of Xen are on no such bus"),
    _entry("OS", "ARCH", ACTS, NO_EFFECT, "machines of Xen are x86_64"),
    _entry("OS", "BOOTLOADER", REFUSED, ACTS, "KVM has none beside the one on the disk", "Name KERNEL and INITRD"),
    _entry("OS", "FIRMWARE_SECURE", ACTS, REFUSED, "Xen can't protect it", "Leave it out, or use KVM"),
    _everywhere("OS", "FIRMWARE_FORMAT", NO_EFFECT, "the firmware's own description says it"),
    _entry("OS", "TPM", ACTS, REFUSED, "Xen's tools make none for a machine of its own", "Leave it out, or use KVM"),
    _entry(
        "TPM",
        ". MODEL VERSION",
        ACTS,
        REFUSED,
        "Xen's tools make none for a machine of its own",
        "Leave it out, or use KVM",
    ),
    _entry(
        "MEMORY_ENCRYPTION",
        ". TYPE",
        ACTS,
        REFUSED,
        "elsewhere no machine's memory is encrypted, and one that is to be must not run without",
        "Leave it out if the machine may run without",
    ),
    _everywhere("INJECT", "PATH CONTENT SRC MODE OWNER GROUP DISK PARTITION", ACTS, "ours: disks.md says what"),
    _everywhere("CONTEXT", ". *", ACTS, "context.md says what"),
    _everywhere("CONTEXT", "REPORT_READY READY_SCRIPT READY_SCRIPT_PATH", NO_EFFECT, _NO_ONEGATE),
    # -- its hardware
    _everywhere("GRAPHICS", "TYPE LISTEN PORT PASSWD RANDOM_PASSWD KEYMAP", ACTS),
    _everywhere("GRAPHICS", "COMMAND WEBSOCKET_PORT TLSPORT", NO_EFFECT, "RAW says what else libvirt is to have"),
    _entry("VIDEO", "TYPE VRAM RESOLUTION IOMMU ATS", ACTS, NO_EFFECT, "Xen's tools have no such word for it"),
    _everywhere("INPUT", "TYPE BUS", ACTS),
    _everywhere(
        "FEATURES",
        "ACPI",
        ACTS,
        "a new machine of UEFI on KVM is not let sleep (`<pm>`), as by oned; one of a BIOS may: its firmware wakes it",
    ),
    _everywhere("FEATURES", "APIC PAE HYPERV LOCALTIME", ACTS),
    _entry(
        "FEATURES",
        "GUEST_AGENT VIRTIO_SCSI_QUEUES VIRTIO_BLK_QUEUES IOTHREADS",
        ACTS,
        NO_EFFECT,
        "machines of Xen have no such devices of QEMU's",
    ),
    _entry("FEATURES", "PCIHOLE64", ACTS, NO_EFFECT, "it is for machines of type q35"),
    _everywhere("FEATURES", "DEVICE_MODEL", NO_EFFECT, "EMULATOR names another QEMU; Xen's tools choose theirs"),
    _everywhere("FEATURES", "PCIBRIDGE", NO_EFFECT, _OF_VCENTER),
    _everywhere("FEATURES", "GIC RAS", NO_EFFECT, "they are for machines of ARM"),
    _everywhere("FEATURES", "MIGRATE_AUTO_CONVERGE MIGRATE_COMPRESSED", NO_EFFECT, "no machine is migrated"),
    _everywhere("FEATURES", "HYPERV_OPTIONS", NO_EFFECT, "HYPERV_OPTIONS of the machine itself says it"),
    _entry("CPU_MODEL", "MODEL FEATURES", ACTS, NO_EFFECT, "a machine of Xen sees the processor of its host"),
    _entry("TOPOLOGY", "SOCKETS CORES THREADS", ACTS, NO_EFFECT, "Xen's tools have no word for it"),
    _entry(
        "TOPOLOGY",
        "PIN_POLICY NODE_AFFINITY HUGEPAGE_SIZE MEMORY_ACCESS",
        ACTS,
        NO_EFFECT,
        "processors, memory and huge pages of a host are given to one machine only (own_hardware.md)",
    ),
    _entry("NUMA_NODE", ". TOTAL_CPUS MEMORY DISTANCE", ACTS, NO_EFFECT, "on machines with a PIN_POLICY"),
    _everywhere("NUMA_NODE", "CPUS NODE_ID MEMORY_NODE_ID", NO_EFFECT, _BY_ONED),
    _entry("PCI", ". SHORT_ADDRESS VENDOR DEVICE CLASS", ACTS, NO_EFFECT, "own_hardware.md says what"),
    _everywhere(
        "PCI",
        "TYPE NAME ADDRESS PROFILE NETWORK NETWORK_ID IP MAC MODEL NIC_ID ROOT"
        " ACPI_NODES DOMAIN BUS SLOT FUNCTION NUMA_NODE MDEV_MODE IOMMUFD PCI_ID UUID VM_ADDRESS VM_BUS VM_BUS_INDEX"
        " VM_DOMAIN VM_FUNCTION VM_SLOT *",
        NO_EFFECT,
        "a guest configures a device itself, and finds it where libvirt has put it",
    ),
    _entry("IOMMU", "MODEL MODE OPTIONS", ACTS, NO_EFFECT, "it is for machines of type q35"),
    _everywhere("RAW", "TYPE DATA", ACTS),
    _everywhere("RAW", "DATA_VMX VALIDATE", NO_EFFECT, "they are for vCenter, and for a check that is always made"),
    # -- what others do with it
    _everywhere("VM_GROUP", ". ROLE VMGROUP_ID VMGROUP_NAME VMGROUP_UNAME", NO_EFFECT, _BY_ITEM),
    _everywhere("VMGROUP", ". ROLE VMGROUP_ID VMGROUP_NAME VMGROUP_UNAME VMGROUP_UID", NO_EFFECT, _BY_ITEM),
    _everywhere("HOT_RESIZE", ". CPU_HOT_ADD_ENABLED MEMORY_HOT_ADD_ENABLED", NO_EFFECT, _OF_VCENTER),
    _everywhere(
        "BACKUP_CONFIG",
        ". FS_FREEZE KEEP_LAST BACKUP_VOLATILE INCREMENT_MODE MODE DISK_IDS INTERACTIVE *",
        NO_EFFECT,
        "save_as of an item keeps a disk as an image",
    ),
    _everywhere("SCHED_ACTION", ". *", NO_EFFECT, "nothing runs between runs"),
    _everywhere("USER_INPUTS", ". *", NO_EFFECT, "nobody is asked: the inventory says it"),
    _everywhere("QEMU_GUEST_AGENT", ". *", NO_EFFECT, "the agent is asked what the collection needs of it"),
    _everywhere("SECURITY_GROUP_RULE", ". *", NO_EFFECT, _BY_ONED),
    _everywhere("SNAPSHOT", ". *", NO_EFFECT, "disk_snapshots of an item makes snapshots of disks"),
    _everywhere("SUNSTONE", ". NETWORK_SELECT *", NO_EFFECT, "there is no Sunstone"),
    _everywhere("OPENVZ", ". *", NO_EFFECT, "each attribute of a container has a name of its own (openvz.md)"),
)

_NONE: Mapping[str, OwnEffect] = MappingProxyType({})
# Attributes that are refused, or without effect, unless they say NO, which asks for nothing.
_FLAGS = ("OS/FIRMWARE_SECURE", "OS/TPM", "CONTEXT/REPORT_READY")
# Attributes with a single value; of them, those that are only kept.
SINGLES = frozenset(name for entry in TABLE if not entry.vector for name in entry.names)
NOTES = frozenset(name for entry in TABLE if entry.kvm == KEPT for name in entry.names)
# Attributes that nothing acts on, on any hypervisor.
SILENT = frozenset(
    text for entry in TABLE if entry.kvm == entry.xen == NO_EFFECT for text in entry.texts() if "/" not in text
)


def _vectors() -> dict[str, frozenset[str] | None]:
    found: dict[str, set[str]] = {}
    for entry in TABLE:
        if entry.vector:
            found.setdefault(entry.vector, set()).update(name for name in entry.names if name)
    found["NIC_DEFAULT"] = set(found["NIC"])
    return {name: None if "*" in keys else frozenset(keys) for name, keys in found.items()}


def named_in(vector: str) -> set[str]:
    """Return the keys of the vector that the table knows by their names."""
    return {name for entry in TABLE if entry.vector == vector for name in entry.names} - {"", "*"}


# Vectors, each with the names that it may hold; None: any.
VECTORS = _vectors()

# Words that are no slips of the finger, and have no effect all the same. "" is the attribute itself.
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


# Keys that are known nowhere, with the key that is likely to be meant: other programs call it so.
_CALLED_OTHERWISE = {
    **{("NIC", name): "IP" for name in ("IPADDR", "IP_ADDRESS", "IP4", "IPV4")},
    **{("NIC", name): "IP6" for name in ("IPV6", "IP6_ADDRESS", "IP6ADDR")},
    **{("NIC", name): "MAC" for name in ("MAC_ADDRESS", "MACADDR", "HWADDR")},
    **{("NIC", name): "VLAN_ID" for name in ("VLAN", "VLAN_TAG")},
    **{("DISK", name): "BOOT in OS" for name in ("BOOT_ORDER", "BOOTABLE")},
    **{("DISK", name): "IMAGE" for name in ("NAME", "PATH", "FILE")},
    **{("DISK", name): "SIZE" for name in ("SIZE_GB", "SIZE_MB", "CAPACITY")},
    ("OS", "BOOT_ORDER"): "BOOT",
    ("GRAPHICS", "PW"): "PASSWD",
}


# Words of users' own that are one letter away from a known name, and no slips of it.
_OWN_WORDS = frozenset(("ROUTER",))


def near_misses(template: Template) -> list[str]:
    """Return a sentence for each attribute that is not known and that looks like a slip of a known attribute.

    User attributes of their own kind (MYATTR) give none, nor does anything in CONTEXT."""
    found = []
    for name in template.names():
        if name in SINGLES or name in VECTORS or name in _OWN_WORDS:
            continue
        # Users invent single values (RACK, LOGS), hardly ever vectors: these are suspected sooner.
        if (name, "") in _MEANT:
            near = _MEANT[name, ""]
        elif template.vectors(name):
            near = nearest_known(name, frozenset(VECTORS), shortest=3, replaced_from=4)
        else:
            near = nearest_known(name, SINGLES | frozenset(VECTORS), shortest=4, replaced_from=5)
        if near:
            found.append(_slip_text(name, near))
    return found + [_slip_text(shown, near) for shown, near, _guess in _unknown_keys(template) if near]


def unknown_keys(template: Template) -> list[str]:
    """Return a sentence for each key of a known vector that no hypervisor knows, and that near_misses() does not name;
    and for such a vector that is written as a single value.

    Users have vectors of their own, but hardly ever keys of their own in those that OpenNebula knows. A key that a
    variable of CONTEXT names ($NIC[ROLE]) is there for that variable."""
    named = " ".join(value for vector in template.vectors("CONTEXT") for value in vector.values())
    texts = (name for name in template.names() if name in VECTORS and name not in SINGLES and name not in SILENT)
    return [
        f"{name} is a single value, and nothing acts on it: write {name} = [ … ]"
        for name in texts
        if template.get(name)
    ] + [
        f"{shown} is not a known attribute, and nothing acts on it" + (f": did you mean {guess}?" if guess else "")
        for shown, near, guess in _unknown_keys(template)
        if not near and not _is_referenced(shown, named)
    ]


def _unknown_keys(template: Template) -> Iterator[tuple[str, str, str]]:
    """Yield VECTOR/KEY as it is shown, the known key that is one slip away, and the known key that is most like it."""
    for name, known in VECTORS.items():
        several = template.vectors(name) if known is not None else []
        for index, vector in enumerate(several):
            shown = f"{name}[{index}]" if len(several) > 1 else name
            for key in vector:
                if known is None or key in known:
                    continue
                near = _MEANT.get((name, key)) or nearest_known(key, known, shortest=3, replaced_from=4)
                guess = _CALLED_OTHERWISE.get((name.partition("_ALIAS")[0], key)) or nearest_word(key, sorted(known))
                yield f"{shown}/{key}", near, "" if near else guess


def _slip_text(shown: str, near: str) -> str:
    return f"{shown} is not a known attribute: did you mean {near}?"


def _is_referenced(shown: str, text: str) -> bool:
    """Return whether the text has $VECTOR[KEY …]."""
    vector, _slash, key = shown.partition("/")
    return bool(re.search(rf"\${vector.partition('[')[0]}\[\s*{key}\b", text, re.IGNORECASE))


def add_near_misses(error: NebulaError, where: str, template: Template) -> None:
    """Name in the error the slips in the vector that it is about: they may be why it lacks something. where: as in the
    error, the object before the vector."""
    about = re.match(r"([A-Z_]+)(?: (\d+))?", error.asked[len(where) + 2 :]) if error.asked.startswith(where) else None
    if about is None:
        return
    starts = (f"{about[1]}/", f"{about[1]}[{about[2]}]/")
    slips = [text for text in near_misses(template) + unknown_keys(template) if text.startswith(starts)]
    error.found = "; ".join((error.found, *slips))


def without_effect(template: Template, column: str = KVM, own: Mapping[str, OwnEffect] = _NONE) -> list[str]:
    """Return a sentence for each known attribute that nothing acts on, on hosts of a hypervisor with that column (KVM
    or XEN) and what it declares of its own."""
    found = []
    for entry in TABLE:
        where = "yet" if entry.kvm == entry.xen else "on Xen" if column == XEN else "on KVM"
        for name, effect in _effects(template, entry, column, own, NO_EFFECT):
            place = "on this hypervisor" if name in own else where
            found.append(f"{name} is kept, and nothing acts on it {place}: {effect.why}")
    return found


def silent(column: str, own: Mapping[str, OwnEffect] = _NONE) -> tuple[str, ...]:
    """Return the attributes that nothing acts on, on hosts of such a hypervisor, and of disks and NICs the keys."""
    effects: dict[str, list[str]] = {}
    for entry in TABLE:
        for text in entry.texts():
            effect = own[text].effect if text in own else entry.on(column)
            effects.setdefault(text, []).append(effect)
            if entry.vector:
                effects.setdefault(entry.vector, []).append(effect)
    # A target says which disk it is, whatever becomes of it.
    keys = {f"{vector}/{key}" for vector in ("DISK", "NIC") for key in named_in(vector) - {"TARGET", "DEV_PREFIX"}}
    return tuple(
        sorted(
            text for text, found in effects.items() if set(found) == {NO_EFFECT} and ("/" not in text or text in keys)
        )
    )


def refuse_attributes(template: Template, where: str, column: str = KVM, own: Mapping[str, OwnEffect] = _NONE) -> None:
    """Raise InvalidValue for the first attribute that no machine of a hypervisor with that column can have."""
    for entry in TABLE:
        for name, effect in _effects(template, entry, column, own, REFUSED):
            raise InvalidValue(f"{where}: {name}", effect.why, effect.instead)


def _effects(
    template: Template, entry: AttributeEffects, column: str, own: Mapping[str, OwnEffect], wanted: str
) -> Iterator[tuple[str, OwnEffect]]:
    """Yield each of an entry's attributes that the template has and that has the wanted effect here."""
    common = OwnEffect(entry.on(column), entry.why, entry.instead)
    if common.effect != wanted and own.keys().isdisjoint(entry.texts()):
        return
    for name in _attributes_in(template, entry):
        effect = own.get(name, common)
        if effect.effect == wanted:
            yield name, effect


def _attributes_in(template: Template, entry: AttributeEffects) -> list[str]:
    """Return those of an entry's attributes that the template has. A vector that is in the table as such is named once,
    and its keys are not; a flag that says no does not count."""
    if not entry.vector or "" in entry.names:
        names = entry.names if not entry.vector else (entry.vector,)
        return [name for name in names if template.has(name)]
    given = [(key, value) for vector in template.vectors(entry.vector) for key, value in vector.items() if value]
    texts = {f"{entry.vector}/{key}": value for key, value in reversed(given)}
    return [
        text
        for text in entry.texts()
        if text in texts and not (text in _FLAGS and texts[text].strip().upper() in FALSE)
    ]


def nearest_known(name: str, known: frozenset[str], shortest: int, replaced_from: int) -> str:
    """Return the known name that differs by one slip, "" if there is none: a letter too few, too many or (from the
    length replaced_from) another, two exchanged, or words run together. Names below `shortest` letters are not
    suspected."""
    if len(name) < shortest:
        return ""
    flat = name.replace("_", "")
    near = [
        word for word in known if _is_one_slip(name, word, len(name) >= replaced_from) or word.replace("_", "") == flat
    ]
    return min(near, key=lambda word: (word[0] != name[0], word)) if near else ""


def _is_one_slip(given: str, known: str, replaced: bool) -> bool:
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
