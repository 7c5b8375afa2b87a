# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded engine joins its parts: how it is opened by a module's options, whom it obeys, and what it undoes."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import files_on_frontend
from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import CATALOG, ENDED
from ansible_collections.nebula.provision.plugins.module_utils.engines.hypervisors_of_hosts import hypervisors_of
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    ForeignObject,
    InUse,
    InvalidValue,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm

# The options of the module that decides about machines, beside the place.
OPTIONS = {
    "safe_dirs": ["/srv"],
    "restricted_dirs": ["/etc", "/root"],
    "validate_certs": False,
    "timeout": 7,
    "min_speed": 3,
}


def opened(root, check_mode=False, create=True, **options):
    return contextlib.closing(EmbeddedEngine.from_params({"root": str(root), **options}, check_mode, create))


# -- opening -----------------------------------------------------------------------------------------------------------


def test_it_deploys_nothing_and_stores_no_files():
    assert EmbeddedEngine.capabilities == {"plans", "stores_images"}


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, files_on_frontend.USUAL),
        ({"restricted_dirs": None}, files_on_frontend.USUAL),
        (OPTIONS, files_on_frontend.Limits(("/srv",), ("/etc", "/root"), False, 7.0, 3072.0)),
        ({**OPTIONS, "restricted_dirs": [], "safe_dirs": []}, files_on_frontend.Limits((), (), False, 7.0, 3072.0)),
    ],
)
def test_the_limits_of_files_are_the_modules_options(tmp_path, options, limits):
    with opened(tmp_path, check_mode=True, create=False, **options) as engine:
        assert engine.sources._limits == limits


def test_a_catalog_is_begun_ended_and_forgotten(tmp_path):
    params = {"root": str(tmp_path)}
    assert (EmbeddedEngine.begun(params), EmbeddedEngine.is_left(params)) == (False, False)
    with opened(tmp_path) as engine:
        assert (EmbeddedEngine.begun(params), EmbeddedEngine.is_left(params)) == (True, False)
        engine.end(lambda: None)
        assert (EmbeddedEngine.begun(params), EmbeddedEngine.is_left(params)) == (False, True)
    EmbeddedEngine.forget(params)
    assert not EmbeddedEngine.is_left(params)
    assert not any(name.startswith(CATALOG) for name in os.listdir(tmp_path))
    # Nothing is left to forget.
    EmbeddedEngine.forget(params)


def test_what_a_killed_run_left_of_an_ended_catalog_goes_as_the_next_one_is_begun(tmp_path):
    (tmp_path / ENDED).write_bytes(b"old")
    with opened(tmp_path) as engine:
        assert len(engine.catalog()) == 36
    assert not EmbeddedEngine.is_left({"root": str(tmp_path)})


# -- what stays --------------------------------------------------------------------------------------------------------


def test_of_attempts_one_after_another_only_the_failed_one_is_undone(inside):
    def make(name, fails=False):
        with inside.attempt():
            inside.images.allocate(Image(None, name))
            if fails:
                raise InvalidValue("image", "it is not wanted")

    make("a")
    with pytest.raises(InvalidValue):
        make("b", fails=True)
    make("c")
    assert [image.name for image in inside.images.pool()] == ["demo", "a", "c"]
    # The id of what was undone was never anybody's.
    assert [image.id for image in inside.images.pool()] == [0, 1, 2]


def test_what_is_decided_is_kept_and_what_raises_is_not(tmp_path):
    with opened(tmp_path) as engine:
        assert engine.decide(lambda: engine.images.allocate(Image(None, "a")).name, download_context_file) == "a"

        def work():
            engine.images.allocate(Image(None, "b"))
            engine.images.info("nosuch")

        with pytest.raises(NotFound):
            engine.decide(work, download_context_file)
        assert [image.name for image in engine.images.pool()] == ["a"]


def test_what_earlier_tasks_would_have_made_is_taken_as_given_and_what_is_no_kind_is_passed_over(tmp_path):
    with opened(tmp_path, check_mode=True, create=False) as engine, engine.session():
        engine.declare(
            {
                "images": [{"name": "vmlinuz", "type": "KERNEL", "state": "READY", "datastore": "kernels"}],
                "datastores": [{"name": "kernels", "type": "FILE"}],
                "hosts": None,
                "nosuch": [{"name": "x"}],
            }
        )
        assert [datastore.name for datastore in engine.datastores.pool()] == ["system", "default", "files", "kernels"]
        assert [image.name for image in engine.images.pool()] == ["vmlinuz"]
        assert engine.hosts.pool() == []


# -- nodes -------------------------------------------------------------------------------------------------------------


def test_nodes_that_follow_this_catalog_or_none_are_obeyed(inside):
    inside.store.db.execute("UPDATE meta SET value = '5' WHERE key = 'plan'")
    inside.hosts.check([Observed("a"), Observed("b", catalog=inside.catalog(), plan_number=5)])


