# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo guest's boot script does what its context asks, and tells what it could not.

Its functions run in this host's shell, with every path of the guest below a directory of the test, and with stand-ins
for the programs that change a system; tests/integration/test_demo_image.py boots it."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess

import pytest
from appliance_stand_in import made

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_guest

# What stands below is what the script does by itself.
FUNCTIONS = demo_guest.BOOT.split("\necho\nsay booting\n")[0]
STAND_INS = """
ip() { echo "ip $*" >>"$D/did"; }
hostname() { if [ $# = 0 ]; then cat "$D/named"; else echo "$1" >"$D/named"; fi; }
ipcalc() { case $3 in 255.255.255.0) echo PREFIX=24 ;; 255.255.0.0) echo PREFIX=16 ;; *) return 1 ;; esac; }
nproc() { echo 2; }
usleep() { :; }
"""
MAC = "02:00:0a:42:00:0a"


@pytest.fixture(params=["dash", "busybox"])
def guest(request, tmp_path):
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param}")
    made(tmp_path, {
        "etc": None, "run": None, "mnt": None, "root": None, "named": "localhost\n", "did": "",
        "sys/class/net/lo/address": "00:00:00:00:00:00\n", "sys/class/net/eth0/address": MAC + "\n",
        "sys/class/net/eth1/address": "02:00:0a:42:00:0b\n", "proc/meminfo": "MemTotal:  500000 kB\n",
        "sys/block/vda/size": "4096\n", "dev": None,
    })  # fmt: skip
    text = re.sub(r"(?<![\w$}*.])/(etc|run|mnt|root|sys|dev|proc)\b(?!/null)", rf"{tmp_path}/\1", FUNCTIONS)
    shell = ["dash"] if request.param == "dash" else ["busybox", "sh"]

    def run(script):
        told = f"D={tmp_path}\n{text}\n{STAND_INS}\n{script}\n"
        done = subprocess.run([*shell, "-c", told], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def context(guest, tmp_path):
    """The faults that it tells of a context."""

    def run(**variables):
        lines = [f"{name}='{value}'" for name, value in variables.items()]
        (tmp_path / "run/context.sh").write_text("\n".join(lines) + "\n")
        guest("(contextualise)")
        assert (tmp_path / "run/context.read").exists()
        faults = tmp_path / "run/faults"
        return faults.read_text().splitlines() if faults.exists() else []

    return run


def did(tmp_path):
    return (tmp_path / "did").read_text().splitlines()


def addresses(tmp_path):
    """Those that it set, by family."""
    lines = did(tmp_path)
    return [
        f for f, form in ((4, "ip addr add "), (6, "ip -6 addr add ")) if any(line.startswith(form) for line in lines)
    ]


BOTH = {"ETH0_IP": "10.0.0.1", "ETH0_IP6": "fd00::1", "ETH0_GATEWAY": "10.0.0.254", "ETH0_IP6_GATEWAY": "fd00::fe"}


@pytest.mark.parametrize(
    ("methods", "families"),
    [
        ({}, [4, 6]),
        ({"ETH0_METHOD": "STATIC", "ETH0_IP6_METHOD": ""}, [4, 6]),
        ({"ETH0_METHOD": "skip"}, []),
        ({"ETH0_METHOD": "skip", "ETH0_IP6_METHOD": "static"}, [6]),
        ({"ETH0_IP6_METHOD": "skip"}, [4]),
        ({"ETH0_IP6_METHOD": "auto"}, [4]),
        ({"ETH0_IP6_METHOD": "disable"}, [4]),
        ({"ETH0_METHOD": "skip", "ETH0_IP6_METHOD": "disable"}, []),
    ],
)
def test_each_family_has_its_method_and_that_of_ipv6_follows_the_other(context, tmp_path, methods, families):
    made(tmp_path, {"proc/sys/net/ipv6/conf/eth0/disable_ipv6": "0\n"})
    assert context(**BOTH, **methods) == []
    assert addresses(tmp_path) == families
    assert len([line for line in did(tmp_path) if "default" in line]) == len(families)
    disabled = (tmp_path / "proc/sys/net/ipv6/conf/eth0/disable_ipv6").read_text()
    assert disabled == ("1\n" if methods.get("ETH0_IP6_METHOD") == "disable" else "0\n")


@pytest.mark.parametrize(
    ("methods", "families", "faults"),
    [
        ({"ETH0_METHOD": "dhcp"}, [], ["ETH0: method dhcp is not known to this guest"]),
        ({"ETH0_METHOD": "dhcp", "ETH0_IP6_METHOD": "static"}, [6], ["ETH0: method dhcp is not known to this guest"]),
        ({"ETH0_IP6_METHOD": "dhcp"}, [4], ["ETH0: IPv6 method dhcp is not known to this guest"]),
    ],
)
def test_a_method_that_is_not_known_is_a_fault_of_its_family_alone(context, tmp_path, methods, families, faults):
    assert context(**BOTH, **methods) == faults and addresses(tmp_path) == families


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        ({}, ["0", "1"]),
        ({"ETH0_METRIC": "7"}, ["7", "7"]),
        ({"ETH0_IP6_METRIC": "9"}, ["0", "9"]),
        ({"ETH0_METRIC": "7", "ETH0_IP6_METRIC": "9"}, ["7", "9"]),
    ],
)
def test_the_metric_of_ipv6_follows_the_other(context, tmp_path, metrics, found):
    assert context(**BOTH, **metrics) == []
    assert [line.split()[-1] for line in did(tmp_path) if " default " in line] == found


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"SET_HOSTNAME": "a.example", "HOSTNAME": "b", "NAME": "c"}, "a.example"),
        ({"HOSTNAME": "b", "NAME": "c"}, "b"),
        ({"NAME": "c"}, "c"),
        ({}, "localhost"),
    ],
)
def test_the_name_of_the_guest(context, tmp_path, variables, name):
    assert context(**variables) == []
    assert (tmp_path / "named").read_text() == f"{name}\n"
    if variables:
        assert f"127.0.1.1\t{name} {name.split('.')[0]}\n" in (tmp_path / "etc/hosts").read_text()


