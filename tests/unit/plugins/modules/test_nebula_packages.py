# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module looks for. Its action plugin has apt install what is missing."""

from __future__ import annotations

import shutil

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.calls.packages import run
from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.host import command


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="dpkg-query is Debian's")
@pytest.mark.parametrize("check_mode", [True, False])
def test_what_is_missing_of_the_names_and_what_is_there_of_all(check_mode: bool) -> None:
    result = run({"names": ["dpkg", "no-such-package"], "others": ["base-files", "no-such-other"]}, check_mode)
    assert result.payload == {"installed": ["dpkg", "base-files"], "missing": ["no-such-package"]}
    assert not result.changed


def test_a_host_of_another_distribution_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_path", lambda: "/nowhere")
    with pytest.raises(Unsupported, match=r"packages zstd: .*no dpkg-query.*nebula_manage_packages: false"):
        run({"names": ["zstd"], "others": []}, False)
