# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import socket
import urllib.error
import urllib.request
from email.message import Message

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import DownloadFailed, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host.download import Download, _Redirects


@pytest.mark.parametrize("url", ["https://me:WORD@[x/a", "https://me:pass/WORD@x/a", "https://x:WORD/a", "https:///a"])
def test_a_url_that_cannot_be_read_is_refused_and_not_shown(url):
    with pytest.raises(InvalidValue, match="it is not a readable http or https URL") as error:
        Download(url)
    assert "WORD" not in str(error.value)


def redirected(url: str, target: str, to_http: str = "", **headers: str) -> tuple[urllib.request.Request, list[str]]:
    """What is asked for next, as a server's answer says, and what is warned of."""
    warnings: list[str] = []
    request = urllib.request.Request(url, headers=headers)
    handler = _Redirects(url.startswith("https:"), to_http, warnings)
    following = handler.redirect_request(request, io.BytesIO(), 302, "Found", Message(), target)
    assert following is not None
    return following, warnings


SECRETS = {"Authorization": "Basic x", "Proxy-Authorization": "Basic y", "Cookie": "z", "X-Other": "w"}
PLAIN = {"User-agent": "nebula.provision", "Range": "bytes=5-", "If-range": '"a"'}


@pytest.mark.parametrize(
    ("url", "target", "kept"),
    [
        ("https://a.org/x", "https://a.org/y", {"Authorization"}),
        ("https://a.org/x", "https://b.org/x", set()),
        ("https://a.org/x", "https://a.org:8443/x", set()),
        ("https://a.org/x", "http://a.org/x", set()),
        ("http://a.org/x", "https://a.org/x", set()),
        ("http://a.org/x", "http://b.org/x", set()),
    ],
)
def test_a_redirect_carries_nothing_that_was_meant_for_another(url, target, kept):
    following, _warnings = redirected(url, target, **SECRETS, **PLAIN)
    assert {name.lower() for name, _value in following.header_items()} == {
        *(name.lower() for name in PLAIN),
        *(name.lower() for name in kept),
    }


@pytest.mark.parametrize(
    ("url", "target"), [("https://a.org/x", "http://a.org/x"), ("https://a.org/x", "http://b/y?s=WORD")]
)
def test_a_redirect_from_https_to_http_is_refused_unless_a_checksum_tells_what_came(url, target):
    with pytest.raises(DownloadFailed, match=r"sends on from https to http.*Give its checksum") as caught:
        redirected(url, target, to_http="Give its checksum")
    _following, warnings = redirected(url, target)
    assert len(warnings) == 1 and "checksum" in warnings[0]
    assert "WORD" not in str(caught.value) + warnings[0]


@pytest.mark.parametrize(
    ("url", "target"), [("http://a/x", "http://b/x"), ("http://a/x", "https://b/x"), ("https://a/", "https://b/")]
)
def test_other_redirects_lose_nothing(url, target):
    assert redirected(url, target, to_http="Give its checksum")[1] == []


@pytest.mark.parametrize(
    ("code", "times"),
    [
        (400, 1), (401, 1), (403, 1), (404, 1), (408, 3), (410, 1), (425, 3), (429, 3), (500, 3), (501, 1), (502, 3),
        (503, 3), (504, 3), (505, 1),
    ],
)  # fmt: skip
def test_only_what_may_pass_is_asked_for_again(monkeypatch, code, times):
    asked = []

    def request(_self, offset):
        asked.append(offset)
        raise urllib.error.HTTPError("http://example.org/a", code, "", Message(), io.BytesIO())

    monkeypatch.setattr(Download, "_request", request)
    with pytest.raises(DownloadFailed, match=f"the server answered {code} "):
        Download("http://example.org/a", retries=2, pause=lambda _seconds: None).open()
    assert asked == [0] * times


def test_a_server_that_is_not_there_is_told_by_the_system_s_own_words():
    with socket.socket() as bound:
        # Nothing listens there.
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/a"
        with pytest.raises(DownloadFailed) as caught:
            Download(url, retries=0).open()
    assert str(caught.value).startswith(f"download of {url}: [Errno 111] Connection refused. Check the URL")
