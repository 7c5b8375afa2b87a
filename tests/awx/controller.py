# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of an AWX, as far as a test asks it: nothing but JSON over HTTP."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

ENDED = ("successful", "failed", "error", "canceled")
PATIENCE = 180


class Controller:
    """url: of AWX. Who asks is in AWX_TOKEN, or in AWX_USERNAME and AWX_PASSWORD."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.user = os.environ.get("AWX_USERNAME", "admin")
        self.password, self.token = os.environ.get("AWX_PASSWORD", ""), os.environ.get("AWX_TOKEN", "")
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        self.header = f"Bearer {self.token}" if self.token else f"Basic {login}"

    def environment(self) -> dict[str, str]:
        """The variables by which collection awx.awx reaches it."""
        login = {"CONTROLLER_USERNAME": self.user, "CONTROLLER_PASSWORD": self.password}
        return {"CONTROLLER_HOST": self.url} | ({"CONTROLLER_OAUTH_TOKEN": self.token} if self.token else login)

    def ask(self, method: str, path: str, data: Any = None) -> bytes:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}/api/v2/{path}", data=body, method=method)
        request.add_header("Authorization", self.header)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:2000]!r}") from None

    def get(self, path: str) -> dict[str, Any]:
        return dict(json.loads(self.ask("GET", path)))

    def post(self, path: str, data: Any) -> dict[str, Any]:
        return dict(json.loads(self.ask("POST", path, data) or b"{}"))

    def patch(self, path: str, data: Any) -> None:
        self.ask("PATCH", path, data)

    def delete(self, path: str) -> None:
        self.ask("DELETE", path)

    def all(self, path: str, **filters: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({**filters, "page_size": 200})
        return list(self.get(f"{path}?{query}")["results"])

    def count(self, path: str, **filters: Any) -> int:
        return int(self.get(f"{path}?{urllib.parse.urlencode(filters)}")["count"])

    def text(self, path: str) -> str:
        """What a job printed."""
        return self.ask("GET", f"{path}/stdout/?format=txt").decode()

    def ended(self, kind: str, number: int) -> dict[str, Any]:
        """Return the job once it has ended and all its events are stored."""
        done: dict[str, Any] = {}

        def over() -> bool:
            done.update(self.get(f"{kind}/{number}/"))
            return done["status"] in ENDED and bool(done.get("event_processing_finished", True))

        self.wait(over, f"{kind} {number}")
        return done

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"{what}: it took longer than {PATIENCE} s"
            time.sleep(0.3)
