# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a Linux guest's own files say what it does: services, kernel command lines, sshd, network files and fstab."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import linux_files
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    LINK,
    LINUX,
    Facts,
    Node,
    System,
)

UNIT = "/etc/systemd/system"
WANTS = f"{UNIT}/multi-user.target.wants"
MAC = "52:54:00:ab:cd:ef"


def text(content: str) -> Node:
    return Node(size=len(content), text=content)


def link(target: str = "x") -> Node:
    return Node(LINK, target=target)


def facts(tree: dict[str, Node]) -> Facts:
    return Facts(os=LINUX, tree=tree)


def test_lines_are_without_comments_and_blank_ones() -> None:
    assert list(linux_files.lines("a\n\n  # b\n;c\n  d # e\n\t\n")) == ["a", "  d # e"]


# --- services --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"{WANTS}/sshd.service",
        f"{UNIT}/sockets.target.wants/sshd.socket",
        f"{UNIT}/multi-user.target.requires/sshd.service",
        f"{UNIT}/multi-user.target.upholds/sshd.service",
        f"{UNIT}/x.wants/sshd.target",
        "/etc/rc2.d/S01sshd",
        "/etc/rc.d/rc5.d/S99sshd",
        "/etc/rcS.d/S10sshd",
        "/etc/runlevels/default/sshd",
    ],
)
def test_a_service_is_enabled_by_what_starts_it(path: str) -> None:
    assert linux_files.what_starts(facts({path: link()}), "ssh", "sshd") == path


@pytest.mark.parametrize(
    "path",
    [
        f"{UNIT}/sshd.service",
        f"{UNIT}/sshd.service.d/sshd.service",
        f"{WANTS}/sshd.timer",
        f"{WANTS}/sshd@.service",
        "/etc/rc2.d/K01sshd",
        "/etc/rc6.d/S01sshd",
        "/etc/rc2.d/S1sshd",
        "/etc/init.d/sshd",
        "/usr/lib/systemd/system/sshd.service",
    ],
)
def test_a_service_that_is_only_there_is_not_enabled(path: str) -> None:
    assert linux_files.what_starts(facts({path: link()}), "sshd") == ""


@pytest.mark.parametrize("node", [link("/dev/null"), text("")])
def test_a_masked_service_is_not_enabled_though_something_wants_it(node: Node) -> None:
    here = facts({f"{UNIT}/sshd.service": node, f"{WANTS}/sshd.service": link(), f"{WANTS}/ssh.service": link()})
    assert linux_files.is_masked(here, "sshd")
    assert linux_files.what_starts(here, "sshd") == ""
    assert linux_files.what_starts(here, "sshd", "ssh") == f"{WANTS}/ssh.service"


@pytest.mark.parametrize("node", [link("/usr/lib/systemd/system/openssh.service"), text("[Unit]\n")])
def test_a_unit_of_its_own_is_no_mask(node: Node) -> None:
    assert not linux_files.is_masked(facts({f"{UNIT}/sshd.service": node}), "sshd")


