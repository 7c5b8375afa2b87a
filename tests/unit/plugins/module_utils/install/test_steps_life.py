# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installation goes from a blank disk to an OS image that was tried, call by call, and leaves nothing else."""

from __future__ import annotations

import io
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.vm_rows import vm_of
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ImageRefused,
    NebulaError,
    NotFound,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.install import next_step
from ansible_collections.nebula.provision.plugins.module_utils.install.installation import Outcome, Settings, row
from ansible_collections.nebula.provision.plugins.module_utils.install.steps import run
from ansible_collections.nebula.provision.plugins.module_utils.model import boot_image, installation_marks
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import installations, verified_guests
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Topology
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_files_stored
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout

MIB = 1024 * 1024
ITEM = {"name": "debian", "iso": {"image": "debian.iso"}, "size": 4}
NAME, TRIAL = "install-debian", "verify-debian"
needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files get their modes, and stay whose they are: only root can give them away."""
    monkeypatch.setattr(datastore_layout, "adopt", lambda path, mode, *_owner: files.adopt(path, mode))


@pytest.fixture
def engine(bare: EmbeddedEngine) -> EmbeddedEngine:
    with bare.session():
        bare.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=8192, cpu=16.0))
    store_iso(bare, "debian.iso", bootable())
    return bare


def bootable() -> bytes:
    """An ISO as far as a BIOS looks at it: a volume, El Torito's record, and a catalog with one entry for x86."""
    volume = (b"\1CD001\1" + bytes(33) + b"DEBIAN".ljust(32)).ljust(2048, b"\0")
    record = b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", 19)
    entry = bytearray(b"\1".ljust(30, b"\0") + b"\x55\xaa")
    struct.pack_into("<H", entry, 28, -sum(struct.unpack("<16H", entry)) & 0xFFFF)
    catalog = bytes(entry) + b"\x88".ljust(32, b"\0")
    sectors = [volume, record.ljust(2048, b"\0"), b"\xffCD001\1".ljust(2048, b"\0"), catalog.ljust(2048, b"\0")]
    return bytes(16 * 2048) + b"".join(sectors)


def store_iso(engine: EmbeddedEngine, name: str, content: bytes, **fields: Any) -> Image:
    with engine.session():
        image = engine.images.allocate(Image(None, name, type=ImageType.CDROM, **fields))
        image = engine.images.update(image.id, state=ImageState.READY, size=1)
    Path(image.source).parent.mkdir(parents=True, exist_ok=True)
    Path(image.source).write_bytes(content)
    return image


def call(engine: EmbeddedEngine, state: str, item: Mapping[str, Any] | None = None, **settings: Any) -> Outcome:
    for key, answers in (("waited", installations), ("verified", verified_guests)):
        settings[key] = answers.read(settings.get(key, ()))[0]
    return run(engine, state, [{**ITEM, **(item or {})}], Settings(root=engine.store.root, **settings))


def well(outcome: Outcome) -> Outcome:
    assert [work.error for work in outcome.works] == [None]
    return outcome


def refused(outcome: Outcome, kind: type[NebulaError]) -> str:
    (work,) = outcome.works
    assert isinstance(work.error, kind), work.error
    return str(work.error)


def deploy(engine: EmbeddedEngine, items: Sequence[Mapping[str, Any]]) -> None:
    """What role vm does, with a node that obeys."""
    with engine.session():
        outcomes, _warnings = reconcile(engine, items)
        assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
        for host, plan in engine.vms.plans().items():
            done = [VmOutcome(each.vm.vm_id, each.generation, each.wanted, True) for each in plan.vms]
            engine.vms.record(host, done)


def seen(engine: EmbeddedEngine, state: str, ended: str = "", reached: bool = True) -> tuple[Observed, ...]:
    """What the node says of its machines."""
    vms = [ObservedVm(each.id or 0, each.uuid, state, each.generation, ended=ended) for each in engine.vms.pool()]
    return (Observed("node1", reached=reached, vms=tuple(vms) if reached else ()),)


def installing(engine: EmbeddedEngine, item: Mapping[str, Any] | None = None) -> Image:
    """A machine that installs, and has written to its disk; what the image is then."""
    deploy(engine, well(call(engine, "prepared", item)).vms)
    image = engine.images.info("debian")
    with Path(image.source).open("r+b") as file:
        file.write(b"installed")
    return image


