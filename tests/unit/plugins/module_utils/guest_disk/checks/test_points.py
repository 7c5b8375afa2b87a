# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each point of a check, by what was found: one fact of a fit image is made another, and one point tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import live_points
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import points as image_points
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    DIRECTORY,
    FAIL,
    LINK,
    LINUX,
    NOT_APPLICABLE,
    NOT_TESTED,
    PASS,
    WINDOWS,
    Facts,
    Node,
    Partition,
    System,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.live_points import GuestReport
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair import repair_steps

MAC = "52:54:00:12:34:56"
UNIT = "/etc/systemd/system"
WANTS = f"{UNIT}/multi-user.target.wants"
MIB = 1 << 20


def text(content, mode=0o644):
    return Node(mode=mode, size=len(content), text=content)


def link(target):
    return Node(LINK, target=target)


TREE = {
    "/etc/fstab": text("UUID=aa-11 / ext4 defaults 0 1\nproc /proc proc defaults 0 0\n"),
    "/etc/machine-id": text(""),
    "/etc/shadow": text("root:*:1:::::\ndaemon:!:1:::::\n"),
    "/etc/ssh/sshd_config": text("Include /etc/ssh/sshd_config.d/*.conf\n#PubkeyAuthentication no\n"),
    "/etc/localtime": link("/usr/share/zoneinfo/Etc/UTC"),
    "/etc/network/interfaces": text("auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n"),
    "/boot/grub/grub.cfg": text("menuentry x {\n\tlinux /vmlinuz root=UUID=aa-11 ro console=ttyS0,115200\n}\n"),
    "/usr/lib/systemd/systemd": Node(),
    "/usr/sbin/sshd": Node(),
    "/usr/lib/systemd/system/ssh.service": Node(),
    f"{WANTS}/ssh.service": link("/lib/systemd/system/ssh.service"),
    "/usr/bin/cloud-init": Node(),
    "/usr/bin/growpart": Node(),
}
DISK = (Partition(1, "/dev/sda1", MIB, 9 * MIB, "0x82"), Partition(2, "/dev/sda2", 10 * MIB, 90 * MIB, "0x83", True))
SYSTEMS = (System("/dev/sda1", "swap", uuid="bb-22"), System("/dev/sda2", "ext4", "root", "aa-11"))
FIT = Facts(
    os=LINUX, name="Debian", size=100 * MIB, table="dos", partitions=DISK, boot="GRUB", root="/dev/sda2",
    root_type="ext4",
    systems=SYSTEMS, tree=TREE, kernel="6.1", modules=frozenset(("virtio_blk", "virtio_net", "virtio_pci")),
    initrd=frozenset(("virtio_blk", "virtio_pci", "ext4")),
)  # fmt: skip
OURS = {"/usr/local/sbin/nebula-context": Node(), f"{WANTS}/nebula-context.service": link("x")}
NO_CLOUD_INIT = {"/usr/bin/cloud-init": None}
NO_SSHD = {"/usr/sbin/sshd": None}


def changed(tree=None, facts=FIT, **fields):
    """The fit image with other fields, and other files; None: without."""
    merged = {**facts.tree, **(tree or {})}
    return replace(facts, tree={path: node for path, node in merged.items() if node is not None}, **fields)


def answers(facts, said=None, looked=True):
    return {finding.point: finding for finding in image_points.judge(facts, said, looked)}


def failing(facts):
    return {name for name, finding in answers(facts).items() if finding.result == FAIL}


LIVE = {point.name for point in image_points.POINTS if point.hear is not None}


def test_a_fit_image_passes_what_was_asked_and_nothing_else():
    told = answers(FIT)
    assert {name for name, finding in told.items() if finding.result == NOT_TESTED} == LIVE
    assert {finding.result for name, finding in told.items() if name not in LIVE} == {PASS}
    assert all(finding.why for finding in told.values())


