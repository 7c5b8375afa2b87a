# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides each point of a Linux image. Pure, of Facts."""

from __future__ import annotations

import re

from . import linux_files
from .image_facts import (
    ESP,
    LINK,
    WINDOWS,
    Answer,
    Facts,
    Partition,
    bad,
    first_items,
    not_applicable,
    not_tested,
    passed,
)

PREPARE = "nebula_image_prepare mends it"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
RECOVERY = ("de94bba4-06d1-4d40-a16a-bfd50179d6ac", "0x27")
_FIREWALLS = {
    "firewalld": "firewalld",
    "ufw": "ufw",
    "nftables": "nftables",
    "iptables": "iptables",
    "netfilter-persistent": "iptables",
    "SuSEfirewall2": "SuSEfirewall2",
}
_VIRTUAL = (
    "proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "cgroup", "cgroup2", "overlay", "none", "hugetlbfs", "debugfs",
    "nfs", "nfs4", "cifs", "glusterfs", "ceph", "9p", "virtiofs", "fuse", "bind",
)  # fmt: skip
STATES = ("/var/lib/cloud/instance", "/var/lib/nebula-context/*.sum")
_UTC = ("UTC", "Etc/UTC", "Universal", "Etc/Universal", "Zulu", "Etc/UCT", "UCT", "GMT", "Etc/GMT")


def file_systems(facts: Facts) -> Answer:
    if facts.failed:
        failures = [f"{device}: {why}" for device, why in facts.failed.items()]
        remedy = "Install anew, or have a machine repair them that boots from another disk"
        return bad(f"can't be mounted: {first_items(failures)}", remedy)
    kinds = [f"{system.device} {system.type}" for system in facts.systems if system.type]
    return passed(first_items(kinds) or "none but the root's")


# --- the disk --------------------------------------------------------------------------------------------------------


def partitions(facts: Facts) -> Answer:
    root = _root_partition(facts)
    if not facts.partitions:
        return passed("the root takes the whole disk")
    if root is None and linux_files.OURS in linux_files.context_programs(facts):
        return passed(f"the root is on {facts.root}, which nebula-context grows with what it is on")
    if root is None:
        return bad(
            f"the root is on {facts.root}, which is no partition",
            "Install with the root on a plain partition, the last one: only the context program grows volume groups",
        )
    behind = [part for part in facts.partitions if part.start > root.start]
    # Windows' own recovery partition ends the disk of most installations, and makes them as bad to grow.
    if behind:
        named = first_items([f"{part.number} ({_kind(facts, part)})" for part in behind])
        return bad(
            f"partition {root.number} has the root, and behind it there is {named}",
            "Install with the root last: swap before it, or as a disk of the machine (DISK with TYPE swap)",
        )
    return passed(f"partition {root.number} is the last one")


def growth(facts: Facts) -> Answer:
    has_tool = facts.has("/usr/bin/growpart") or not facts.partitions
    found = linux_files.context_programs(facts)
    if facts.partitions and _root_partition(facts) is None and linux_files.OURS not in found:
        return bad(
            f"the root is on {facts.root}, which nothing in it grows",
            f"Install with the root on a partition, or put the context program into it: {PREPARE}",
        )
    if linux_files.OURS in found:
        if has_tool or facts.has("/usr/sbin/sfdisk", "/sbin/sfdisk"):
            return passed("nebula-context grows it at boot")
        return bad("nebula-context finds neither growpart nor sfdisk", "Install cloud-guest-utils (growpart), or fdisk")
    if linux_files.CLOUD_INIT in found:
        if has_tool:
            return passed("cloud-init grows it at boot" + ("" if not facts.partitions else ", by growpart"))
        return bad(
            "cloud-init is there, and growpart is not",
            "Install cloud-guest-utils (Debian), cloud-utils-growpart (RHEL)",
        )
    if linux_files.ONE_CONTEXT in found and has_tool:
        return passed("one-context grows it at boot")
    line = next((line for line in linux_files.fstab(facts.text("/etc/fstab")) if line[1] == "/"), None)
    repart = [path for path, _node in facts.matching("/etc/repart.d/*.conf", "/usr/lib/repart.d/*.conf")]
    if line is not None and "x-systemd.growfs" in line[3] and (repart or not facts.partitions):
        return passed("systemd grows it at boot" + (f" ({repart[0]})" if repart else ""))
    return bad("no program in it grows the root at boot", f"Put the context program into it ({PREPARE}), or cloud-init")