def heard(engine: EmbeddedEngine, **fields: Any) -> list[dict[str, Any]]:
    return [{"name": "debian", "vm_id": engine.vms.pool()[0].id, "installed": True, "how": "its guest", **fields}]


def templates(engine: EmbeddedEngine) -> list[str]:
    return [stored.name for stored in engine.templates.pool()]


@needs_qemu_img
def test_from_a_blank_disk_to_an_image_that_was_tried(engine: EmbeddedEngine) -> None:
    outcome = well(call(engine, "begun"))
    assert outcome.works[0].step == next_step.MAKE and outcome.works[0].changed and outcome.isos == []
    assert [image.name for image in engine.images.pool()] == ["debian.iso"]

    outcome = well(call(engine, "prepared"))
    image = engine.images.info("debian")
    assert (image.type, image.persistent, image.state) == (ImageType.DATABLOCK, True, ImageState.READY)
    assert (image.unfinished, image.attributes[installation_marks.FROM]) == (
        installation_marks.INSTALLING,
        "debian.iso",
    )
    assert os.path.getsize(image.source) == 4 * MIB and templates(engine) == [NAME]
    assert outcome.vms == [{"name": NAME, "template": NAME, "state": "running"}]
    assert [(wait["name"], wait["machine"], wait["end"], wait["fresh"]) for wait in outcome.waits] == [
        ("debian", NAME, "poweroff", True)
    ]
    deploy(engine, outcome.vms)

    # Another run that comes by waits for the same machine.
    outcome = well(call(engine, "begun", observed=seen(engine, "RUNNING")))
    assert outcome.works[0].step == next_step.WAIT and not outcome.works[0].changed
    outcome = well(call(engine, "prepared", observed=seen(engine, "RUNNING")))
    assert outcome.vms == [{"name": NAME, "state": "present"}] and outcome.waits[0]["fresh"] is False
    assert engine.images.info("debian").uuid == image.uuid

    stime = engine.vms.pool()[0].stime
    outcome = well(call(engine, "recorded", waited=heard(engine), now=stime + 90))
    assert outcome.vms == [{"name": NAME, "state": "absent", "hard": True}]
    assert row(outcome.works[0])["seconds"] == 90 and outcome.works[0].how == "its guest"
    assert engine.images.info("debian").unfinished == installation_marks.INSTALLED
    deploy(engine, outcome.vms)

    outcome = well(call(engine, "converted"))
    image = engine.images.info("debian")
    assert (image.type, image.persistent, image.state, image.error) == (ImageType.OS, False, ImageState.READY, "")
    assert image.attributes[installation_marks.TOOK] == "90" and not os.stat(image.source).st_mode & 0o222
    assert templates(engine) == [TRIAL] and outcome.vms == [{"name": TRIAL, "template": TRIAL, "state": "running"}]
    assert outcome.patterns == {TRIAL: r"\blogin:"} and outcome.timeout == 300
    deploy(engine, outcome.vms)

    # One who does not say the word is not believed, and is kept.
    outcome = well(call(engine, "concluded", verified=[{"name": TRIAL, "verified": False}]))
    assert outcome.vms == [] and row(outcome.works[0])["step"] == "OS image, its guest is not believed yet"
    # Neither is a machine of another id, nor what another host says.
    believed = {"name": TRIAL, "verified": True, "vm_id": 99}
    mine = {**believed, "vm_id": engine.vms.pool()[0].id}
    for told in ([believed], [{"host": "another", "vms": [mine]}]):
        assert not well(call(engine, "concluded", verified=told)).works[0].changed
    outcome = well(call(engine, "concluded", verified=[{"name": TRIAL, "verified": True, "said": "login:"}]))
    assert outcome.vms == [{"name": TRIAL, "state": "absent", "hard": True}] and outcome.works[0].how == "login:"
    deploy(engine, outcome.vms)
    assert templates(engine) == [] and engine.vms.pool() == []

    for state in ("begun", "prepared", "recorded", "converted", "concluded", "shown"):
        outcome = well(call(engine, state))
        assert row(outcome.works[0])["step"] == "ready, verified" and not outcome.works[0].changed
        assert outcome.vms == outcome.waits == outcome.isos == [] and outcome.patterns == {}


