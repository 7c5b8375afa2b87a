# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each point of a Linux image says: the reason and the remedy, for each way in which a fact can be.

That one fault fails one point and no other is shown in test_points.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import linux_points as points
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    FAIL,
    LINK,
    LINUX,
    NOT_APPLICABLE,
    NOT_TESTED,
    PASS,
    WINDOWS,
    Answer,
    Facts,
    Node,
    Partition,
    System,
)

MIB = 1 << 20
WANTS = "/etc/systemd/system/multi-user.target.wants"
CLOUD_INIT = {"/usr/bin/cloud-init": Node()}
OURS = {"/usr/local/sbin/nebula-context": Node(), f"{WANTS}/nebula-context.service": Node(LINK)}
ONE_CONTEXT = {"/usr/sbin/one-contextd": Node(), f"{WANTS}/one-context.service": Node(LINK)}
GROWPART = {"/usr/bin/growpart": Node()}


def text(content: str) -> Node:
    return Node(size=len(content), text=content)


def link(target: str = "x") -> Node:
    return Node(LINK, target=target)


def facts(*trees: dict[str, Node], **more: object) -> Facts:
    return Facts(os=LINUX, tree={path: node for tree in trees for path, node in tree.items()}, **more)  # type: ignore[arg-type]


def part(number: int, type: str = "0x83", start: int = 0) -> Partition:
    return Partition(number, f"/dev/sda{number}", start or number * MIB, MIB, type)


def says(answer: Answer, result: str, why: str, remedy: str = "") -> bool:
    assert (answer.result, answer.why) == (result, why)
    assert remedy in answer.remedy
    # What fails has a way out, and what passes needs none.
    assert bool(answer.remedy) is (result == FAIL) or result == NOT_TESTED
    return True


# --- the disk --------------------------------------------------------------------------------------------------------


def test_file_systems_that_can_t_be_mounted_are_named_with_their_reason() -> None:
    failed = {"/dev/sda3": "bad magic", "/dev/sda4": "needs fsck"}
    answer = points.file_systems(facts(failed=failed))
    assert says(answer, FAIL, "can't be mounted: /dev/sda3: bad magic, /dev/sda4: needs fsck", "another disk")
    systems = (System("/dev/sda1", "ext4"), System("/dev/sda2", ""))
    assert says(points.file_systems(facts(systems=systems)), PASS, "/dev/sda1 ext4")
    assert says(points.file_systems(facts()), PASS, "none but the root's")


def test_the_root_has_to_be_the_last_partition_by_its_place_and_not_by_its_number() -> None:
    systems = (System("/dev/sda1", "ext4"), System("/dev/sda2", "swap"))
    swap_behind = facts(partitions=(part(1), part(2)), root="/dev/sda1", systems=systems)
    assert says(
        points.partitions(swap_behind), FAIL, "partition 1 has the root, and behind it there is 2 (swap)", "root last"
    )
    last = facts(partitions=(part(1, start=9 * MIB), part(2)), root="/dev/sda1")
    assert says(points.partitions(last), PASS, "partition 1 is the last one")


def test_what_is_behind_the_root_is_named_by_what_is_known_of_it() -> None:
    recovery = part(2, "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC")
    windows = Facts(os=WINDOWS, partitions=(part(1), recovery, part(3)), root="/dev/sda1")
    assert "2 (recovery), 3 (unknown)" in points.partitions(windows).why
    assert "2 (unknown)" in points.partitions(facts(partitions=(part(1), recovery), root="/dev/sda1")).why


def test_a_root_on_a_volume_is_grown_by_nobody() -> None:
    here = facts(CLOUD_INIT, GROWPART, partitions=(part(1),), root="/dev/vg/root")
    assert says(points.partitions(here), FAIL, "the root is on /dev/vg/root, which is no partition", "plain partition")
    assert says(points.growth(here), FAIL, "the root is on /dev/vg/root, which nothing in it grows", "partition")


def test_a_disk_without_partitions_is_the_roots() -> None:
    assert says(points.partitions(facts(root="/dev/sda")), PASS, "the root takes the whole disk")


