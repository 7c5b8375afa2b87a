# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FILES of machines: what a catalog decides, remembers and plans of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from web_server import serve

from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.conftest import OPTIONS, furnish


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def engine(place):
    opened = open_engine(OPTIONS["embedded"](place), check_mode=False, create=True)
    yield furnish(opened)
    opened.close()


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "init.sh"
    path.write_text("#!/bin/sh\n")
    return path


@pytest.fixture
def again(place):
    """The same catalog as the next module run sees it."""
    opened = []

    def reopen(check_mode=False):
        opened.append(open_engine(OPTIONS["embedded"](place), check_mode))
        return opened[-1]

    yield reopen
    for engine in opened:
        engine.close()


def want(engine, *items, observed=()):
    def work():
        engine.vms.observe(observed)
        outcomes, _warnings = reconcile(engine, items)
        return outcomes, engine.vms.plans()

    return engine.decide(work, download_context_file)


def carry_out(engine, plans):
    with engine.session():
        for host, plan in plans.items():
            done = [VmOutcome(each.vm.vm_id, each.generation, each.wanted, True) for each in plan.vms]
            engine.vms.record(host, done)


def web(**context):
    return {"name": "web", "template": "web", "context": context}


def files_of(plan, index=0):
    return plan.vms[index].vm.context.files


def test_one_content_for_all_machines_of_a_node(engine, script):
    _, plans = want(engine, {"name": "web-%i", "count": 3, "template": "web", "context": {"FILES": str(script)}})
    (plan,) = plans.values()
    assert len(plan.vms) == 3 and len(plan.contents) == 1 and set(plan.sources) == {str(script)}
    seen = Observed("node1", contents=tuple(plan.contents))
    _, plans = want(engine, observed=[seen])
    assert plans["node1"].contents == {} and plans["node1"].sources == plan.sources


