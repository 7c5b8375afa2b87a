# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each state is reached from each other, and what leads there is done once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import MemoryDriver
from memory_node import CATALOG, Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import RECORD
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import MARK
from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import Injected
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Os, Vm


def test_a_new_machine_is_defined_and_is_to_start_with_its_host_before_it_starts(here: Node) -> None:
    outcome = here.one("RUNNING", seq=3)
    assert told(outcome) == ("RUNNING", True, "")
    assert here.driver.names() == ["define", "autostart", "start"]
    assert outcome.log and outcome.log[-1].endswith("[LCM] [I]: New VM state is RUNNING")
    deployment = here.directory() / "deployment.3"
    assert deployment.read_text(encoding="utf-8") == here.driver.machines[0].definition
    assert deployment.stat().st_mode & 0o777 == 0o600
    assert (here.directory() / RECORD).stat().st_mode & 0o777 == 0o600
    assert here.directory().stat().st_mode & 0o777 == 0o711
    record = here.record()
    assert (record.catalog, record.vm_id, record.uuid, record.generation) == (CATALOG, 0, "uuid-0", 1)


def test_the_same_again_asks_the_hypervisor_for_nothing(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    before = (here.directory() / RECORD).read_bytes(), here.log()
    assert told(here.one("RUNNING")) == ("RUNNING", False, "")
    assert here.driver.names() == ["adjust"]
    assert ((here.directory() / RECORD).read_bytes(), here.log()) == before


def test_what_is_rendered_knows_the_node_and_the_machine(here: Node) -> None:
    here.one("RUNNING", generation=4)
    site = here.driver.sites[-1]
    assert (site.directory, site.catalog, site.generation) == (str(here.directory()), CATALOG, 4)
    assert (site.accelerator, site.cpu_shares) == ("memory", node_file.cpu_shares())
    assert node_file.read(str(here.root)).accelerator["accelerator"] == "memory"


def test_a_machine_that_is_only_paused_goes_on(here: Node) -> None:
    here.one("RUNNING")
    here.driver.machines[0].state = "UNKNOWN"
    here.driver.names()
    assert told(here.one("RUNNING")) == ("RUNNING", True, "")
    assert here.driver.names() == ["start"]


@pytest.mark.parametrize("operation", ["reboot", "reset"])
def test_an_operation_is_carried_out_once(here: Node, operation: str) -> None:
    here.one("RUNNING")
    here.driver.names()
    assert told(here.one("RUNNING", 2, operation=operation, shutdown_timeout=7)) == ("RUNNING", True, "")
    assert here.driver.names() == ["adjust", operation]
    assert here.driver.timeouts == ([7] if operation == "reboot" else [])
    assert told(here.one("RUNNING", 2, operation=operation)) == ("RUNNING", False, "")
    # A later decision that took it along is no new one.
    assert told(here.one("RUNNING", 3, operation=operation, decided=2)) == ("RUNNING", False, "")
    assert operation not in here.driver.names()
    assert told(here.one("RUNNING", 4, operation=operation)) == ("RUNNING", True, "")
    assert operation in here.driver.names()


def test_a_machine_that_was_off_is_started_and_not_rebooted_besides(here: Node) -> None:
    here.one("RUNNING", 1, operation="reboot")
    assert here.driver.names() == ["define", "autostart", "start"]
    assert told(here.one("RUNNING", 1, operation="reboot")) == ("RUNNING", False, "")
    assert "reboot" not in here.driver.names()


def test_an_operation_that_failed_is_still_to_be_done(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["reboot"] = TimedOut("rebooting it", "it did not obey")
    assert told(here.one("RUNNING", 2, operation="reboot")) == ("RUNNING", False, "TimedOut")
    assert here.record().operated == 0
    del here.driver.fails["reboot"]
    assert told(here.one("RUNNING", 2, operation="reboot")) == ("RUNNING", True, "")
    assert here.record().operated == 2


def test_a_machine_is_made_anew_once(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    assert told(here.one("RUNNING", 2, operation="recreate")) == ("RUNNING", True, "")
    assert here.driver.names() == ["remove", "define", "autostart", "start"]
    assert told(here.one("RUNNING", 2, operation="recreate")) == ("RUNNING", False, "")
    assert "remove" not in here.driver.names()


def test_a_machine_whose_new_start_fails_is_not_unmade_a_second_time(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["start"] = HypervisorError("starting it", "no")
    assert told(here.one("RUNNING", 2, operation="recreate"))[0] == "BOOT_FAILURE"
    here.driver.fails.clear()
    here.driver.names()
    assert told(here.one("RUNNING", 2, operation="recreate")) == ("RUNNING", True, "")
    assert "remove" not in here.driver.names()


@pytest.mark.parametrize("operation", ["reboot", "recreate"])
@pytest.mark.parametrize(
    "vm",
    [machine(os=Os(kernel="/boot/none")), machine(disks=(Disk(3, "vdb", image="a", image_id=4, source="/none"),))],
    ids=["kernel", "image"],
)
def test_what_would_not_start_again_is_not_ended(here: Node, operation: str, vm: Vm) -> None:
    here.one("RUNNING")
    here.driver.names()
    orders = {"operation": operation, "waits": operation == "reboot", "hard": True}
    assert told(here.one("RUNNING", 2, vm, **orders)) == ("RUNNING", False, "NotFound")
    assert here.driver.names() == [] and here.record().operated == 0
    assert told(here.one("RUNNING", 3, machine(), **orders)) == ("RUNNING", True, "")


@pytest.mark.parametrize("wanted", ["RUNNING", "POWEROFF"])
def test_no_disk_is_made_anew_while_a_file_is_missing_that_belongs_in_one(here: Node, wanted: str) -> None:
    file = ContextFile("https://files.invalid/motd", "motd", sha256="0" * 64)
    disk = Disk(3, "vdb", type="FS", fs="ext4", driver="raw", size=8, inject=(Injected("/etc/motd", file=file),))
    here.one(wanted)
    here.driver.names()
    found = told(here.one(wanted, 2, machine(disks=(disk,)), operation="recreate"))
    assert found == (wanted, False, "StorageFailed")
    assert "remove" not in here.driver.names() and here.record().operated == 0


@pytest.mark.parametrize("operation", ["reboot", "recreate"])
def test_a_machine_whose_image_is_gone_is_not_ended(here: Node, tmp_path: Path, operation: str) -> None:
    """Its disk, which is there, rests on it, or is to be made of it."""
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    vm = machine(disks=(Disk(3, "vdb", image="a", image_id=4, source=str(image), format="raw", driver="raw", size=1),))
    assert told(here.one("RUNNING", 1, vm)) == ("RUNNING", True, "")
    image.unlink()
    here.driver.names()
    orders = {"operation": operation, "waits": operation == "reboot", "hard": True}
    assert told(here.one("RUNNING", 2, vm, **orders)) == ("RUNNING", False, "NotFound")
    assert here.driver.names() == []


def test_a_machine_that_never_ran_is_made_and_not_started(here: Node) -> None:
    assert told(here.one("POWEROFF")) == ("POWEROFF", True, "")
    assert here.driver.names() == ["define"]


def test_a_machine_that_installs_is_started_once_by_one_decision(here: Node) -> None:
    vm = machine(attributes={MARK: "debian"})
    assert told(here.one("RUNNING", 1, vm)) == ("RUNNING", True, "")
    assert here.driver.names() == ["define", "start"] and here.record().started == 1
    here.driver.machines[0].state = "POWEROFF"
    assert told(here.one("RUNNING", 1, vm)) == ("POWEROFF", False, "")
    assert here.driver.names() == []
    assert told(here.one("RUNNING", 2, vm)) == ("RUNNING", True, "")
    assert "start" in here.driver.names() and here.record().started == 2


def test_the_start_of_an_installer_is_on_the_disk_before_it_is_begun(here: Node) -> None:
    class Watched(MemoryDriver):
        def start(self, mark: Any) -> None:
            assert here.record().started == 1
            raise HypervisorError("starting it", "the host dies here")

    here.driver = Watched()
    outcome = here.one("RUNNING", 1, machine(attributes={MARK: "debian"}))
    assert outcome.error is not None and "host dies" in outcome.error["found"]


def test_a_port_is_known_as_the_machines_before_anything_listens_on_it(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that looks at the node meanwhile would give the machine another one."""
    ports = []
    start = here.driver.start

    def started(mark: Mark) -> None:
        ports.append(here.record().port)
        start(mark)

    monkeypatch.setattr(here.driver, "start", started)
    here.one("RUNNING", vm=machine(graphics=Graphics(type="vnc", port=5917)))
    assert ports == [5917]