def test_a_node_of_another_catalog_is_told_with_both(inside):
    with pytest.raises(ForeignObject) as caught:
        inside.hosts.check([Observed("b", catalog="other")])
    assert caught.value.asked == "host b"
    assert caught.value.found == f"it carries the marks of catalog other, and this is catalog {inside.catalog()}"
    assert "Restore that catalog's nebula.db" in caught.value.remedy


def naming(inside, host, number, **said):
    """A host that was given the plan of that number."""
    proof = inside.hosts.plan_numbers.proof(number)
    return Observed(host, catalog=inside.catalog(), plan_number=number, plan_proof=proof, **said)


def test_a_node_that_knows_more_shows_that_the_catalog_is_an_older_copy(inside):
    inside.store.db.execute("UPDATE meta SET value = '5' WHERE key = 'plan'")
    with pytest.raises(CatalogError) as caught:
        inside.hosts.check([naming(inside, "b", 6)])
    assert caught.value.asked == f"catalog {inside.store.path}"
    assert "its newest plan is 5, and host b has followed plan 6 of it" in caught.value.found
    assert "Restore the newest copy" in caught.value.remedy


@pytest.mark.parametrize("said", [{"catalog": "other"}, {"plan_number": 10**9}])
def test_a_node_that_alone_says_so_is_refused_alone(inside, said):
    honest = Observed("a", catalog=inside.catalog())
    claim = replace(Observed("b", catalog=inside.catalog(), vms=(ObservedVm(7, "u", "RUNNING"),)), **said)
    first, second = inside.hosts.check([honest, claim])
    assert first == honest
    assert (second.host, second.reached, second.vms, second.foreign_ids) == ("b", False, (), (7,))
    assert "host b" in second.facts["refused"]


def test_one_of_three_nodes_that_knows_a_little_more_is_believed(inside):
    """The last plan may have been for that node alone."""
    inside.store.db.execute("UPDATE meta SET value = '5' WHERE key = 'plan'")
    others = [Observed(name, catalog=inside.catalog()) for name in "bc"]
    with pytest.raises(CatalogError, match="host a has followed plan 6 of it: this is an older copy"):
        inside.hosts.check([*others, naming(inside, "a", 6)])


@pytest.mark.parametrize("proof", ["", "0" * 32, "of another number"])
def test_one_of_three_nodes_that_names_a_plan_which_it_was_not_given_is_refused_alone(inside, proof):
    inside.store.db.execute("UPDATE meta SET value = '5' WHERE key = 'plan'")
    others = [Observed(name, catalog=inside.catalog()) for name in "bc"]
    proof = inside.hosts.plan_numbers.proof(5) if proof.startswith("of") else proof
    liar = Observed("a", catalog=inside.catalog(), plan_number=6, plan_proof=proof)
    found = inside.hosts.check([*others, liar])
    assert [node.reached for node in found] == [True, True, False]
    assert "does not show that it was given plan 6" in found[2].facts["refused"]


def test_before_a_catalog_has_given_proofs_a_little_more_is_believed(inside):
    """It may be a copy from before there were any, and its nodes have followed plans of that time."""
    inside.store.db.execute("UPDATE meta SET value = '5' WHERE key IN ('plan', 'plan_key_since')")
    others = [Observed(name, catalog=inside.catalog()) for name in "bc"]
    with pytest.raises(CatalogError, match="host a has followed plan 6 of it: this is an older copy"):
        inside.hosts.check([*others, Observed("a", catalog=inside.catalog(), plan_number=6)])


def test_a_catalog_that_check_mode_made_up_is_older_than_nothing(tmp_path):
    with opened(tmp_path, check_mode=True, create=False) as engine:
        engine.hosts.check([Observed("b", catalog="other", plan_number=6)])


# -- hosts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "told"), [(1, "i0 is"), (6, "i0, i1, i2, i3, i4 … is")])
def test_a_host_that_still_has_what_machines_wrote_stays(inside, count, told):
    for number in range(count):
        image = inside.images.allocate(Image(None, f"i{number}"))
        inside.images.update(image.id, operation=Return("node1"))
    with pytest.raises(InUse) as caught:
        inside.hosts.delete("node1")
    assert caught.value.asked == "host node1: delete"
    assert told in caught.value.found
    assert "nebula.provision.forget_host" in caught.value.remedy
    assert inside.hosts.info("node1")


def test_what_is_on_another_host_holds_none_back(inside):
    image = inside.images.allocate(Image(None, "away"))
    inside.images.update(image.id, operation=Return("node2"))
    assert inside.hosts.delete("node1").name == "node1"
    assert inside.hosts.pool() == []


def test_hypervisors_are_those_of_its_hosts(inside):
    inside.hosts.allocate(Host(None, "x", hypervisor="xen"))
    assert hypervisors_of(inside.hosts) == ("kvm", "xen")