def test_an_interface_is_found_by_its_mac(context, tmp_path):
    assert context(ETH5_MAC=MAC.upper(), ETH5_IP="10.66.0.10", ETH5_MASK="255.255.0.0", ETH5_GATEWAY="10.66.0.1",
                   ETH5_MTU="1400") == []  # fmt: skip
    assert did(tmp_path) == [
        "ip link set dev eth0 mtu 1400",
        "ip link set dev eth0 up",
        "ip addr add 10.66.0.10/16 dev eth0",
        "ip route add default via 10.66.0.1 dev eth0 metric 5",
    ]


def test_an_interface_without_a_mac_is_found_by_its_number(context, tmp_path):
    assert context(ETH1_IP="10.0.0.2", ETH1_ALIAS0_IP="10.0.0.3", ETH1_IP6="fd00::1/64 ", ETH1_IP6_PREFIX_LENGTH="48",
                   ETH1_ROUTES="nonsense,10.9.0.0/16 via 10.0.0.1,", ETH1_IP6_GATEWAY="fd00::fe") == []  # fmt: skip
    assert did(tmp_path)[1:] == [
        "ip addr add 10.0.0.2/24 dev eth1",
        "ip addr add 10.0.0.3/24 dev eth1",
        "ip -6 addr add fd00::1/48 dev eth1",
        "ip -6 route add default via fd00::fe dev eth1 metric 2",
        "ip route add 10.9.0.0/16 via 10.0.0.1 dev eth1",
    ]


@pytest.mark.parametrize("end", ["", ",", " ", ", "])
@pytest.mark.parametrize("count", [1, 2])
def test_every_route_is_set_and_the_last_one_too(context, tmp_path, count, end):
    routes = [f"10.{number}.0.0/16 via 10.0.0.1" for number in range(count)]
    assert context(ETH1_ROUTES=",".join(routes) + end) == []
    assert did(tmp_path)[1:] == [f"ip route add {route} dev eth1" for route in routes]


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"ETH0_MAC": "02:00:00:00:00:00"}, "ETH0: no interface has mac 02:00:00:00:00:00"),
        ({"ETH7_IP": "10.0.0.1"}, "ETH7: no interface eth7"),
        ({"ETH0_METHOD": "dhcp"}, "ETH0: method dhcp is not known to this guest"),
        ({"ETH0_IP": "10.0.0.1", "ETH0_MASK": "nonsense"}, "eth0: address 10.0.0.1 mask nonsense is not valid"),
        ({"INIT_SCRIPTS": "gone.sh"}, "gone.sh is not on the context ISO"),
        ({"START_SCRIPT": "exit 3"}, "START_SCRIPT exit 3"),
        ({"START_SCRIPT_BASE64": ""}, None),
    ],
)
def test_what_it_could_not_do_is_told(context, variables, fault):
    assert context(**variables) == ([fault] if fault else [])


def test_an_interface_may_be_left_alone(context, tmp_path):
    assert context(ETH0_METHOD="skip", ETH0_IP="10.0.0.1") == [] and did(tmp_path) == []