@pytest.mark.parametrize("path", ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"])
def test_systemd_is_known_by_its_program(path: str) -> None:
    assert linux_files.has_systemd(facts({path: Node()}))
    assert not linux_files.has_systemd(facts({"/etc/systemd": Node()}))


# --- what gives a guest its context ----------------------------------------------------------------------------------

CLOUD = {"/usr/bin/cloud-init": Node()}
OURS = {"/usr/local/sbin/nebula-context": Node()}
ONE = {"/usr/sbin/one-contextd": Node()}


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ({}, []),
        (CLOUD, ["cloud-init"]),
        (OURS, []),
        ({**OURS, f"{WANTS}/nebula-context.service": link()}, ["nebula-context"]),
        ({**OURS, f"{WANTS}/nebula-context-network.service": link()}, ["nebula-context"]),
        ({**OURS, "/etc/inittab": text("::sysinit:/usr/local/sbin/nebula-context\n")}, ["nebula-context"]),
        ({**OURS, "/etc/rc.local": text("# nebula-context\n")}, []),
        ({"/etc/inittab": text("::sysinit:/usr/local/sbin/nebula-context\n")}, []),
        (ONE, []),
        ({**ONE, f"{WANTS}/one-context.service": link()}, ["one-context"]),
        ({**ONE, "/etc/init.d/vmcontext": Node()}, ["one-context"]),
        ({"/etc/rc.local": text(". /mnt/context.sh\n")}, ["rc.local"]),
        ({"/etc/rc.d/rc.local": text("if [ -f /mnt/context.sh ]; then . /mnt/context.sh; fi\n")}, ["rc.local"]),
        ({"/etc/rc.local": text("#. /mnt/context.sh\n")}, []),
        ({**CLOUD, "/etc/rc.local": text(". /mnt/context.sh\n")}, ["cloud-init", "rc.local"]),
        (
            {"/etc/rc.local": text(". /mnt/context.sh\n"), "/etc/rc.d/rc.local": text(". /mnt/context.sh\n")},
            ["rc.local"],
        ),
    ],
)
def test_what_takes_a_context_is_what_is_there_and_runs_at_boot(tree: dict[str, Node], found: list[str]) -> None:
    assert linux_files.context_programs(facts(tree)) == found


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({"/etc/cloud/cloud-init.disabled": text("")}, "/etc/cloud/cloud-init.disabled switches it off"),
        ({f"{UNIT}/cloud-config.service": link("/dev/null")}, "its service cloud-config is masked"),
        (
            {"/boot/grub/grub.cfg": text("linux /vmlinuz ro cloud-init=disabled\n")},
            "cloud-init=disabled is on the kernel's command line",
        ),
        (
            {"/etc/cloud/cloud.cfg": text("datasource_list: [ Ec2, None ]\n")},
            "its datasource_list has none of OpenNebula, ConfigDrive and NoCloud: Ec2, None",
        ),
        (
            {"/etc/cloud/cloud.cfg": text("datasource_list:\n  - Ec2\n  - None\nusers: []\n")},
            "its datasource_list has none of OpenNebula, ConfigDrive and NoCloud: - Ec2 - None",
        ),
        # The last file counts.
        (
            {
                "/etc/cloud/cloud.cfg": text("datasource_list: [ NoCloud ]\n"),
                "/etc/cloud/cloud.cfg.d/90.cfg": text("datasource_list: [ Azure ]\n"),
            },
            "its datasource_list has none of OpenNebula, ConfigDrive and NoCloud: Azure",
        ),
    ],
)
def test_what_keeps_cloud_init_from_a_context_is_told(tree: dict[str, Node], why: str) -> None:
    here = facts({**CLOUD, **tree})
    assert linux_files.cloud_init_obstacle(here).strip() == why
    assert linux_files.context_programs(here) == []


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"/etc/cloud/cloud.cfg": text("datasource_list: []\n")},
        {"/etc/cloud/cloud.cfg": text("# datasource_list: [ Ec2 ]\n")},
        {"/etc/cloud/cloud.cfg": text("datasource_list: [ Ec2, ConfigDrive ]\n")},
        {"/etc/cloud/cloud.cfg": text("datasource_list:\n  - Ec2\n  - OpenNebula\n")},
        {
            "/etc/cloud/cloud.cfg": text("datasource_list: [ Ec2 ]\n"),
            "/etc/cloud/cloud.cfg.d/90.cfg": text("datasource_list: [ NoCloud ]\n"),
        },
        {"/etc/cloud/cloud.cfg.d/notes.txt": text("datasource_list: [ Ec2 ]\n")},
    ],
)
def test_nothing_keeps_cloud_init_from_a_context(tree: dict[str, Node]) -> None:
    assert linux_files.cloud_init_obstacle(facts({**CLOUD, **tree})) == ""


@pytest.mark.parametrize(
    ("tree", "what"),
    [
        ({"/etc/cloud/cloud.cfg.d/99.cfg": text("network: {config: disabled}\n")}, "/etc/cloud/cloud.cfg.d/99.cfg"),
        ({"/etc/cloud/cloud.cfg": text("a: 1\nnetwork:\n  config: disabled\n")}, "/etc/cloud/cloud.cfg"),
        ({"/etc/cloud/cloud.cfg": text("network: { 'config': \"disabled\" }\n")}, "/etc/cloud/cloud.cfg"),
        (
            {"/boot/grub/grub.cfg": text("linux /vmlinuz ro network-config=disabled\n")},
            "network-config=disabled on the kernel's command line",
        ),
        ({"/etc/cloud/cloud.cfg": text("# network: {config: disabled}\n")}, ""),
        ({"/etc/cloud/cloud.cfg": text("network:\n  renderers: [netplan]\n")}, ""),
        ({"/etc/cloud/notes.cfg": text("network: {config: disabled}\n")}, ""),
    ],
)
def test_what_keeps_cloud_init_from_the_network_is_told(tree: dict[str, Node], what: str) -> None:
    here = facts({**CLOUD, **tree})
    assert linux_files.cloud_init_without_network(here) == what
    assert linux_files.context_programs(here) == ["cloud-init"]


