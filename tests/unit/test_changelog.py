# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases are written down: what each changed, in the page that users read; fragments are for the next one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RELEASES = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text(encoding="utf-8"))["releases"]


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_there_are_releases():
    assert RELEASES


@pytest.mark.parametrize("version", RELEASES)
def test_a_release_says_what_it_changed(version):
    assert RELEASES[version]["changes"] and RELEASES[version]["release_date"]
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    # The page escapes what Markdown may take for something else.
    assert f"## v{version}" in page.replace("\\", "").splitlines()


def test_fragments_await_the_version_of_galaxy_yml():
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    newest = max(RELEASES, key=number)
    waiting = {path.name for path in (ROOT / "changelogs/fragments").glob("*.yml")}
    assert not waiting & {name for release in RELEASES.values() for name in release.get("fragments") or ()}
    assert number(newest) <= number(version)
    assert not waiting or number(newest) < number(version), "raise the version in galaxy.yml: this one is released"


MOST_WORDS = 30


def complaints(fragment: dict[str, list[str]]) -> list[str]:
    """Return the entries that are longer than MOST_WORDS, or more than one sentence (what is code is no sentence)."""
    entries = [entry for section in fragment.values() for entry in ([section] if isinstance(section, str) else section)]
    several = re.compile(r"[.!?]\s+[A-Z]")
    return [e for e in entries if len(e.split()) > MOST_WORDS or several.search(re.sub("``.*?``", "CODE", e))]


@pytest.mark.parametrize("path", sorted((ROOT / "changelogs/fragments").glob("*.y*ml")), ids=lambda path: path.stem)
def test_an_entry_is_one_short_sentence(path):
    found = complaints(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert not found, f"Write two entries, or leave what explains to the documents: {found}"


def test_a_long_entry_is_seen():
    assert complaints({"bugfixes": ["word " * 31, "This. And ``that``.", "role vm - one. ``x`` is another."]})
    assert not complaints({"bugfixes": ["word " * 30, "``a. B`` is one.", "version 1.2 of it …"]})
