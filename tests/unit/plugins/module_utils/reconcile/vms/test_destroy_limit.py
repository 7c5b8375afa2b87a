# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of how many machines one list may destroy the disks: which lists do so, which machines count, and what stays as it is
where a list goes too far."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, TooManyDestroyed
from ansible_collections.nebula.provision.plugins.module_utils.model import defaults
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.destroy_limit import (
    DestroyLimit,
    limit_of,
    names_of_destroyed,
    names_text,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile

WEB = {"name": "web-%i", "count": 3, "template": "web"}
MORE = {"disks": [{"IMAGE": "demo"}, {"TYPE": "FS", "SIZE": 10, "FORMAT": "raw"}]}
ALL = limit_of("100%")


def run(engine, *items, limit=ALL, state="", foreseen=False):
    """What a list comes to, carried out by an obedient node; state: another outcome for all."""
    with engine.session():
        outcomes, _warnings = reconcile(engine, items, limit=limit, foreseen=foreseen)
        for host, plan in engine.vms.plans().items():
            done = [VmOutcome(p.vm.vm_id, p.generation, state or p.wanted, True, None) for p in plan.vms]
            engine.vms.record(host, done)
    return outcomes


def machines(engine):
    return sorted((each.name, each.state) for each in engine.vms.pool())


def refused(engine, *items, limit="1"):
    before = machines(engine)
    with pytest.raises(TooManyDestroyed) as caught:
        run(engine, *items, limit=limit_of(limit))
    assert machines(engine) == before, "something of it was done"
    return str(caught.value)


@pytest.mark.parametrize(
    "item",
    [
        dict(WEB, count=1),
        dict(WEB, count=0),
        {"name": "web-%i", "state": "absent"},
        dict(WEB, memory=64, recreate=True),
        dict(WEB, state="poweroff", disks=[{"IMAGE": "demo"}], detach=True),
    ],
    ids=["lower count", "no count", "absent", "recreate", "detach"],
)
def test_a_list_that_destroys_the_disks_of_several_machines_needs_a_word(engine, item):
    run(engine, dict(WEB, **MORE))
    says = refused(engine, item)
    for part in ("web-1", "web-2", "may do that to 1 machine,", "nothing was done", "run again with -e nebula_destroy"):
        assert part in says
    named = [name for name in ("web-0", "web-1", "web-2") if name in says]
    assert f"of {len(named)} machines" in says and f"nebula_destroy_limit={len(named)} " in says
    outcomes = run(engine, item, limit=DestroyLimit(len(named)))
    assert sorted(names_of_destroyed(outcomes)) == named


def test_the_word_for_one_less_is_not_enough(engine):
    run(engine, WEB)
    assert "may do that to 2 machines," in refused(engine, dict(WEB, count=0), limit="2")
    run(engine, dict(WEB, count=0), limit=limit_of("3"))
    assert machines(engine) == []


def test_several_items_count_together_and_nothing_else_of_the_list_is_done(engine):
    run(engine, WEB, {"name": "db", "template": "web"})
    says = refused(engine, dict(WEB, count=2), {"name": "db", "state": "absent"}, {"name": "new", "template": "web"})
    assert "2 machines (web-2, db)" in says or "2 machines (db, web-2)" in says


def test_a_few_machines_that_end_on_purpose_need_no_word(engine):
    run(engine, WEB, {"name": "db", "template": "web"})
    run(engine, WEB, {"name": "db", "state": "absent"}, limit=limit_of(defaults.DESTROY_LIMIT))
    assert "db" not in dict(machines(engine))
    run(engine, dict(WEB, count=2), limit=limit_of(defaults.DESTROY_LIMIT))
    assert len(machines(engine)) == 2


def test_what_changes_without_loss_needs_no_word(engine):
    run(engine, WEB)
    for item in (dict(WEB, state="poweroff"), dict(WEB, memory=64), dict(WEB, count=4)):
        run(engine, item, limit=limit_of("0"))
    assert len(machines(engine)) == 4


def test_a_machine_whose_disks_are_persistent_images_loses_nothing(engine):
    with engine.session():
        for number in range(3):
            made = engine.images.allocate(Image(None, f"own-{number}", type=ImageType.OS, persistent=True))
            engine.images.update(made.id, state=ImageState.READY, size=16, format="qcow2", sha256="0" * 64)
    own = [{"name": f"own-{n}", "template": "web", "disks": [{"IMAGE": f"own-{n}"}]} for n in range(3)]
    run(engine, *own)
    run(engine, *[{"name": each["name"], "state": "absent"} for each in own], limit=limit_of("0"))
    assert machines(engine) == []


def test_machines_that_never_ran_lose_nothing(engine):
    run(engine, WEB, state="BOOT_FAILURE")
    run(engine, dict(WEB, count=0), limit=limit_of("0"))
    assert machines(engine) == []


def test_what_an_earlier_list_ends_is_not_counted_again(engine):
    run(engine, WEB)
    with engine.session():
        reconcile(engine, [dict(WEB, count=0)], limit=ALL)
    # Its node was not there, so that they are being ended yet.
    run(engine, dict(WEB, count=0), limit=limit_of("0"))
    assert machines(engine) == []


def test_machines_of_an_item_that_can_not_be_are_kept_and_do_not_count(engine):
    run(engine, WEB)
    bad = dict(WEB, count=0, template="no-such")
    outcomes = run(engine, bad, limit=limit_of("0"))
    assert [str(each.error) for each in outcomes if each.error] and len(machines(engine)) == 3


def test_before_the_rest_of_a_run_they_count_though_what_they_need_is_not_there_yet(engine):
    run(engine, WEB)
    anew = dict(WEB, recreate=True, disks=[{"IMAGE": "comes-later"}])
    assert [each.error for each in run(engine, anew, limit=limit_of("0")) if each.error]
    with pytest.raises(TooManyDestroyed, match=r"3 machines \(web-0, web-1, web-2\)"):
        run(engine, anew, limit=limit_of("0"), foreseen=True)


@pytest.mark.parametrize(
    ("text", "there", "may"),
    [
        ("0", 300, 0),
        ("5", 3, 5),
        ("10%", 300, 30),
        ("10%", 3, 1),
        ("99%", 3, 2),
        ("100%", 3, 3),
        ("0%", 300, 0),
        (" 7 ", 300, 7),
        (defaults.DESTROY_LIMIT, 3, 3),
        (defaults.DESTROY_LIMIT, 300, 3),
    ],
)
def test_a_limit_is_a_number_or_a_percentage(text, there, may):
    assert limit_of(text).of(there) == may


def test_a_percentage_is_of_the_machines_that_were_there_before(engine):
    run(engine, dict(WEB, count=20))
    assert "3 machines (web-19, web-18, web-17): one run may do that to 2 machines (10% of 20)" in refused(
        engine, dict(WEB, count=17), limit="10%"
    )
    run(engine, dict(WEB, count=18), limit=limit_of("10%"))


@pytest.mark.parametrize("text", ["", "-1", "some", "101%", "1.5", "5 %", "٣", "1" * 10, "None"])
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(InvalidValue, match="neither a number of machines nor a percentage"):
        limit_of(text)


def test_a_message_names_so_many_machines_as_can_be_read():
    assert names_text([f"web-{n}" for n in range(60)]).endswith("web-49 and 10 more")
