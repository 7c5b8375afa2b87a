# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How what was found in an image is asked for: paths by patterns, texts, devices; and how an answer is worded."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    FAIL,
    LINK,
    LINUX,
    NOT_APPLICABLE,
    NOT_TESTED,
    PASS,
    Answer,
    Facts,
    Node,
    System,
    bad,
    first_items,
    not_applicable,
    not_tested,
    passed,
)

PATHS = (
    "/etc/rc2.d/S01ssh",
    "/etc/rc2.d/K01ssh",
    "/etc/rc9.d/S01ssh",
    "/etc/network/interfaces",
    "/etc/network/interfaces.d/eth0",
    "/etc/network/interfaces.d/deep/eth0",
    "/etc/a.b",
    "/etc/axb",
    "/home/me/.bash_history",
    "/etc/two\nlines",
)


def facts(*paths: str, **more: object) -> Facts:
    return Facts(os=LINUX, tree={path: Node() for path in paths}, **more)  # type: ignore[arg-type]


def found(*patterns: str) -> list[str]:
    return [path for path, _node in facts(*PATHS).matching(*patterns)]


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (["/etc/network/interfaces"], ["/etc/network/interfaces"]),
        (["/etc/network/interfaces.d/*"], ["/etc/network/interfaces.d/eth0"]),
        (["/etc/*/*/eth0"], ["/etc/network/interfaces.d/eth0"]),
        (["/etc/rc[2-5].d/S[0-9][0-9]ssh"], ["/etc/rc2.d/S01ssh"]),
        (["/etc/rc[!2-5].d/*"], ["/etc/rc9.d/S01ssh"]),
        (["/etc/a.b"], ["/etc/a.b"]),
        (["/etc/two*"], ["/etc/two\nlines"]),
        (["/home/*/.*_history"], ["/home/me/.bash_history"]),
        (["*"], []),
        (["/nosuch/*"], []),
        ([], []),
    ],
)
def test_a_pattern_finds_names_and_goes_over_no_slash(patterns: list[str], paths: list[str]) -> None:
    assert found(*patterns) == paths


def test_what_several_patterns_find_is_there_once_and_in_order_of_the_paths() -> None:
    assert found("/etc/rc2.d/S*", "/etc/rc2.d/*", "/etc/a.b") == ["/etc/a.b", "/etc/rc2.d/K01ssh", "/etc/rc2.d/S01ssh"]


PARTS = st.lists(st.sampled_from(["a", "b", ".", "+", "(", "|", "^", "$"]), min_size=1, max_size=4).map("".join)


@given(st.lists(PARTS, min_size=1, max_size=3), st.lists(PARTS | st.just("*"), min_size=1, max_size=3))
@settings(max_examples=50)
def test_within_one_name_a_star_is_what_a_shell_has(names: list[str], pattern: list[str]) -> None:
    told = [path for path, _node in facts("/" + "".join(names)).matching("/" + "".join(pattern))]
    assert bool(told) is fnmatch.fnmatchcase("".join(names), "".join(pattern))


def test_the_text_of_what_is_not_there_or_no_file_is_empty() -> None:
    tree = {"/a": Node(text="hello"), "/b": Node(LINK, target="/a")}
    here = Facts(os=LINUX, tree=tree)
    assert (here.text("/a"), here.text("/b"), here.text("/c")) == ("hello", "", "")


def test_has_asks_whether_any_of_the_paths_is_there() -> None:
    here = facts("/a")
    assert here.has("/b", "/a") and here.has("/a")
    assert not here.has("/b") and not here.has()


def test_a_device_has_its_file_system_or_none() -> None:
    swap = System("/dev/sda1", "swap")
    here = Facts(os=LINUX, systems=(swap, System("/dev/sda2", "ext4")))
    assert here.system_of("/dev/sda1") is swap
    assert here.system_of("/dev/sda3") is None


def test_each_answer_has_its_word_and_only_a_fault_has_to_have_a_remedy() -> None:
    assert passed("a") == Answer(PASS, "a")
    assert bad("a", "b") == Answer(FAIL, "a", "b")
    assert not_applicable("a") == Answer(NOT_APPLICABLE, "a")
    assert not_tested("a") == Answer(NOT_TESTED, "a")
    assert not_tested("a", "b") == Answer(NOT_TESTED, "a", "b")


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (list("abcd"), "a, b, c, d"),
        (list("abcde"), "a, b, c, d and 1 more"),
        (list("abcdefg"), "a, b, c, d and 3 more"),
    ],
)
def test_a_list_in_a_sentence_is_short(items: list[str], text: str) -> None:
    assert first_items(items) == text


def test_how_many_are_named_can_be_said() -> None:
    assert first_items(list("abc"), most=1) == "a and 2 more"