FSTAB = {"/etc/fstab": text("UUID=a / ext4 defaults,x-systemd.growfs 0 1\n")}
REPART = {"/etc/repart.d/50-root.conf": text("[Partition]\nType=root\n")}


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({**OURS, **GROWPART}, "nebula-context grows it at boot"),
        ({**OURS, "/sbin/sfdisk": Node()}, "nebula-context grows it at boot"),
        ({**CLOUD_INIT, **GROWPART}, "cloud-init grows it at boot, by growpart"),
        ({**ONE_CONTEXT, **GROWPART}, "one-context grows it at boot"),
        ({**FSTAB, **REPART}, "systemd grows it at boot (/etc/repart.d/50-root.conf)"),
    ],
)
def test_what_grows_a_root_partition_is_named(tree: dict[str, Node], why: str) -> None:
    assert says(points.growth(facts(tree, partitions=(part(1),), root="/dev/sda1")), PASS, why)


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (OURS, "nebula-context finds neither growpart nor sfdisk"),
        (CLOUD_INIT, "cloud-init is there, and growpart is not"),
        (ONE_CONTEXT, "no program in it grows the root at boot"),
        (FSTAB, "no program in it grows the root at boot"),
        (REPART, "no program in it grows the root at boot"),
        (GROWPART, "no program in it grows the root at boot"),
    ],
)
def test_what_a_root_partition_lacks_to_grow_is_named(tree: dict[str, Node], why: str) -> None:
    assert says(points.growth(facts(tree, partitions=(part(1),), root="/dev/sda1")), FAIL, why)


@pytest.mark.parametrize(
    ("tree", "why"),
    [(CLOUD_INIT, "cloud-init grows it at boot"), (FSTAB, "systemd grows it at boot"), (OURS, "nebula-context grows")],
)
def test_a_file_system_on_the_whole_disk_needs_no_tool_for_partitions(tree: dict[str, Node], why: str) -> None:
    answer = points.growth(facts(tree, root="/dev/sda"))
    assert answer.result == PASS and answer.why.startswith(why) and "growpart" not in answer.why


EFI_TYPE, BIOS_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "21686148-6449-6E6F-744E-656564454649"
FALLBACK = {"/boot/efi/EFI/BOOT/BOOTX64.EFI": Node()}
SHIM = "/boot/efi/EFI/debian/shimx64.efi"
OWN_LOADER = {SHIM: Node(), "/boot/efi/EFI/debian/grub.cfg": Node()}


@pytest.mark.parametrize(
    ("here", "result", "why"),
    [
        (facts(FALLBACK), PASS, "UEFI: /boot/efi/EFI/BOOT/BOOTX64.EFI"),
        (facts({"/efi/EFI/Boot/bootaa64.efi": Node()}), PASS, "UEFI: /efi/EFI/Boot/bootaa64.efi"),
        (facts(FALLBACK, boot="GRUB"), PASS, "UEFI: /boot/efi/EFI/BOOT/BOOTX64.EFI, and BIOS: GRUB"),
        (facts(boot="GRUB", table="dos"), PASS, "BIOS: GRUB in the MBR of a DOS disk"),
        (
            facts(boot="GRUB", table="gpt", partitions=(part(1, BIOS_TYPE),)),
            PASS,
            "BIOS: GRUB in the MBR of a GPT disk",
        ),
        (facts(boot="SYSLINUX"), PASS, "BIOS: SYSLINUX"),
        (
            facts(boot="GRUB", table="gpt", partitions=(part(1),)),
            FAIL,
            "GRUB is in the MBR of a GPT disk that has no BIOS boot partition",
        ),
        (
            facts(OWN_LOADER),
            FAIL,
            f"UEFI finds no loader without its own variables: there is {SHIM}, and no EFI/BOOT/BOOTX64.EFI",
        ),
        (facts(partitions=(part(1, EFI_TYPE),)), FAIL, "its EFI partition has no boot loader"),
        (facts(partitions=(part(1, "0xef"),)), FAIL, "its EFI partition has no boot loader"),
        (facts(partitions=(part(1),)), FAIL, "there is no code in the MBR, and no EFI partition"),
    ],
)
def test_a_boot_loader_is_one_that_any_firmware_finds(here: Facts, result: str, why: str) -> None:
    assert says(points.boot_loader(here), result, why)


DRIVERS = frozenset(("virtio_blk", "virtio_scsi", "virtio_net", "virtio_pci"))


