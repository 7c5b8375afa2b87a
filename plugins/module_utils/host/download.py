# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads files by http and https, as a stream: a connection that breaks is taken up again where it broke."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Mapping
from typing import Any

from ..errors import DownloadFailed, InvalidValue
from ..model.whole_numbers import MOST_DIGITS, whole
from ..printable import ONE_LINE, printable
from .urls import MIN_SPEED, SCHEMES, without_secrets

CHUNK = 1024 * 1024
MAX_REDIRECTS = 10
# Over how many times `stall` the speed is taken: that is longer than all attempts to make a broken connection again.
WINDOW = 10
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
# Words of servers for what is not packed: some stores keep how a file was sent to them, or what somebody meant by it.
_AS_IT_IS = ("", "identity", "none", "binary", "7bit", "8bit", "utf-8", "aws-chunked")
# With what the name of a file ends that is packed by gzip itself.
_PACKED = (".gz", ".tgz", ".gzip", ".box", ".svgz")
# What a request goes on with after a redirect: what it says of itself, and which part of the file it wants. All else is
# for the server, or the proxy, that it was made for.
_GOES_ALONG = frozenset(("user-agent", "accept", "accept-encoding", "range", "if-range"))


class Download:
    """Downloads one file. blocks() yields it once, in blocks of at most 1 MiB; size is known (bytes, else None) after
    open(). Raises DownloadFailed; neither it nor anything else here shows credentials.
    stall: seconds without a byte after which a connection counts as broken.
    retries: how often in a row a connection is made again; 1 MiB begins a new row, or as much as came once more
    from a server without ranges.
    min_speed: bytes a second that have to come on average, 0 for any.
    to_http: the remedy in the error where the server redirects from https to http; "" where the content is compared
    with a checksum, and the redirect is only one of the warnings.
    packed: whether the reader itself unpacks gzip.
    encoding: how the server packed the file, though it was not asked to."""

    def __init__(
        self,
        url: str,
        *,
        validate_certs: bool = True,
        stall: float = 30.0,
        retries: int = 4,
        min_speed: float = MIN_SPEED,
        to_http: str = "Give the file's own https URL",
        packed: bool = True,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        self.shown = without_secrets(url)
        try:
            parts = urllib.parse.urlsplit(url.strip())
            # Both are read from the text only when they are asked for.
            readable = parts.hostname is not None and (parts.port is None or parts.port > 0)
            (parts.hostname or "").encode("idna")
            url.encode()
        except ValueError:
            # Its words would show parts of the URL.
            readable = False
        if not readable or parts.scheme.lower() not in SCHEMES or self.shown.endswith("://..."):
            raise InvalidValue(
                f"URL {self.shown}",
                "it is not a readable http or https URL",
                "Give one, with / ? # @ : in user and password written as %2F %3F %23 %40 %3A",
            )
        self.size: int | None = None
        self.encoding = ""
        self._packed = packed
        self._headers = {"User-Agent": "nebula.provision", "Accept-Encoding": "identity", "Accept": "*/*"}
        if parts.username is not None:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        netloc = parts.netloc.rpartition("@")[2]
        path = urllib.parse.quote(parts.path, safe="/%:=&?~#+!$,;'@()*[]")
        self._url = urllib.parse.urlunsplit((parts.scheme.lower(), netloc, path, parts.query, ""))
        self._pace = _Pace(f"download of {self.shown}", min_speed, WINDOW * stall)
        self.warnings: list[str] = []
        redirects = _Redirects(parts.scheme.lower() == "https", to_http, self.warnings)
        self._opener = _opener(validate_certs, self._pace, redirects)
        self._stall = stall
        self._retries = retries
        self._pause = pause or time.sleep
        self._validator = ""
        # Bytes that came once more, of a server without ranges.
        self._again = 0
        self._response: Any = None

    def open(self) -> None:
        """Send the request, and learn whether the file is there and how large it is."""
        self._pace.begin()
        self._response = self._retry(lambda: self._request(0), 0)
        self.size = _length(self._response.headers)
        if self.size is None and self._response.length is not None:
            # http.client cuts it off where it reads a number, as int() does in 1_000.
            self.close()
            raise self._refusal(
                "the length that the server tells is not a number",
                "Download it by other means and give its path",
            )
        self._validator = _validator(self._response.headers)
        self.encoding = _encoding(self._response.headers)
        by_gzip = self.encoding in ("gzip", "x-gzip")
        if by_gzip and any(name.lower().endswith(_PACKED) for name in self._possible_names()):
            # Some servers say so of a file that is packed itself.
            self.encoding = ""
        if self.encoding and not (self._packed and by_gzip):
            self.close()
            raise self._refusal(
                f"the server sends it packed on the way (Content-Encoding: {self.encoding}), which nobody asked for",
                "Have the server send it as it is, or download it by other means and give its path",
            )

    def _possible_names(self) -> list[str]:
        """Return where the file's name may be: in its URL, in the one after redirects, and in a header."""
        parts = [urllib.parse.urlsplit(url) for url in (self._url, self._response.geturl())]
        own = (self._response.headers.get("Content-Disposition") or "").rstrip("; ").strip("\"'")
        return [part for each in parts for part in (each.path, each.query)] + [own]

    def blocks(self) -> Generator[bytes, None, None]:
        if self._response is None:
            self.open()
        offset, failures, in_row = 0, 0, 0
        self._pace.begin()
        while True:
            try:
                block = self._read(self._response, CHUNK)
                if not block and self.size is not None and offset < self.size:
                    raise http.client.IncompleteRead(b"", self.size - offset)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                failures, in_row = failures + 1, 0
                if failures > self._retries:
                    raise self._failed(error, offset) from None
                self._response = self._retry(lambda: self._request(offset), failures)  # noqa: B023
                continue
            if not block:
                self.close()
                return
            offset += len(block)
            in_row += len(block)
            # One that brings a byte each time would never end, nor one that brings all for each MiB.
            if in_row >= max(CHUNK, self._again):
                failures = 0
            self._pace.came(len(block))
            began = time.monotonic()
            yield block
            self._pace.leave_out(time.monotonic() - began)

    def _read(self, response: Any, most: int) -> bytes:
        block: bytes = response.read1(most)
        left = response.chunk_left
        if isinstance(left, int) and left < 0:
            # http.client takes such a number, and then all that comes for the file.
            response.close()
            raise self._refusal(
                "the server tells a size of a chunk that is below zero",
                "Download it by other means and give its path",
            )
        return block

    def close(self) -> None:
        if self._response is not None:
            with contextlib.suppress(OSError):
                self._response.close()

    def _retry(self, request: Callable[[], Any], failures: int) -> Any:
        """Make the request until the server answers it."""
        while True:
            if failures:
                self._pause(min(2.0 ** (failures - 1), 15.0))
            try:
                return request()
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in _PASSING or failures >= self._retries:
                    raise self._refused(error) from None
            except http.client.InvalidURL:
                raise self._wrong_redirect() from None
            except (OSError, http.client.HTTPException) as error:
                # Trying again is of no use then.
                is_final = isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError)
                if is_final or failures >= self._retries:
                    raise self._failed(error, 0) from None
            except (ValueError, OverflowError):
                raise self._wrong_redirect() from None
            failures += 1

    def _refusal(self, found: str, remedy: str) -> DownloadFailed:
        return DownloadFailed(f"download of {self.shown}", found, remedy)

    def _wrong_redirect(self) -> DownloadFailed:
        """Return the error for a redirect to a wrong URL. Our own URL is known to be readable; what is wrong with the
        other would show parts of it."""
        return self._refusal(
            "the server sends on to an address that can't be read",
            "Give the file's own URL",
        )

    def _request(self, offset: int) -> Any:
        headers = dict(self._headers)
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self._validator:
                headers["If-Range"] = self._validator
        request = urllib.request.Request(self._url, headers=headers)
        response = self._opener.open(request, timeout=self._stall)
        if offset:
            self._continue(response, offset)
        elif _packings(response.headers) not in ([], ["chunked"]):
            # http.client does not undo it, nor what it does along with it.
            response.close()
            raise self._refusal(
                f"the server packs it on the way (Transfer-Encoding: {', '.join(_packings(response.headers))[:40]})",
                "Have the server send it as it is, or download it by other means and give its path",
            )
        elif response.status == 206:
            response.close()
            raise self._refusal(
                "the server sends a part where the whole was asked for",
                "Download it by other means and give its path",
            )
        return response

    def _continue(self, response: Any, offset: int) -> None:
        """Bring the response to `offset`, and make sure that it is of the same file."""
        if response.status == 206:
            start, total = _content_range(response.headers.get("Content-Range", ""))
            same = start == offset and total in (None, self.size)
        else:
            same = _length(response.headers) == self.size
        if not same or _validator(response.headers) != self._validator:
            response.close()
            raise self._refusal(
                "the file changed on the server while it was downloaded",
                "Run again when it is complete there",
            )
        self._again = 0 if response.status == 206 else offset
        if response.status != 206:
            # A server without ranges sends it all again.
            left = offset
            while left:
                block = self._read(response, min(CHUNK, left))
                if not block:
                    raise http.client.IncompleteRead(b"", left)
                left -= len(block)
                self._pace.came(len(block))

    def _refused(self, error: urllib.error.HTTPError) -> DownloadFailed:
        remedy = {
            401: "Give user and password in the URL, https://USER:PASSWORD@…",
            403: "Check the URL and its credentials",
            404: "Check the URL",
            410: "Check the URL",
        }.get(error.code, "Try again later, or download it by other means and give its path")
        if 300 <= error.code < 400:
            remedy = f"Only http and https are followed, {MAX_REDIRECTS} times at most: give the file's own URL"
        # Not the error's own reason: of a redirect it holds the other URL, and that may hold a signature.
        reason = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
        return self._refusal(f"the server answered {reason}", remedy)

    def _failed(self, error: Exception, offset: int) -> DownloadFailed:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, http.client.IncompleteRead):
            found = f"the connection ended after {offset} bytes" + (f" of {self.size}" if self.size else "")
        elif isinstance(reason, TimeoutError) or "timed out" in str(reason):  # a class of its own before Python 3.10
            found = f"no byte came for {self._stall:g} s" + (f" after {offset} bytes" if offset else "")
        elif isinstance(reason, ssl.SSLCertVerificationError):
            return self._refusal(
                f"its certificate is not valid: {reason.verify_message}",
                "Install the CA that signed it on the front-end, or set validate_certs: false",
            )
        else:
            found = str(reason) or type(reason).__name__
        return self._refusal(found, "Check the URL and the network of the front-end")


