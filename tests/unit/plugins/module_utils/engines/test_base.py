# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines/base.py gives to every engine that does not do it in a way of its own."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.engines.base import Engine, named
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host

# An engine of which nobody has written anything yet: all that it has to have is there, and does nothing.
Blank = type("Blank", (Engine,), dict.fromkeys(Engine.__abstractmethods__))


class Plain(Blank):
    """It notes when it is in a session."""

    def __init__(self):
        self.told = []

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
    assert engine.decide(lambda: list(engine.told), download_context_file) == ["begin"]
    assert engine.told == ["begin", "keep"]


def test_what_raises_while_it_is_decided_undoes_the_session():
    engine = Plain()

    def work():
        raise NotFound("image x", "there is none")

    with pytest.raises(NotFound, match="image x"):
        engine.decide(work, download_context_file)
    assert engine.told == ["begin", "undo"]


def test_an_engine_that_ends_at_once_leaves_nothing_to_forget():
    assert Plain.is_left({"root": "/nowhere"}) is False
    assert Plain.forget({"root": "/nowhere"}) is None


@pytest.mark.parametrize("kind", ["images", "datastores", "networks", "templates", "hosts", "vms"])
def test_a_port_that_an_engine_does_not_have_says_so(kind):
    with pytest.raises(Unsupported, match=f"{kind}: info: this engine has no {kind}"):
        getattr(Plain(), kind).info("web")


def test_a_name_of_digits_is_no_id():
    known = {"0": Host(0, "node1"), "node1": Host(0, "node1"), "1234": Host(1, "1234")}

    def info(ref):
        if ref not in known:
            raise NotFound(f"host {ref}", "the catalog has none")
        return known[ref]

    assert [named(info, name) for name in ("0", "nothing")] == [None, None]
    assert [named(info, name).id for name in ("node1", "1234")] == [0, 1]