def boot_loader(facts: Facts) -> Answer:
    found = facts.matching("/boot/efi/EFI/*/*", "/efi/EFI/*/*", "/boot/EFI/*/*")
    loaders = [path for path, _node in found if path.lower().endswith(".efi")]
    names = ("/efi/boot/bootx64.efi", "/efi/boot/bootaa64.efi")
    by_firmware = [path for path in loaders if path.lower().endswith(names)]
    if by_firmware:
        return passed(f"UEFI: {by_firmware[0]}" + (f", and BIOS: {facts.boot}" if facts.boot else ""))
    has_place = facts.table != "gpt" or any(part.type.lower() == BIOS_BOOT for part in facts.partitions)
    if facts.boot == "GRUB" and not has_place:
        why = "GRUB is in the MBR of a GPT disk that has no BIOS boot partition"
        return bad(why, "Install for UEFI, or make one (1 MB)")
    if facts.boot:
        return passed(f"BIOS: {facts.boot}" + (f" in the MBR of a {facts.table.upper()} disk" if facts.table else ""))
    if loaders:
        return bad(
            f"UEFI finds no loader without its own variables: there is {loaders[0]}, and no EFI/BOOT/BOOTX64.EFI",
            "Run grub-install --removable (or --force-extra-removable) in it",
        )
    if any(part.type.lower() in ESP for part in facts.partitions):
        return bad("its EFI partition has no boot loader", "Run grub-install --removable in it")
    return bad(
        "there is no code in the MBR, and no EFI partition",
        "Install a boot loader (grub-install), or boot it with a kernel of the host's: OS with KERNEL_DS and INITRD_DS",
    )


def virtio(facts: Facts) -> Answer:
    if not facts.kernel:
        return not_applicable("there is no kernel in it; the host's (KERNEL_DS) decides")
    disks, network = ("virtio_blk", "virtio_scsi"), "virtio_net"
    remedy = (
        "Add virtio_pci, virtio_blk and virtio_scsi to the initial RAM disk (dracut --add-drivers, or MODULES=most)"
    )
    if network not in facts.builtin | facts.modules:
        return bad(f"kernel {facts.kernel} has no driver virtio_net", "Install a kernel that has the virtio drivers")
    built = [name for name in disks if name in facts.builtin]
    if built:
        return passed(f"kernel {facts.kernel}: {', '.join(built)} built in")
    if facts.initrd is None:
        if not any(name in facts.modules for name in disks):
            return bad(
                f"kernel {facts.kernel} has neither virtio_blk nor virtio_scsi", "Install a kernel that has them"
            )
        return not_tested(f"the initial RAM disk of kernel {facts.kernel} was not read: {facts.initrd_why}")
    there = [name for name in disks if name in facts.initrd]
    if not there:
        return bad(f"the initial RAM disk of kernel {facts.kernel} has neither virtio_blk nor virtio_scsi", remedy)
    if not {"virtio_pci"} & (facts.initrd | facts.builtin):
        return bad(f"the initial RAM disk of kernel {facts.kernel} has no virtio_pci", remedy)
    return passed(f"kernel {facts.kernel}: {', '.join(there)} in the initial RAM disk")


def serial_console(facts: Facts) -> Answer:
    lines = linux_files.command_lines(facts)
    if not lines:
        return not_applicable(
            "it has no boot loader's configuration: whoever gives it a kernel says console= too (KERNEL_CMD)"
        )
    found = [linux_files.has_serial_console(line) for line in lines]
    if all(found):
        return passed(f"console={found[0]}")
    return bad(
        f"no console=ttyS0 on the kernel's command line: {lines[found.index('')].strip()[:120]}",
        f"{PREPARE}; by hand: GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub",
    )


def _root_partition(facts: Facts) -> Partition | None:
    return next((part for part in facts.partitions if part.device == facts.root), None)


def _kind(facts: Facts, part: Partition) -> str:
    if part.type.lower() in RECOVERY and facts.os == WINDOWS:
        return "recovery"
    system = facts.system_of(part.device)
    return system.type if system is not None and system.type else "unknown"


# --- the network -----------------------------------------------------------------------------------------------------


def mac_addresses(facts: Facts) -> Answer:
    return _nothing_left(linux_files.hard_coded_macs(facts), there_is="none in udev's rules and the network's files")