class _Pace:
    """Judges whether enough of a file comes in the time that is spent on waiting for it; headers, and all else that is
    not the file, don't count."""

    def __init__(self, asked: str, least: float, window: float) -> None:
        self._asked = asked
        self._least = least
        self._window = window
        self.begin()

    def begin(self) -> None:
        self._since = time.monotonic()
        self._bytes = 0

    def came(self, count: int) -> None:
        self._bytes += count

    def leave_out(self, seconds: float) -> None:
        """Take the time in which the caller stores a block out of the measured speed."""
        self._since += seconds

    def check(self) -> None:
        took = time.monotonic() - self._since
        if self._least <= 0 or took < self._window:
            return
        if self._bytes < self._least * took:
            raise DownloadFailed(
                self._asked,
                f"{self._bytes} bytes of it came in {took:.0f} s, the limit is {self._least / 1024:g} KB a second",
                "Download it by other means and give its path, or lower the limit: min_speed (nebula_image_min_speed)",
            )
        self.begin()


class _Paced(io.RawIOBase):
    """Reads from a connection, and looks at its pace first: a connection that never stalls can still take for ever."""

    def __init__(self, raw: Any, pace: _Pace) -> None:
        super().__init__()
        self._raw = raw
        self._pace = pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        self._pace.check()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Watched:
    """Makes the connections of a handler keep to a _Pace, from the first byte of the headers on."""

    pace: _Pace

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        def connection(host: str, **more: Any) -> Any:
            made = http_class(host, **more)
            made.response_class = answer
            return made

        def answer(*arguments: Any, **more: Any) -> http.client.HTTPResponse:
            response = http.client.HTTPResponse(*arguments, **more)
            response.fp = io.BufferedReader(_Paced(response.fp.detach(), self.pace))
            return response

        return super().do_open(connection, req, **options)  # type: ignore[misc]