@pytest.mark.parametrize(
    ("more", "result", "why"),
    [
        ({"kernel": ""}, NOT_APPLICABLE, "there is no kernel in it; the host's (KERNEL_DS) decides"),
        ({"modules": frozenset(("virtio_blk",))}, FAIL, "kernel 6.1 has no driver virtio_net"),
        ({"builtin": frozenset(("virtio_net", "virtio_blk"))}, PASS, "kernel 6.1: virtio_blk built in"),
        (
            {"modules": frozenset(("virtio_net",)), "initrd": None},
            FAIL,
            "kernel 6.1 has neither virtio_blk nor virtio_scsi",
        ),
        (
            {"modules": DRIVERS, "initrd": None, "initrd_why": "it is packed by lz4"},
            NOT_TESTED,
            "the initial RAM disk of kernel 6.1 was not read: it is packed by lz4",
        ),
        (
            {"modules": DRIVERS, "initrd": frozenset(("ext4",))},
            FAIL,
            "the initial RAM disk of kernel 6.1 has neither virtio_blk nor virtio_scsi",
        ),
        (
            {"modules": DRIVERS, "initrd": frozenset(("virtio_scsi",))},
            FAIL,
            "the initial RAM disk of kernel 6.1 has no virtio_pci",
        ),
        (
            {"modules": DRIVERS, "initrd": frozenset(("virtio_scsi", "virtio_pci"))},
            PASS,
            "kernel 6.1: virtio_scsi in the initial RAM disk",
        ),
        (
            {"modules": DRIVERS, "builtin": frozenset(("virtio_pci",)), "initrd": frozenset(("virtio_blk",))},
            PASS,
            "kernel 6.1: virtio_blk in the initial RAM disk",
        ),
    ],
)
def test_virtio_is_there_when_the_kernel_can_use_it_at_boot(more: dict[str, object], result: str, why: str) -> None:
    assert says(points.virtio(facts(**{"kernel": "6.1", **more})), result, why)


def test_the_first_command_line_without_a_serial_console_is_shown() -> None:
    good, worse = text("linux /a console=ttyS0\n"), text("LABEL a\nAPPEND ro quiet\n")
    both = facts({"/boot/grub/grub.cfg": good, "/boot/extlinux/extlinux.conf": worse})
    assert says(
        points.serial_console(both), FAIL, "no console=ttyS0 on the kernel's command line: ro quiet", "GRUB_CMDLINE"
    )
    assert says(points.serial_console(facts({"/boot/grub/grub.cfg": good})), PASS, "console=ttyS0")
    assert points.serial_console(facts()).result == NOT_APPLICABLE


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "result", "why"),
    [
        (
            {"/etc/systemd/network/a.network": text("Address=10.0.0.1/8\n"), **CLOUD_INIT},
            FAIL,
            "its address is written down: /etc/systemd/network/a.network: Address=10.0.0.1/8",
        ),
        ({"/etc/netplan/a.yaml": text("dhcp4: true\n"), **CLOUD_INIT}, PASS, "DHCP: /etc/netplan/a.yaml"),
        (CLOUD_INIT, PASS, "cloud-init configures the network"),
        ({f"{WANTS}/NetworkManager.service": link()}, PASS, "NetworkManager takes DHCP where nothing is configured"),
        ({}, FAIL, "nothing configures its network"),
    ],
)
def test_an_address_comes_from_whoever_configures_the_network(tree: dict[str, Node], result: str, why: str) -> None:
    assert says(points.addresses(facts(tree)), result, why)


def test_what_the_context_program_sets_aside_at_boot_is_told() -> None:
    profile = {"/etc/NetworkManager/system-connections/wired": text("[ipv4]\nmethod=auto\n")}
    aside = "; set aside for the interfaces of a context"
    assert aside in points.addresses(facts(profile, OURS)).why
    assert aside not in points.addresses(facts(profile, CLOUD_INIT)).why


def test_what_takes_a_context_is_named_or_why_it_does_not() -> None:
    assert says(points.context(facts(CLOUD_INIT, OURS)), PASS, "cloud-init, nebula-context")
    switched_off = {"/etc/cloud/cloud-init.disabled": text("")}
    assert says(points.context(facts(CLOUD_INIT, switched_off)), FAIL, "/etc/cloud/cloud-init.disabled switches it off")
    assert says(
        points.context(facts()), FAIL, "neither cloud-init nor a context program is in it", "nebula_image_prepare"
    )


SSHD = {"/usr/sbin/sshd": Node()}