def test_a_machine_that_can_not_be_made_has_nothing(engine, script, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    outcomes, plans = want(engine, web(FILES=str(tmp_path / "pipe")), dict(web(FILES=str(script)), name="good"))
    assert "VM web: FILES" in str(outcomes[0].error) and "a named pipe" in str(outcomes[0].error)
    assert [(vm.vm.vm_id, vm.vm.name) for vm in plans["node1"].vms] == [(0, "good")]
    assert engine.vms.pool(names=["good"])[0].nics[0]["ip"] == "10.66.0.10"


def test_a_file_that_went_is_the_error_of_a_machine_that_exists(engine, again, script):
    _, plans = want(engine, web(FILES=str(script)))
    carry_out(engine, plans)
    script.unlink()
    later = again()
    (outcome,), plans = want(later, web(FILES=str(script)))
    assert outcome.error is None and plans == {}
    (outcome, _as_it_is), plans = want(later, web(FILES=str(script), OTHER="x"))
    assert "VM web" in str(outcome.error) and plans == {}
    assert engine.vms.pool(names=["web"])[0].state == "RUNNING"


def test_a_node_is_told_of_a_file_that_went_meanwhile(engine, again, script):
    want(engine, web(FILES=str(script)))
    script.unlink()
    _, plans = want(again())
    source = plans["node1"].sources[str(script)]
    assert source.entries == () and "is not there" in source.error["found"]


def test_what_is_to_end_needs_no_files(engine, again, script):
    want(engine, web(FILES=str(script)))
    _, plans = want(again(), {"name": "web", "state": "absent"})
    assert plans["node1"].vms[0].wanted == "DONE" and plans["node1"].sources == {}


def test_fetched_when_made_and_when_the_context_changes(engine, again, place):
    with serve() as site:
        site.files["/x/init.sh"] = b"one"
        context = {"FILES": f"{site.url}/x/init.sh:start.sh"}
        _, plans = want(engine, {"name": "web-%i", "count": 3, "template": "web", "context": context})
        carry_out(engine, plans)
        first = files_of(plans["node1"])[0]
        assert len(site.requests) == 1 and (first.target, len(first.sha256)) == ("start.sh", 64)
        assert os.listdir(place / "files") == [first.sha256]
        site.files["/x/init.sh"] = b"two"
        machine = {"name": "web-%i", "count": 3, "template": "web", "context": context}
        later = again()
        assert want(later, machine)[1] == {}
        _, plans = want(later, dict(machine, cpu=0.25))
        assert files_of(plans["node1"])[0] == first and plans["node1"].contents
        carry_out(later, plans)
        assert len(site.requests) == 1
        _, plans = want(later, dict(machine, context=dict(context, OTHER="x"), cpu=0.25))
        assert {file.sha256 for vm in plans["node1"].vms for file in vm.vm.context.files} != {first.sha256}
        assert len(site.requests) == 2
        carry_out(later, plans)
    assert os.listdir(place / "files") == [files_of(plans["node1"])[0].sha256]
    end = {"name": "web-%i", "state": "absent"}
    later = again()
    carry_out(later, want(later, end)[1])
    want(later)
    assert os.listdir(place / "files") == []


def test_what_can_not_be_fetched_is_the_error_of_its_machine(engine, place):
    with serve() as site:
        site.files["/good"] = b"good"
        good = dict(web(FILES=f"{site.url}/good"), name="good")
        outcomes, plans = want(engine, web(FILES=f"{site.url}/bad?signature"), good)
    assert "VM web" in str(outcomes[0].error) and "404" in str(outcomes[0].error)
    assert "signature" not in str(outcomes[0].error)
    assert [vm.vm.name for vm in plans["node1"].vms] == ["good"]


def test_check_mode_reads_no_net_and_keeps_nothing(engine, again, place):
    with serve() as site:
        site.files["/x"] = b"x"
        (outcome,), plans = want(again(check_mode=True), web(FILES=f"{site.url}/x"))
        assert outcome.error is None and plans["node1"].sources == {} and site.requests == []
    assert not (place / "files").exists()


def put_image(engine, place, name="init", type=ImageType.CONTEXT, state=ImageState.READY):
    with engine.session():
        image = engine.images.allocate(Image(None, name, type=type))
        engine.images.update(image.id, state=ImageState.READY)
        engine.images.update(image.id, state=state)
    Path(image.source).parent.mkdir(parents=True, exist_ok=True)
    Path(image.source).write_text("#!/bin/sh\n", encoding="ascii")
    return image


def test_images_of_type_context(engine, place):
    image = put_image(engine, place, "init.sh")
    _, plans = want(engine, web(FILES_DS='$FILE[IMAGE="init.sh"]'))
    (file,) = files_of(plans["node1"])
    assert (file.source, file.target, file.image) == (image.source, "init.sh", "init.sh")
    assert len(plans["node1"].contents) == 1


def test_no_other_image_by_its_source(engine, place):
    put_image(engine, place, "disk", type=ImageType.OS)
    (outcome,), plans = want(engine, web(FILES='$IMAGE[SOURCE, IMAGE="disk"]'))
    assert "below nebula_root" in str(outcome.error) and plans == {}


def test_a_machine_of_an_older_version_has_its_images(engine, place):
    put_image(engine, place, "init.sh")
    want(engine, web(FILES_DS='$FILE[IMAGE="init.sh"]'))
    with engine.session():
        (body,) = (row["body"] for row in engine.store.rows("SELECT body FROM vms"))
        assert body.count('"image":"init.sh"') == 1
        engine.store.db.execute("UPDATE vms SET body = ?", (body.replace('"image":"init.sh"', '"image":""'),))
    _, plans = want(engine)
    (source,) = plans["node1"].sources.values()
    assert source.error is None


def test_a_path_that_is_not_here_yet_is_a_warning_in_check_mode(again, engine, tmp_path):
    later = again(check_mode=True)
    (outcome,), warnings = later.decide(
        lambda: reconcile(later, [web(FILES=str(tmp_path / "later"))]), download_context_file
    )
    assert outcome.error is None
    assert "not here yet" in str(warnings)


def test_a_path_that_no_earlier_task_brings_is_refused_in_check_mode_as_in_the_run(again, engine, tmp_path):
    wanted = [web(FILES=str(tmp_path / "later"))]
    (done,), _ = engine.decide(lambda: reconcile(engine, wanted), download_context_file)
    for paths in ([], [str(tmp_path / "other")]):
        checked = again(check_mode=True)
        checked.declare({"paths": paths})
        (foreseen,), warnings = checked.decide(lambda used=checked: reconcile(used, wanted), download_context_file)
        assert str(foreseen.error) == str(done.error) and "later is not there" in str(done.error)
        assert warnings == []
    checked = again(check_mode=True)
    checked.declare({"paths": [str(tmp_path / "later")]})
    (foreseen,), warnings = checked.decide(lambda: reconcile(checked, wanted), download_context_file)
    assert foreseen.error is None and "not here yet" in str(warnings)


def test_the_owner_is_oneadmin(engine):
    _, plans = want(engine, web(OWNER="$USER[NAME]:$UNAME:$GNAME", ID="$USER[ID]:$UID:$GID"))
    variables = plans["node1"].vms[0].vm.context.variables
    assert (variables["OWNER"], variables["ID"]) == ("oneadmin:oneadmin:oneadmin", "0:0:0")


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ({"name": "inti"}, "Did you mean 'inti'|image init"),
        ({"name": "init", "state": ImageState.DISABLED}, "state DISABLED"),
        ({"name": "init", "type": ImageType.KERNEL}, "type KERNEL"),
    ],
)
def test_images_that_are_none(engine, place, image, told):
    put_image(engine, place, **image)
    (outcome,), plans = want(engine, web(FILES_DS='$FILE[IMAGE="init"]'))
    assert "VM web" in str(outcome.error) and plans == {}
    assert re.search(told, str(outcome.error)), outcome.error


