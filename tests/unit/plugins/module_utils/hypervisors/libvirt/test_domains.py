# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver of libvirt asks it, how the answers are read, and what its errors become. The library is a stand-in by
the reference of its API (tests/tools/libvirt_stand_in.py), and the module's clock is the test's own: nothing waits. The
real libvirtd is asked in tests/integration/test_kvm.py."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from libvirt_stand_in import Clock, Connection, Domain, LibvirtError, install, libvirt, metadata

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ForeignObject,
    HypervisorError,
    NoCapacity,
    NotFound,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domains
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domains import (
    CONNECTIONS,
    LibvirtDomains,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Topology

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
DIRECTORY = "/var/lib/nebula/datastores/0/1"
MARK = Mark(CATALOG, 1, UUID, 1)
RUNNING, PAUSED, SHUTOFF, CRASHED = 1, 3, 5, 6
URI = "qemu:///system"


class Domains(LibvirtDomains):
    remedies = (("no such file", "Look for the file"),)
    keep = "--keep-nvram"
    forget = "--managed-save --nvram"


class World:
    """A host with one machine of ours, and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.domain = Domain("one-1", UUID, metadata(CATALOG, 1, 1, DIRECTORY))
        self.connection = Connection(self.domain)
        self.opened: list[str] = []
        self.clock = Clock()
        self.library = libvirt(self.open)
        install(monkeypatch, self.library)
        monkeypatch.setattr(domains, "time", self.clock)
        self.driver = Domains(URI)

    def open(self, uri: str) -> Connection:
        self.opened.append(uri)
        return self.connection


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# -- connections -------------------------------------------------------------------------------------------------------
def test_a_libvirt_that_does_not_answer_is_named_with_what_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_uri: str) -> Connection:
        raise LibvirtError("Failed to connect socket to\n '/var/run/libvirt/libvirt-sock'")

    install(monkeypatch, libvirt(refuse))
    with pytest.raises(HypervisorError, match=rf"connecting to libvirt \({URI}\): Failed .* to '/var.*Start libvirtd"):
        Domains(URI)


def test_libvirt_prints_none_of_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: list[Any] = []
    library = libvirt()
    library.registerErrorHandler = lambda handler, context: handlers.append(handler)
    install(monkeypatch, library)
    Domains(URI)
    assert [handler(None, LibvirtError("x")) for handler in handlers] == [None]


def test_each_thread_has_a_connection_of_its_own_and_all_are_closed(world: World) -> None:
    connections: list[Connection] = []
    world.library.open = lambda _uri: connections.append(Connection(world.domain)) or connections[-1]
    world.driver.state(MARK)
    world.driver.state(MARK)
    assert connections == []
    threads = [threading.Thread(target=world.driver.state, args=(MARK,)) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join(10)
    assert len(connections) == 2
    # One that is broken is no reason to leave the others open.
    world.connection.fails["close"] = LibvirtError("it is gone")
    world.driver.close()
    assert [each.closed for each in (world.connection, *connections)] == [1, 1, 1]
    world.driver.close()
    assert world.connection.closed == 1


@pytest.mark.parametrize("alive", [0, LibvirtError("end of file while reading data")])
def test_a_connection_that_libvirtd_has_forgotten_is_opened_anew(world: World, alive: Any) -> None:
    world.connection.alive = alive
    dead, world.connection = world.connection, Connection(world.domain)
    assert world.driver.state(MARK) == "POWEROFF"
    assert world.opened == [URI, URI]
    world.driver.close()
    assert (dead.closed, world.connection.closed) == (0, 1)


# -- what is there -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "name"),
    [
        (0, "UNKNOWN"),
        (RUNNING, "RUNNING"),
        (2, "RUNNING"),
        (PAUSED, "UNKNOWN"),
        # It is shutting down, and runs as long as it does.
        (4, "RUNNING"),
        (SHUTOFF, "POWEROFF"),
        (CRASHED, "UNKNOWN"),
        (7, "UNKNOWN"),
    ],
)
def test_states(world: World, state: int, name: str) -> None:
    world.domain.become(state)
    assert world.driver.state(MARK) == name


def test_a_machine_that_is_not_there_has_no_state(world: World) -> None:
    assert world.driver.state(Mark(CATALOG, 2)) is None
    assert world.driver.starts_with_host(Mark(CATALOG, 2)) is None
    assert not world.driver.is_foreign(Mark(CATALOG, 2), DIRECTORY)
    for act in (world.driver.start, world.driver.cancel):
        with pytest.raises(NotFound, match=r"virtual machine 2: libvirt has no domain one-2.*defined anew"):
            act(Mark(CATALOG, 2))


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("", "without our mark"),
        ("<vm", "without our mark"),
        (metadata(CATALOG, "x"), "without our mark"),
        (metadata(OTHER, 1), f"belongs to catalog {OTHER}"),
        (metadata(CATALOG, 2), f"belongs to catalog {CATALOG}"),
    ],
)
def test_a_domain_of_the_name_that_does_not_carry_the_mark_is_not_touched(world: World, mark: str, words: str) -> None:
    world.domain.mark = mark
    driver = world.driver
    for act in (driver.state, driver.start, driver.cancel, driver.starts_with_host):
        with pytest.raises(ForeignObject, match=rf"virtual machine 1: domain one-1: libvirt has one.*{words}.*Rename"):
            act(MARK)
    assert world.domain.did == []


def test_a_domain_of_another_copy_of_the_catalog_is_not_touched(world: World) -> None:
    with pytest.raises(Conflict, match=f"it has the UUID {UUID}, this machine's is 9.*another copy"):
        world.driver.cancel(Mark(CATALOG, 1, "9"))
    # A caller that does not know it has nothing to compare.
    assert world.driver.state(Mark(CATALOG, 1)) == "POWEROFF"


def test_another_error_of_libvirt_does_not_mean_that_there_is_none(world: World) -> None:
    world.connection.fails["lookupByName"] = LibvirtError("Cannot recv data:\n  Connection reset")
    for ask in (world.driver.state, lambda mark: world.driver.is_foreign(mark, DIRECTORY)):
        with pytest.raises(HypervisorError, match="looking for domain one-1: Cannot recv data: Connection reset"):
            ask(MARK)


@pytest.mark.parametrize(
    ("mark", "xml", "foreign"),
    [
        (metadata(CATALOG, 1), "<domain/>", False),
        (metadata(OTHER, 1), "<domain/>", True),
        ("", "<domain/>", True),
        # What uses the machine's files has something of it, whosever it is.
        (metadata(OTHER, 1), f"<domain><source file='{DIRECTORY}/disk.0'/></domain>", False),
        ("", f"<domain><source file='{DIRECTORY}0/disk.0'/></domain>", True),
    ],
)
def test_whose_a_name_is(world: World, mark: str, xml: str, foreign: bool) -> None:
    world.domain.mark, world.domain.xml = mark, xml
    assert world.driver.is_foreign(MARK, DIRECTORY) is foreign


@pytest.mark.parametrize("reason", [3, 8, 9, 11])
def test_what_is_under_way_is_waited_for(world: World, reason: int) -> None:
    world.domain.states = [(PAUSED, reason), (PAUSED, reason), (RUNNING, 1)]
    assert world.driver.state(MARK) == "RUNNING"


@pytest.mark.parametrize("reason", [0, 1, 5])
def test_a_machine_that_somebody_paused_is_not_waited_for(world: World, reason: int) -> None:
    world.domain.states = [(PAUSED, reason), (RUNNING, 1)]
    assert world.driver.state(MARK) == "UNKNOWN"
    assert world.clock.now == 1000.0


def test_what_does_not_come_to_its_end_is_not_waited_for_for_ever(world: World) -> None:
    world.domain.become(PAUSED, 11)
    assert world.driver.state(MARK) == "UNKNOWN"
    assert domains.PASSING_SECONDS <= world.clock.now - 1000.0 <= domains.PASSING_SECONDS + 1


XML = f"""\
<domain><name>one-1</name><devices>
  <disk type='file' device='disk'><source file='{DIRECTORY}/disk.0'/><target dev='vda'/></disk>
  <disk type='file' device='cdrom'><source file='{DIRECTORY}/disk.1'/><target dev='hda'/></disk>
  <disk type='block' device='cdrom'><source dev='/dev/sr0'/><target dev='hdb'/></disk>
  <disk type='file' device='cdrom'><target dev='hdc'/></disk>
  <interface type='bridge'><mac address='02:00:c0:a8:46:96'/><source bridge='br0'/></interface>
  <graphics type='vnc' port='5901' autoport='no'/>
  <graphics type='spice' port='-1'/>
</devices></domain>"""


def test_an_inventory_tells_what_a_machine_has_and_what_would_end_it(world: World) -> None:
    world.domain.xml, world.domain.starts = XML, 1
    world.domain.become(RUNNING)
    stranger = Domain("web", "1")
    world.connection.domains = [Domain("zoo", "2"), world.domain, stranger]
    (found,), foreign = world.driver.inventory()
    assert foreign == ("web", "zoo")
    assert (found.name, found.catalog, found.vm_id, found.uuid, found.state) == ("one-1", CATALOG, 1, UUID, "RUNNING")
    assert (found.generation, found.directory, found.persistent, found.autostart) == (1, DIRECTORY, True, True)
    assert (found.port, found.macs) == (5901, ("02:00:c0:a8:46:96",))
    assert found.topology is None
    assert found.disks == (f"{DIRECTORY}/disk.0", f"{DIRECTORY}/disk.1")
    virsh = f"virsh -c {URI}"
    assert found.turn == f"{virsh} autostart --disable one-1"
    assert found.undefine == f"{virsh} destroy one-1; {virsh} undefine --keep-nvram one-1"
    assert found.forget == f"{virsh} destroy one-1; {virsh} undefine --managed-save --nvram one-1"


@pytest.mark.parametrize(
    ("knows", "undefine"), [(True, f"virsh -c {URI} undefine --keep-nvram --keep-tpm one-1"), (False, "")]
)
def test_an_inventory_has_no_command_that_loses_the_state_of_a_tpm(
    world: World, monkeypatch: pytest.MonkeyPatch, knows: bool, undefine: str
) -> None:
    lv = world.driver._libvirt
    if knows:
        monkeypatch.setattr(lv, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 64, raising=False)
    else:
        monkeypatch.delattr(lv, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", raising=False)
    tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    world.domain.xml = XML.replace("<devices>", f"<devices>{tpm}", 1)
    world.connection.domains = [world.domain]
    (found,), _foreign = world.driver.inventory()
    assert found.undefine == undefine
    assert found.forget == f"virsh -c {URI} undefine --managed-save --nvram one-1"


def test_an_inventory_tells_in_what_a_guest_sees_its_processors(world: World) -> None:
    cpu = "<cpu mode='host-model'><topology sockets='1' dies='1' cores='4' threads='2'/></cpu>"
    world.domain.xml = XML.replace("<devices>", f"{cpu}<devices>", 1)
    world.connection.domains = [world.domain]
    (found,), _foreign = world.driver.inventory()
    assert found.topology == Topology(1, 4, 2)


def test_an_inventory_tells_how_far_a_machine_may_grow(world: World) -> None:
    most = (
        "<memory unit='KiB'>1048576</memory><currentMemory unit='KiB'>524288</currentMemory><vcpu current='1'>4</vcpu>"
    )
    world.domain.xml = XML.replace("<devices>", f"{most}<devices>", 1)
    world.connection.domains = [world.domain]
    (found,), _foreign = world.driver.inventory()
    assert found.growth == Growth(1024, 4)


def test_an_inventory_of_machines_that_are_off_or_go_with_their_end(world: World) -> None:
    transient = Domain("one-0", "0", metadata(OTHER, 0), RUNNING)
    transient.persistent = False
    transient.xml = "<domain><devices><graphics type='vnc' port='-1'/></devices></domain>"
    world.connection.domains = [world.domain, transient]
    (first, second), _foreign = world.driver.inventory()
    assert (first.vm_id, first.catalog, first.persistent, first.autostart, first.port) == (0, OTHER, False, False, 0)
    assert first.undefine == f"virsh -c {URI} destroy one-0" == first.forget
    assert second.turn == f"virsh -c {URI} autostart one-1"
    assert second.undefine == f"virsh -c {URI} undefine --keep-nvram one-1" and second.port == 0


def test_a_machine_that_ends_while_it_is_looked_at_is_left_out_of_an_inventory(world: World) -> None:
    world.domain.fails["XMLDesc"] = LibvirtError("Domain not found", 42)
    assert world.driver.inventory() == ((), ())
    world.domain.fails["XMLDesc"] = LibvirtError("internal error")
    with pytest.raises(HypervisorError, match="looking at domain one-1: internal error"):
        world.driver.inventory()
    world.connection.fails["listAllDomains"] = LibvirtError("gone")
    with pytest.raises(HypervisorError, match="listing the machines of this node: gone"):
        world.driver.inventory()


@pytest.mark.parametrize(
    ("graphics", "password"), [("<graphics type='vnc' passwd='aB3'/>", "aB3"), ("<graphics type='vnc'/>", ""), ("", "")]
)
def test_a_deployment_file_tells_the_password_of_the_console(world: World, graphics: str, password: str) -> None:
    text = f"<domain><devices>{graphics}</devices></domain>"
    assert world.driver.password_in(text) == password


@pytest.mark.parametrize("wanted", [True, False])
def test_whether_a_machine_starts_with_its_host_is_set_and_told(world: World, wanted: bool) -> None:
    world.domain.starts = int(not wanted)
    assert world.driver.starts_with_host(MARK) is not wanted
    world.driver.set_starts_with_host(MARK, wanted)
    assert world.driver.starts_with_host(MARK) is wanted
    assert world.domain.did == [("setAutostart", int(wanted))]


# -- state -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "did"),
    [
        (SHUTOFF, ["create"]),
        (PAUSED, ["resume"]),
        (7, ["pMWakeup"]),
        (RUNNING, []),
        # What is left of a crash is in the way of a new start.
        (CRASHED, ["destroy", "create"]),
    ],
)
def test_what_a_start_takes(world: World, state: int, did: list[str]) -> None:
    world.domain.become(state)
    world.driver.start(MARK)
    assert world.domain.names() == did


def test_an_error_of_a_start_has_its_remedy(world: World) -> None:
    world.domain.fails["create"] = LibvirtError("Cannot access storage file: no such file\nor directory")
    with pytest.raises(HypervisorError) as caught:
        world.driver.start(MARK)
    assert caught.value.asked == "starting virtual machine 1"
    assert caught.value.found == "Cannot access storage file: no such file or directory"
    assert caught.value.remedy == "Look for the file"


def _after(world: World, seconds: float) -> None:
    """Its guest has ended the machine by then."""
    world.clock.then = lambda since: world.domain.become(SHUTOFF, 1) if since >= seconds else None


@pytest.mark.parametrize(("seconds", "pressed"), [(1.0, 1), (25.0, 3)])
def test_the_power_button_is_pressed_again_until_the_guest_obeys(world: World, seconds: float, pressed: int) -> None:
    world.domain.become(RUNNING)
    _after(world, seconds)
    world.driver.shutdown(MARK, 60)
    assert world.domain.did == [("shutdownFlags", 1)] * pressed


def test_a_guest_that_does_not_obey_runs_on(world: World) -> None:
    world.domain.become(RUNNING)
    with pytest.raises(TimedOut) as caught:
        world.driver.shutdown(MARK, 30)
    assert caught.value.asked == "shutting virtual machine 1 down"
    assert "within 30 s; it runs on" in caught.value.found and "hard: true" in caught.value.remedy
    assert set(world.domain.names()) == {"shutdownFlags"} and 30 <= world.clock.now - 1000.0 < 31


def test_a_machine_that_is_off_need_not_be_shut_down(world: World) -> None:
    world.driver.shutdown(MARK, 30)
    assert world.domain.did == []


def test_a_guest_that_ends_while_its_button_is_pressed_has_obeyed(world: World) -> None:
    world.domain.become(RUNNING)
    world.domain.then["shutdownFlags"] = lambda: world.domain.become(SHUTOFF)
    world.domain.fails["shutdownFlags"] = LibvirtError("domain is not running", 55)
    world.driver.shutdown(MARK, 30)
    world.domain.become(RUNNING)
    world.domain.then.clear()
    world.domain.fails["shutdownFlags"] = LibvirtError("internal error")
    with pytest.raises(HypervisorError, match="shutting virtual machine 1 down: internal error"):
        world.driver.shutdown(MARK, 30)


@pytest.mark.parametrize(("code", "raised"), [(None, False), (55, False), (42, False), (1, True)])
def test_the_plug_is_pulled(world: World, code: int | None, raised: bool) -> None:
    """What has ended meanwhile is at its end."""
    world.domain.become(RUNNING)
    if code is not None:
        world.domain.fails["destroy"] = LibvirtError("cannot destroy it", code)
    if raised:
        with pytest.raises(HypervisorError, match="ending virtual machine 1: cannot destroy it"):
            world.driver.cancel(MARK)
    else:
        world.driver.cancel(MARK)
    assert world.domain.names() == ["destroy"]
    world.domain.did.clear()
    world.domain.become(SHUTOFF)
    world.driver.cancel(MARK)
    assert world.domain.did == []


def test_what_ends_although_libvirt_could_not_end_it_has_ended(world: World) -> None:
    """As a container does whose cgroup was gone before libvirt had read it."""
    world.domain.become(RUNNING)
    world.domain.fails["destroy"] = LibvirtError("Unable to read from cgroup.controllers", 38)
    world.domain.then["destroy"] = lambda: world.domain.states.extend([(RUNNING, 0), (SHUTOFF, 0)])
    world.driver.cancel(MARK)
    assert world.domain.names() == ["destroy"] and 0 < world.clock.now - 1000.0 < 1


@pytest.mark.parametrize(("code", "raised"), [(None, False), (42, False), (1, True)])
def test_a_transient_machine_is_forgotten_with_its_end(world: World, code: int | None, raised: bool) -> None:
    if code is not None:
        world.domain.fails["undefineFlags"] = LibvirtError("cannot undefine it", code)
    if raised:
        with pytest.raises(HypervisorError, match="undefining virtual machine 1: cannot undefine it"):
            world.driver._undefine(world.domain, MARK, 1)
    else:
        world.driver._undefine(world.domain, MARK, 1)
    assert world.domain.did == [("undefineFlags", 1)]


def test_a_machine_is_saved_and_goes_on_as_a_running_one(world: World) -> None:
    world.domain.become(RUNNING)
    world.driver.suspend(MARK, "/a/checkpoint")
    assert world.domain.did == [("save", "/a/checkpoint")]
    world.driver.resume(MARK, "/a/checkpoint")
    assert world.connection.restored == [("/a/checkpoint", None, 2)]
    world.connection.fails["restoreFlags"] = LibvirtError("cannot read header")
    with pytest.raises(HypervisorError, match="resuming virtual machine 1: cannot read header"):
        world.driver.resume(MARK, "/a/checkpoint")


# -- errors ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "internal error: qemu unexpectedly closed the monitor: Failed to bind socket: Address already in use",
        "Failed to find an available port",
    ],
)
def test_a_port_that_is_taken_is_no_fault_of_the_hypervisor(text: str) -> None:
    error = domains.error_of_libvirt("starting it", text, ())
    assert isinstance(error, NoCapacity) and "Run again" in error.remedy and error.found == text


@pytest.mark.parametrize(
    "text",
    [
        # Of libvirt 9, for QEMU and for containers. test_kvm.py and test_lxc.py have them of it.
        "Requested operation is not valid: The one-1-0 interface already exists",
        "unable to create one-1-0 <-> vnet0 veth pair: File exists",
        # Of others.
        "Unable to create tap device one-1-0: Device or resource busy",
        "Unable to create tap device one-1-0: File exists",
        "Network interface 'one-1-0' exists already",
        "internal error: network interface one-1-0 already exists",
        "Unable to add bridge nbr0 port one-1-0: Device or resource busy",
        "Unable to rename 'vnet3' to 'one-1-0' : File exists",
        "Child process (ip link add one-1-0 type veth peer name v) exit status 2: RTNETLINK answers: File exists",
    ],
)
def test_an_interface_that_has_a_nics_name_is_told_with_what_to_do(text: str) -> None:
    error = domains.error_of_libvirt("starting it", text, ())
    assert isinstance(error, HypervisorError) and error.found == text
    assert "ip -details link show one-1-0" in error.remedy and "ip link delete one-1-0" in error.remedy


@pytest.mark.parametrize(
    "text",
    [
        "internal error: Unable to add port one-1-0 to OVS bridge br-int",
        "Unable to add port one-1-0 to OVS bridge br-int: one-1-0 is actually attached to bridge ovsbr0",
    ],
)
def test_a_port_that_open_vswitch_does_not_take_is_told_with_what_to_do(text: str) -> None:
    error = domains.error_of_libvirt("starting it", text, ())
    assert isinstance(error, HypervisorError) and error.found == text
    assert "ovs-vsctl br-exists br-int" in error.remedy and "ovs-vsctl del-port one-1-0" in error.remedy


@pytest.mark.parametrize(
    "text", ["operation failed: domain 'one-1' already exists with uuid x", "disk: Device or resource busy"]
)
def test_what_else_is_there_already_is_no_interface(text: str) -> None:
    assert "ip link" not in domains.error_of_libvirt("starting it", text, ()).remedy


def test_the_first_remedy_that_fits_is_given_and_none_for_what_is_not_known() -> None:
    remedies = (("no space", "Make room"), ("space", "Look at the stars"))
    assert domains.error_of_libvirt("a", "there is no space", remedies).remedy == "Make room"
    assert domains.error_of_libvirt("a", "space", remedies).remedy == "Look at the stars"
    assert domains.error_of_libvirt("a", "else", remedies).remedy == ""


def test_an_error_without_a_message_is_told_by_what_it_is() -> None:
    class Silent(LibvirtError):
        def get_error_message(self) -> str:
            return ""

    assert domains.message_of(Silent("virDomainCreate()\n failed")) == "virDomainCreate() failed"


def test_a_shared_connection_that_libvirtd_has_forgotten_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirtd was started anew while no thread used it: another one would get the error."""
    opened: list[Connection] = []

    def open_one(_uri: str) -> Connection:
        opened.append(Connection())
        return opened[-1]

    install(monkeypatch, libvirt(open_one))
    driver = KvmDriver()

    def of_another_thread() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(driver._connection).result()

    assert len({id(of_another_thread()) for _thread in range(3 * CONNECTIONS)}) <= CONNECTIONS == len(opened)
    for each in opened:
        each.fails["getLibVersion"] = LibvirtError("Cannot write data: Broken pipe", 38)
    assert of_another_thread() is opened[CONNECTIONS] and len(opened) == CONNECTIONS + 1