@pytest.mark.parametrize(
    ("tree", "result", "why"),
    [
        ({}, FAIL, "none is installed"),
        ({**SSHD, f"{WANTS}/ssh.service": link()}, PASS, f"started by {WANTS}/ssh.service"),
        ({"/usr/sbin/dropbear": Node(), "/etc/rc2.d/S01dropbear": link()}, PASS, "started by /etc/rc2.d/S01dropbear"),
        (
            {**SSHD, f"{WANTS}/ssh.service": link(), "/etc/ssh/sshd_not_to_be_run": text("")},
            FAIL,
            "/etc/ssh/sshd_not_to_be_run keeps it from being started",
        ),
        (SSHD, FAIL, "it is installed, and not started at boot"),
        ({**SSHD, "/etc/systemd/system/sshd.service": link("/dev/null")}, FAIL, "it is installed, and masked"),
    ],
)
def test_an_ssh_server_is_there_and_started(tree: dict[str, Node], result: str, why: str) -> None:
    assert says(points.ssh_server(facts(tree)), result, why)


def sshd_says(content: str) -> dict[str, Node]:
    return {**SSHD, "/etc/ssh/sshd_config": text(content)}


@pytest.mark.parametrize(
    ("tree", "result", "why"),
    [
        ({}, NOT_APPLICABLE, "no SSH server is installed"),
        (sshd_says("PubkeyAuthentication No\n"), FAIL, "sshd_config says pubkeyauthentication No"),
        (sshd_says("AuthorizedKeysFile /dev/null\n"), FAIL, "sshd_config says authorizedkeysfile /dev/null"),
        (sshd_says("PermitRootLogin no\n"), PASS, "sshd allows it"),
        (
            {**sshd_says("PermitRootLogin no\n"), **OURS},
            PASS,
            "for users (USERNAME in the context); sshd_config says permitrootlogin no",
        ),
        (sshd_says("PubkeyAuthentication yes\n"), PASS, "sshd allows it"),
    ],
)
def test_keys_are_let_in_by_sshd(tree: dict[str, Node], result: str, why: str) -> None:
    assert says(points.ssh_keys(facts(tree)), result, why)


def started(service: str) -> dict[str, Node]:
    return {f"{WANTS}/{service}.service": link()}


NFT = "table inet f {\n chain i {\n  type filter hook input priority 0; policy drop;\n%s }\n}\n"
FIREWALLS = {
    "firewalld, drop": ("firewalld", {"/etc/firewalld/firewalld.conf": "DefaultZone=drop\n"}, "its zone is drop"),
    "firewalld, own zone": (
        "firewalld",
        {"/etc/firewalld/zones/public.xml": '<zone><service name="http"/></zone>'},
        "its zone public has no service ssh",
    ),
    "ufw": (
        "ufw",
        {"/etc/ufw/ufw.conf": "ENABLED=yes\n", "/etc/default/ufw": 'DEFAULT_INPUT_POLICY="REJECT"\n'},
        "has no rule for port 22",
    ),
    "nftables": ("nftables", {"/etc/nftables.conf": NFT % ""}, "drops what comes in, with no rule for port 22"),
    "nftables of RHEL": (
        "nftables",
        {"/etc/sysconfig/nftables.conf": "tcp dport 80 accept\nreject\n"},
        "drops what comes in, with no rule for port 22",
    ),
    "nftables with another port": (
        "nftables",
        {"/etc/nftables.conf": NFT % "  tcp dport 2222 accept\n  # tcp dport 22 accept\n"},
        "drops what comes in, with no rule for port 22",
    ),
    "iptables": (
        "netfilter-persistent",
        {"/etc/iptables/rules.v4": ":INPUT DROP [0:0]\n-A INPUT -p tcp --dport 2222 -j ACCEPT\n"},
        "drops what comes in, with no rule for port 22",
    ),
    "iptables by its last rule": (
        "iptables",
        {"/etc/sysconfig/iptables": "-A INPUT -j REJECT --reject-with icmp-host-prohibited\n"},
        "drops what comes in, with no rule for port 22",
    ),
    "SuSEfirewall2": ("SuSEfirewall2", {}, "it is not known here whether it lets SSH in"),
}


