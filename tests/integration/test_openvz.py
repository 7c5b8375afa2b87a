# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers by vzctl, on a node of their own. No distribution brings vzctl: without another word it is a stand-in with
its grammar and its exit codes (tests/tools/vzctl_stand_in.py), for which no container runs. The same tests run against
a real one, whose containers do run:

    make test-openvz VZCTL=/path/to/vzctl

Its scripts and its /etc/vz/dists have to be where it was built for, or /etc/vz beside it (../etc/vz)."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    ImageRefused,
    NebulaError,
    NoSpace,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import container_config, vzctl
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.tests.integration.openvz_node import CATALOG, CTID, MARK, installed, real

pytestmark = pytest.mark.root


@in_bare_world
def test_a_machine_lives_and_nothing_is_left() -> None:
    with installed() as node:
        driver, booted = node.driver, node.private / "mnt/booted"
        node.define()
        assert driver.state(MARK) == "POWEROFF"
        driver.start(MARK)
        assert driver.state(MARK) == "RUNNING" and driver.survey(CATALOG).vms[0].state == "RUNNING"
        assert "KEY='it'\\''s'" in (node.private / "mnt/context.sh").read_text(encoding="utf-8")
        # Scripts of some distributions take the first part of it.
        assert driver.ask_agent(MARK).hostname in ("web.example.org", "web")
        if real():
            node.wait("its init.sh", booted.exists)
            assert booted.read_text(encoding="utf-8") == "/mnt/init.sh\n"
            inside = vzctl.ask("x", "exec2", str(CTID), "cat /mnt/context.sh").stdout
            assert "HOSTNAME='web.example.org'" in inside
        driver.reboot(MARK, 60)
        driver.reset(MARK)
        assert driver.state(MARK) == "RUNNING"
        (node.private / "root/written").write_text("by the guest\n", encoding="utf-8")
        driver.shutdown(MARK, 60)
        assert driver.state(MARK) == "POWEROFF"
        with tarfile.open(node.directory / "disk.0") as tar:
            names = {entry.name: entry for entry in tar.getmembers()}
            content = tar.extractfile("./root/written")
            assert content is not None and content.read() == b"by the guest\n"
        assert (names["./mnt/context.sh"].uid, names["."].uid) == (0, 0)
        driver.start(MARK)
        assert driver.state(MARK) == "RUNNING" and not (node.directory / "disk.0").exists()
        driver.cancel(MARK)
        assert driver.state(MARK) == "POWEROFF" and not (node.directory / "disk.0").exists()
        assert driver.remove(MARK) and driver.state(MARK) is None
        assert os.listdir("/etc/vz/conf") == [] and os.listdir("/etc/vz/names") == []
        assert not node.private.exists()


@in_bare_world
def test_what_vzctl_saves_keeps_the_mark_and_means_the_same() -> None:
    with installed() as node:
        node.define()
        node.driver.start(MARK)
        words = ("--cpuunits", "2000", "--physpages", "0:96M", "--swappages", "0:32M", "--onboot", "yes", "--save")
        vzctl.ask("x", "set", str(CTID), *words)
        text = (vzctl.CONFIGURATIONS / f"{CTID}.conf").read_text(encoding="utf-8")
        found = container_config.read(text)
        assert found.mark == MARK and found.template == str(node.image) and found.iso == str(node.directory / "disk.1")
        assert found.memory == 96 and found.values["CPUUNITS"] == "2000" and node.driver.starts_with_host(MARK)
        # Pages of 4 KiB, whatever it was given.
        assert found.values["SWAPPAGES"] == "0:8192"
        node.define()
        assert node.values()["PHYSPAGES"] == "0:128M" and node.driver.starts_with_host(MARK)