def test_names_are_resolved_by_each_server_once(context, tmp_path):
    context(DNS="10.0.0.1,10.0.0.2", ETH0_DNS="10.0.0.2 10.0.0.3", SEARCH_DOMAIN="a", ETH1_SEARCH_DOMAIN="b")
    assert (tmp_path / "etc/resolv.conf").read_text() == (
        "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nsearch a b\n"
    )


def test_keys_are_for_root_alone(context, tmp_path):
    context(SSH_PUBLIC_KEY="ssh-ed25519 AAAA one\nssh-rsa BBBB two")
    keys = tmp_path / "root/.ssh/authorized_keys"
    assert keys.read_text() == "ssh-ed25519 AAAA one\nssh-rsa BBBB two\n" and keys.stat().st_mode & 0o777 == 0o600


def test_scripts_run_with_the_context(context, tmp_path):
    script = f'echo "start $GREETING" >>{tmp_path}/did'
    made(tmp_path, {"mnt/init.sh": f"#!/bin/sh\necho init $GREETING in $(pwd) >>{tmp_path}/did\n"})
    assert context(GREETING="hello", START_SCRIPT_BASE64=base64.b64encode(script.encode()).decode()) == []
    assert did(tmp_path) == ["start hello", f"init hello in {tmp_path}/mnt"]


def test_variables_of_the_shells_own_are_the_contexts_and_change_nothing(context, tmp_path):
    assert context(PATH="/nowhere", IFS="x", HOME="/nowhere", DNS="10.0.0.1 10.0.0.2") == []
    assert (tmp_path / "etc/resolv.conf").read_text() == "nameserver 10.0.0.1\nnameserver 10.0.0.2\n"


def test_a_script_that_is_killed_is_a_fault(context):
    assert context(START_SCRIPT="kill -9 $$") == ["START_SCRIPT exit 137"]


@pytest.mark.parametrize(("label", "found"), [("CONTEXT", "sr0"), ("CONTEXTS", ""), ("cidata", "")])
def test_the_context_is_found_by_its_label(guest, tmp_path, label, found):
    made(tmp_path, {"sys/block/sr0": None, "sys/block/loop0": None,
                    "dev/sr0": bytes(32808) + label.encode().ljust(32)})  # fmt: skip
    assert guest("find_context || true").strip() == (f"{tmp_path}/dev/{found}" if found else "")


def test_the_report_says_what_the_system_has(guest, tmp_path):
    made(tmp_path, {"run/faults": "it went wrong\n", "etc/resolv.conf": "nameserver 10.0.0.1\n", "run/context.sh": "",
                    "root/.ssh/authorized_keys": "a\nb\n"})  # fmt: skip
    # Of its own stand-in for ip(8), the forms that busybox prints.
    script = """
    ip() {
        case $* in
            '-o addr show dev eth0') echo '2: eth0    inet 10.66.0.10/24 scope global eth0'
                echo '2: eth0    inet6 fe80::1/64 scope link' ;;
            route) echo 'default via 10.66.0.1 dev eth0' ;;
        esac
    }
    report
    """
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert guest(script).splitlines() == [f"nebula-guest: {fact}" for fact in (
        f"context={digest}", "hostname=localhost", f"eth0 mac={MAC} ip=10.66.0.10/24", "eth1 mac=02:00:0a:42:00:0b",
        "gateway=10.66.0.1", "dns=10.0.0.1", "ssh_keys=2", "cpus=2", "memory_kib=500000", "disk vda bytes=2097152",
        "error it went wrong", "ready",
    )]  # fmt: skip


def test_the_drivers_of_each_hypervisor_are_named_once():
    names = [name for name, _options in demo_guest.KERNEL_MODULES]
    assert len(names) == len(set(names)) and {"virtio_blk", "virtio_net", "xen_blkfront", "isofs"} <= set(names)
    # What is loaded first decides how the second looks for its targets.
    assert names.index("scsi_mod") < names.index("virtio_scsi")


def test_each_console_gets_a_shell_and_the_serial_port_is_the_last():
    consoles = re.findall(r"console=(\w+)", demo_guest.KERNEL_COMMAND_LINE)
    assert consoles[-1] == "ttyS0"
    shells = re.findall(r"^::respawn:/etc/nebula/shell (\w+)$", demo_guest.INITTAB, re.MULTILINE)
    assert set(shells) == {"ttyS0", "hvc0", "tty1"} and "::sysinit:/etc/nebula/boot" in demo_guest.INITTAB


def test_the_kernel_believes_a_timer_that_is_late():
    """Below an emulated hypervisor that has much to do it would panic; on KVM it does not look by itself."""
    assert "no_timer_check" in demo_guest.KERNEL_COMMAND_LINE.split()