@needs_qemu_img
def test_what_is_to_be_kept_is_kept(engine: EmbeddedEngine) -> None:
    keep = {"keep": True, "host": "node1"}
    installing(engine, keep)
    outcome = well(call(engine, "recorded", keep, waited=heard(engine)))
    deploy(engine, outcome.vms)
    outcome = well(call(engine, "converted", keep))
    assert outcome.vms == [{"name": TRIAL, "template": TRIAL, "state": "running", "host": "node1"}]
    deploy(engine, outcome.vms)
    outcome = well(call(engine, "concluded", keep, verified=[{"name": TRIAL, "verified": True}]))
    assert outcome.vms == [] and sorted(templates(engine)) == [NAME, TRIAL]
    again = well(call(engine, "concluded", keep, verified=[{"name": TRIAL, "verified": True}]))
    assert not again.works[0].changed
    # Not any more: both go.
    outcome = well(call(engine, "begun"))
    assert outcome.works[0].changed and [vm["name"] for vm in outcome.vms] == [TRIAL]


def test_what_is_given_up_leaves_nothing(engine: EmbeddedEngine) -> None:
    image = installing(engine)
    absent = {"state": "absent"}
    outcome = well(call(engine, "begun", absent, observed=seen(engine, "RUNNING")))
    assert outcome.vms == [{"name": NAME, "state": "absent", "hard": True}] and outcome.works[0].changed
    said = refused(call(engine, "prepared", absent), WrongState)
    assert said == "install debian: state absent: its machine is there still. Run again when its host answers"
    deploy(engine, outcome.vms)
    outcome = well(call(engine, "prepared", absent))
    assert outcome.works[0].changed and row(outcome.works[0])["step"] == "given up"
    assert [each.name for each in engine.images.pool()] == ["debian.iso"] and templates(engine) == []
    assert not os.path.exists(image.source)
    assert not well(call(engine, "prepared", absent)).works[0].changed


def test_giving_up_leaves_a_finished_image_as_it_is(engine: EmbeddedEngine) -> None:
    with engine.session():
        image = engine.images.allocate(Image(None, "debian", attributes={installation_marks.FROM: "debian.iso"}))
        engine.images.update(image.id, state=ImageState.READY)
    outcome = well(call(engine, "prepared", {"state": "absent"}))
    assert not outcome.works[0].changed and row(outcome.works[0])["step"] == "ready, and left as it is"
    assert engine.images.info("debian").state == ImageState.READY


def test_a_start_that_nobody_recorded_is_recorded(engine: EmbeddedEngine) -> None:
    """A run was killed between the node and the catalog: the guest has ended its machine meanwhile."""
    well(call(engine, "prepared"))
    with engine.session():
        reconcile(engine, [{"name": NAME, "template": NAME}])
        engine.vms.plans()
    assert engine.vms.pool()[0].state not in ("RUNNING", "POWEROFF")
    with Path(engine.images.info("debian").source).open("r+b") as file:
        file.write(b"installed")
    outcome = well(call(engine, "begun", observed=seen(engine, "POWEROFF", "guest")))
    assert outcome.works[0].step == next_step.WAIT
    assert engine.vms.pool()[0].state == "RUNNING"


@pytest.mark.parametrize(
    ("observed", "keys", "step", "words"),
    [
        (("", "", False), {}, next_step.UNREACHED, "host node1 did not answer. Run again when it does"),
        (("POWEROFF", "unknown"), {}, next_step.UNSURE, "it is off, and nothing tells whether its guest ended it"),
        (("POWEROFF", ""), {"end": "manual"}, next_step.UNSURE, "it is off, and nothing tells whether its guest"),
    ],
)
def test_what_nobody_knows_is_not_begun_anew(
    engine: EmbeddedEngine, observed: tuple[Any, ...], keys: dict[str, Any], step: str, words: str
) -> None:
    installing(engine, keys)
    outcome = call(engine, "begun", keys, observed=seen(engine, *observed))
    said = refused(outcome, WrongState)
    assert outcome.works[0].step == step and said.startswith(f"install debian: machine {NAME}: {words}"), said
    assert outcome.vms == [] and not outcome.works[0].changed


@needs_qemu_img
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_blank_disk_is_nobody_s_work(engine: EmbeddedEngine, format: str) -> None:
    keys = {"end": "manual", "format": format}
    deploy(engine, well(call(engine, "prepared", keys)).vms)
    outcome = well(call(engine, "begun", keys, observed=seen(engine, "POWEROFF", "unknown")))
    assert outcome.works[0].step == next_step.END
    with Path(engine.images.info("debian").source).open("ab") as file:
        file.write(os.urandom(2 * MIB))
    outcome = call(engine, "begun", keys, observed=seen(engine, "POWEROFF", "unknown"))
    assert outcome.works[0].step == next_step.UNSURE