@in_bare_world
def test_each_operation_ends_as_it_is_to() -> None:
    """The table operation × result, printed (pytest -s)."""
    checkpoint = "checkpoint"
    with installed() as node:
        driver = node.driver
        place = str(node.directory / checkpoint)
        table: dict[str, str] = {}

        def run(name: str, act: Any) -> None:
            try:
                act()
                table[name] = "done"
            except NebulaError as error:
                table[name] = f"{type(error).__name__}: {error.found.splitlines()[0]}"

        run("define", node.define)
        run("start", lambda: driver.start(MARK))
        run("start again", lambda: driver.start(MARK))
        run("define while it runs", lambda: node.define(node.vm(cpu=2.0)))
        run("ask_agent", lambda: driver.ask_agent(MARK))
        run("copy_disk", lambda: driver.copy_disk(MARK, node.vm().disks[0], str(node.root / "copy"), "tar", "crash"))
        run("reboot", lambda: driver.reboot(MARK, 60))
        run("reset", lambda: driver.reset(MARK))
        run("suspend", lambda: driver.suspend(MARK, place))
        run("resume", lambda: driver.resume(MARK, place))
        after = driver.state(MARK)
        run("set_starts_with_host", lambda: driver.set_starts_with_host(MARK, True))
        run("shutdown", lambda: driver.shutdown(MARK, 60))
        run("start of what was shut down", lambda: driver.start(MARK))
        run("cancel", lambda: driver.cancel(MARK))
        run("cancel again", lambda: driver.cancel(MARK))
        run("inventory", driver.inventory)
        run("remove", lambda: driver.remove(MARK))
        run("remove again", lambda: driver.remove(MARK))
        for name, result in table.items():
            print(f"{'real' if real() else 'stand-in'} | {name} | {result}")
        # Only a kernel of OpenVZ, or CRIU, saves a container. It runs on where neither does.
        saves = {name: table.pop(name) for name in ("suspend", "resume")}
        assert set(table.values()) == {"done"}, table
        assert after == "RUNNING"
        if not real():
            assert set(saves.values()) == {"done"}
        elif saves["suspend"] != "done":
            assert saves["suspend"].startswith("HypervisorError: ")


@in_bare_world
def test_what_is_somebody_elses_stays() -> None:
    with installed() as node:
        conf = vzctl.CONFIGURATIONS / f"{CTID}.conf"
        conf.write_text(f'ONBOOT="no"\nVE_PRIVATE="{node.root}/other"\nVE_ROOT="{node.root}/root"\n', encoding="utf-8")
        before = conf.read_text(encoding="utf-8")
        for act in (node.driver.state, node.driver.start, node.driver.remove):
            with pytest.raises(ForeignObject):
                act(MARK)
        with pytest.raises(ForeignObject):
            node.define()
        assert conf.read_text(encoding="utf-8") == before
        assert node.driver.survey(CATALOG).foreign_ids == {7}