def addresses(facts: Facts) -> Answer:
    static = linux_files.static_addresses(facts)
    if static:
        return bad(
            f"its address is written down: {first_items(static)}",
            "Set its interfaces to DHCP, or leave them to the context",
        )
    automatic = linux_files.automatic_addresses(facts)
    if automatic:
        # The program looks for what matches its interfaces; of others' files nobody knows which of the two acts.
        aside = linux_files.OURS in linux_files.context_programs(facts)
        return passed(
            f"DHCP: {first_items(automatic)}" + ("; set aside for the interfaces of a context" if aside else "")
        )
    found = linux_files.context_programs(facts)
    if found and not (found == [linux_files.CLOUD_INIT] and linux_files.cloud_init_without_network(facts)):
        return passed(f"{found[0]} configures the network")
    if linux_files.what_starts(facts, "NetworkManager"):
        return passed("NetworkManager takes DHCP where nothing is configured")
    return bad("nothing configures its network", f"Put the context program into it ({PREPARE}), or configure DHCP")


def context(facts: Facts) -> Answer:
    found = linux_files.context_programs(facts)
    kept = linux_files.cloud_init_without_network(facts) if found == [linux_files.CLOUD_INIT] else ""
    if kept:
        return bad(
            f"{kept} keeps cloud-init from the network: guests would not get the addresses of their contexts",
            "Remove that, or put the context program into it beside cloud-init (role guest_context)",
        )
    if found:
        return passed(", ".join(found))
    if facts.has("/usr/bin/cloud-init"):
        return bad(linux_files.cloud_init_obstacle(facts), "Mend that, or put the context program into it")
    return bad("neither cloud-init nor a context program is in it", f"Put the context program into it: {PREPARE}")


def ssh_server(facts: Facts) -> Answer:
    if not _has_sshd(facts):
        return bad("none is installed", "Install openssh-server")
    if facts.has("/etc/ssh/sshd_not_to_be_run"):
        return bad("/etc/ssh/sshd_not_to_be_run keeps it from being started", PREPARE)
    started = linux_files.what_starts(facts, "ssh", "sshd", "dropbear")
    if started:
        return passed(f"started by {started}")
    masked = [name for name in ("ssh", "sshd") if linux_files.is_masked(facts, name)]
    return bad(f"it is installed, and {'masked' if masked else 'not started at boot'}", PREPARE)


def _has_sshd(facts: Facts) -> bool:
    return facts.has("/usr/sbin/sshd", "/usr/bin/sshd", "/usr/sbin/dropbear")


def ssh_keys(facts: Facts) -> Answer:
    if not _has_sshd(facts):
        return not_applicable("no SSH server is installed")
    options = linux_files.sshd_options(facts)
    for name, refusing in (("pubkeyauthentication", ("no",)), ("authorizedkeysfile", ("none", "/dev/null"))):
        if options.get(name, "").lower() in refusing:
            return bad(f"sshd_config says {name} {options[name]}", PREPARE)
    if options.get("permitrootlogin", "").lower() == "no" and linux_files.OURS in linux_files.context_programs(facts):
        return passed("for users (USERNAME in the context); sshd_config says permitrootlogin no")
    return passed("sshd allows it")


def firewall(facts: Facts) -> Answer:
    for service, name in _FIREWALLS.items():
        started = linux_files.what_starts(facts, service)
        if not started:
            continue
        if name == "ufw" and not re.search(r"(?im)^ENABLED=yes", facts.text("/etc/ufw/ufw.conf")):
            continue
        closed = _why_closed(facts, name)
        if closed:
            return bad(
                f"{name} is started ({started}) and {closed}",
                "Let port 22 in, or switch it off: networks filter outside of guests",
            )
        return passed(f"{name} is started, and lets SSH in")
    return passed("none is started")


