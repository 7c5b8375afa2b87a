# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers by vzctl: what stands in /etc/vz/conf, what vzctl is asked, and what is somebody else's. vzctl is a
stand-in (tests/tools/vzctl_stand_in.py), in a process of its own; a real one is asked by `make test-openvz VZCTL=…`."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from move_pairs import Beside
from openvz_host import CATALOG, CTID, MARK, OTHER, UUID, Host

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ForeignObject,
    HypervisorError,
    InUse,
    InvalidValue,
    MissingDependency,
    NebulaError,
    NotFound,
    TimedOut,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import untrusted_trees
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import AgentAnswer, Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import (
    container_config,
    container_migration,
    moving_marks,
    vzctl,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.driver import OpenvzDriver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.exit_codes import CODES
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.admin_commands import is_ours
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def values(host: Host) -> dict[str, str]:
    return dict(container_config.read(host.conf.read_text(encoding="utf-8")).values)


# -- the node ----------------------------------------------------------------------------------------------------------
def test_without_vzctl_the_error_names_it(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    if os.path.exists("/usr/sbin/vzctl"):
        pytest.skip("this machine has one")
    with pytest.raises(MissingDependency, match=r"program vzctl: it is not on this host.*vzctl.*OpenVZ"):
        OpenvzDriver()
    assert OpenvzDriver.versions() == {"vzctl": ""}


def test_without_its_settings_vzctl_is_of_no_use(host: Host) -> None:
    (host.etc / "vz.conf").unlink()
    with pytest.raises(MissingDependency, match=r"vz\.conf is not there"):
        OpenvzDriver()


def test_what_runs_containers_is_told_with_its_version(host: Host) -> None:
    found = OpenvzDriver.choose_accelerator("", {})
    assert found["accelerator"] == "openvz" and "vzctl 4.11.1" in found["reason"]
    assert OpenvzDriver.versions() == {"vzctl": "4.11.1"}


def test_a_hosts_defaults_are_those_of_its_sample(host: Host) -> None:
    assert host.site(host.vm()).defaults == {}
    (host.etc / "conf/ve-nebula.conf-sample").write_text('NUMPROC="100:100"\n', encoding="utf-8")
    host.define()
    assert values(host)["NUMPROC"] == "100:100"


# -- a whole life ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kernel", ["", "vz"])
def test_a_machine_from_its_definition_to_its_end(host: Host, kernel: str) -> None:
    host.set("VZ_STAND_IN_KERNEL", kernel)
    driver = host.driver
    assert driver.state(MARK) is None and driver.starts_with_host(MARK) is None and not driver.remove(MARK)
    host.define()
    assert driver.state(MARK) == "POWEROFF" and not host.private.exists()
    assert host.conf.stat().st_mode & 0o777 == 0o600
    driver.start(MARK)
    assert driver.state(MARK) == "RUNNING"
    assert (host.private / "etc/hostname").read_text(encoding="utf-8") == "image\n"
    assert os.readlink(host.etc / "names/one-7") == str(host.conf)
    assert host.private.parent.stat().st_mode & 0o777 == 0o700
    (seen,) = driver.survey(CATALOG).vms
    assert (seen.vm_id, seen.uuid, seen.state, seen.generation, seen.memory) == (7, UUID, "RUNNING", 3, 128)
    (host.private / "etc/hostname").write_text("written by the guest\n", encoding="utf-8")
    driver.reboot(MARK, 30)
    driver.reset(MARK)
    assert driver.state(MARK) == "RUNNING"
    driver.shutdown(MARK, 30)
    assert driver.state(MARK) == "POWEROFF"
    with tarfile.open(host.directory / "disk.0") as tar:
        content = tar.extractfile("./etc/hostname")
        assert content is not None and content.read() == b"written by the guest\n"
    driver.start(MARK)
    assert not (host.directory / "disk.0").exists()
    driver.cancel(MARK)
    assert driver.state(MARK) == "POWEROFF" and not (host.directory / "disk.0").exists()
    assert driver.survey(CATALOG).vms[0].memory == 0
    assert driver.remove(MARK) and driver.state(MARK) is None
    assert os.listdir(host.etc / "conf") == [] and os.listdir(host.etc / "names") == [] and not host.private.exists()


def test_a_copy_of_a_machines_container_is_another_machine(host: Host) -> None:
    host.define()
    (host.etc / "conf/100012.conf").write_bytes(host.conf.read_bytes())
    assert [vm.vm_id for vm in host.driver.survey(CATALOG).vms] == [7]
    found = {each.name: each for each in host.driver.inventory()[0]}
    assert {*found} == {"one-7", "100012"}
    copy = found["100012"]
    assert all(is_ours(command, copy) for command in (copy.turn, copy.undefine, copy.forget))
    assert "names" not in copy.undefine and "destroy" not in copy.forget, "both are the machine's own"
    assert is_ours(found["one-7"].forget, found["one-7"])


def test_a_running_machine_is_removed_too(host: Host) -> None:
    host.run()
    assert host.driver.remove(MARK) and not host.private.exists() and not host.conf.exists()


def test_a_machine_that_never_ran_is_removed(host: Host) -> None:
    host.define()
    assert host.driver.remove(MARK) and not host.conf.exists()


def test_what_vzctl_writes_into_the_file_leaves_the_mark(host: Host) -> None:
    host.run()
    vzctl.ask("x", "set", str(CTID), "--physpages", "0:64M", "--swappages", "0:64M", "--hostname", "b", "--save")
    found = container_config.read(host.conf.read_text(encoding="utf-8"))
    assert found.mark == MARK and found.directory == str(host.directory) and found.template == str(host.tar)
    # Pages by now, and read as the same.
    assert found.values["PHYSPAGES"] == "0:16384" and found.memory == 64


def test_a_new_definition_keeps_what_was_decided_apart(host: Host) -> None:
    host.run()
    assert host.driver.starts_with_host(MARK) is False
    host.driver.set_starts_with_host(MARK, True)
    assert host.driver.starts_with_host(MARK) is True and values(host)["ONBOOT"] == "yes"
    host.define(host.vm(memory=256))
    assert host.driver.starts_with_host(MARK) is True and values(host)["PHYSPAGES"] == "0:256M"
    host.define(host.vm(container={"ONBOOT": "no"}))
    assert host.driver.starts_with_host(MARK) is False


def test_a_running_one_gets_its_processors_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run()
    asked: list[tuple[str, ...]] = []
    real = vzctl.ask
    monkeypatch.setattr(vzctl, "ask", lambda what, *words, **more: (asked.append(words), real(what, *words, **more))[1])
    host.define(host.vm(cpu=2.0, vcpu=2))
    assert ("set", str(CTID), "--cpuunits", "2000", "--cpus", "2") in asked


@pytest.mark.parametrize(
    ("kernel", "quota", "words"),
    [
        (True, "yes", ("--diskspace", "204800:204800")),
        # vzctl ends with 62 where nothing limits a directory.
        (True, "no", ()),
        (False, "yes", ()),
    ],
)
def test_a_running_one_gets_another_limit_at_once_where_there_is_one(
    host: Host, monkeypatch: pytest.MonkeyPatch, kernel: bool, quota: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(vzctl, "KERNEL", host.etc if kernel else host.etc / "none")
    settings = host.etc / "vz.conf"
    settings.write_text(settings.read_text(encoding="utf-8").replace("DISK_QUOTA=no", f"DISK_QUOTA={quota}"))
    root = host.vm().disks[0]
    host.run(host.vm(disks=(replace(root, size=100),)))
    asked: list[tuple[str, ...]] = []
    real = vzctl.ask
    monkeypatch.setattr(vzctl, "ask", lambda what, *words, **more: (asked.append(words), real(what, *words, **more))[1])
    host.define(host.vm(disks=(replace(root, size=200),)))
    assert values(host)["DISKSPACE"] == "204800:204800"
    assert [each[4:] for each in asked if each[0] == "set"] == [words]
    host.define(host.vm(disks=(root,)))
    assert "DISKSPACE" not in values(host)


def test_the_agents_answer_is_the_containers_own(host: Host) -> None:
    nic = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:07", "10.0.0.7")
    host.run(host.vm(nics=(nic,)))
    assert host.driver.ask_agent(MARK) == AgentAnswer("web", ("127.0.0.1", "10.0.0.7"))
    host.driver.cancel(MARK)
    with pytest.raises(WrongState):
        host.driver.ask_agent(MARK)


# -- saved -------------------------------------------------------------------------------------------------------------
def test_it_is_saved_and_goes_on_by_its_own_id(host: Host) -> None:
    host.run()
    checkpoint = str(host.directory / "checkpoint")
    assert not host.driver.checkpoint_complete(checkpoint)
    host.driver.suspend(MARK, checkpoint)
    assert host.driver.state(MARK) == "POWEROFF" and host.driver.checkpoint_complete(checkpoint)
    host.driver.resume(MARK, checkpoint)
    assert host.driver.state(MARK) == "RUNNING"
    with pytest.raises(WrongState, match="runs already"):
        host.driver.resume(MARK, checkpoint)


def test_what_vzctl_says_of_a_restore_is_not_believed(host: Host) -> None:
    host.run()
    checkpoint = str(host.directory / "checkpoint")
    host.driver.suspend(MARK, checkpoint)
    host.set("VZ_STAND_IN_LIES")
    with pytest.raises(HypervisorError, match="it does not run"):
        host.driver.resume(MARK, checkpoint)


def test_a_dump_of_another_is_refused_with_a_remedy(host: Host) -> None:
    host.run()
    checkpoint = host.directory / "checkpoint"
    checkpoint.write_text("dump of 5\n", encoding="ascii")
    host.driver.cancel(MARK)
    with pytest.raises(HypervisorError, match=r"could not be restored.*Power it off hard"):
        host.driver.resume(MARK, str(checkpoint))


def test_the_root_is_copied_of_one_that_runs(host: Host) -> None:
    host.run()
    disk = Disk(0, "", format="tar")
    host.driver.copy_disk(MARK, disk, str(host.directory / "copy"), "tar", "crash")
    with tarfile.open(host.directory / "copy") as tar:
        assert "./etc/hostname" in tar.getnames()
    with pytest.raises(Unsupported, match="disk 0 as qcow2 is none"):
        host.driver.copy_disk(MARK, disk, str(host.directory / "other"), "qcow2", "crash")
    assert not (host.directory / "other").exists()


# -- a move while it runs ----------------------------------------------------------------------------------------------
@pytest.fixture
def running(host: Host) -> Host:
    host.set("VZ_STAND_IN_KERNEL", "vz")
    host.run()
    return host


def hold(host: Host, stage: str) -> None:
    """Have it stand still as a run leaves it that is killed: where it leaves, or where it came."""
    dump = str(host.directory / container_migration.DUMP)
    vzctl.ask("it", "chkpnt", str(CTID), "--suspend")
    vzctl.ask("it", "chkpnt", str(CTID), "--dump", "--dumpfile", dump)
    if stage == moving_marks.COMING:
        vzctl.ask("it", "chkpnt", str(CTID), "--kill")
        vzctl.ask("it", "umount", str(CTID))
        vzctl.ask("it", "restore", str(CTID), "--undump", "--dumpfile", dump)
    moving_marks.write(CTID, stage)


def seen_by_a_poll(host: Host) -> dict[int, str]:
    return {each.vm_id: each.state for each in host.driver.survey(CATALOG).vms}


@pytest.mark.parametrize("stage", [moving_marks.LEAVING, moving_marks.COMING])
def test_one_that_stands_still_for_a_move_does_not_count_as_running(running: Host, stage: str) -> None:
    began = running.state.read_text(encoding="ascii")
    hold(running, stage)
    assert vzctl.status(CTID).running
    assert running.driver.state(MARK) == "UNKNOWN" and seen_by_a_poll(running) == {7: "UNKNOWN"}
    assert [each.state for each in running.driver.inventory()[0]] == ["UNKNOWN"]
    assert running.driver.has_arrived(MARK) is (stage == moving_marks.COMING)
    with pytest.raises(WrongState, match="it does not run"):
        running.driver.suspend(MARK, str(running.directory / "checkpoint"))
    running.driver.start(MARK)
    assert running.driver.state(MARK) == "RUNNING" and not running.held.exists()
    # It has gone on, and was not started anew.
    assert running.state.read_text(encoding="ascii") == began and moving_marks.read(CTID) == ""
    assert not running.driver.has_arrived(MARK)


@pytest.mark.parametrize("stage", [moving_marks.LEAVING, moving_marks.COMING])
def test_one_that_went_on_before_its_run_was_killed_runs(running: Host, stage: str) -> None:
    moving_marks.write(CTID, stage)
    running.driver.start(MARK)
    assert running.driver.state(MARK) == "RUNNING" and moving_marks.read(CTID) == ""


@pytest.mark.parametrize("stage", [moving_marks.LEAVING, moving_marks.COMING])
def test_one_that_cannot_go_on_is_not_taken_for_one_that_has(running: Host, stage: str) -> None:
    hold(running, stage)
    running.set("VZ_STAND_IN_FAILS", "resume:16")
    with pytest.raises(HypervisorError, match="could not be saved"):
        running.driver.start(MARK)
    assert running.driver.state(MARK) == "UNKNOWN"


@pytest.mark.parametrize("stage", [moving_marks.LEAVING, moving_marks.COMING])
def test_one_that_stood_still_when_its_host_went_down_is_off(running: Host, stage: str) -> None:
    moving_marks.write(CTID, stage)
    vzctl.ask("it", "stop", str(CTID), "--fast")
    assert running.driver.state(MARK) == "POWEROFF" and not running.driver.has_arrived(MARK)
    running.driver.start(MARK)
    assert running.driver.state(MARK) == "RUNNING"


@pytest.mark.parametrize("stage", [moving_marks.LEAVING, moving_marks.LEFT, moving_marks.COMING])
@pytest.mark.parametrize("ending", ["disown", "remove"])
def test_one_that_stands_still_is_ended_with_all_of_it(running: Host, stage: str, ending: str) -> None:
    hold(running, stage)
    assert getattr(running.driver, ending)(MARK) is True
    assert os.listdir(running.etc / "conf") == [] and os.listdir(running.place / "lock") == []
    assert running.private.exists() is (ending == "disown")


def test_one_that_has_left_is_none_of_this_hosts(running: Host) -> None:
    hold(running, moving_marks.LEFT)
    assert running.driver.state(MARK) is None and seen_by_a_poll(running) == {}
    assert running.driver.inventory() == ((), ())
    # It may come again before what is left of it is gone.
    running.define()
    assert running.driver.state(MARK) == "POWEROFF" and not running.held.exists()


@pytest.mark.parametrize(
    "stage, state", [(moving_marks.LEAVING, "RUNNING"), (moving_marks.LEFT, None), ("", "RUNNING")]
)
def test_after_a_killed_run_its_mark_says_whose_it_is(running: Host, stage: str, state: str | None) -> None:
    began = running.state.read_text(encoding="ascii")
    if stage:
        hold(running, stage)
    assert running.driver.settle_departure(MARK, "token") == state
    assert running.conf.exists() is (state is not None) and not running.held.exists()
    assert not (running.directory / container_migration.DUMP).exists() or state is None
    if state is not None:
        assert running.state.read_text(encoding="ascii") == began


def test_a_copy_does_not_start_with_its_host(host: Host) -> None:
    host.set("VZ_STAND_IN_KERNEL", "vz")
    vm = host.vm(container={"ONBOOT": "yes"})
    site = host.site(vm)
    assert host.driver.accept(vm, site, "31") == "31"
    assert values(host)["ONBOOT"] == "no" and (host.etc / "names/one-7").is_symlink()
    host.define(vm)
    assert values(host)["ONBOOT"] == "yes"


@pytest.mark.parametrize("kernel, words", [("", "vzcpt not loaded"), ("vz", "CPT version 32 rejected")])
def test_one_whose_dump_this_host_cannot_read_is_refused(host: Host, kernel: str, words: str) -> None:
    host.set("VZ_STAND_IN_KERNEL", kernel)
    host.driver.require_hardware(host.vm(), host.site(host.vm()))
    with pytest.raises(Unsupported, match=words) as caught:
        host.driver.require_hardware(host.vm(), host.site(host.vm()), "32")
    assert "move: cold" in caught.value.remedy


def test_one_on_a_kernel_without_dumps_is_not_even_offered(host: Host) -> None:
    host.run()
    with pytest.raises(Unsupported, match="does not save and restore containers"):
        host.driver.offer(MARK)
    host.set("VZ_STAND_IN_KERNEL", "vz")
    assert host.driver.offer(MARK) == "31"


def test_an_image_that_is_saved_is_called_after_its_distribution(host: Host) -> None:
    host.driver.check_saved("debian-vm7", "saving")
    with pytest.raises(InvalidValue, match=r"saving: image web: its name begins with no distribution.*centos, debian"):
        host.driver.check_saved("web", "saving")


# -- moves -------------------------------------------------------------------------------------------------------------
def packed(host: Host) -> bytes:
    """The archive of its private area, as it goes to another host."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file:
        sending = Beside(lambda: closed_after(host, writing))
        data = file.read()
    assert sending.result() == 0
    return data


def closed_after(host: Host, fd: int) -> int:
    try:
        return host.driver.pack_root(MARK, str(host.private), fd, "disk 0", 60)
    finally:
        os.close(fd)


@pytest.mark.root
def test_its_private_area_goes_and_comes_with_devices_and_owners(host: Host) -> None:
    host.run()
    assert host.driver.own_roots(host.vm(), str(host.directory)) == {0: str(host.private)}
    os.chown(host.private / "etc/hostname", 3_000_000_000, 5)
    os.mknod(host.private / "etc/null", 0o20666, os.makedev(1, 3))
    assert host.driver.root_size(str(host.private), "disk 0") > 0
    host.driver.cancel(MARK)
    archive = packed(host)
    untrusted_trees.remove(str(host.private.parent))
    assert host.driver.root_size(str(host.private), "disk 0") == 0
    assert host.driver.take_root(str(host.private), iter_of(archive), "disk 0", 60) == []
    assert (host.private / "etc/hostname").stat().st_uid == 3_000_000_000
    assert (host.private / "etc/null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(host.private.parent.stat().st_mode) == 0o700
    # It is not made of its image again.
    host.driver.start(MARK)
    assert (host.private / "etc/hostname").stat().st_uid == 3_000_000_000


def iter_of(data: bytes) -> Generator[bytes, None, None]:
    yield data


@pytest.mark.root
def test_one_that_was_never_started_comes_without_a_root_and_is_made_here(host: Host) -> None:
    host.define()
    archive = packed(host)
    assert host.driver.take_root(str(host.private), iter_of(archive), "disk 0", 60) == []
    assert os.listdir(host.private) == []
    host.driver.start(MARK)
    assert (host.private / "etc/hostname").exists()


@pytest.mark.root
def test_users_that_are_others_here_are_others_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """LOCAL_UID of a kernel that is none of OpenVZ: the archive has the owners that the container sees."""
    monkeypatch.setattr(vzctl, "KERNEL", host.etc / "none")
    host.define()
    text = host.conf.read_text(encoding="utf-8")
    for key in vzctl.LOCAL:
        text = container_config.with_value(text, key, "200000")
    host.conf.write_text(text, encoding="utf-8")
    (host.private / "etc").mkdir(parents=True)
    for each, number in ((host.private, 200000), (host.private / "etc", 200005)):
        os.chown(each, number, number)
    archive = packed(host)
    untrusted_trees.remove(str(host.private.parent))
    assert host.driver.disown(MARK) and not host.conf.exists()
    with (host.etc / "vz.conf").open("a", encoding="utf-8") as file:
        file.write("LOCAL_UID=300000\nLOCAL_GID=300000\n")
    host.driver.take_root(str(host.private), iter_of(archive), "disk 0", 60)
    assert [each.stat().st_uid for each in (host.private, host.private / "etc")] == [300000, 300005]
    # As if vzctl had made it here.
    host.define()
    found = container_config.read(host.conf.read_text(encoding="utf-8")).values
    assert (found["LOCAL_UID"], found["LOCAL_GID"]) == ("300000", "300000")


def test_what_another_host_has_is_forgotten_and_none_of_its_files(host: Host, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    program = tmp_path / "bin/vzquota"
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n', encoding="utf-8")
    program.chmod(0o755)
    settings = host.etc / "vz.conf"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace("DISK_QUOTA=no", "DISK_QUOTA=yes"), encoding="utf-8"
    )
    host.run()
    assert host.driver.disown(MARK)
    assert host.driver.state(MARK) is None and (host.private / "etc/hostname").exists()
    assert os.listdir(host.etc / "conf") == os.listdir(host.etc / "names") == []
    # It would count from there on if it came back.
    assert asked.read_text(encoding="utf-8") == f"drop {CTID}\n"
    assert not host.driver.disown(MARK)


def test_it_is_known_on_the_other_host_what_of_a_context_is_in_it(host: Host) -> None:
    assert host.driver.state_files(host.vm()) == {"images/context.json": 1 << 20}


# -- the firewall of a context on venet ---
def walled(host: Host, text: str = "[22] 10.0.0.0/8") -> Vm:
    nic = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:07", "10.0.0.7")
    return replace(host.with_context({}, FIREWALL=text), nics=(nic,))


@pytest.fixture
def tables(host: Host, tmp_path: Path) -> Path:
    """What nft was given, one file for each table: a stand-in, as the real one is in tests/integration."""
    place = tmp_path / "tables"
    place.mkdir()
    program = tmp_path / "bin/nft"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = delete ]; then rm "{place}/$4"; else cat > "{place}/x"; '
        f'mv "{place}/x" "{place}/$(awk \'NR==1 {{print $3}}\' "{place}/x")"; fi\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    return place


def test_it_is_there_while_the_container_runs(host: Host, tables: Path) -> None:
    host.run(walled(host))
    table = tables / f"nebula_ct{CTID}"
    assert "tcp dport { 22 } accept" in table.read_text(encoding="utf-8")
    host.define(walled(host, "[80] *"))
    assert "tcp dport { 80 } accept" in table.read_text(encoding="utf-8")
    host.driver.shutdown(MARK, 30)
    assert os.listdir(tables) == []
    host.driver.start(MARK)
    assert os.listdir(tables) == [table.name]
    host.define(walled(host, "a word of the guest"))
    assert os.listdir(tables) == [] and sorted(os.listdir(host.etc / "conf")) == [f"{CTID}.conf"]
    host.define(walled(host))
    host.driver.remove(MARK)
    assert os.listdir(tables) == [] and os.listdir(host.etc / "conf") == []


def test_another_firewall_is_another_definition(host: Host) -> None:
    vms = [walled(host), walled(host, "[80] *"), host.vm()]
    assert len({host.driver.render(vm, host.site(vm)).digest for vm in vms}) == 3


def test_a_container_whose_firewall_can_not_be_made_does_not_start(host: Host, tables: Path) -> None:
    (tables.parent / "bin/nft").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    host.define(walled(host))
    with pytest.raises(HypervisorError, match="a script of its distribution failed"):
        host.driver.start(MARK)
    assert host.driver.state(MARK) == "POWEROFF"


def test_a_script_of_the_administrators_stays(host: Host, tables: Path) -> None:
    script = host.etc / f"conf/{CTID}.mount"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(ForeignObject, match="there is a script of that name already"):
        host.define(walled(host))
    host.run()
    host.driver.remove(MARK)
    left = [path.read_text(encoding="utf-8") for path in (host.etc / "conf").iterdir()]
    assert left == ["#!/bin/sh\n"]


# -- what fails --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fails", "error", "words"),
    [
        ("create:46", "NoSpace", "too little room"),
        ("create:47", "HypervisorError", "OS template is damaged"),
        ("start:79", "HypervisorError", "a script of its distribution failed"),
        ("start:6", "NoCapacity", "has not the resources"),
        ("start:104", "HypervisorError", "network device"),
        ("start:78", "InUse", "another container's"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_what_can_be_started(
    host: Host, fails: str, error: str, words: str
) -> None:
    host.define()
    host.set("VZ_STAND_IN_FAILS", fails)
    with pytest.raises(HypervisorError if error == "HypervisorError" else Exception, match=words) as found:
        host.driver.start(MARK)
    assert type(found.value).__name__ == error and "starting virtual machine 7" in str(found.value)
    assert "failed as it was told to" in str(found.value) and "assuming non-OpenVZ" not in str(found.value)
    assert host.driver.state(MARK) == "POWEROFF"
    host.set("VZ_STAND_IN_FAILS", "")
    host.driver.start(MARK)
    assert host.driver.state(MARK) == "RUNNING"


def test_a_start_that_vzctl_only_says_is_none(host: Host) -> None:
    host.define()
    host.set("VZ_STAND_IN_LIES")
    with pytest.raises(HypervisorError, match="vzctl said that it starts, and it does not run: Starting container"):
        host.driver.start(MARK)


def test_a_guest_that_does_not_end_runs_on(host: Host) -> None:
    host.run()
    host.set("VZ_STAND_IN_DEAF")
    with pytest.raises(TimedOut, match="vzctl stop did not end within 1 s"):
        host.driver.shutdown(MARK, 1)
    assert host.driver.state(MARK) == "RUNNING" and not (host.directory / "disk.0").exists()


def test_a_container_that_another_vzctl_works_on_is_in_use(host: Host) -> None:
    host.define()
    (host.place / f"lock/{CTID}.lck").touch()
    with pytest.raises(InUse, match="another vzctl works on the container"):
        host.driver.start(MARK)


def test_an_image_that_is_gone_is_named(host: Host) -> None:
    host.define()
    host.tar.unlink()
    with pytest.raises(NotFound, match="OS template debian-12"):
        host.driver.start(MARK)


@pytest.mark.parametrize(
    ("verb", "point"),
    [(verb, point) for verb in ("create", "start", "stop", "destroy") for point in ("before", "middle", "after")]
    # It writes one file.
    + [("set", "before"), ("set", "after")],
)
def test_the_next_run_finishes_what_a_killed_vzctl_began(host: Host, verb: str, point: str) -> None:
    host.define()
    act = host.driver.remove if verb in ("stop", "destroy") else host.driver.start
    if act == host.driver.remove:
        host.driver.start(MARK)
    host.set("VZ_STAND_IN_KILLED", f"{verb}:{point}")
    with pytest.raises(HypervisorError, match="vzctl was ended by signal 9"):
        act(MARK)
    host.set("VZ_STAND_IN_KILLED", "")
    if act == host.driver.start:
        act(MARK)
        assert host.driver.state(MARK) == "RUNNING" and (host.private / "etc/hostname").exists()
    # At least the files that it was killed over.
    assert host.driver.remove(MARK) and not host.driver.remove(MARK)
    assert os.listdir(host.etc / "conf") == os.listdir(host.etc / "names") == [] and not host.private.exists()


@pytest.mark.parametrize("code", sorted({meaning.error: code for code, meaning in CODES.items()}.values()))
def test_a_code_of_each_kind_is_told_of_the_machine_that_it_is_about(host: Host, code: int) -> None:
    host.define()
    host.set("VZ_STAND_IN_FAILS", f"start:{code}")
    with pytest.raises(NebulaError) as caught:
        host.driver.start(MARK)
    assert type(caught.value) is CODES[code].error and CODES[code].found in caught.value.found
    assert caught.value.asked == "starting virtual machine 7" and caught.value.remedy == CODES[code].remedy


def test_a_destroyed_one_of_somebody_else_stays(host: Host) -> None:
    left = host.conf.with_name(f"{host.conf.name}.destroyed")
    left.write_text('ONBOOT="no"\n', encoding="utf-8")
    assert not host.driver.remove(MARK) and left.exists()


def test_what_a_killed_vzctl_left_is_made_anew(host: Host) -> None:
    host.define()
    unfinished = host.private.with_name("private.tmp")
    unfinished.mkdir(parents=True)
    (unfinished / "half").touch()
    host.private.mkdir()
    host.driver.start(MARK)
    assert not unfinished.exists() and (host.private / "etc/hostname").exists()


def test_what_a_guest_has_written_is_not_unpacked_over(host: Host) -> None:
    host.run()
    host.driver.cancel(MARK)
    (host.private / "etc/hostname").write_text("mine\n", encoding="utf-8")
    host.driver.start(MARK)
    assert (host.private / "etc/hostname").read_text(encoding="utf-8") == "mine\n"


# -- what is somebody else's -------------------------------------------------------------------------------------------
def test_a_container_of_anybody_is_not_touched(host: Host) -> None:
    host.conf.write_text('ONBOOT="yes"\nVE_PRIVATE="/x"\nPHYSPAGES="0:64M"\n', encoding="utf-8")
    before = host.conf.read_text(encoding="utf-8")
    for act in (host.driver.state, host.driver.start, host.driver.cancel, host.driver.remove):
        with pytest.raises(ForeignObject, match="has no mark of ours"):
            act(MARK)
    with pytest.raises(ForeignObject):
        host.define()
    assert host.conf.read_text(encoding="utf-8") == before
    assert host.driver.is_foreign(MARK, str(host.directory))
    survey = host.driver.survey(CATALOG)
    assert survey.vms == () and survey.foreign_ids == {7} and survey.foreign_memory == 0
    assert host.driver.inventory() == ((), (str(CTID),))


def test_one_of_another_catalog_is_neither(host: Host) -> None:
    host.define(catalog=OTHER)
    with pytest.raises(ForeignObject, match=f"belongs to catalog {OTHER}"):
        host.driver.state(MARK)
    assert host.driver.survey(CATALOG).foreign_ids == {7} and len(host.driver.survey(OTHER).vms) == 1
    assert not host.driver.is_foreign(MARK, str(host.directory))


def test_another_machine_of_the_same_id_is_a_conflict(host: Host) -> None:
    host.define()
    with pytest.raises(Conflict, match="this machine's is"):
        host.driver.state(replace(MARK, uuid=UUID[:-1] + "9"))


def test_a_link_in_the_place_of_a_file_is_somebody_elses(host: Host) -> None:
    host.conf.symlink_to("/etc/hostname")
    with pytest.raises(ForeignObject, match="has no mark of ours"):
        host.driver.state(MARK)


def test_what_others_run_takes_room(host: Host) -> None:
    (host.etc / "conf/101.conf").write_text(
        f'VE_PRIVATE="{host.place}/private/101"\nPHYSPAGES="0:64M"\n', encoding="utf-8"
    )
    (host.place / "lock/101.running").touch()
    survey = host.driver.survey(CATALOG)
    assert (survey.foreign_memory, survey.foreign_ids) == (64, frozenset())


def test_a_name_that_another_has_is_refused_and_stays(host: Host) -> None:
    host.define()
    (host.etc / "names/one-7").symlink_to(host.etc / "conf/5.conf")
    with pytest.raises(ForeignObject, match=r"names/one-7: the name is another container's: .* --name OTHER"):
        host.driver.start(MARK)
    assert not host.private.exists()
    host.driver.remove(MARK)
    assert os.readlink(host.etc / "names/one-7") == str(host.etc / "conf/5.conf")


def test_the_inventory_has_what_an_administrator_would_type(host: Host) -> None:
    nic = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:07", "10.0.0.7", model="veth", target="one-7-0")
    host.run(host.vm(nics=(nic,)))
    ((domain,), others) = host.driver.inventory()
    assert (domain.name, domain.catalog, domain.vm_id, domain.uuid) == ("one-7", CATALOG, 7, UUID)
    assert (domain.state, domain.generation, domain.directory) == ("RUNNING", 3, str(host.directory))
    assert domain.macs == ("02:00:0a:00:00:07",) and others == ()
    assert domain.turn == f"vzctl set {CTID} --onboot yes --save"
    subprocess.run(["sh", "-c", domain.turn], check=True)
    assert host.driver.starts_with_host(MARK) is True
    subprocess.run(["sh", "-c", domain.forget], check=True)
    assert host.driver.state(MARK) is None and os.listdir(host.etc / "conf") == [] and not host.private.exists()


def test_one_that_is_not_known_is_not_found(host: Host) -> None:
    for act in (host.driver.start, host.driver.cancel, host.driver.reset):
        with pytest.raises(NotFound, match=r"there is no .*100009\.conf"):
            act(Mark(CATALOG, 9, UUID))