def test_what_is_given_up_is_not_gone_on_with(engine: EmbeddedEngine) -> None:
    installing(engine)
    deploy(engine, well(call(engine, "recorded", waited=heard(engine))).vms)
    image = engine.images.info("debian")
    for state in ("recorded", "converted", "concluded"):
        outcome = well(call(engine, state, {"state": "absent"}))
        assert not outcome.works[0].changed and outcome.vms == []
    assert engine.images.info("debian") == image and image.unfinished == installation_marks.INSTALLED


def test_what_was_ended_from_outside_is_installed_anew(engine: EmbeddedEngine) -> None:
    image = installing(engine)
    outcome = well(call(engine, "begun", observed=seen(engine, "POWEROFF")))
    assert outcome.works[0].step == next_step.END
    assert outcome.vms == [{"name": NAME, "state": "absent", "hard": True}]
    deploy(engine, outcome.vms)
    well(call(engine, "prepared"))
    now = engine.images.info("debian")
    assert now.uuid != image.uuid and os.stat(now.source).st_blocks == 0 and not os.path.exists(image.source)


def test_what_another_run_went_on_with_is_not_recorded(engine: EmbeddedEngine) -> None:
    installing(engine)
    said = refused(call(engine, "recorded", waited=heard(engine, vm_id=99)), WrongState)
    assert said.startswith("install debian: machine 99: it is at its end, and another run has gone on with")
    for told in ([], heard(engine, installed=False), heard(engine, name="other")):
        outcome = well(call(engine, "recorded", waited=told))
        assert not outcome.works[0].changed and outcome.vms == []
    assert engine.images.info("debian").unfinished == installation_marks.INSTALLING


def test_a_host_ends_no_installation_of_another_host(engine: EmbeddedEngine) -> None:
    installing(engine)
    own = engine.vms.pool()[0].host
    outcome = well(call(engine, "recorded", waited=[{"host": "another", "waited": heard(engine)}]))
    assert not outcome.works[0].changed and outcome.vms == []
    assert engine.images.info("debian").unfinished == installation_marks.INSTALLING
    both = [{"host": "another", "waited": heard(engine, how="it lies")}, {"host": own, "waited": heard(engine)}]
    outcome = well(call(engine, "recorded", waited=both))
    assert outcome.works[0].changed and outcome.works[0].how == "its guest"


def test_what_runs_on_with_the_disk_is_not_converted(engine: EmbeddedEngine) -> None:
    image = installing(engine)
    well(call(engine, "recorded", waited=heard(engine)))
    said = refused(call(engine, "converted"), WrongState)
    assert said.startswith(f"install debian: machine {NAME}: it is RUNNING, and still has the disk. Power it off")
    assert engine.images.info("debian").type == image.type


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"iso": {"image": "other.iso"}}, "iso other.iso: the image of that name is installed from debian.iso"),
        ({"firmware": "UEFI"}, "firmware UEFI: it is being installed with firmware BIOS. Set firmware: BIOS, or give"),
        ({"bus": "sata"}, "bus sata: it is being installed with bus virtio"),
        ({"format": "qcow2"}, "format qcow2: it is being installed with format raw"),
    ],
)
def test_what_is_gone_on_with_is_what_was_begun(engine: EmbeddedEngine, keys: dict[str, Any], words: str) -> None:
    installing(engine)
    store_iso(engine, "other.iso", bootable())
    said = refused(call(engine, "begun", keys, observed=seen(engine, "RUNNING")), Conflict)
    assert said.startswith(f"install debian: {words}"), said


def test_a_disk_that_no_machine_has_had_is_of_another_size(engine: EmbeddedEngine) -> None:
    well(call(engine, "prepared"))
    said = refused(call(engine, "begun", {"size": 5}), Conflict)
    assert said.startswith("install debian: size 5: it is being installed with size 4. Set size: 4, or give it up")
    assert well(call(engine, "begun")).works[0].step == next_step.START


@pytest.mark.parametrize("name", [NAME, TRIAL])
def test_a_template_of_somebody_else_stays(engine: EmbeddedEngine, name: str) -> None:
    with engine.session():
        engine.templates.allocate(name, Template.from_mapping({"MEMORY": 64}))
    for state in ("begun", "prepared"):
        said = refused(call(engine, state), Conflict)
        assert said.startswith(f"install debian: template {name}: there is one of that name that has nothing to do")
    well(call(engine, "prepared", {"state": "absent"}))
    assert templates(engine) == [name]