class _Http(_Watched, urllib.request.HTTPHandler):
    def __init__(self, pace: _Pace) -> None:
        super().__init__()
        self.pace = pace


class _Https(_Watched, urllib.request.HTTPSHandler):
    def __init__(self, pace: _Pace, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self.pace = pace


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only; credentials stay with the server that they were meant for.
    protected: whether the file was asked for by https. A redirect to http is then an error with the remedy to_http,
    or a warning without a remedy."""

    max_redirections = MAX_REDIRECTS

    def __init__(self, protected: bool, to_http: str, warnings: list[str]) -> None:
        self._protected = protected
        self._to_http = to_http
        self._warnings = warnings

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        # HTTPRedirectHandler would read its body, to the end.
        fp.close()
        new = urllib.parse.urlsplit(newurl)
        if new.scheme.lower() not in SCHEMES:
            raise DownloadFailed(
                f"download of {without_secrets(req.full_url)}",
                f"the server sends on to a {new.scheme} address",
                "Only http and https are followed: give the file's own URL",
            )
        if self._protected and new.scheme.lower() == "http":
            self._leaves_https(without_secrets(req.full_url))
        target = urllib.request.HTTPRedirectHandler.redirect_request(self, req, fp, code, msg, headers, newurl)
        if target is not None:
            old = urllib.parse.urlsplit(req.full_url)
            same = (old.scheme, old.hostname, old.port) == (new.scheme, new.hostname, new.port)
            # HTTPRedirectHandler drops the length headers only. Where the next one goes by a proxy, too, ProxyHandler
            # adds what that wants.
            for name, _value in target.header_items():
                if name.lower() not in _GOES_ALONG and not (same and name.lower() == "authorization"):
                    target.remove_header(name)
        return target

    def _leaves_https(self, shown: str) -> None:
        asked = f"download of {shown}"
        if self._to_http:
            raise DownloadFailed(
                asked, "the server sends on from https to http, where anybody on the way may change it", self._to_http
            )
        warning = f"{asked}: the server sent on from https to http; nothing but the checksum says what came"
        if warning not in self._warnings:
            self._warnings.append(warning)


def _opener(validate_certs: bool, pace: _Pace, redirects: _Redirects) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.OpenerDirector()
    # build_opener() would add file:, ftp: and data:.
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(pace),
        _Https(pace, context),
        urllib.request.HTTPDefaultErrorHandler(),
        redirects,
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _length(headers: Mapping[str, str]) -> int | None:
    # A chunked answer has no length, whatever else it says.
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower():
        return None
    text = (headers.get("Content-Length") or "").strip()
    if len(text) > MOST_DIGITS and text.isascii() and text.isdigit():
        # A number, and beyond every limit: which one does not matter.
        return int(10**MOST_DIGITS)
    return whole(text)


def _encoding(headers: Mapping[str, str]) -> str:
    """Return how the content is packed on the way; "" if it is not."""
    words = _words(headers.get("Content-Encoding"))
    return printable(", ".join(word for word in words if word not in _AS_IT_IS)[:40], ONE_LINE)


def _packings(headers: Mapping[str, str]) -> list[str]:
    """Return what is done with the file on the way."""
    return [printable(word, ONE_LINE) for word in _words(headers.get("Transfer-Encoding")) if word not in _AS_IT_IS]


def _words(value: str | None) -> list[str]:
    return [word.strip().lower() for word in (value or "").split(",")]


def _validator(headers: Mapping[str, str]) -> str:
    tag = headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""


def _content_range(text: str) -> tuple[int, int | None]:
    """Return start and total of "bytes 100-199/200"; -1 if it is none."""
    unit, _blank, rest = text.partition(" ")
    span, _slash, total = rest.partition("/")
    start = span.partition("-")[0]
    begin = whole(start)
    return (-1, None) if unit != "bytes" or begin is None else (begin, whole(total))