# --- the kernel's command line ---------------------------------------------------------------------------------------


def test_the_command_line_is_that_of_the_entry_that_boots_by_default_of_each_loader() -> None:
    grub = "menuentry a {\n\tlinux\t/vmlinuz root=/dev/sda1 ro console=ttyS0\n}\nmenuentry b {\n linux /old ro\n}\n"
    here = facts(
        {
            "/boot/grub2/grub.cfg": text(grub),
            "/boot/loader/entries/1-old.conf": text("options old\n"),
            "/boot/loader/entries/2-new.conf": text("title x\noptions root=x $kernelopts\n"),
            "/boot/grub2/grubenv": text("# GRUB Environment Block\nkernelopts=ro quiet\n####"),
            "/boot/extlinux/extlinux.conf": text("LABEL a\n  LINUX /vmlinuz\n  APPEND ro first\nLABEL b\n append 2\n"),
        }
    )
    assert linux_files.command_lines(here) == ["root=/dev/sda1 ro console=ttyS0", "root=x ro quiet", "ro first"]


@pytest.mark.parametrize("word", ["linux", "linux16", "linuxefi"])
def test_each_word_of_grub_for_a_kernel_is_known(word: str) -> None:
    assert linux_files.command_lines(facts({"/boot/grub/grub.cfg": text(f"\t{word} /vmlinuz ro\n")})) == ["ro"]
    assert linux_files.command_lines(facts({"/boot/grub/grub.cfg": text(f"\t{word} /vmlinuz\n")})) == [""]


def test_kernelopts_that_nobody_set_are_nothing() -> None:
    assert linux_files.command_lines(facts({"/boot/loader/entries/a.conf": text("options ro $kernelopts\n")})) == [
        "ro "
    ]
    assert linux_files.command_lines(facts({})) == []


@pytest.mark.parametrize(
    ("line", "console"),
    [
        ("ro console=ttyS0,115200n8 quiet", "ttyS0"),
        ("console=ttyS1", "ttyS1"),
        ("console=tty0 console=ttyAMA0", "ttyAMA0"),
        ("console=hvc0", "hvc0"),
        ("console=tty0", ""),
        ("noconsole=ttyS0", ""),
        ("", ""),
    ],
)
def test_a_serial_console_is_one_of_a_serial_device(line: str, console: str) -> None:
    assert linux_files.has_serial_console(line) == console


# --- sshd ------------------------------------------------------------------------------------------------------------

SSHD = "/etc/ssh/sshd_config"


def test_the_first_value_of_an_option_counts_in_whatever_case_and_form() -> None:
    here = facts(
        {SSHD: text('#Port 1\nPORT 22\nPort 23\nPermitRootLogin=no\nBanner "none"\nMatch User x\nUseDNS no\n')}
    )
    assert linux_files.sshd_options(here) == {"port": "22", "permitrootlogin": "no", "banner": "none"}


def test_included_files_are_read_where_they_are_included() -> None:
    here = facts(
        {
            SSHD: text("Include sshd_config.d/*.conf\nPort 22\nBanner none\n"),
            "/etc/ssh/sshd_config.d/10.conf": text("Port 10\nMatch all\nUseDNS no\n"),
            "/etc/ssh/sshd_config.d/20.conf": text("Port 20\nInclude /etc/more\n"),
            "/etc/more": text("Banner more\n"),
        }
    )
    assert linux_files.sshd_options(here) == {"port": "10", "banner": "more"}


def test_a_file_that_includes_itself_is_no_loop() -> None:
    assert linux_files.sshd_options(facts({SSHD: text(f"Include {SSHD}\nPort 22\n")}))["port"] == "22"
    assert linux_files.sshd_options(facts({})) == {}


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/etc/udev/rules.d/70-net.rules", f'SUBSYSTEM=="net", ATTR{{address}}=="{MAC}", NAME="eth0"'),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", f"HWADDR={MAC}"),
        ("/etc/sysconfig/network/ifcfg-eth0", f"LLADDR='{MAC}'"),
        ("/etc/netplan/50.yml", f"      macaddress: {MAC.upper()}"),
        ("/etc/NetworkManager/system-connections/a", f"cloned-mac-address={MAC}"),
        ("/etc/systemd/network/10.link", f"PermanentMACAddress={MAC.replace(':', '-')}"),
        ("/etc/network/interfaces", f"  hwaddress ether {MAC}"),
        ("/etc/network/interfaces.d/eth0", f"  post-up ip link set eth0 mac_address {MAC}"),
    ],
)
def test_a_line_that_binds_to_a_mac_address_is_named_with_it(path: str, line: str) -> None:
    found = linux_files.hard_coded_macs(facts({path: text(f"# {MAC}\n{line}\n")}))
    address = linux_files.MAC.search(line)
    assert address is not None and found == [f"{path}: {address[0]}"]
    assert linux_files.hard_coded_macs(facts({path: text(f"#{line}\n")})) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/etc/udev/rules.d/70-net.rules", 'SUBSYSTEM=="net", ATTR{address}=="?*", NAME="eth0"'),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", "HWADDR="),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", f"NAME={MAC}"),
        ("/etc/hosts", f"HWADDR={MAC}"),
    ],
)
def test_what_binds_to_no_address_is_none(path: str, line: str) -> None:
    assert linux_files.hard_coded_macs(facts({path: text(line + "\n")})) == []


