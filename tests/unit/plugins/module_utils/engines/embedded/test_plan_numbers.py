# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a node was given the plan that it names. test_engine.py has what follows of that for a run."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.plan_numbers import (
    PLAUSIBLE,
    PlanNumbers,
)
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed


@pytest.fixture
def numbers(tmp_path):
    with contextlib.closing(Store(str(tmp_path), create=True)) as store:
        yield PlanNumbers(store)


def naming(number, proof=""):
    return Observed("node1", plan_number=number, plan_proof=proof)


def test_numbers_rise_by_one_and_each_has_its_own_proof(numbers):
    assert numbers.newest() == 0
    with numbers.store.transaction():
        taken = [numbers.take(), numbers.take()]
    assert taken == [1, 2] and numbers.newest() == 2
    assert numbers.is_proved(naming(2, numbers.proof(2)))
    assert not numbers.is_proved(naming(2, numbers.proof(1)))


def test_catalogs_have_different_keys(numbers, tmp_path):
    (tmp_path / "other").mkdir()
    with contextlib.closing(Store(str(tmp_path / "other"), create=True)) as store:
        assert PlanNumbers(store).proof(1) != numbers.proof(1)


@pytest.mark.parametrize("proof", ["", "x", "\u0661" * 32])
def test_what_is_no_proof_proves_nothing(numbers, proof):
    assert not numbers.is_proved(naming(1, proof))


def test_without_proofs_a_number_is_credible_until_the_catalog_gives_some(numbers):
    assert numbers.is_credible(naming(PLAUSIBLE)) and not numbers.is_credible(naming(PLAUSIBLE + 1))
    with numbers.store.transaction():
        numbers.take()
    assert not numbers.is_credible(naming(PLAUSIBLE))
    assert numbers.is_credible(naming(2 * PLAUSIBLE, numbers.proof(2 * PLAUSIBLE)))


def test_the_highest_number_is_of_what_may_be_true(numbers):
    assert numbers.highest_of([]) == 0
    assert numbers.highest_of([naming(3), naming(1 << 30), naming(7)]) == 7
    assert numbers.highest_of([naming(3), naming(1 << 30, numbers.proof(1 << 30))]) == 1 << 30


def test_the_key_of_the_catalog_that_gives_way_goes_on(numbers):
    with numbers.store.transaction():
        numbers.take()
        numbers.use_key("other", 1)
    assert numbers.store.meta("plan_key") == "other"
    assert numbers.is_credible(naming(2)), "no plan has gone out with a proof by this key"