@pytest.mark.parametrize("case", FIREWALLS)
def test_a_firewall_that_does_not_let_ssh_in_is_named_with_the_reason(case: str) -> None:
    service, files, why = FIREWALLS[case]
    answer = points.firewall(facts(started(service), {path: text(content) for path, content in files.items()}))
    assert answer.result == FAIL
    name = "iptables" if service == "netfilter-persistent" else service
    assert answer.why == f"{name} is started ({WANTS}/{service}.service) and {why}"
    assert "Let port 22 in" in answer.remedy


OPEN = {
    "firewalld as installed": ("firewalld", {}),
    "firewalld, drop with ssh": (
        "firewalld",
        {
            "/etc/firewalld/firewalld.conf": "DefaultZone=drop\n",
            "/etc/firewalld/zones/drop.xml": '<zone><service name="ssh"/></zone>',
        },
    ),
    "firewalld by port": ("firewalld", {"/etc/firewalld/zones/public.xml": '<port port="22" protocol="tcp"/>'}),
    "ufw with a rule": (
        "ufw",
        {
            "/etc/ufw/ufw.conf": "ENABLED=yes\n",
            "/etc/default/ufw": 'DEFAULT_INPUT_POLICY="DROP"\n',
            "/etc/ufw/user.rules": "-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n",
        },
    ),
    "ufw that lets all in": (
        "ufw",
        {"/etc/ufw/ufw.conf": "ENABLED=yes\n", "/etc/default/ufw": 'DEFAULT_INPUT_POLICY="ACCEPT"\n'},
    ),
    "nftables by port": ("nftables", {"/etc/nftables.conf": NFT % "  tcp dport { 22, 80 } accept\n"}),
    "nftables by name": ("nftables", {"/etc/nftables.conf": NFT % "  tcp dport ssh accept\n"}),
    "nftables without rules": ("nftables", {}),
    "iptables with several ports": (
        "iptables",
        {"/etc/sysconfig/iptables": "-A INPUT -p tcp -m multiport --dports 80,22 -j ACCEPT\n-A INPUT -j DROP\n"},
    ),
}


@pytest.mark.parametrize("case", OPEN)
def test_a_firewall_that_lets_ssh_in_is_named_too(case: str) -> None:
    service, files = OPEN[case]
    answer = points.firewall(facts(started(service), {path: text(content) for path, content in files.items()}))
    assert says(answer, PASS, f"{service} is started, and lets SSH in")


def test_a_firewall_that_is_not_started_is_none() -> None:
    rules = {"/etc/nftables.conf": text(NFT % "")}
    assert says(points.firewall(facts(rules)), PASS, "none is started")
    # Its unit is wanted on every system that has it, and its own file says whether it acts.
    assert says(
        points.firewall(facts(started("ufw"), {"/etc/ufw/ufw.conf": text("ENABLED=no\n")})), PASS, "none is started"
    )


# --- files that must fit any machine ---------------------------------------------------------------------------------

SYSTEMS = (System("/dev/sda1", "ext4", uuid="aa-11"),)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/dev/sda1 / ext4 defaults 0 1", "/dev/sda1 (/) is named by its bus"),
        ("/dev/vdb1 /data ext4 nofail 0 2", "/dev/vdb1 (/data) is named by its bus"),
        ("UUID=cc-33 /data ext4 defaults 0 2", "UUID=cc-33 (/data) is not in the image"),
        ("/dev/mapper/vg-lv /data ext4 defaults 0 2", "/dev/mapper/vg-lv (/data) is not in the image"),
    ],
)
def test_a_line_of_fstab_that_does_not_fit_any_machine_is_named(line: str, why: str) -> None:
    here = facts({"/etc/fstab": text(line + "\n")}, systems=SYSTEMS)
    assert points.wrong_lines(here) == [(line.split(maxsplit=1)[0], why)]
    assert says(points.fstab(here), FAIL, why, "UUID= or LABEL=")


@pytest.mark.parametrize(
    "line",
    [
        "UUID=aa-11 / ext4 defaults 0 1",
        "UUID=cc-33 /data ext4 nofail,ro 0 2",
        "/dev/sdb1 /media ext4 ro,noauto 0 0",
        "/dev/sda1 /copy none bind 0 0",
        "/dev/sda1 /copy ext4 ro,bind 0 0",
        "tmpfs /tmp tmpfs defaults 0 0",
        "none /x tmpfs defaults 0 0",
        "server:/x /net nfs defaults 0 0",
        "//server/x /net cifs defaults 0 0",
        "//server/x /net smb3 defaults 0 0",
        "/swapfile none swap sw 0 0",
        "#/dev/sda1 / ext4 defaults 0 1",
    ],
)
def test_a_line_of_fstab_that_fits_any_machine_is_good(line: str) -> None:
    here = facts({"/etc/fstab": text(line + "\n")}, systems=SYSTEMS)
    assert points.wrong_lines(here) == []
    assert says(points.fstab(here), PASS, "all by UUID or LABEL, and there")