SWAP_LAST = (replace(DISK[1], start=MIB), replace(DISK[0], start=91 * MIB))
FAULTS = {
    "unreadable": (changed(failed={"/dev/sda3": "bad magic"}), "file-systems"),
    "swap behind": (changed(partitions=SWAP_LAST), "partitions"),
    "no growpart": (changed({"/usr/bin/growpart": None}), "growth"),
    "no boot code": (changed(boot=""), "boot-loader"),
    "grub on gpt": (changed(table="gpt"), "boot-loader"),
    "efi without fallback": (changed({"/boot/efi/EFI/debian/grubx64.efi": Node()}, boot=""), "boot-loader"),
    "initrd without virtio": (changed(initrd=frozenset(("ext4",))), "virtio"),
    "initrd without pci": (changed(initrd=frozenset(("virtio_blk",))), "virtio"),
    "kernel without virtio_net": (changed(modules=frozenset(("virtio_blk",))), "virtio"),
    "no console": (changed({"/boot/grub/grub.cfg": text("linux /vmlinuz ro quiet\n")}), "serial-console"),
    "bls": (
        changed({"/boot/grub/grub.cfg": None, "/boot/loader/entries/a.conf": text("options ro\n")}),
        "serial-console",
    ),
    "udev": (
        changed({"/etc/udev/rules.d/70.rules": text(f'ATTR{{address}}=="{MAC}", NAME="eth0"\n')}),
        "mac-addresses",
    ),
    "ifcfg": (changed({"/etc/sysconfig/network-scripts/ifcfg-eth0": text(f"HWADDR={MAC}\n")}), "mac-addresses"),
    "netplan": (changed({"/etc/netplan/a.yaml": text(f"x:\n  match:\n    macaddress: '{MAC}'\n")}), "mac-addresses"),
    "nm": (
        changed({"/etc/NetworkManager/system-connections/a": text(f"[ethernet]\nmac-address={MAC}\n")}),
        "mac-addresses",
    ),
    "networkd": (changed({"/etc/systemd/network/a.network": text(f"[Match]\nMACAddress={MAC}\n")}), "mac-addresses"),
    "static": (changed({"/etc/network/interfaces": text("iface eth0 inet static\n  address 10.0.0.1\n")}), "dhcp"),
    "static ifcfg": (changed({"/etc/sysconfig/network-scripts/ifcfg-e": text("IPADDR=10.0.0.1\n")}), "dhcp"),
    "static netplan": (changed({"/etc/netplan/a.yaml": text("e:\n  addresses: [10.0.0.1/24]\n")}), "dhcp"),
    "static networkd": (changed({"/etc/systemd/network/a.network": text("[Network]\nAddress=10.0.0.1/24\n")}), "dhcp"),
    "static nm": (
        changed({"/etc/NetworkManager/system-connections/a": text("[ipv4]\naddress1=10.0.0.1/24\n")}),
        "dhcp",
    ),
    "ssh masked": (changed({f"{WANTS}/ssh.service": None, f"{UNIT}/ssh.service": link("/dev/null")}), "ssh-server"),
    "ssh off": (changed({f"{WANTS}/ssh.service": None}), "ssh-server"),
    "ssh not to be run": (changed({"/etc/ssh/sshd_not_to_be_run": text("")}), "ssh-server"),
    "no keys": (changed({"/etc/ssh/sshd_config.d/a.conf": text("PubkeyAuthentication no\n")}), "ssh-keys"),
    "no keys file": (changed({"/etc/ssh/sshd_config": text("AuthorizedKeysFile none\n")}), "ssh-keys"),
    "nftables": (
        changed(
            {
                f"{UNIT}/sysinit.target.wants/nftables.service": link("x"),
                "/etc/nftables.conf": text("chain input { type filter hook input priority 0; policy drop; }\n"),
            }
        ),
        "firewall",
    ),
    "firewalld": (
        changed({f"{WANTS}/firewalld.service": link("x"), "/etc/firewalld/firewalld.conf": text("DefaultZone=drop\n")}),
        "firewall",
    ),
    "ufw": (
        changed(
            {
                f"{WANTS}/ufw.service": link("x"),
                "/etc/ufw/ufw.conf": text("ENABLED=yes\n"),
                "/etc/default/ufw": text('DEFAULT_INPUT_POLICY="DROP"\n'),
            }
        ),
        "firewall",
    ),
    "iptables": (
        changed(
            {f"{WANTS}/netfilter-persistent.service": link("x"), "/etc/iptables/rules.v4": text(":INPUT DROP [0:0]\n")}
        ),
        "firewall",
    ),
    "fstab by bus": (changed({"/etc/fstab": text("/dev/sda2 / ext4 defaults 0 1\n")}), "fstab"),
    "fstab by virtio": (changed({"/etc/fstab": text("/dev/vda2 / ext4 defaults 0 1\n")}), "fstab"),
    "fstab of another disk": (changed({"/etc/fstab": text("LABEL=data /data ext4 defaults 0 2\n")}), "fstab"),
    "zone": (changed({"/etc/localtime": link("../usr/share/zoneinfo/Asia/Tokyo")}), "timezone"),
    "another zone wanted": (changed(zone="Europe/Berlin"), "timezone"),
    "machine id": (changed({"/etc/machine-id": text("0123\n")}), "machine-id"),
    "dbus id": (changed({"/var/lib/dbus/machine-id": text("0123\n")}), "machine-id"),
    "host key": (changed({"/etc/ssh/ssh_host_rsa_key": text("x")}), "host-keys"),
    "nobody makes host keys": (changed({**NO_CLOUD_INIT, **OURS}), "host-keys"),
    "seed": (changed({"/var/lib/systemd/random-seed": text("x")}), "random-seed"),
    "password": (changed({"/etc/shadow": text("root:$6$a$b:1:::::\n")}), "passwords"),
    "no password": (changed({"/etc/shadow": text("root::1:::::\n")}), "passwords"),
    "authorized key": (changed({"/home/me/.ssh/authorized_keys": text("ssh-rsa A")}), "personal"),
    "history": (changed({"/root/.bash_history": text("ls")}), "personal"),
    "lease": (changed({"/var/lib/dhcp/dhclient.leases": text("lease")}), "leases"),
    "cloud state": (changed({"/var/lib/cloud/instance": link("x")}), "context-state"),
    "tmp": (changed({"/tmp/.x": text("")}), "tmp"),
    "log": (changed({"/var/log/syslog": text("x")}), "logs"),
    "journal": (changed({"/var/log/journal/1/system.journal": text("x")}), "logs"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_point_and_no_other(fault):
    facts, point = FAULTS[fault]
    assert failing(facts) == {point}
    found = answers(facts)[point]
    assert found.why and found.remedy


SEVERAL = {
    "cloud-init without network": (
        changed(
            {
                "/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg": text("network: {config: disabled}\n"),
                "/etc/network/interfaces": None,
            }
        ),
        {"context", "dhcp"},
    ),
    "no context": (changed(NO_CLOUD_INIT), {"context", "growth", "host-keys"}),
    "cloud-init switched off": (
        changed({"/etc/cloud/cloud-init.disabled": Node()}),
        {"context", "growth", "host-keys"},
    ),
    "other clouds only": (
        changed({"/etc/cloud/cloud.cfg.d/a.cfg": text("datasource_list: [ Ec2, None ]\n")}),
        {"context", "growth", "host-keys"},
    ),
    "volume group": (changed(root="/dev/vg/root"), {"partitions", "growth"}),
    "no network": (
        changed({**NO_CLOUD_INIT, "/etc/network/interfaces": None}),
        {"context", "growth", "host-keys", "dhcp"},
    ),
    "no ssh server": (changed(NO_SSHD), {"ssh-server"}),
}


@pytest.mark.parametrize("fault", SEVERAL)
def test_what_several_points_rest_on(fault):
    facts, points = SEVERAL[fault]
    assert failing(facts) == points


HARMLESS = {
    "whole disk": changed(partitions=(), root="/dev/sda", table="", systems=(System("/dev/sda", "ext4", "", "aa-11"),)),
    "uefi": changed({"/boot/efi/EFI/BOOT/BOOTX64.EFI": Node()}, boot="", table="gpt"),
    "our program": changed({**NO_CLOUD_INIT, **OURS, "/usr/lib/systemd/system/sshd-keygen@.service": Node()}),
    "sources of ours": changed({"/etc/cloud/cloud.cfg": text("datasource_list:\n  - NoCloud\n  - None\n")}),
    "commented": changed({"/etc/udev/rules.d/70.rules": text(f'# ATTR{{address}}=="{MAC}"\n')}),
    "name servers": changed(
        {"/etc/netplan/a.yaml": text("e:\n  dhcp4: true\n  nameservers:\n    addresses: [1.1.1.1]\n")}
    ),
    "rules let ssh in": changed(
        {
            f"{WANTS}/nftables.service": link("x"),
            "/etc/nftables.conf": text("hook input priority 0; policy drop;\n tcp dport 22 accept\n"),
        }
    ),
    "first value counts": changed(
        {"/etc/ssh/sshd_config": text("PubkeyAuthentication yes\nPubkeyAuthentication no\n")}
    ),
    "only in a match": changed({"/etc/ssh/sshd_config": text("Match User x\n  PubkeyAuthentication no\n")}),
    "swap file": changed({"/etc/fstab": text("UUID=aa-11 / ext4 x 0 1\n/swapfile none swap sw 0 0\n")}),
    "cd": changed({"/etc/fstab": text("/dev/sr0 /media/cdrom0 udf user,noauto 0 0\n")}),
    "nofail": changed({"/etc/fstab": text("LABEL=data /data ext4 nofail 0 2\n")}),
    "dbus link": changed({"/var/lib/dbus/machine-id": link("/etc/machine-id"), "/var/lib/dbus": Node(DIRECTORY)}),
    "uninitialized": changed({"/etc/machine-id": text("uninitialized\n")}),
    "no zone": changed({"/etc/localtime": None}),
    "kernelopts": changed(
        {
            "/boot/grub/grub.cfg": None,
            "/boot/loader/entries/a.conf": text("options $kernelopts\n"),
            "/boot/grub2/grubenv": text("kernelopts=root=x console=ttyS0\n"),
        }
    ),
    "sysv": changed({"/usr/lib/systemd/systemd": None, f"{WANTS}/ssh.service": None, "/etc/rc2.d/S01ssh": link("x")}),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_as_good(name):
    assert failing(HARMLESS[name]) == set()


@pytest.mark.parametrize(
    ("facts", "point", "result"),
    [
        (changed(NO_SSHD), "ssh-keys", NOT_APPLICABLE),
        (changed(NO_SSHD), "host-keys", NOT_APPLICABLE),
        (changed(kernel=""), "virtio", NOT_APPLICABLE),
        (changed({"/boot/grub/grub.cfg": None}), "serial-console", NOT_APPLICABLE),
        (changed(initrd=None, initrd_why="lz4"), "virtio", NOT_TESTED),
        (changed({"/etc/localtime": text("TZif")}), "timezone", NOT_TESTED),
    ],
)
def test_what_is_no_question_or_can_t_be_told(facts, point, result):
    assert answers(facts)[point].result == result


def test_an_image_that_was_not_looked_into_passes_nothing():
    assert {finding.result for finding in answers(FIT, looked=False).values()} == {NOT_TESTED}


def test_no_point_is_asked_of_the_other_system():
    windows = answers(Facts(os=WINDOWS))
    assert not {"fstab", "machine-id"} & set(windows) and "sysprep" in windows
    assert windows["updates"].result == windows["licence"].result == NOT_TESTED


# --- live ------------------------------------------------------------------------------------------------------------

CONSOLE = """Linux version 6.1.0
nebula-check: begin\r
nebula-check: hostname=web-0\r
nebula-check: context=cloud-init
nebula-check: key_user=debian
nebula-check: login=ok
nebula-check: root_kib=1400000
nebula-check: storage=ok vdb
nebula-check: file=told
nebula-check: end
"""


def said(console=CONSOLE, **more):
    given = {
        "host_name": "web-0.example.org",
        "root_mib": 1524,
        "image_mib": 1000,
        "injected": "told",
        "snapshot": "ok",
    }
    return GuestReport(console=console, values=live_points.values_of(console), **{**given, **more})


def live(heard):
    return {name: finding.result for name, finding in answers(FIT, heard).items() if name in LIVE}


def test_a_guest_that_says_all_is_well():
    assert set(live(said()).values()) == {PASS}


@pytest.mark.parametrize(
    ("told", "point", "result"),
    [
        (said(CONSOLE.replace("hostname=web-0", "hostname=debian")), "host-name", FAIL),
        (said(CONSOLE.replace("login=ok", "login=Permission denied")), "key-login", FAIL),
        (said(CONSOLE.replace("login=ok", "login=no_client")), "key-login", NOT_TESTED),
        (said(CONSOLE.replace("key_user=debian", "key_user=")), "key-login", FAIL),
        (said(CONSOLE.replace("root_kib=1400000", "root_kib=980000")), "root-grown", FAIL),
        (said(root_mib=1000), "root-grown", NOT_TESTED),
        (said(CONSOLE.replace("storage=ok vdb", "storage=")), "attached-storage", FAIL),
        (said(CONSOLE.replace("file=told", "file=")), "file-injection", FAIL),
        (said(injected=""), "file-injection", NOT_TESTED),
        (said(CONSOLE.replace("Linux version", "Some version")), "console-log", FAIL),
        (said(snapshot=""), "snapshot", NOT_TESTED),
        (said(snapshot="no agent answers"), "snapshot", FAIL),
        (said(snapshot="skipped: it is not persistent"), "snapshot", NOT_APPLICABLE),
    ],
)
def test_what_a_guest_says_decides_one_point(told, point, result):
    expected = {**dict.fromkeys(LIVE, PASS), point: result}
    assert live(told) == expected


def test_a_guest_that_says_nothing_passes_nothing():
    """The context was not taken: that is a fault; the rest nobody knows."""
    silent = live(said("SeaBIOS\n", injected="", snapshot=""))
    assert silent == {**dict.fromkeys(LIVE, NOT_TESTED), "context-ran": FAIL, "console-log": FAIL}
    assert PASS not in live(GuestReport()).values()


# --- repairs ---------------------------------------------------------------------------------------------------------

MENDED = set(repair_steps.STEPS)


def written(facts):
    """The tree as the edits leave it, without an image."""
    tree = dict(facts.tree)
    for step in repair_steps.plan(facts):
        for edit in step.edits:
            if isinstance(edit, repair_steps.Write):
                tree[edit.path] = text(edit.text)
            elif isinstance(edit, repair_steps.Link):
                tree[edit.path] = link(edit.target)
            elif isinstance(edit, repair_steps.Empty):
                tree[edit.path] = text("")
            else:
                gone = [path for path, _node in Facts(os=LINUX, tree=tree).matching(edit.pattern)]
                tree = {path: node for path, node in tree.items()
                        if path not in gone and not path.startswith(edit.pattern + "/")}  # fmt: skip
    return replace(facts, tree=tree)


@pytest.mark.parametrize("fault", [name for name, (_facts, point) in FAULTS.items() if point in MENDED])
def test_what_can_be_mended_is_and_only_once(fault):
    facts, point = FAULTS[fault]
    assert [step.name for step in repair_steps.plan(facts)] == [point]
    after = written(facts)
    assert failing(after) == set()
    assert repair_steps.plan(after) == []


@pytest.mark.parametrize("name", HARMLESS)
def test_nothing_is_done_to_what_is_as_good(name):
    assert repair_steps.plan(HARMLESS[name]) == []


def test_only_the_steps_that_were_asked_for():
    facts = changed({"/tmp/x": text(""), "/var/log/syslog": text("x")})
    assert [step.name for step in repair_steps.plan(facts, ["logs"])] == ["logs"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            f"ethernets:\n  a:\n    match:\n      macaddress: {MAC}\n    set-name: a\n    dhcp4: true\n",
            "ethernets:\n  a:\n    dhcp4: true\n",
        ),
        (
            f"a:\n  match:\n    driver: virtio\n    macaddress: {MAC}\n  dhcp4: true\n",
            "a:\n  match:\n    driver: virtio\n  dhcp4: true\n",
        ),
    ],
)
def test_netplan_without_a_match_of_nothing(before, after):
    tree = written(changed({"/etc/netplan/a.yaml": text(before)})).tree
    assert tree["/etc/netplan/a.yaml"].text == after


def test_no_secret_is_in_a_step():
    facts = changed({"/etc/shadow": text("root:$6$salt$hash:1:::::\n"), "/etc/ssh/ssh_host_rsa_key": text("PRIVATE")})
    shown = "".join(step.before + step.after for step in repair_steps.plan(facts))
    assert "$6$" not in shown and "PRIVATE" not in shown