def test_an_image_or_a_machine_of_somebody_else_stays(engine: EmbeddedEngine) -> None:
    store_iso(engine, "install-debian-answers", b"x")
    said = refused(call(engine, "begun"), Conflict)
    assert said.startswith("install debian: image install-debian-answers: there is one of that name (id 1)")
    well(call(engine, "prepared", {"state": "absent"}))
    assert len(engine.images.pool()) == 2
    store_iso(engine, "debian", b"x")
    said = refused(call(engine, "begun"), Conflict)
    assert said.startswith("install debian: image debian: there is one of that name (id 2, CDROM) that this did not")
    with engine.session():
        engine.templates.allocate("web", Template.from_mapping({"MEMORY": 64, "DISK": {"IMAGE": "debian.iso"}}))
    deploy(engine, [{"name": NAME, "template": "web"}])
    said = refused(call(engine, "begun", {"state": "absent"}), Conflict)
    assert said.startswith(f"install debian: machine {NAME}: machine 0 has that name, and has nothing to do with it")


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        ({"iso": {"image": "gone.iso"}}, NotFound, "iso gone.iso: there is no such image. Store it first, or give its"),
        ({"host": "node2"}, NotFound, "host node2: there is no such host. Did you mean 'node1'? See nebula_info"),
        ({"drivers": "virtio"}, NotFound, "drivers virtio: there is no such image. Store it first"),
        ({"size": 1 << 39}, NebulaError, f"size {1 << 39}: in datastore default: "),
        ({"firmware": "UEFI"}, NebulaError, "iso debian.iso: only a BIOS boots it. Set firmware: BIOS"),
        (
            {"boot": "kernel", "marker": True},
            NebulaError,
            "boot kernel: it is not known which kernel of the ISO that is",
        ),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_made(
    engine: EmbeddedEngine, keys: dict[str, Any], kind: type[NebulaError], words: str
) -> None:
    for check_mode in (True, False):
        outcome = call(engine, "begun", keys, check_mode=check_mode)
        assert refused(outcome, kind).startswith(f"install debian: {words}"), outcome.works[0].error
        assert outcome.vms == outcome.isos == [] and not outcome.works[0].changed
    assert [image.name for image in engine.images.pool()] == ["debian.iso"] and templates(engine) == []


def test_an_image_of_windows_says_what_it_is_and_its_machine_has_cores(engine: EmbeddedEngine) -> None:
    installing(engine)
    assert boot_image.GUEST_OS not in engine.images.info("debian").attributes
    deploy(engine, [{"name": NAME, "state": "absent", "hard": True}])
    well(call(engine, "prepared", {"state": "absent"}))
    installing(engine, {"profile": "windows", "firmware": "BIOS"})
    image = engine.images.info("debian")
    assert image.attributes[boot_image.GUEST_OS] == "windows" and boot_image.is_windows(Template(), image)
    (row,) = engine.store.rows("SELECT * FROM vms WHERE state != 6")
    assert vm_of(row).topology == Topology(1, 2, 1)


def test_kernel_and_initrd_come_out_of_the_iso_and_go_with_it(engine: EmbeddedEngine) -> None:
    keys = {"iso": {"image": "kernel.iso"}, "boot": "kernel", "kernel": "VMLINUZ", "initrd": "INITRD", "marker": True}
    with iso9660.build_labelled_iso("KERNEL", {"VMLINUZ": b"kernel" * 500, "INITRD": b"initrd" * 900}) as made:
        content = io.BytesIO()
        made.copy(content)
    store_iso(engine, "kernel.iso", content.getvalue())
    installing(engine, keys)
    for what, content in (("kernel", b"kernel" * 500), ("initrd", b"initrd" * 900)):
        image = engine.images.info(f"install-debian-{what}")
        assert Path(image.source).read_bytes() == content
        assert image.attributes == {installation_marks.MARK: "debian"} and image.origin == f"{what} of install debian"
    text = str(engine.templates.info(NAME).template.to_mapping())
    assert "install-debian-kernel" in text and "install-debian-initrd" in text
    deploy(engine, [{"name": NAME, "state": "absent", "hard": True}])
    well(call(engine, "prepared", {"state": "absent"}))
    assert [image.name for image in engine.images.pool()] == ["debian.iso", "kernel.iso"]
    said = refused(call(engine, "begun", {**keys, "initrd": "INITRD.GZ"}), NebulaError)
    assert "it has no installer's kernel at VMLINUZ and INITRD.GZ. Give kernel and initrd as they are called" in said


