# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import consistent_moment, quiesce
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import AGENT, CRASH


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[Exception | None]:
    """What becomes of each freezing, the next one first; None: it works."""
    outcomes: list[Exception | None] = []

    @contextlib.contextmanager
    def freeze(*_arguments: Any) -> Iterator[None]:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Unsupported):
            raise outcome
        yield
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(quiesce, "freeze", freeze)
    monkeypatch.setattr(consistent_moment, "PAUSE", 0.0)
    return outcomes


def act(consistency: str, done: list[str]) -> bool:
    moment = consistent_moment.ConsistentMoment(None, "", None, "a backup")
    return moment.act(consistency, lambda: done.append("acted"), lambda: done.append("undone"))


def test_who_says_crash_is_not_frozen(frozen: list[Exception | None]) -> None:
    done: list[str] = []
    assert (act(CRASH, done), done) == (False, ["acted"])


def test_with_an_agent_it_is_frozen(frozen: list[Exception | None]) -> None:
    frozen.append(None)
    done: list[str] = []
    assert (act("", done), done) == (True, ["acted"])


def test_without_an_agent_it_depends_on_who_asks(frozen: list[Exception | None]) -> None:
    frozen += [Unsupported("a", "no agent"), Unsupported("a", "no agent")]
    done: list[str] = []
    assert (act("", done), done) == (False, ["acted"])
    with pytest.raises(Unsupported):
        act(AGENT, done)
    assert done == ["acted"]


def test_who_is_thawed_too_early_tries_again(frozen: list[Exception | None]) -> None:
    frozen += [quiesce.ThawedTooEarly("a", "thawed"), None]
    done: list[str] = []
    assert (act("", done), done) == (True, ["acted", "undone", "acted"])
    frozen += [quiesce.ThawedTooEarly("a", "thawed")] * consistent_moment.TRIES
    with pytest.raises(HypervisorError, match="thawed"):
        act("", done)