STATIC = {
    "interfaces": ("/etc/network/interfaces", "iface eth0 inet static\n", "iface eth0 inet static"),
    "interfaces of IPv6": ("/etc/network/interfaces.d/a", "iface eth0 inet6 static\n", "iface eth0 inet6 static"),
    "netplan in brackets": ("/etc/netplan/a.yaml", "e:\n  addresses: [10.0.0.1/24]\n", "addresses"),
    "netplan as a list": ("/etc/netplan/a.yaml", "e:\n  addresses:\n  - 10.0.0.1/24\n", "addresses"),
    "ifcfg": ("/etc/sysconfig/network-scripts/ifcfg-eth0", "IPADDR=10.0.0.1\n", "IPADDR=10.0.0.1"),
    "ifcfg with a number": ("/etc/sysconfig/network/ifcfg-eth0", "IPADDR1=10.0.0.1\n", "IPADDR1=10.0.0.1"),
    "ifcfg in quotes": ("/etc/sysconfig/network/ifcfg-eth0", "IPADDR='10.0.0.1'\n", "IPADDR='10.0.0.1'"),
    "networkd": ("/etc/systemd/network/a.network", "[Network]\nAddress=10.0.0.1/24\n", "Address=10.0.0.1/24"),
    "NetworkManager": ("/etc/NetworkManager/system-connections/a", "address1=10.0.0.1/24\n", "address1=10.0.0.1/24"),
}


@pytest.mark.parametrize("case", STATIC)
def test_an_address_that_is_written_down_is_named_with_its_file(case: str) -> None:
    path, content, shown = STATIC[case]
    assert linux_files.static_addresses(facts({path: text(content)})) == [f"{path}: {shown}"]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/etc/network/interfaces", "auto lo\niface lo inet static\niface eth0 inet dhcp\n#iface eth1 inet static\n"),
        ("/etc/netplan/a.yaml", "e:\n  nameservers:\n    addresses: [1.1.1.1]\n  dhcp4: true\n"),
        ("/etc/netplan/a.yaml", "e:\n  addresses: []\n"),
        ("/etc/sysconfig/network-scripts/ifcfg-lo", "IPADDR=127.0.0.1\n"),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", "IPADDR=\nBOOTPROTO=dhcp\n"),
        ("/etc/systemd/network/a.network", "[Network]\nAddress=127.0.0.1/8\nDHCP=yes\n"),
        ("/etc/systemd/network/a.network", "[Network]\nAddress=\nDHCP=yes\n"),
        ("/etc/NetworkManager/system-connections/a", "[ipv4]\naddress1=\nmethod=auto\n"),
        ("/etc/NetworkManager/system-connections/lo", "type=loopback\naddress1=127.0.0.1/8\n"),
    ],
)
def test_loopback_and_name_servers_are_no_address_of_the_machine(path: str, content: str) -> None:
    assert linux_files.static_addresses(facts({path: text(content)})) == []


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/etc/network/interfaces", "iface eth0 inet dhcp\n"),
        ("/etc/network/interfaces", "iface eth0 inet6 auto\n"),
        ("/etc/netplan/a.yaml", "  dhcp4: true\n"),
        ("/etc/netplan/a.yaml", "  dhcp6: yes\n"),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", 'BOOTPROTO="dhcp"\n'),
        ("/etc/systemd/network/a.network", "DHCP=ipv4\n"),
        ("/etc/NetworkManager/system-connections/a", "[ipv4]\nmethod=auto\n"),
    ],
)
def test_a_file_that_asks_for_an_address_is_found(path: str, content: str) -> None:
    assert linux_files.automatic_addresses(facts({path: text(content)})) == [path]


