# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""context.sh means the same bytes to every shell that a guest may have, and runs nothing."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
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
# What templates hold, and any name: but for those that a shell gives a meaning of its own (check_names() warns
# of those) and for locales, which bash obeys.
USUAL = st.sampled_from(
    ["HOSTNAME", "IP_PUBLIC", "USERNAME", "USER", "DNS", "NETWORK", "TARGET", "FILES", "NAME", "ETH0_IP", "PASSWORD",
     "SSH_PUBLIC_KEY", "FIREWALL", "PWD", "SHELL", "TERM", "PS1", "MAIL", "REPLY", "__", "path", "ifs"]
)  # fmt: skip
NAMES = st.one_of(USUAL, st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)).filter(
    lambda name: name not in context_sh.SPECIAL_NAMES and not name.startswith("LC_") and name != "LANG"
)


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    variables={
        "A": "x\n\n",
        "B": "\n",
        "C": "",
        "D": "'",
        "E": "\\'",
        "F": "\\",
        "G": "$(touch ran)`touch ran`'\ntouch ran\n'",
    }
)
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


def sourced(shell, variables, script, place, **environment):
    """What a shell says and complains of that sources them and goes on with the script."""
    (place / "context.sh").write_text(context_sh.render(variables))
    return subprocess.run(
        [*SHELLS[shell], "-c", f". ./context.sh\n{script}"],
        cwd=place, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name, why in context_sh.SPECIAL_NAMES.items() if "bash" in why])
def test_bash_does_treat_these_names_otherwise(name, tmp_path):
    """The warnings are true: what bash makes of them is not what context.sh says."""
    assert sourced("bash", {"A": "", name: "text", "z": ""}, f'printf %s "${name}"', tmp_path).stdout != "text"


@pytest.mark.parametrize("name", [name for name, why in context_sh.SPECIAL_NAMES.items() if "may stop" in why])
def test_bash_as_sh_stops_at_these_names(name, tmp_path):
    run = sourced("bash as sh", {name: "text"}, "echo on", tmp_path)
    assert "readonly" in run.stderr
    assert run.stdout == ""


def test_dash_stops_at_optind(tmp_path):
    assert sourced("dash", {"OPTIND": "text"}, "echo on", tmp_path).stdout == ""


# What a guest's script does, and by which shell, that has another result when the name is set; no more is asked of it.
HARM = {
    "PATH": ("sh", "/nowhere", "ls >/dev/null && echo fine"),
    "IFS": ("sh", "a", "v='x y'; set -- $v; test $# = 2 && echo fine"),
    "HOME": ("sh", "/nowhere", "cd && echo fine"),
    "CDPATH": ("sh", "/", "mkdir usr; cd usr; test -d ../usr/bin || echo fine"),
    "ENV": ("sh", "$(touch ran)", "export ENV; sh -i </dev/null >/dev/null 2>&1; test -e ran || echo fine"),
    "PS4": ("sh", "$(touch ran)", "set -x; :; test -e ran || echo fine"),
    "BASH_ENV": ("bash", "$(touch ran)", "export BASH_ENV; bash -c :; test -e ran || echo fine"),
    "LD_PRELOAD": ("sh", "./nowhere", 'export LD_PRELOAD; test -z "$(/bin/true 2>&1)" && echo fine'),
    "LD_AUDIT": ("sh", "./nowhere", 'export LD_AUDIT; test -z "$(/bin/true 2>&1)" && echo fine'),
    "LD_LIBRARY_PATH": ("sh", ".", 'export LD_LIBRARY_PATH; : >libc.so.6; test -z "$(/bin/true 2>&1)" && echo fine'),
    "BASH_COMPAT": ("bash", "1", 'test -z "$(. ./context.sh 2>&1)" && echo fine'),
    "BASH_XTRACEFD": ("bash", "1", "unset BASH_XTRACEFD; echo fine"),
    "EXECIGNORE": ("bash", "/bin/*:/usr/bin/*", "ls >/dev/null && echo fine"),
    "FUNCNEST": ("bash", "1", "f() { g; }; g() { echo fine; }; f"),
    "GLOBIGNORE": ("bash", "*.sh", "test *.sh = context.sh && echo fine"),
    "POSIXLY_CORRECT": ("bash", "1", "case :$SHELLOPTS: in *:posix:*) ;; *) echo fine;; esac"),
}


def test_harm_has_all_of_them():
    harmful = {name for name, why in context_sh.SPECIAL_NAMES.items() if "bash" not in why}
    assert harmful == set(HARM)


@pytest.mark.parametrize("name", HARM)
def test_these_names_change_how_scripts_run(name, tmp_path):
    shell, value, script = HARM[name]
    assert sourced(shell, {"A": "x"}, script, tmp_path, HOME=str(tmp_path)).stdout.endswith("fine\n")
    for entry in tmp_path.iterdir():
        entry.rmdir() if entry.is_dir() else entry.unlink()
    assert "fine" not in sourced(shell, {name: value}, script, tmp_path, HOME=str(tmp_path)).stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_no_other_name_of_a_shell_is_special(shell, tmp_path):
    """Whatever a shell has set itself can be set by context.sh, and comes back, or is on the list."""
    listing = "set | sed -n 's/^\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'"
    if shell.startswith("bash"):
        listing = "compgen -v; echo BASH_COMMAND"
    own = sourced(shell, {}, listing, tmp_path).stdout.split()
    plain = sorted(set(own) - set(context_sh.SPECIAL_NAMES))
    assert plain
    for name in plain:
        run = sourced(shell, {"A": "1", name: "it's $(touch ran)", "z": "2"}, f'printf %s "$A${{{name}}}$z"', tmp_path)
        assert (run.stdout, run.stderr) == ("1it's $(touch ran)2", ""), name
