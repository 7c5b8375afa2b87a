# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block cuts what it is given to write, and keeps the whole for a pointer."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.geometry import Block, Picture, Text


def test_what_is_cut_keeps_its_whole():
    block = Block("a", "b", 20)
    short = block.write(10, 15, 100, "web")
    long = block.write(10, 15, 40, "a long name", right=True)
    known = block.write(10, 15, 100, "web", whole="web: it has failed")
    assert (short.text, short.whole) == ("web", "") and known.whole == "web: it has failed"
    assert long.text.endswith("…") and long.whole == "a long name"
    assert block.shapes == [short, long, known]
    block.write(0, 0, 9, "")
    assert len(block.shapes) == 3


def test_the_area_of_a_text_ends_where_it_is_aligned():
    left = Text(10, 20, 50, "abc", 10, mono=True).area
    right = Text(60, 20, 50, "abc", 10, mono=True, right=True).area
    assert left == pytest.approx((10, 10.5, 28.15, 22.8)) and right == pytest.approx((41.85, 10.5, 60, 22.8))


def test_a_picture_is_as_high_as_its_blocks():
    assert Picture(100, (Block("a", "", 20), Block("b", "", 30))).height == 50