def _why_closed(facts: Facts, name: str) -> str:
    """Return why the firewall refuses connections to port 22; "" if it lets them in."""
    if name == "firewalld":
        match = re.search(r"^DefaultZone=(\S+)", facts.text("/etc/firewalld/firewalld.conf"), re.MULTILINE)
        zone = match[1] if match else "public"
        own = facts.text(f"/etc/firewalld/zones/{zone}.xml")
        if zone in ("drop", "block") and "ssh" not in own:
            return f"its zone is {zone}"
        lacking = own and 'name="ssh"' not in own and 'port="22"' not in own
        return f"its zone {zone} has no service ssh" if lacking else ""
    if name == "ufw":
        rules = facts.text("/etc/ufw/user.rules")
        drops = re.search(r'^DEFAULT_INPUT_POLICY="?(DROP|REJECT)', facts.text("/etc/default/ufw"), re.MULTILINE)
        if drops is None or _accepts_ssh(rules) or "OpenSSH" in rules:
            return ""
        return "has no rule for port 22"
    if name == "nftables":
        rules = facts.text("/etc/nftables.conf") or facts.text("/etc/sysconfig/nftables.conf")
        text = "\n".join(linux_files.lines(rules))
        closed = any("policy drop" in part.partition("hook input")[2] for part in text.split("}"))
        let_in = any(re.search(r"\b(22|ssh)\b", line.rpartition("accept")[0]) for line in text.splitlines())
        is_shut = (closed or re.search(r"\b(drop|reject)\b", text)) and not let_in
        return "drops what comes in, with no rule for port 22" if is_shut else ""
    if name == "iptables":
        text = facts.text("/etc/iptables/rules.v4") or facts.text("/etc/sysconfig/iptables")
        drops = re.search(r"^:INPUT DROP|^-A INPUT .*-j (DROP|REJECT)", text, re.MULTILINE)
        return "drops what comes in, with no rule for port 22" if drops and not _accepts_ssh(text) else ""
    return "it is not known here whether it lets SSH in"


def _accepts_ssh(rules: str) -> bool:
    """Return whether a rule of iptables lets port 22 in. One expression for a long line would take minutes."""
    return any(re.search(r"--dports? \S*\b22\b", line.rpartition("-j ACCEPT")[0]) for line in rules.splitlines())


# --- files that must fit any machine ---------------------------------------------------------------------------------


def fstab(facts: Facts) -> Answer:
    wrong = [why for _source, why in wrong_lines(facts)]
    if wrong:
        return bad(
            first_items(wrong), f"Name file systems by UUID= or LABEL=, and take out what is not there: {PREPARE}"
        )
    return passed("all by UUID or LABEL, and there" if facts.text("/etc/fstab").strip() else "it has no lines")


def wrong_lines(facts: Facts) -> list[tuple[str, str]]:
    """Return the lines of fstab that do not fit any machine, each as (source, reason)."""
    wrong = []
    for source, point, kind, options in linux_files.fstab(facts.text("/etc/fstab")):
        chosen = options.split(",")
        if kind in _VIRTUAL or source in _VIRTUAL or source.startswith("//") or {"noauto", "bind"} & set(chosen):
            continue
        if linux_files.is_by_bus(source):
            wrong.append((source, f"{source} ({point}) is named by its bus"))
        elif not _exists(facts, source) and "nofail" not in chosen:
            wrong.append((source, f"{source} ({point}) is not in the image"))
    return wrong


def _exists(facts: Facts, source: str) -> bool:
    # What is no device is a file of the guest (a swap file).
    is_file = not source.startswith("/dev/") and "=" not in source
    return is_file or linux_files.device_of(source, facts.systems) is not None


def zone_of(facts: Facts) -> str:
    node = facts.tree.get("/etc/localtime")
    if node is not None and node.kind == LINK and "zoneinfo/" in node.target:
        return node.target.split("zoneinfo/", 1)[1]
    named = facts.text("/etc/timezone").strip()
    return named or ("" if node is None else "?")


def timezone(facts: Facts) -> Answer:
    found, wanted = zone_of(facts), facts.zone
    if found == "?":
        return not_tested("/etc/localtime is a copy of a zone's file, which does not name it")
    shown = found or "UTC, as nothing is set"
    if found == wanted or ((found or "UTC") in _UTC and wanted in _UTC):
        return passed(shown)
    return bad(
        f"it is {shown}, and {wanted} is wanted",
        f"{PREPARE}; by hand: ln -sf /usr/share/zoneinfo/{wanted} /etc/localtime",
    )


def machine_id(facts: Facts) -> Answer:
    wrong = []
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        node = facts.tree.get(path)
        if node is not None and node.kind != LINK and node.text.strip() not in ("", "uninitialized"):
            wrong.append(path)
    if wrong:
        return bad(f"{' and '.join(wrong)} would be every machine's: DHCP may give them one address", PREPARE)
    if not linux_files.has_systemd(facts) and not facts.has("/etc/machine-id", "/var/lib/dbus"):
        return not_applicable("it has neither systemd nor D-Bus")
    return passed("it is made at the first boot")


def host_keys(facts: Facts) -> Answer:
    keys = [path for path, _node in facts.matching("/etc/ssh/ssh_host_*_key", "/etc/dropbear/dropbear_*_host_key")]
    if keys:
        return bad(f"every machine would have them: {first_items(keys)}", PREPARE)
    if not _has_sshd(facts):
        return not_applicable("no SSH server is installed")
    maker = key_maker(facts)
    if maker:
        return passed(f"{maker} makes them at the first boot")
    return bad("there are none, and nothing makes them at boot", PREPARE)


