# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.host.urls import is_url, without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a/b.qcow2", "https://example.org/a/b.qcow2"),
        ("https://me:word@example.org:8443/a", "https://example.org:8443/a"),
        ("https://me@[2001:db8::1]:80/a", "https://[2001:db8::1]:80/a"),
        ("https://example.org/a?X-Signature=word#word", "https://example.org/a?..."),
        (" https://me:word@example.org/a ", "https://example.org/a"),
        ("ftp://me:word@example.org/a", "ftp://example.org/a"),
        # What is the host of these nobody can say.
        ("https://me:pass/word@example.org/a", "https://..."),
        ("https://me:1/word@example.org/a", "https://..."),
        ("https://me:pass#word@example.org/a", "https://..."),
        ("https://me:pass?word@example.org/a", "https://..."),
        ("https://me:word@[example.org/a", "https://..."),
        ("https://me:word@example.org:word/a", "https://..."),
        ("https://example.org/a\r\nAuthorization: word", "https://..."),
    ],
)
def test_what_of_a_url_is_shown(url, shown):
    assert without_secrets(url) == shown


@given(st.text("abc/?#@:[]\\ %1", max_size=20))
def test_a_password_is_never_shown_whatever_stands_around_it(rest):
    shown = without_secrets(f"https://me:WORD{rest}@example.org/x")
    assert "WORD" not in shown and "me" not in shown.replace("example", "")


@pytest.mark.parametrize(
    ("text", "it_is"), [("http://x", True), (" HTTPS://x", True), ("ftp://x", False), ("http:/x", False), ("/a", False)]
)
def test_what_a_url_is(text, it_is):
    assert is_url(text) is it_is
