# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What installations are refused for before anything is made, and what they go on with."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.action import nebula_install
from ansible_collections.nebula.provision.plugins.lookup import install_answers
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.install import next_step
from ansible_collections.nebula.provision.plugins.module_utils.install.installation import Settings, goes_on, row
from ansible_collections.nebula.provision.plugins.module_utils.install.steps import run
from ansible_collections.nebula.provision.plugins.module_utils.model import installation_marks
from ansible_collections.nebula.provision.plugins.module_utils.model.image import NOT_FINISHED, Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout

ITEM = {"name": "debian", "iso": {"path": "/srv/debian.iso", "remote_src": True}, "size": 4}
WRITTEN = {
    "type": ImageType.DATABLOCK, "persistent": True, "state": ImageState.ERROR,
    "unfinished": installation_marks.INSTALLING, "error": NOT_FINISHED, "generation": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Files get their modes, and stay whose they are: only root can give them away."""
    monkeypatch.setattr(datastore_layout, "adopt", lambda path, mode, *_owner: files.adopt(path, mode))


@pytest.fixture
def engine(bare):
    with bare.session():
        ranges = (AddressRange(0, "IP4", 5, ip="10.66.0.10"),)
        # Nothing is written here: the room of this machine is no matter.
        bare.datastores.update(1, capacity_check=False)
        bare.networks.allocate(Network(None, "Public", bridge="nbr0", address_ranges=ranges))
    return bare


def begun(engine, *items, **settings):
    return told(engine, "begun", *items, **settings)


def told(engine, state, *items, **settings):
    root = str(Path(engine.store.root))
    return run(engine, state, [{**ITEM, **item} for item in items], Settings(root=root, **settings))


def errors(outcome):
    return [str(work.error) for work in outcome.works if work.error is not None]


def stored(engine, content=b"", **fields):
    """The image that is installed, as a run has left it."""
    attributes = {
        installation_marks.FROM: "debian.iso",
        installation_marks.VERIFIED: "NO",
        **fields.pop("attributes", {}),
    }
    with engine.session():
        image = engine.images.allocate(Image(None, "debian", attributes=attributes, size=4, format="raw", **fields))
    place = Path(image.source)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        file.write(content)
        file.truncate(4 << 20)
    return image


def due(outcome):
    return [work.step for work in outcome.works]


# -- what can't be ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"template": {"MEMORY": 0}}, "install debian: template: MEMORY = '0'"),
        ({"machine": "pcx"}, "install debian: template: OS: MACHINE = 'pcx'"),
        ({"template": {"OS": {"MACHINE": "pc"}}, "firmware": "UEFI_SECURE"}, "install debian: template: OS"),
        ({"template": {"GRAPHICS": {"PORT": "abc"}}}, "install debian: template: GRAPHICS/PORT = 'abc'"),
        ({"template": {"NIC": {"NETWORK": "Publik"}}}, "template: NIC 0: network 'Publik': the catalog has none"),
        ({"template": {"NIC": [{"NETWORK": "Public"}, {"NETWORK_ID": "7"}]}}, "template: NIC 1: network 7"),
        ({"template": {"NIC": {"IP": "10.66.0.10"}}}, "template: NIC 0: it names no NETWORK"),
    ],
)
def test_a_template_that_can_not_be_is_refused_at_once(engine, keys, words):
    for check_mode in (False, True):
        if check_mode and "network" in words:
            continue
        outcome = begun(engine, keys, check_mode=check_mode)
        assert len(errors(outcome)) == 1 and words in errors(outcome)[0], errors(outcome)
        assert not outcome.isos and not goes_on(outcome.works[0], Settings())


@pytest.mark.parametrize(
    "keys",
    [
        {"template": {"NIC": {"NETWORK": "Public"}}},
        {"boot": "kernel", "kernel": "a", "initrd": "b", "marker": True},
        {"answers": {"kind": "kickstart", "password_hash": "x"}, "size": 40000},
        {"answers": {"kind": "autounattend", "password": "x", "way": "floppy"}, "size": 70000},
    ],
)
def test_a_template_that_can_be_is_not(engine, keys):
    outcome = begun(engine, keys)
    assert not errors(outcome) and [iso["name"] for iso in outcome.isos] == ["debian.iso"]


@pytest.mark.parametrize(("way", "answers", "floppy"), [("iso", True, False), ("floppy", False, True)])
def test_a_template_is_checked_with_the_media_that_it_will_have(engine, monkeypatch, way, answers, floppy):
    seen, made = [], next_step.template
    monkeypatch.setattr(next_step, "template", lambda shape, media, own: seen.append(media) or made(shape, media, own))
    begun(engine, {"answers": {"kind": "autounattend", "password": "x", "way": way}, "size": 70000})
    assert [(bool(media.answers), bool(media.floppy)) for media in seen] == [(answers, floppy)]


def test_a_network_may_be_about_to_be_made(engine):
    outcome = begun(engine, {"template": {"NIC": {"NETWORK": "Later"}, "MEMROY": 5}}, check_mode=True)
    assert not errors(outcome) and goes_on(outcome.works[0], Settings())
    said = outcome.works[0].warnings
    assert len(said) == 2 and "MEMROY" in said[0] and "NIC 0: there is no network 'Later' yet" in said[1], said


def test_a_name_that_no_real_opennebula_takes_is_told(engine):
    outcome = begun(engine, {"name": "debian:12"}, {"name": "debian"})
    assert [[text.partition(" could")[0] for text in work.warnings] for work in outcome.works] == [
        ["image 'debian:12'"],
        [],
    ]


PRESEED = {"kind": "preseed", "password_hash": "x"}
WINDOWS = {"kind": "autounattend", "password": "x"}
LATE = [
    ({**WINDOWS, "user": "NONE"}, "answers: user 'NONE': Windows' setup keeps NONE for itself"),
    ({**WINDOWS, "user": "debian"}, "answers: user 'debian': it is the computer's name"),
    ({**WINDOWS, "hostname": "2022"}, "answers: hostname '2022': it consists of digits only"),
    ({**PRESEED, "address": "2001:db8::10", "gateway": "10.66.0.1"}, "answers: gateway 10.66.0.1: it is of IPv4"),
    ({**PRESEED, "address": "2001:db8::10", "netmask": "255.0.0.0"}, "netmask: 255.0.0.0: it is a mask of IPv4"),
    ({**PRESEED, "user_fullname": "Ops: all"}, "answers: user_fullname: it has a colon"),
    ({**PRESEED, "hostname": "h" * 63, "domain": ".".join(["d" * 63] * 3)}, "together they have 255 characters"),
    ({**PRESEED, "kind": "kickstart", "hostname": "h" * 40, "domain": "d" * 24}, "they have 65 characters"),
]


@pytest.mark.parametrize(("answers", "words"), LATE)
def test_what_an_installer_refuses_late_is_refused_at_once(engine, answers, words):
    for check_mode in (False, True):
        outcome = begun(engine, {"answers": answers, "size": 70000}, check_mode=check_mode)
        assert len(errors(outcome)) == 1 and words in errors(outcome)[0], errors(outcome)
        assert not outcome.isos and not outcome.vms and not goes_on(outcome.works[0], Settings())


@pytest.mark.parametrize(("answers", "_words"), LATE)
def test_what_is_installed_is_not_held_to_its_answers(engine, answers, _words):
    """They say nothing any more: the list with which it was installed goes on."""
    stored(engine, type=ImageType.OS, state=ImageState.READY, attributes={installation_marks.VERIFIED: "YES"})
    outcome = begun(engine, {"answers": answers, "size": 70000})
    assert not errors(outcome) and due(outcome) == [next_step.DONE] and not outcome.works[0].warnings


def test_what_is_being_installed_goes_on_and_is_warned_of(engine):
    answers, words = LATE[0]
    stored(engine, b"x", type=ImageType.DATABLOCK, unfinished=installation_marks.INSTALLED, state=ImageState.READY)
    outcome = begun(engine, {"answers": answers, "size": 70000})
    assert not errors(outcome) and due(outcome) == [next_step.CONVERT]
    assert len(outcome.works[0].warnings) == 1 and words in outcome.works[0].warnings[0]


# -- two of one name --------------------------------------------------------------------------------------------------
def test_of_two_of_one_name_neither_goes_on(engine):
    other = {"iso": {"path": "/srv/other.iso", "remote_src": True}}
    for items in (({}, other), ({"iso": "nowhere"}, other), ({}, {"state": "absent"})):
        outcome = begun(engine, *items, {"name": "another"})
        assert errors(outcome) == ["install debian: the list has it twice. Keep one of the two"] * 2
        assert [row(work)["step"] for work in outcome.works] == ["refused", "refused", "to be installed"]
        assert [iso["install"] for iso in outcome.isos] == ["another"]
    # One of them is no installation at all, so that only the other is here.
    assert "the list has it twice" in errors(begun(engine, {}, local={"debian": {"twice": True}}))[0]


def test_an_iso_on_the_control_node_is_that_of_the_only_one(monkeypatch, tmp_path):
    action = nebula_install.ActionModule.__new__(nebula_install.ActionModule)
    monkeypatch.setattr(action, "_connection", SimpleNamespace(transport="local"), raising=False)
    for name in "abce":
        (tmp_path / f"{name}.iso").touch()
    names = [("one", "a.iso"), ("two", "b.iso"), ("one", "c.iso"), ("three", "http://x/d.iso"), ("three", "e.iso")]
    given = [{"name": name, "iso": iso} for name, iso in names]
    monkeypatch.setattr(action, "_task", SimpleNamespace(args={"installs": [*given, "no dict", {}, {}]}), raising=False)
    arguments = action.with_files(action.packed_arguments(), {"inventory_dir": str(tmp_path)})
    assert json.loads(arguments["_local"]) == {
        "one": {"twice": True},
        "two": {"path": f"{tmp_path}/b.iso", "remote": True},
        "three": {"twice": True},
    }


def test_answers_are_those_of_the_first(monkeypatch):
    lookup = install_answers.LookupModule()
    monkeypatch.setattr(lookup, "set_options", lambda **_options: None)
    monkeypatch.setattr(lookup, "get_option", lambda _name: None)
    monkeypatch.setattr(lookup, "_answers", lambda install, _variables: install["answers"])
    found = lookup.run([[{"name": "one", "answers": "first"}, {"name": "one", "answers": "second"}]])
    assert json.loads(found[0]) == {"one": "first"}


# -- what a human has written -----------------------------------------------------------------------------------------
def test_a_disk_that_was_written_by_hand_is_asked_for(engine):
    image = stored(engine, b"by hand", **WRITTEN)
    for state in ("begun", "prepared"):
        outcome = told(engine, state, {"end": "manual"})
        assert due(outcome) == [next_step.UNSURE] and not goes_on(outcome.works[0], Settings())
        (said,) = errors(outcome)
        assert said.startswith("install debian: image debian: something is on its disk, and its machine is gone")
        assert "Set state: installed if it is finished, or state: absent" in said
        assert row(outcome.works[0])["step"].startswith("left without its machine")
    outcome = begun(engine, {"state": "installed"})
    assert not errors(outcome) and due(outcome) == [next_step.FINISH] and goes_on(outcome.works[0], Settings())
    assert engine.images.info("debian").unfinished == installation_marks.INSTALLED and outcome.vms == []
    outcome = told(engine, "prepared", {"state": "installed"})
    assert not errors(outcome) and due(outcome) == [next_step.CONVERT] and not outcome.waits
    outcome = told(engine, "converted", {"state": "installed", "verify": False})
    assert not errors(outcome) and due(outcome) == [next_step.DONE]
    found = engine.images.info("debian")
    assert (found.id, found.type, found.state, found.error) == (image.id, ImageType.OS, ImageState.READY, "")
    assert Path(found.source).read_bytes().startswith(b"by hand")


def test_what_an_installer_wrote_by_itself_is_begun_anew(engine):
    stored(engine, b"half", **WRITTEN)
    outcome = begun(engine, {})
    assert not errors(outcome) and due(outcome) == [next_step.MAKE] and len(outcome.isos) == 1
    # A human's word is above that.
    assert due(begun(engine, {"state": "installed"})) == [next_step.FINISH]


@pytest.mark.parametrize("state", ["begun", "prepared"])
def test_nothing_is_made_for_what_is_said_to_be_installed(engine, state):
    for there in (False, True):
        if there:
            stored(engine, **WRITTEN)
        outcome = told(engine, state, {"state": "installed"})
        assert errors(outcome) == [
            "install debian: state installed: nothing was installed yet. Set state: present to begin with it"
        ]
        assert not outcome.waits and not outcome.vms
        assert len(engine.images.pool()) == int(there)


# -- what is finished -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "inputs",
    [
        {"iso": "debian.iso"},
        {"template": "gone"},
        {"template_file": "/nowhere/gone.template"},
        {"iso": "debian.iso", "template": "gone", "cdrom": "ide"},
    ],
)
def test_what_is_finished_needs_nothing_any_more(engine, inputs):
    stored(engine, state=ImageState.READY, type=ImageType.OS, attributes={installation_marks.VERIFIED: "YES"})
    outcome = begun(engine, inputs)
    assert not errors(outcome) and due(outcome) == [next_step.DONE]
    assert not outcome.works[0].changed and not goes_on(outcome.works[0], Settings())
    assert row(outcome.works[0])["step"] == "ready, verified"


@pytest.mark.parametrize("inputs", [{"template": "gone"}, {"template_file": "/nowhere/gone.template"}])
@pytest.mark.parametrize("there", [False, True])
def test_what_is_not_finished_wants_its_template(engine, inputs, there):
    if there:
        stored(engine, state=ImageState.READY, type=ImageType.OS)
    (said,) = errors(begun(engine, inputs))
    assert "install debian: template" in said and "gone" in said
