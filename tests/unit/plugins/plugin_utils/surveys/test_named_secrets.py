# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets by their names, as they were typed; errors have names only."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.named_secrets import NoSecret, secret_of

WORD = "s3cr3t-Zx9"


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"web": WORD}, WORD),
        (f"web: {WORD}\ndb: other\n", WORD),
        (f"web:   {WORD}  \r\n", WORD),
        ("# a comment\n\nweb: 0123", "0123"),
        ("web: yes", "yes"),
        ("web: 1.10", "1.10"),
        # What YAML would cut off, or take for something else.
        ("web: ab #cd", "ab #cd"),
        ("web: #x", "#x"),
        ("web: &x !!python/name x", "&x !!python/name x"),
        ("web: @foo: %b {c", "@foo: %b {c"),
        ("web: {{ name }}", "{{ name }}"),
        ('web: it\'s "one"', 'it\'s "one"'),
        ("web: 'it''s'", "it's"),
        ('web: "a\\nb "', "a\nb "),
        ("web: |\n  two\n  lines\ndb: x", "two\nlines\n"),
        ("web: |-\n  two\n   lines\n", "two\n lines"),
    ],
)
def test_a_secret_is_the_text_that_was_typed(given, value):
    assert secret_of(given, "web") == value


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "nebula_secrets is not set. In AWX, add a credential with secrets to the job template"),
        ("", "nebula_secrets is not set"),
        ({"db": WORD, "cache": WORD}, "nebula_secrets has no secret of this name; it has cache, db"),
        ({}, "it has none"),
        (f"web = {WORD}", "line 1 is no secret. Write one secret in each line"),
        (f"db: x\n- {WORD}", "line 2 is no secret"),
        (f"web: {WORD}\nweb: {WORD}", "web is there twice"),
        ("web:", "it is empty"),
        ({"web": {"password": WORD}}, "it is a dict, and no text. Put it in quotes"),
        ({"web": 83}, "it is a int, and no text"),
        ({"web": True}, "it is a bool, and no text"),
        ({"web": None}, "it is nothing, and no text"),
    ],
)
def test_what_is_not_there_is_an_error_without_values(given, text):
    with pytest.raises(NoSecret) as error:
        secret_of(given, "web")
    assert text in str(error.value) and WORD not in str(error.value)
