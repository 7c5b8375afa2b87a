# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""context.sh means the same bytes to every shell that a guest may have, and runs nothing."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh

SHELLS = {
    "sh": ["/bin/sh"],
    "dash": ["/usr/bin/dash"],
    "bash": ["/bin/bash", "--norc", "--noprofile"],
    "bash as sh": ["/bin/bash", "--posix"],
    "busybox ash": ["/bin/busybox", "ash"],
}
# What a shell, printf or a line-wise reader could trip over; and anything at all.
PIECES = st.sampled_from(
    ["'", "''", "\\'", "\\", "\\\\", '"', "`touch ran`", "$(touch ran)", "${PATH}", "$", "!!", ";touch ran;", "\n",
     "\r\n", "\n'\ntouch ran\n'", "\t", " ", "-n", "%s", "#", "~", "*", "é", "☃", "\x7f", "\x01", "\ufeff", "]]>",
     "NAME='x'\n"]
)  # fmt: skip
ANYTHING = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
VALUES = st.lists(st.one_of(PIECES, st.text(ANYTHING, max_size=20)), max_size=8).map("".join)
# A prefix, since a shell gives some names a meaning of their own: check_names() warns of those.
NAMES = st.from_regex(r"X_[A-Za-z0-9_]{0,20}", fullmatch=True)


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(variables=st.dictionaries(NAMES, VALUES, min_size=1, max_size=6))
def test_every_shell_reads_the_same_bytes(shell, variables, tmp_path):
    (tmp_path / "context.sh").write_bytes(context_sh.render(variables).encode())
    script = ". ./context.sh\n" + "".join(f"printf '%s\\0' \"${name}\"\n" for name in variables)
    run = subprocess.run(
        [*SHELLS[shell], "-c", script], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False
    )
    assert run.stderr == b""
    assert run.returncode == 0
    assert run.stdout == b"".join(value.encode() + b"\0" for value in variables.values())
    assert [entry.name for entry in tmp_path.iterdir()] == ["context.sh"], "something in it was run"


@pytest.mark.parametrize("name", [name for name, why in context_sh.SPECIAL_NAMES.items() if "bash" in why])
def test_bash_does_treat_these_names_otherwise(name, tmp_path):
    """The warnings are true: what bash makes of them is not what context.sh says."""
    (tmp_path / "context.sh").write_text(context_sh.render({name: "text"}))
    script = f'. ./context.sh; printf %s "${name}"'
    run = subprocess.run(["/bin/bash", "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert run.stdout != b"text"
