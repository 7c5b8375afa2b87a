# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that a node refused are names, or it did not answer."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.answers.refused_networks import read


def test_names():
    assert read({"refused": ["a", "b"]}) == {"a", "b"}
    assert read({"refused": []}) == set()


@pytest.mark.parametrize("said", [None, "x", 5, {"a": 1}, [5], [["a"]], [{"a": 1}], ["x" * 300], ["x"] * 100_001])
def test_what_are_no_names(said):
    assert read({"refused": said}) is None


@pytest.mark.parametrize("answer", [None, "x", 5, {}, []])
def test_what_is_no_answer(answer):
    assert read(answer) is None