def key_maker(facts: Facts) -> str:
    """Return the program or unit that makes host keys where there are none, or ""."""
    if linux_files.CLOUD_INIT in linux_files.context_programs(facts):
        return "cloud-init"
    for path, _node in facts.matching("/etc/systemd/system/*.wants/nebula-host-keys.service"):
        return path
    for path in ("/usr/lib/systemd/system/sshd-keygen@.service", "/usr/lib/systemd/system/sshd-keygen.service",
                 "/usr/lib/systemd/system/sshdgenkeys.service", "/etc/init.d/sshd"):  # fmt: skip
        if facts.has(path):
            return path
    return ""


def random_seed(facts: Facts) -> Answer:
    found = [path for path in SEEDS if facts.has(path)]
    return _nothing_left(found, "{} would begin every machine's random numbers")


def _nothing_left(found: list[str], why: str = "{}", there_is: str = "none") -> Answer:
    return bad(why.format(first_items(found)), PREPARE) if found else passed(there_is)


def passwords(facts: Facts) -> Answer:
    shadow = facts.tree.get("/etc/shadow")
    if shadow is None:
        return not_applicable("it has no /etc/shadow")
    empty, known = [], []
    for line in shadow.text.splitlines():
        user, _colon, rest = line.partition(":")
        field = rest.split(":", 1)[0]
        if not field:
            empty.append(user)
        elif not field.startswith(("!", "*")):
            known.append(user)
    if empty:
        others = f", and every machine has the same of {first_items(known)}" if known else ""
        return bad(f"no password is needed for {first_items(empty)}{others}", f"Lock them: {PREPARE}")
    if known:
        return bad(
            f"every machine has the same password of {first_items(known)}",
            f"Lock them: {PREPARE}; keys and passwords come by the context",
        )
    return passed("root and all users are locked until the context says otherwise")


def personal(facts: Facts) -> Answer:
    return _nothing_left([path for path, node in facts.matching(*PERSONAL) if node.size])


def leases(facts: Facts) -> Answer:
    return _nothing_left([path for path, node in facts.matching(*LEASES) if node.size], "of another machine: {}")


def context_state(facts: Facts) -> Answer:
    found = [*(path for path, _node in facts.matching(*STATES)), *linux_files.former_networks(facts)]
    if found:
        return bad(f"what a former machine was told is there: {first_items(found)}", PREPARE)
    if not linux_files.context_programs(facts):
        return not_applicable("nothing in it takes a context")
    return passed("none")


def tmp(facts: Facts) -> Answer:
    found = left_in_tmp(facts)
    return _nothing_left(found, f"{len(found)} there: {{}}", "/tmp and /var/tmp are empty")


def left_in_tmp(facts: Facts) -> list[str]:
    return [path for path, _node in facts.matching("/tmp/*", "/var/tmp/*") if not path.endswith("/lost+found")]


def logs(facts: Facts) -> Answer:
    return _nothing_left([path for path, node in facts.matching(*LOGS) if node.size])


SEEDS = tuple(f"/var/lib/{name}random-seed" for name in ("systemd/", "urandom/", "", "misc/"))
LEASES = ("/var/lib/dhcp/*.leases", "/var/lib/dhclient/*.lease*", "/var/lib/dhcpcd/*.lease*",
          "/var/lib/dhcpcd5/*.lease*", "/var/lib/NetworkManager/*.lease",
          "/var/lib/NetworkManager/secret_key")  # fmt: skip
PERSONAL = tuple(
    f"{home}/{name}"
    for home in ("/root", "/home/*")
    for name in (".ssh/authorized_keys", ".ssh/id_*", ".ssh/known_hosts", ".*_history")
)
# What a running system writes; what an installation leaves of itself is nobody's life.
LOGS = ("/var/log/syslog*", "/var/log/messages*", "/var/log/auth.log*", "/var/log/secure*", "/var/log/kern.log*",
        "/var/log/daemon.log*", "/var/log/user.log*", "/var/log/wtmp*", "/var/log/btmp*", "/var/log/lastlog",
        "/var/log/cloud-init*.log", "/var/log/nebula-context.log", "/var/log/boot.log*", "/var/log/dmesg*",
        "/var/log/journal/*/*")  # fmt: skip
