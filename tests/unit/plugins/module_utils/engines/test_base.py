# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines/base.py gives to every engine that does not do it in a way of its own."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.base import (
    Engine,
    VmOrders,
    VmRecord,
    VmRequest,
)
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model import rules
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template

# An engine of which nobody has written anything yet: all that it has to have is there, and does nothing.
Blank = type("Blank", (Engine,), dict.fromkeys(Engine.__abstractmethods__))


class Plain(Blank):
    """It has hosts, and tells when it is in a session."""

    def __init__(self, *hosts):
        self.hosts = hosts
        self.told = []

    def host_pool(self):
        return list(self.hosts)

    @contextlib.contextmanager
    def session(self):
        self.told.append("begin")
        try:
            yield
        except BaseException:
            self.told.append("undo")
            raise
        self.told.append("keep")


def test_an_engine_has_to_have_all_of_the_interface():
    with pytest.raises(TypeError, match="abstract"):
        Engine()


def test_an_engine_leaves_nothing_to_its_callers_unless_it_says_so():
    assert Plain().capabilities == frozenset()


def test_what_is_decided_is_decided_in_a_session():
    engine = Plain()
    assert engine.decide(lambda: list(engine.told)) == ["begin"]
    assert engine.told == ["begin", "keep"]


def test_what_raises_while_it_is_decided_undoes_the_session():
    engine = Plain()

    def work():
        raise NotFound("image x", "there is none")

    with pytest.raises(NotFound, match="image x"):
        engine.decide(work)
    assert engine.told == ["begin", "undo"]


def test_hypervisors_are_those_of_the_hosts_each_once_in_their_order():
    hosts = [Host(None, f"n{number}", hypervisor=name) for number, name in enumerate(("xen", "kvm", "xen"))]
    assert Plain(*hosts).hypervisors() == ("xen", "kvm")


def test_before_there_is_a_host_all_hypervisors_may_come():
    assert Plain().hypervisors() == tuple(rules.RULES)
    assert "kvm" in rules.RULES


def test_an_engine_that_ends_at_once_leaves_nothing_to_forget():
    assert Plain.is_left({"root": "/nowhere"}) is False
    assert Plain.forget({"root": "/nowhere"}) is None


@pytest.mark.parametrize(
    "asked",
    [
        lambda engine: engine.copy("/nowhere/copy"),
        lambda engine: engine.look_at("/nowhere/copy"),
        lambda engine: engine.restore({}, False, "/nowhere/copy", (), False),
    ],
)
def test_copies_of_a_catalog_that_another_program_keeps_are_that_programs(asked):
    with pytest.raises(Unsupported) as caught:
        asked(Plain())
    error = caught.value
    assert "backup of the catalog" in error.asked
    assert "another program" in error.found
    assert "backup of that program" in error.remedy


def test_an_engine_without_plans_fetches_no_file_for_anybody():
    with pytest.raises(Unsupported, match=r"image 7: its file from a host: this engine fetches files by its own"):
        Plain().image_returned(7)


def test_a_record_shows_nothing_of_the_template_that_it_was_made_from():
    secret = Template((("PASSWORD", "s3cr3t"),))
    record = VmRecord(0, "web", "u", "RUNNING", "RUNNING", "node1", "kvm", 1, 1.0, None, 64, request=secret)
    assert "s3cr3t" not in repr(record)
    assert record.request is secret
    assert (record.addresses, record.warnings, record.outdated) == (None, (), False)


def test_a_machine_that_is_asked_for_runs_anywhere_and_ends_gently():
    request = VmRequest("web", Template())
    assert (request.host, request.wanted, request.position) == ("", "RUNNING", None)
    assert VmOrders() == VmOrders(hard=False, shutdown_timeout=120, operation="")