@in_bare_world
def test_a_start_that_fails_leaves_what_can_be_started() -> None:
    """Half an image, and then the whole one under the same name."""
    with installed() as node:
        whole = node.image.read_bytes()
        node.image.write_bytes(whole[: len(whole) // 2])
        node.define()
        with pytest.raises(ImageRefused, match="damaged or truncated"):
            node.driver.start(MARK)
        assert node.driver.state(MARK) == "POWEROFF"
        node.image.write_bytes(whole)
        node.driver.start(MARK)
        assert node.driver.state(MARK) == "RUNNING"


@in_bare_world
def test_an_image_that_vzctl_can_not_read_is_packed_anew() -> None:
    with installed() as node:
        plain = gzip.decompress(node.image.read_bytes())
        node.image.write_bytes(subprocess.run(["zstd", "-c"], input=plain, capture_output=True, check=True).stdout)
        node.define()
        node.driver.start(MARK)
        assert node.driver.state(MARK) == "RUNNING" and os.readlink(node.private / "bin/sh") == "busybox"


def hostile() -> dict[str, list[tuple[str, bytes, str]]]:
    """What vzctl 4.11 was seen to do with each: change a file of the host, give it a capability, write over the keys of
    whoever runs it, copy a secret into the root, wait for ever, leave an error of tar's."""
    link, pipe, file = tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.REGTYPE
    return {
        "hosts": [("etc/hosts", link, "/etc/victim/file")],
        "hosts by dots": [("etc/hosts", link, "../" * 20 + "etc/victim/file")],
        "a capability": [("usr/bin/systemd-detect-virt", link, "/etc/victim/file")],
        "keys": [("etc/cron.d/keys", file, ""), ("etc/cron.d/keys .ssh", file, "")],
        "jobs": [("etc/cron.d", link, "/etc/victim")],
        "a secret": [("etc/crontab", link, "/etc/victim/file")],
        "a new file": [("etc/resolv.conf", link, "/etc/victim/new")],
        "a pipe": [("etc/hosts", pipe, "")],
        "the devices": [("dev", link, "/etc/victim")],
        "dots": [("../x", file, "")],
        "a hard link": [("x", tarfile.LNKTYPE, "/etc/victim/file"), ("../y", file, "")],
        "behind a link": [("l", link, "/etc/victim"), ("l/new", file, "")],
    }


@in_bare_world
def test_an_image_that_would_hurt_the_host_does_not_get_to_vzctl() -> None:
    victim = Path("/etc/victim")
    with installed() as node:
        (victim / ".ssh").mkdir(parents=True)
        for name in ("file", ".ssh/keys"):
            (victim / name).write_text("1 1 1 * * root x\n", encoding="utf-8")

        def seen() -> list[Any]:
            there = sorted(victim.rglob("*"))
            return [(each, each.lstat().st_mtime_ns, each.lstat().st_nlink, os.listxattr(each)) for each in there]

        before, whole = seen(), node.image.read_bytes()
        for name, members in hostile().items():
            with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(node.image, "w") as tar:
                for entry in old:
                    if entry.name not in [member[0] for member in members]:
                        tar.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
                for path, kind, target in members:
                    entry = tarfile.TarInfo(path)
                    entry.type, entry.linkname = kind, target
                    tar.addfile(entry)
            node.define()
            with pytest.raises(ImageRefused, match="starting virtual machine 7: OS template debian-12-busybox"):
                node.driver.start(MARK)
            assert seen() == before, name
            assert not node.private.exists() and [each for each in os.listdir(vzctl.cache()) if "tar" in each] == []
        # What hurts nobody but itself: vzctl keeps the device from it, and no user of the host gets near the program.
        with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(node.image, "w") as tar:
            for entry in old:
                tar.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
            for path, kind, mode in (
                ("disk", tarfile.BLKTYPE, 0o666),
                ("su", tarfile.REGTYPE, 0o6755),
                ("a\nb", tarfile.REGTYPE, 0o644),
            ):
                entry = tarfile.TarInfo(path)
                entry.type, entry.mode, entry.devmajor, entry.devminor = kind, mode, 8, 0
                tar.addfile(entry)
        node.driver.start(MARK)
        assert seen() == before and (node.private / "a\nb").exists()
        assert stat.S_IMODE((node.private / "su").lstat().st_mode) == 0o6755
        assert stat.S_IMODE(node.private.parent.stat().st_mode) == 0o700
        if real():
            with pytest.raises(NebulaError, match="Operation not permitted"):
                vzctl.ask("x", "exec2", str(CTID), "cat /disk")


@in_bare_world
def test_a_guest_that_exchanges_its_directories_for_links_hurts_nothing_of_the_host() -> None:
    """What runs as root in a container can do to its files what it likes before the next start, at which root of the
    host writes the context into them."""
    victim, secret = Path("/etc/victim"), "only-on-the-host-47"
    with installed() as node:
        victim.mkdir()
        for name in ("context.sh", "init.sh", "rc.local", "file"):
            (victim / name).write_text(f"#!/bin/sh\n{secret}\n", encoding="utf-8")

        def seen() -> list[Any]:
            there = [
                victim,
                *sorted(victim.rglob("*")),
                Path("/etc/rc.local"),
                Path("/mnt"),
                Path("/etc/systemd/system"),
            ]
            status = [(each, each.lstat()) for each in there if os.path.lexists(each)]
            return [(str(each), s.st_mtime_ns, s.st_ctime_ns, s.st_nlink, s.st_mode) for each, s in status]

        node.define()
        node.driver.start(MARK)
        before = seen()
        up = "../" * 20 + "etc/victim"
        for number, (place, target) in enumerate(
            (
                ("mnt", "/etc/victim"),
                ("mnt", up),
                ("mnt", "/proc/1/root/etc/victim"),
                ("mnt/context.sh", "/etc/victim/context.sh"),
                ("mnt/init.sh", up + "/init.sh"),
                ("etc", "/etc/victim"),
                ("etc", up),
                ("etc/rc.local", "/etc/victim/rc.local"),
                ("etc/rc.d", "/etc/victim"),
                ("etc/systemd", "/etc/victim"),
            )
        ):
            node.driver.cancel(MARK)
            path = node.private / place
            kept = node.root / f"kept-{number}"
            if os.path.lexists(path):
                path.rename(kept)
            path.symlink_to(target)
            # Another context each time: it is written, and one before is removed.
            node.define(node.vm(context=Context(1, "", variables={"TURN": str(number)})))
            try:
                node.driver.start(MARK)
            except NebulaError as error:
                assert "the context in" in str(error), error
            assert seen() == before, (place, target)
            copy = node.root / "copy"
            node.driver.copy_disk(MARK, node.vm().disks[0], str(copy), "tar", "crash")
            assert secret.encode() not in copy.read_bytes(), (place, target)
            if path.is_symlink():
                path.unlink()
            if kept.exists() and not os.path.lexists(path):
                kept.rename(path)
        # vzctl itself would follow this one, and mount over what is there.
        for target in ("/etc/victim", up):
            node.driver.cancel(MARK)
            shutil.rmtree(node.private / "dev")
            (node.private / "dev").symlink_to(target)
            with pytest.raises(HypervisorError, match="images/private/dev: it is no directory"):
                node.driver.start(MARK)
            assert node.driver.state(MARK) == "POWEROFF" and seen() == before
            (node.private / "dev").unlink()
            (node.private / "dev").mkdir()
            node.driver.start(MARK)
            assert node.driver.state(MARK) == "RUNNING"
        shutil.rmtree(victim)


@in_bare_world
def test_a_name_that_is_another_containers_stays_with_it() -> None:
    with installed() as node:
        link = vzctl.NAMES / "one-7"
        link.symlink_to("/etc/vz/conf/5.conf")
        node.define()
        with pytest.raises(ForeignObject, match=r"one-7: the name is another container's: /etc/vz/conf/5\.conf"):
            node.driver.start(MARK)
        assert not node.private.exists() and os.readlink(link) == "/etc/vz/conf/5.conf"
        assert node.driver.remove(MARK) and os.readlink(link) == "/etc/vz/conf/5.conf"
        link.unlink()
        node.define()
        node.driver.start(MARK)
        assert os.path.basename(os.readlink(link)) == f"{CTID}.conf"


@in_bare_world
def test_a_root_that_is_larger_than_it_may_be_is_not_unpacked() -> None:
    with installed() as node:
        small = replace(node.vm().disks[0], size=1)
        node.define(node.vm(disks=(small,)))
        with pytest.raises(NoSpace, match="MB, and its file system may have 1 "):
            node.driver.start(MARK)
        assert not node.private.exists()


@in_bare_world
def test_a_veth_is_on_its_bridge_and_gone_with_the_machine() -> None:
    with installed() as node:
        subprocess.run(["ip", "link", "add", "br-test", "type", "bridge"], check=True)
        try:
            nic = Nic(0, 0, "lan", "br-test", "02:00:0a:00:00:07", "10.0.0.7", model="veth", target="one-7-0")
            node.define(node.vm(nics=(nic,)))
            node.driver.start(MARK)
            expected = "ifname=eth0,bridge=br-test,mac=02:00:0A:00:00:07,host_ifname=one-7-0"
            assert node.values()["NETIF"].startswith(expected)
            if real():
                shown = subprocess.run(["ip", "link", "show", "one-7-0"], capture_output=True, text=True, check=True)
                assert "one-7-0" in shown.stdout
                inside = vzctl.ask("x", "exec2", str(CTID), "ip link show eth0").stdout
                assert "02:00:0a:00:00:07" in inside
            node.driver.cancel(MARK)
            done = subprocess.run(["ip", "link", "show", "one-7-0"], capture_output=True, check=False)
            assert done.returncode != 0
        finally:
            subprocess.run(["ip", "link", "delete", "br-test"], check=True)


@in_bare_world
def test_the_firewall_of_a_context_is_there_while_the_container_runs() -> None:
    def tables() -> str:
        return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout

    with installed() as node:
        nic = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:07", "10.0.0.7", "fd00::7")
        text = "[*] 111.111.111.0/24 [22,udp:53,80:90] 222.222.0.0/16 fd01::/16"
        context = Context(1, "", variables={"HOSTNAME": "web", "FIREWALL": text})
        # A kernel of another kind has no venet: the addresses are left out of what vzctl is to give it.
        vm = node.vm(nics=(nic,), context=context)
        node.define(vm)
        path = vzctl.CONFIGURATIONS / f"{CTID}.conf"
        path.write_text(
            container_config.with_value(path.read_text(encoding="utf-8"), "IP_ADDRESS", ""), encoding="utf-8"
        )
        node.driver.start(MARK)
        found = tables()
        assert f"table inet nebula_ct{CTID}" in found and "tcp dport { 22, 80-90 } accept" in found
        assert 'oifname "venet0" ip daddr 10.0.0.7 jump passing' in found
        node.driver.cancel(MARK)
        assert "nebula_ct" not in tables()
        node.driver.start(MARK)
        node.driver.remove(MARK)
        assert "nebula_ct" not in tables() and os.listdir("/etc/vz/conf") == []


@in_bare_world
def test_addresses_on_venet_answer_unless_the_firewall_says_otherwise() -> None:
    """On a kernel of another kind vzctl makes a bridge in the place of venet; it leaves its routes."""

    def answers(address: str) -> bool:
        return subprocess.run(["ping", "-c1", "-W2", address], capture_output=True, check=False).returncode == 0

    def drop_table() -> None:
        subprocess.run(["nft", "delete", "table", "inet", f"nebula_ct{CTID}"], check=True)

    def routes() -> str:
        return subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout

    # From which the node asks.
    subprocess.run(["ip", "addr", "add", "192.0.2.1/32", "dev", "lo"], check=True)
    try:
        with installed() as node:
            nic = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:07", "10.0.0.7")
            for firewall in ("", "[22] 10.0.0.0/8"):
                variables = {"HOSTNAME": "web", **({"FIREWALL": firewall} if firewall else {})}
                node.define(node.vm(nics=(nic,), context=Context(1, "", variables=variables)))
                node.driver.start(MARK)
                assert "10.0.0.7" in node.values()["IP_ADDRESS"]
                if real():
                    assert "10.0.0.7 dev venet0" in routes()
                    # What the image's own scripts would do with what vzctl has written into its configuration.
                    words = "ip link set lo up; ip link set venet0 up; ip addr add 10.0.0.7/32 dev venet0"
                    vzctl.ask("x", "exec2", str(CTID), f"{words}; ip route add default dev venet0")
                    if firewall:
                        assert not answers("10.0.0.7")
                        drop_table()
                    node.wait("an answer", lambda: answers("10.0.0.7"))
                node.driver.cancel(MARK)
                assert "10.0.0.7" not in routes()
    finally:
        subprocess.run(["ip", "addr", "del", "192.0.2.1/32", "dev", "lo"], check=True)


@in_bare_world
def test_hosts_defaults_and_beancounters_reach_vzctl() -> None:
    with installed() as node:
        vzctl.DEFAULTS.write_text('NUMPROC="400:400"\n', encoding="utf-8")
        counters = {"PRIVVMPAGES": "65536:69632", "PHYSPAGES": "0:unlimited", "KMEMSIZE": "14372700:14790164"}
        swap = Disk(1, "", type="SWAP", size=1024)
        node.define(replace(node.vm(container=counters), disks=(*node.vm().disks, swap), context=None))
        found = node.values()
        assert found["NUMPROC"] == "400:400" and found["SWAPPAGES"] == "0:1024M"
        assert {name: found[name] for name in counters} == counters
        node.driver.start(MARK)
        assert node.driver.state(MARK) == "RUNNING"