def test_an_fstab_without_lines_is_good() -> None:
    assert says(points.fstab(facts({"/etc/fstab": text(" \n")})), PASS, "it has no lines")
    assert says(points.fstab(facts()), PASS, "it has no lines")


@pytest.mark.parametrize(
    ("tree", "zone"),
    [
        ({"/etc/localtime": link("/usr/share/zoneinfo/Europe/Berlin")}, "Europe/Berlin"),
        ({"/etc/localtime": link("../usr/share/zoneinfo/UTC")}, "UTC"),
        ({"/etc/localtime": text("TZif"), "/etc/timezone": text("Asia/Tokyo\n")}, "Asia/Tokyo"),
        ({"/etc/timezone": text("Asia/Tokyo\n")}, "Asia/Tokyo"),
        ({"/etc/localtime": text("TZif")}, "?"),
        ({"/etc/localtime": link("/etc/zone")}, "?"),
        ({}, ""),
    ],
)
def test_the_time_zone_is_told_by_a_link_or_a_name(tree: dict[str, Node], zone: str) -> None:
    assert points.zone_of(facts(tree)) == zone


@pytest.mark.parametrize(
    ("found", "wanted", "result", "why"),
    [
        ("Etc/UTC", "UTC", PASS, "Etc/UTC"),
        ("Europe/Berlin", "Europe/Berlin", PASS, "Europe/Berlin"),
        ("", "GMT", PASS, "UTC, as nothing is set"),
        ("Europe/Berlin", "UTC", FAIL, "it is Europe/Berlin, and UTC is wanted"),
        ("UTC", "Europe/Berlin", FAIL, "it is UTC, and Europe/Berlin is wanted"),
        ("", "Europe/Berlin", FAIL, "it is UTC, as nothing is set, and Europe/Berlin is wanted"),
    ],
)
def test_all_names_of_utc_are_one_zone_and_no_other(found: str, wanted: str, result: str, why: str) -> None:
    tree = {"/etc/localtime": link(f"/usr/share/zoneinfo/{found}")} if found else {}
    assert says(points.timezone(facts(tree, zone=wanted)), result, why)


def test_a_zone_that_is_not_named_is_not_judged() -> None:
    assert points.timezone(facts({"/etc/localtime": text("TZif")})).result == NOT_TESTED


SYSTEMD = {"/usr/lib/systemd/systemd": Node()}


@pytest.mark.parametrize(
    ("tree", "result", "why"),
    [
        ({**SYSTEMD, "/etc/machine-id": text("")}, PASS, "it is made at the first boot"),
        (SYSTEMD, PASS, "it is made at the first boot"),
        ({"/etc/machine-id": text("uninitialized\n")}, PASS, "it is made at the first boot"),
        ({}, NOT_APPLICABLE, "it has neither systemd nor D-Bus"),
        (
            {"/etc/machine-id": text("0123\n"), "/var/lib/dbus/machine-id": text("0123\n")},
            FAIL,
            "/etc/machine-id and /var/lib/dbus/machine-id would be every machine's: DHCP may give them one address",
        ),
    ],
)
def test_a_machine_id_is_made_at_the_first_boot(tree: dict[str, Node], result: str, why: str) -> None:
    assert says(points.machine_id(facts(tree)), result, why)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/systemd/system/multi-user.target.wants/nebula-host-keys.service",
        "/usr/lib/systemd/system/sshd-keygen@.service",
        "/usr/lib/systemd/system/sshdgenkeys.service",
        "/etc/init.d/sshd",
    ],
)
def test_host_keys_are_made_by_what_is_named(path: str) -> None:
    assert says(points.host_keys(facts(SSHD, {path: Node()})), PASS, f"{path} makes them at the first boot")