def test_two_of_one_name(engine, place, script):
    put_image(engine, place, "init.sh")
    (outcome,), _ = want(engine, web(FILES=str(script), FILES_DS='$FILE[IMAGE="init.sh"]'))
    assert "image 'init.sh'" in str(outcome.error) and str(script) in str(outcome.error)


def test_contents_for_each_node(engine, script):
    with engine.session():
        engine.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    items = [dict(web(FILES=str(script)), name=host, host=host) for host in ("node1", "node2")]
    _, plans = want(engine, *items)
    assert plans["node1"].contents == plans["node2"].contents != {}
    _, plans = want(engine, observed=[Observed("node2", contents=tuple(plans["node1"].contents))])
    assert plans["node1"].contents and not plans["node2"].contents


def test_the_format_and_the_device_of_an_item(engine):
    item = dict(web(), context_format="NoCloud", context_device="disk")
    _, plans = want(engine, item)
    context = plans["node1"].vms[0].vm.context
    assert (context.format, context.device, context.bus) == ("nocloud", "disk", "scsi")
    carry_out(engine, plans)
    (outcome,), _ = want(engine, web())
    assert {each["part"]: (each["found"], each["wanted"]) for each in outcome.after.waits} == {
        "CONTEXT_DEVICE": ("disk", "cdrom"),
        "CONTEXT_FORMAT": ("nocloud", "opennebula"),
    }


@pytest.mark.parametrize(("key", "value", "known"), [
    ("context_format", "cloud", "opennebula, configdrive, nocloud"), ("context_device", "usb", "cdrom, disk")
])  # fmt: skip
def test_a_wrong_format_or_device(engine, key, value, known):
    (outcome,), plans = want(engine, dict(web(), **{key: value}))
    assert f"VM web: {key.upper()} = {value}" in str(outcome.error) and known in str(outcome.error)
    assert plans == {}


def test_what_a_format_can_not_say_is_found_before_the_machine_is_made(engine):
    (outcome,), plans = want(engine, dict(web(ETH0_METHOD="often"), context_format="nocloud"))
    assert "VM web" in str(outcome.error) and "ETH0_METHOD" in str(outcome.error) and plans == {}