@pytest.mark.parametrize(
    "content", ["iface lo inet dhcp\n", "dhcp4: false\n", "#BOOTPROTO=dhcp\n", "DHCP=no\n", "DHCP=\nyes\n", ""]
)
def test_a_file_that_asks_for_none_is_not(content: str) -> None:
    assert linux_files.automatic_addresses(facts({"/etc/network/interfaces": text(content)})) == []


# --- fstab -----------------------------------------------------------------------------------------------------------


def test_lines_of_fstab_have_four_words() -> None:
    content = "# a\nUUID=a / ext4 ro 0 1\n/dev/sdb1 /data/ xfs\nnonsense here\nproc /proc proc defaults\n"
    assert list(linux_files.fstab(content)) == [
        ("UUID=a", "/", "ext4", "ro"),
        ("/dev/sdb1", "/data", "xfs", "defaults"),
        ("proc", "/proc", "proc", "defaults"),
    ]


@pytest.mark.parametrize(
    "source", ["/dev/sda", "/dev/sdb12", "/dev/vda1", "/dev/xvda1", "/dev/hdc", "/dev/nvme0n1p3", "/dev/mmcblk0p1"]
)
def test_a_name_by_the_bus_is_another_on_another(source: str) -> None:
    assert linux_files.is_by_bus(source)


@pytest.mark.parametrize(
    "source",
    ["UUID=x", "/dev/disk/by-uuid/x", "/dev/mapper/a-b", "/dev/vg/lv", "/dev/sr0", "/dev/sda1x", "/dev/nvme0", "sda1"],
)
def test_other_names_are_not_by_the_bus(source: str) -> None:
    assert not linux_files.is_by_bus(source)


SYSTEMS = (
    System("/dev/sda1", "vfat", "EFI", "AB12-34CD", "11-aa", "esp"),
    System("/dev/sda2", "ext4", "my root", "aa-11", "22-bb", ""),
    System("/dev/my-vg/my-lv", "xfs", "", "bb-22"),
)


@pytest.mark.parametrize(
    ("source", "device"),
    [
        ("UUID=aa-11", "/dev/sda2"),
        ('UUID="aa-11"', "/dev/sda2"),
        ("UUID=AA-11", "/dev/sda2"),
        ("UUID=ab12-34cd", "/dev/sda1"),
        ("LABEL=EFI", "/dev/sda1"),
        ("LABEL=efi", None),
        ("LABEL=", None),
        ("PARTUUID=22-BB", "/dev/sda2"),
        ("PARTLABEL=esp", "/dev/sda1"),
        ("PARTLABEL=", None),
        ("UUID=cc-33", None),
        ("/dev/disk/by-uuid/bb-22", "/dev/my-vg/my-lv"),
        ("/dev/disk/by-label/EFI", "/dev/sda1"),
        ("/dev/disk/by-partuuid/11-aa", "/dev/sda1"),
        ("/dev/disk/by-id/x", None),
        ("/dev/mapper/my--vg-my--lv", "/dev/my-vg/my-lv"),
        ("/dev/mapper/my--vg-other", None),
        ("/dev/my-vg/my-lv", "/dev/my-vg/my-lv"),
        ("/dev/vda2", "/dev/sda2"),
        ("/dev/xvda1", "/dev/sda1"),
        ("/dev/nvme0n1p2", "/dev/sda2"),
        ("/dev/mmcblk0p1", "/dev/sda1"),
        ("/dev/sda3", None),
        # The second disk is not the image's.
        ("/dev/vdb2", None),
        ("/dev/nvme1n1p2", None),
        ("NAME=x", None),
    ],
)
def test_the_device_of_a_line_of_fstab_is_found_by_any_of_its_names(source: str, device: str | None) -> None:
    assert linux_files.device_of(source, SYSTEMS) == device


@pytest.mark.parametrize(
    ("path", "content", "found"),
    [
        ("/etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection", "", True),
        ("/etc/NetworkManager/system-connections/eth0", "[connection]\nid=cloud-init eth0\n", True),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", "# Created by cloud-init on instance boot\nDEVICE=eth0\n", True),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", "# Written by nebula-context at boot.\n", True),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\nBOOTPROTO=dhcp\n", False),
        ("/etc/netplan/01-netcfg.yaml", "network:\n  version: 2\n", False),
        ("/etc/network/interfaces", "# Written by nebula-context at boot.\n", False),
    ],
)
def test_network_files_that_a_context_program_wrote(path: str, content: str, found: bool) -> None:
    tree = {path: Node(size=len(content), text=content)}
    assert linux_files.former_networks(Facts(LINUX, tree=tree)) == ([path] if found else [])