@needs_qemu_img
def test_an_iso_of_answers_is_long_enough_for_every_search_by_label(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """busybox's findfs, which installers have, gives up what ends within its reach."""
    # The disk that such an installer wants is a hole.
    monkeypatch.setattr(image_files_stored, "require_capacity", lambda *_arguments: None)
    keys = {"answers": {"kind": "kickstart", "password_hash": "x"}, "boot": "iso", "size": 10240}
    well(call(engine, "prepared", keys, answers={"debian": "text\n"}))
    source = Path(engine.images.info("install-debian-answers").source)
    content = source.read_bytes()
    assert content[32808:32840].rstrip() == b"OEMDRV"
    assert len(content) == struct.unpack_from("<I", content, 32768 + 80)[0] * 2048 >= 128 * 1024
    assert source.stat().st_blocks * 512 < 128 * 1024


def test_answers_that_are_wrong_are_told(engine: EmbeddedEngine) -> None:
    keys = {"answers": {"kind": "kickstart", "password_hash": "x"}, "size": 40000, "boot": "iso"}
    said = refused(call(engine, "begun", keys, answers={"debian": {"error": "line 3 is none"}}), NebulaError)
    assert said == "install debian: answers: line 3 is none. Correct them, or the file that they are"


def test_one_iso_for_two_installations_is_fetched_once(engine: EmbeddedEngine, tmp_path: Path) -> None:
    path = tmp_path / "new.iso"
    path.write_bytes(bootable())
    iso = {"path": str(path), "remote_src": True}
    items = [{**ITEM, "name": name, "iso": iso} for name in ("one", "two")]
    settings = Settings(root=engine.store.root)
    outcome = run(engine, "begun", items, settings)
    assert [work.error for work in outcome.works] == [None, None]
    assert [(each["install"], each["name"]) for each in outcome.isos] == [("one", "new.iso")]
    items[1] = {**items[1], "iso": {**iso, "path": str(path) + ".other", "image": "new.iso"}}
    outcome = run(engine, "begun", items, settings)
    assert outcome.works[0].error is None
    assert str(outcome.works[1].error).startswith(
        f"install two: iso new.iso: install one has one of that name with path {path}, and this has {path}.other. Give"
    )


def test_an_iso_that_changed_between_two_calls_is_not_used(engine: EmbeddedEngine) -> None:
    well(call(engine, "begun"))
    with engine.session():
        engine.images.update("debian.iso", state=ImageState.ERROR, error="cut")
    said = refused(call(engine, "prepared"), WrongState)
    assert said == (
        "install debian: iso debian.iso: it is in state ERROR (cut). Store it again: nebula_image with its path"
    )
    assert [image.name for image in engine.images.pool()] == ["debian.iso"]
    with engine.session():
        engine.images.update("debian.iso", state=ImageState.READY)
        engine.images.update("debian.iso", state=ImageState.DISABLED)
    said = refused(call(engine, "prepared"), WrongState)
    assert said == "install debian: iso debian.iso: it is DISABLED. Enable it: nebula_image with state: enabled"


@pytest.mark.parametrize(
    ("iso", "remedy"),
    [
        ({"image": "gone.iso"}, "Store it first, or give its path"),
        ({"path": "/srv/gone.iso", "remote_src": True}, "Run again: it is stored first"),
    ],
)
def test_an_iso_that_is_gone_by_the_next_call_is_told(engine: EmbeddedEngine, iso: dict[str, Any], remedy: str) -> None:
    said = refused(call(engine, "prepared", {"iso": iso}), NotFound)
    assert said == f"install debian: iso gone.iso: there is no such image. {remedy}"


def test_what_is_no_cd_by_the_next_call_is_not_installed_from(engine: EmbeddedEngine) -> None:
    with engine.session():
        image = engine.images.allocate(Image(None, "disk", type=ImageType.DATABLOCK))
        engine.images.update(image.id, state=ImageState.READY)
    said = refused(call(engine, "prepared", {"iso": {"image": "disk"}}), ImageRefused)
    assert said == "install debian: iso disk: that image is of type DATABLOCK. Name one of type CDROM"
