# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a diff shows of files that are mended. What mends them: checks/test_points.py, and real images."""

from __future__ import annotations

import pytest
from hostile import LENGTH, bounded, long

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import linux_files, linux_points
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import LINUX, Facts, Node
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair import repair_steps

FSTAB = """//server/share /mnt cifs username=ann,password=hunter2,uid=7 0 0
/dev/sdb1 /data ext4 user=ann%hunter3,passwd=hunter4,vers=3 0 0
proc /proc proc defaults 0 0
"""


def test_only_what_is_changed_in_fstab_is_shown_and_no_password():
    (step,) = repair_steps.plan(Facts(os=LINUX, tree={"/etc/fstab": Node(text=FSTAB)}), ["fstab"])
    (edit,) = step.edits
    assert "# not in the image: /dev/sdb1 /data ext4 user=ann%hunter3" in edit.text and "hunter2" in edit.text
    assert step.before == "/dev/sdb1 /data ext4 user=ann%********,passwd=********,vers=3 0 0"
    assert step.after == f"# not in the image: {step.before}"


@pytest.mark.parametrize("word", ["a.", "a-", "user=", "key=", "user=a%", "pass"])
def test_secrets_of_a_long_line_are_found_in_no_time(word):
    fstab = f"{long(word)} /mnt cifs x.password=hunter2 0 0\n"
    with bounded(word):
        (step,) = repair_steps.plan(Facts(os=LINUX, tree={"/etc/fstab": Node(text=f"/dev/sdb1 {fstab}")}), ["fstab"])
    assert "hunter2" not in step.before and "x.password=********" in step.before


WANTS = "/etc/systemd/system/multi-user.target.wants"
GRUB = {"/boot/grub/grub.cfg": "linux /vmlinuz root=/dev/vda1\n"}


@pytest.mark.parametrize(
    ("look", "files"),
    [
        (linux_points.firewall, {f"{WANTS}/nftables.service": "", "/etc/nftables.conf": "drop\n" + long("22 ") * 8}),
        (linux_points.firewall, {f"{WANTS}/nftables.service": "", "/etc/nftables.conf": long("hook input ") * 8}),
        (
            linux_points.firewall,
            {f"{WANTS}/iptables.service": "", "/etc/iptables/rules.v4": f":INPUT DROP\n--dport {long('22,') * 4}"},
        ),
        (repair_steps._serial_console, {**GRUB, "/etc/default/grub": f"GRUB_CMDLINE_LINUX={long(' ')}x"}),
        (linux_files.sshd_options, {"/etc/ssh/sshd_config": "Include sshd_config\n" * 3000 + "Port 23\n"}),
        (linux_files.sshd_options, {f"/etc/ssh/{number}": f"Include *\nA{number} 1" for number in range(50)} | {
            "/etc/ssh/sshd_config": "Include *\n"}),
        (linux_files.sshd_options, {"/etc/ssh/sshd_config": f"Include {'*a' * 100}b", f"/etc/ssh/{'a' * 250}": ""}),
        (linux_files.sshd_options, {"/etc/ssh/sshd_config": f"Include {long('*a')}b", f"/etc/ssh/{'a' * 250}": ""}),
        (linux_files.sshd_options, {"/etc/ssh/sshd_config": "Include [z-a] [\\] [[:x:]]*\nPort 23\n"}),
        (repair_steps._mac_addresses, {"/etc/netplan/a.yaml": f"macaddress: 52:54:00:12:34:56\n{long(chr(10))}"}),
    ],
)  # fmt: skip
def test_no_text_of_an_image_takes_long(look, files):
    with bounded(look.__name__):
        assert look(Facts(os=LINUX, tree={path: Node(text=text) for path, text in files.items()})) is not None


def test_options_of_the_kernel_are_not_multiplied():
    for entry in (long("options $kernelopts\n"), f"options {long('$kernelopts')}"):
        tree = {"/boot/grub2/grubenv": f"kernelopts={long('a')}", "/boot/loader/entries/a.conf": entry}
        found = linux_files.command_lines(Facts(os=LINUX, tree={path: Node(text=text) for path, text in tree.items()}))
        assert found and sum(map(len, found)) < 20 * LENGTH


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ("", '""'), ('""', '""'), ("quiet", '"quiet"'), ('"a b"  ', '"a b"'), ("'a b'", '"a b"'), ('"', '"""'),
    ],
)  # fmt: skip
def test_the_options_of_grub_keep_what_they_have(given, after):
    files = {**GRUB, "/etc/default/grub": f"A=1\nGRUB_CMDLINE_LINUX={given}\n\nB=2\n"}
    step = repair_steps._serial_console(Facts(os=LINUX, tree={path: Node(text=text) for path, text in files.items()}))
    (edit,) = [edit for edit in step.edits if edit.path == "/etc/default/grub"]
    wanted = f"{after[1:-1]} {repair_steps._CONSOLES}".strip()
    assert edit.text == f'A=1\nGRUB_CMDLINE_LINUX="{wanted}"\n\nB=2\n'


@pytest.mark.parametrize(
    ("unit", "links"),
    [
        ("/etc/init.d/ssh", {f"/etc/rc{level}.d/S01ssh": "../init.d/ssh" for level in "2345"}),
        (
            "/lib/systemd/system/sshd.service",
            {"/etc/systemd/system/multi-user.target.wants/sshd.service": "/lib/systemd/system/sshd.service"},
        ),
    ],
)
def test_an_ssh_server_is_started_in_the_way_of_its_init(unit, links):
    facts = Facts(os=LINUX, tree={"/usr/sbin/sshd": Node(), unit: Node()})
    (step,) = repair_steps.plan(facts, ["ssh-server"])
    assert {edit.path: edit.target for edit in step.edits} == links
