# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is made from the specifications of objects is what they say, and nothing of it was changed by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
_FOUND = importlib.util.spec_from_file_location("specifications", ROOT / "tests/tools/specifications.py")
assert _FOUND is not None and _FOUND.loader is not None
specifications = importlib.util.module_from_spec(_FOUND)
_FOUND.loader.exec_module(specifications)
MADE = specifications.made()


@pytest.mark.parametrize("path", sorted(MADE), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_made_is_what_the_specification_says(path):
    assert path.read_text(encoding="utf-8") == MADE[path], "run `make specifications`"


@pytest.mark.parametrize("source", specifications.sources(), ids=lambda path: path.stem)
def test_every_form_has_its_place(source):
    """A part whose two lines are gone would be left as it is."""
    specification = specifications.load(source)
    wanted = {}
    if "module" in specification:
        wanted[f"plugins/modules/{specification['module']}.py"] = ["keys"] + ["shown"] * ("shown" in specification)
    if "role" in specification:
        wanted[f"roles/{specification['role']}/meta/argument_specs.yml"] = ["items"]
    for path, parts in wanted.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        for part in parts:
            assert text.count(f"# begin: {source.name} {part}\n") == text.count(f"# end: {source.name} {part}\n") == 1


@pytest.mark.parametrize("text", ["plain", "with: a colon", "with # a mark", "'quoted'", "yes", "it's 5", "- a", "é"])
def test_a_text_is_read_back_as_it_was(text):
    assert yaml.safe_load(specifications.scalar(text)) == text
    assert yaml.safe_load("\n".join(specifications.description([text, text], 2))) == {"description": [text, text]}


def test_the_keys_of_an_item_are_no_options_of_a_role():
    keys = {"a": {"description": "With O(b=true), see RV(nebula.x.y#module:c) and O(nebula_root)."}}
    assert "With C(b=true), see RV(nebula.x.y#module:c) and O(nebula_root)." in specifications.role_options(
        {"keys": keys}, 4
    )
