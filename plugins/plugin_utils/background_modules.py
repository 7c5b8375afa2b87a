# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module that takes long in the background of its host, and shows at most every 2 s how far it is. A host on
which a look is expensive (far away, slow) is looked at less often.

Ansible's own `async` would do too, but leaves the module with its arguments (they may hold secrets) in a file until
seconds after its end, its result in another, and starts Python once more per look. So only the last step of a plain run
differs here: the command that starts the module. Ansible parses what the module printed, as always."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless
from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import read_at_once

# The longest duration of one look, in seconds: TIMES_ITS_COST times the cost of the last look, between SHORTEST and
# LONGEST. A look ends early when the module ends.
TIMES_ITS_COST = 20
SHORTEST, LONGEST = 2.0, 60.0
# Characters of what is shown.
LONGEST_LINE = 1000
# Seconds between two checks within a look, on a host without flock(1).
STEP = 0.1
# Number of looks in a row that may fail: a network may fail for a moment, and the module runs on.
LOST_LOOKS = 5

# How the module finds the job's directory: Ansible fills variables in where an option is a path.
_PLACE = "NEBULA_JOB"
# $d is the job's own directory below the remote temporary directory; $t is a token that nothing else prints. The input
# may hold secrets. It goes into a file whose name is already removed, so that it never stays on the disk, whatever is
# killed. Only the job's shell holds a lock on the file with its process id, until it ends: a look waits for that lock
# and needs no polling.
_START = """
umask 077
{prepare}mkdir "$d" && : >"$d/in" || exit 90
exec 3<"$d/in" 4>"$d/in"
rm -f "$d/in"
{input}
exec 4>&-
exec 5>"$d/pid"
command -v flock >/dev/null && flock -x 5
s=$(command -v setsid || command -v nohup)
$s /bin/sh -c {job} >/dev/null 2>&1 </dev/null &
exec 3<&- 5>&-
"""
_JOB = """
d={directory}
export {place}="$d"
sed 's/.*) //' "/proc/$$/stat" 2>/dev/null | cut -d ' ' -f 20 >"$d/began"
echo $$ >"$d/pid"
trap '' HUP
( {command} ) <&3 5>&- >"$d/out" 2>"$d/err"
echo $? >"$d/code.new"
mv "$d/code.new" "$d/code"
"""
_LOOK = """
# Another process may have its number, which then began later. One that ended and that nobody waited for does not run.
runs() {{
  kill -0 "$(cat "$d/pid")" 2>/dev/null || return 1
  now=$(sed 's/.*) //; /^[ZX]/d' "/proc/$(cat "$d/pid")/stat" 2>/dev/null | cut -d ' ' -f 20)
  [ "$now" = "$(cat "$d/began" 2>/dev/null)" ]
}}
if command -v flock >/dev/null; then
  flock -s -E 124 -w {seconds} 6 6<"$d/pid"
  waited=$?
  # If only flock was killed, the job may still run.
  if [ $waited != 0 ] && runs; then waited=124; fi
else
  n=0
  while [ ! -e "$d/code" ] && [ $n -lt {steps} ]; do
    if [ -s "$d/pid" ] && ! runs; then break; fi
    sleep {step}
    n=$((n+1))
  done
  waited=0
  if [ $n -ge {steps} ]; then waited=124; fi
fi
if [ -e "$d/code" ]; then
  # It may have ended just after the time was over.
  waited=0
  echo "$t done $(cat "$d/code")"; cat "$d/out"; echo; echo "$t errors"; cat "$d/err"; echo; echo "$t end"
elif [ $waited = 124 ]; then
  echo "$t running"; cat "$d/progress" 2>/dev/null; echo; echo "$t end"
else
  echo "$t lost"; cat "$d/err" 2>/dev/null; echo; echo "$t end"
fi
"""
# What ends within the first look needs no further command.
_REMOVE_ENDED = """
if [ $waited != 124 ]; then rm -rf "$d"; fi
"""

Execute = Callable[..., dict[str, Any]]


