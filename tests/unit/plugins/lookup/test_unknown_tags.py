# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tag that nothing has is told, with the one that was meant; which there are is compared with what Ansible itself
finds in the playbooks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.lookup.unknown_tags import SPECIAL, LookupModule, known_tags

ROOT = Path(__file__).parents[4]


def told(run=("all",), skip=(), playbook=()):
    return LookupModule().run(
        [playbook] if playbook else [], variables={"ansible_run_tags": list(run), "ansible_skip_tags": list(skip)}
    )


@pytest.mark.parametrize(
    ("tag", "meant"),
    [
        ("vms", "vm"),
        ("mv", "vm"),
        ("netwrok", "network"),
        ("images", "image"),
        ("templates", "template"),
        ("node1", "node"),
    ],
)
def test_a_near_miss_is_named(tag, meant):
    (sentence,) = told([tag])
    assert sentence.startswith(f"--tags {tag}: no task of this collection has this tag, so that it selects none. ")
    assert f"Did you mean {meant}? Known are " in sentence
    (sentence,) = told(skip=[tag])
    assert sentence.startswith(f"--skip-tags {tag}: ") and f"Did you mean {meant}?" in sentence


def test_one_that_is_like_none_is_told_with_those_that_there_are():
    (sentence,) = told(["deploy", "vm"])
    assert "Did you mean" not in sentence and ", vm" in sentence


def test_known_ones_and_the_words_of_ansible_are_not_told():
    assert told(sorted(known_tags(ROOT)), sorted(known_tags(ROOT))) == []
    assert told(sorted(SPECIAL), sorted(SPECIAL)) == []
    assert LookupModule().run([], variables={}) == []


@pytest.mark.parametrize("playbook", ["status", "machine", "audit", "teardown", "topology", "backup", "restore"])
def test_a_tag_that_only_another_playbook_has_is_told(playbook):
    (sentence,) = told(["vm"], playbook=playbook)
    assert sentence == (
        f"--tags vm: no task of playbook nebula.provision.{playbook} has this tag, so that it selects none. "
        "It has none: run it without tags"
    )
    assert len(told(skip=["vm", "network"], playbook=playbook)) == 2


def test_the_tags_of_a_playbook_are_no_news_to_it():
    assert told(["vm", "network", "verify"], ["image"], "site") == []
    (sentence,) = told(["image_check"], playbook="site")
    assert "playbook nebula.provision.site" in sentence and "Did you mean" not in sentence
    assert told(["image_check"], playbook="image_check") == []


def test_those_that_are_known_are_those_that_ansible_finds():
    playbooks = sorted(map(str, (ROOT / "playbooks").glob("*.yml")))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "--list-tags", "-i", "localhost,", *playbooks],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
    )
    for section in done.stdout.split("\nplaybook: ")[1:]:
        name = Path(section.splitlines()[0]).stem
        listed = {tag.strip() for tags in re.findall(r"TASK TAGS: \[([^]]*)\]", section) for tag in tags.split(",")}
        assert listed - SPECIAL - {""} == known_tags(ROOT, name), name
    found = {tag.strip() for tags in re.findall(r"TAGS: \[([^]]*)\]", done.stdout) for tag in tags.split(",")}
    assert found - SPECIAL - {""} == known_tags(ROOT)
