# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is fetched for a context: as much as a context may have, and no slower than is allowed."""

from __future__ import annotations

import pytest
from web_server import serve

from ansible_collections.nebula.provision.plugins.module_utils.context import files_on_frontend
from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.context.files_on_frontend import USUAL, Limits
from ansible_collections.nebula.provision.plugins.module_utils.errors import DownloadFailed, InvalidValue


@pytest.mark.parametrize("lengths", [True, False], ids=["with its length", "without"])
@pytest.mark.parametrize("size", [0, 1, 10, 11])
def test_no_more_than_a_context_may_have(monkeypatch, lengths, size):
    monkeypatch.setattr(files_on_frontend, "LARGEST", 10)
    with serve() as site:
        site.files["/x"], site.lengths = b"x" * size, lengths
        if size <= 10:
            assert download_context_file(f"{site.url}/x", USUAL) == b"x" * size
            return
        with pytest.raises(InvalidValue, match=r"more than 10 bytes.*DATABLOCK"):
            download_context_file(f"{site.url}/x", USUAL)


def test_a_server_that_is_too_slow():
    with serve() as site:
        site.files["/x"] = b"x" * 100
        site.stall_after = 10
        try:
            with pytest.raises(DownloadFailed, match=r"\d+ bytes of it came in \d+ s, the limit is 16 KB a second"):
                download_context_file(f"{site.url}/x", Limits(stall=0.05))
        finally:
            site.release.set()