@pytest.mark.parametrize(
    ("tree", "result", "why"),
    [
        (
            {"/etc/ssh/ssh_host_rsa_key": text("x"), "/etc/dropbear/dropbear_rsa_host_key": text("x")},
            FAIL,
            "every machine would have them: /etc/dropbear/dropbear_rsa_host_key, /etc/ssh/ssh_host_rsa_key",
        ),
        ({"/etc/ssh/ssh_host_rsa_key.pub": text("x")}, NOT_APPLICABLE, "no SSH server is installed"),
        (SSHD, FAIL, "there are none, and nothing makes them at boot"),
        ({**SSHD, **CLOUD_INIT}, PASS, "cloud-init makes them at the first boot"),
    ],
)
def test_host_keys_are_no_other_machines(tree: dict[str, Node], result: str, why: str) -> None:
    assert says(points.host_keys(facts(tree)), result, why)


@pytest.mark.parametrize(
    ("shadow", "result", "why"),
    [
        ("root:*:1:::::\nme:!:1:::::\n", PASS, "root and all users are locked until the context says otherwise"),
        ("root:!$6$hunter2:1::\n", PASS, "root and all users are locked until the context says otherwise"),
        ("root:$6$hunter2:1::\nme:$y$x:1::\n", FAIL, "every machine has the same password of root, me"),
        ("root:*:1::\nme::1::\n", FAIL, "no password is needed for me"),
        (
            "root:$6$hunter2:1::\nme::1::\n",
            FAIL,
            "no password is needed for me, and every machine has the same of root",
        ),
    ],
)
def test_a_password_is_nobodys_before_the_context_says_so(shadow: str, result: str, why: str) -> None:
    answer = points.passwords(facts({"/etc/shadow": text(shadow)}))
    assert says(answer, result, why)
    assert "hunter2" not in answer.why + answer.remedy
    assert points.passwords(facts()).result == NOT_APPLICABLE


# --- what a former life left -----------------------------------------------------------------------------------------

LEFT = {
    "random_seed": ["/var/lib/systemd/random-seed", "/var/lib/misc/random-seed"],
    "personal": ["/root/.ssh/authorized_keys", "/home/me/.ssh/id_ed25519", "/home/me/.bash_history"],
    "leases": ["/var/lib/dhcp/dhclient.eth0.leases", "/var/lib/NetworkManager/secret_key"],
    "context_state": [
        *("/var/lib/cloud/instance", "/var/lib/nebula-context/a.sum"),
        "/etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection",
        *("/etc/netplan/50-cloud-init.yaml", "/etc/systemd/network/10-cloud-init-eth0.network"),
        *("/etc/network/interfaces.d/50-cloud-init", "/etc/systemd/network/05-nebula-context-eth0.network"),
    ],
    "tmp": ["/tmp/.X0-lock", "/var/tmp/x"],
    "logs": ["/var/log/syslog.1.gz", "/var/log/journal/0123/system.journal", "/var/log/wtmp"],
}


@pytest.mark.parametrize(("point", "path"), [(point, path) for point, paths in LEFT.items() for path in paths])
def test_what_a_former_life_left_is_named_by_its_path(point: str, path: str) -> None:
    answer = getattr(points, point)(facts({path: text("x")}))
    assert answer.result == FAIL and path in answer.why and answer.remedy == points.PREPARE


@pytest.mark.parametrize("point", ["random_seed", "personal", "leases", "tmp", "logs"])
def test_where_nothing_is_left_there_is_none(point: str) -> None:
    assert getattr(points, point)(facts()).result == PASS


@pytest.mark.parametrize("point", ["personal", "leases", "logs"])
def test_an_empty_file_tells_nothing_of_a_former_life(point: str) -> None:
    assert getattr(points, point)(facts({path: text("") for path in LEFT[point]})).result == PASS


def test_what_no_boot_made_is_no_life() -> None:
    assert points.tmp(facts({"/tmp/lost+found": Node()})).result == PASS
    assert points.logs(facts({"/var/log/dpkg.log": text("x"), "/var/log/installer/syslog": text("x")})).result == PASS
    assert says(points.context_state(facts()), NOT_APPLICABLE, "nothing in it takes a context")
    assert says(points.context_state(facts(CLOUD_INIT)), PASS, "none")
    assert says(points.tmp(facts({"/tmp/a": Node(), "/var/tmp/b": Node()})), FAIL, "2 there: /tmp/a, /var/tmp/b")