def run_with_progress(
    action: ActionBase,
    module_name: str,
    module_args: Mapping[str, Any],
    task_vars: Mapping[str, Any],
    label: str,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Return the module's own result, as `action._execute_module()` returns it. In check mode, and for tasks with
    `async`, it is a plain run.

    The module has to take `_progress_file` (arguments.PROGRESS) and write there (host/progress.py).
    label: what each line begins with.
    say: takes the lines instead of the display, with the host's words unchanged."""
    arguments = dict(module_args)
    if action._task.async_val or action._task.check_mode:
        return dict(
            action._execute_module(
                module_name=module_name,
                module_args=arguments,
                task_vars=task_vars,
                wrap_async=bool(action._task.async_val),
            )
        )
    hosts = task_vars.get("ansible_play_hosts_all") or ()
    prefix = f"{label} on {task_vars.get('inventory_hostname')}" if len(hosts) > 1 else label
    print_line = say or (lambda text: Display().display(shown_line(text)))
    parent, prepare = _temporary_directory(action)
    job = _Job(action, f"{parent}/job-{secrets.token_hex(4)}", lambda text: print_line(f"{prefix}: {text}"), prepare)
    arguments["_progress_file"] = f"${_PLACE}/progress"
    action._low_level_execute_command = job.execute
    try:
        return dict(action._execute_module(module_name=module_name, module_args=arguments, task_vars=task_vars))
    finally:
        del action._low_level_execute_command


def _temporary_directory(action: Any) -> tuple[str, str]:
    """Return the remote temporary directory as a shell's word, and the commands that make it.

    Ansible asks for the user's home in one command, makes a directory in another, and removes it in a third. Here the
    shell that starts the module does so itself; but as another user it must not: what that user makes below the login
    user's home, the login user can't write to later."""
    shell = action._connection._shell
    if shell.tmpdir is None and action._connection.become is None:
        asked = str(action.get_shell_option("remote_tmp", default="~/.ansible/tmp"))
        if asked.startswith("~/") and "$" not in asked:
            parent = '"$HOME"/' + shlex.quote(asked[2:])
            return parent, f'[ -n "$HOME" ] && mkdir -p {parent} && '
        if asked.startswith("/") and "$" not in asked:
            return shlex.quote(asked), f"mkdir -p {shlex.quote(asked)} && "
    if shell.tmpdir is None:
        action._make_tmp_path()
    return shlex.quote(shell.tmpdir.rstrip("/")), ""


class _Job:
    """Replaces an action's _low_level_execute_command() while its module is prepared and run.
    directory: a shell's word. prepare: the commands that make what it is in, each with a "&&" after it."""

    def __init__(self, action: Any, directory: str, say: Callable[[str], None], prepare: str = "") -> None:
        self._action = action
        self._execute: Execute = action._low_level_execute_command
        self._directory = directory
        self._prepare = prepare
        self._say = say
        self._shown = ""
        self._token = f"nebula-{secrets.token_hex(8)}"
        self._seconds = SHORTEST

    def execute(self, cmd: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        in_data = options.get("in_data")
        if not self._starts_module(cmd, in_data) or arguments:
            return self._execute(cmd, *arguments, **options)
        cmd, given = read_at_once(self._action, cmd, in_data)
        options |= {"in_data": given} if given is not None else {}
        job = _JOB.format(directory=self._directory, place=_PLACE, command=cmd)
        read = "cat >&4" if in_data else ":"
        start = _START.format(prepare=self._prepare, input=read, job=shlex.quote(job))
        result = self._execute(self._script(start + self._look() + _REMOVE_ENDED), **options)
        if result.get("rc") == 90:
            # Another unprivileged user cannot write there, so the module runs without progress.
            return self._execute(cmd, **options)
        lost, looks = 0, 1
        options.pop("in_data", None)
        while True:
            state, code, body = self._parse(result)
            if state == "done":
                out, _mark, err = body.partition(f"{self._token} errors\n")
                self._clean_up(looks, options)
                return _completed(int(code), out, err)
            if state == "lost":
                self._clean_up(looks, options)
                return _completed(1, "", body + "The module was killed")
            if state != "running":
                return result
            self._show(body.strip())
            looks += 1
            try:
                began = time.monotonic()
                result = self._execute(self._script(self._look()), **options)
                self._seconds = next_look(time.monotonic() - began - self._seconds)
                lost = 0
            except AnsibleConnectionFailure:
                lost += 1
                if lost > LOST_LOOKS:
                    raise
                self._action._connection.reset()

    def _clean_up(self, looks: int, options: Mapping[str, Any]) -> None:
        """Remove the job's directory as the module's user, if the only look has not done so. A look after the first one
        leaves it, because its answer may be lost on the way."""
        if looks > 1:
            with contextlib.suppress(AnsibleConnectionFailure):
                self._execute(f"rm -rf {self._directory}", **options)

    def _starts_module(self, cmd: str, in_data: Any) -> bool:
        # Ansible sets _used_interpreter just before it runs the module; its preparing commands do not contain it.
        interpreter = (self._action._used_interpreter or "").lstrip("#!")
        return bool(interpreter) and interpreter in cmd and (in_data is not None or "AnsiballZ_" in cmd)

    def _script(self, text: str) -> str:
        # Ansible appends " && …" to the command, so it must not end in a newline.
        return f"d={self._directory}\nt={self._token}\n{text}".strip()

    def _look(self) -> str:
        return _LOOK.format(seconds=f"{self._seconds:.1f}", steps=int(self._seconds / STEP), step=STEP)

    def _parse(self, result: Mapping[str, Any]) -> tuple[str, str, str]:
        """Return state, exit code and output. Other text (a message of the day) may surround them."""
        text = str(result.get("stdout") or "").replace("\r\n", "\n")
        _before, mark, rest = text.partition(f"{self._token} ")
        head, _newline, body = rest.partition("\n")
        if not mark or f"{self._token} end" not in body:
            return "", "", ""
        state, _blank, code = head.partition(" ")
        return state, code.strip() or "1", body.rpartition(f"{self._token} end")[0]

    def _show(self, text: str) -> None:
        if text and text != self._shown:
            self._shown = text
            self._say(text)


def shown_line(text: Any) -> str:
    """Return a host's words as one line that controls no terminal."""
    return harmless(str(text), LONGEST_LINE, ONE_LINE)


def next_look(cost: float) -> float:
    """Return how many seconds the next look lasts, if the last one took `cost` seconds longer than it waited."""
    return min(max(cost * TIMES_ITS_COST, SHORTEST), LONGEST)


def _completed(code: int, out: str, err: str) -> dict[str, Any]:
    return {
        "rc": code,
        "stdout": out,
        "stdout_lines": out.splitlines(),
        "stderr": err,
        "stderr_lines": err.splitlines(),
    }
