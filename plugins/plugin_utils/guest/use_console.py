# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node by itself, without any file of this collection, and uses the serial console of one guest.

Requests and answers are those of ask_agent.py. A request has two more keys: user and password, for a console that asks
for a login. The program logs in, runs what is asked in a shell that reads from the console, and logs out.

What goes over the console is base64 in short lines, each of which the guest acknowledges: a terminal keeps 4096
characters and drops the rest. Kernels print between such lines, so both sides compare checksums."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

URI = "qemu:///system"
# Beside those of ask_agent: somebody else uses the console, it does not let us in, what it shows can't be relied upon.
PROBLEMS = ("missing", "foreign", "off", "silent", "failed", "truncated", "libvirt", "busy", "login", "garbled")
# Bytes of either output of a command, and of a file at once.
LIMIT = 1024 * 1024
# Characters of one line, and how often a line or a file is sent before it is given up.
LINE, TRIES = 2000, 3
# Characters that are kept of what is shown while something short is waited for, and at most.
RECENT, MOST = 65536, 4 * LIMIT
# Characters a second that come at least, of what is long.
SLOWEST = 1000
# Numbers that a guest says: the status of a command, and bytes.
STATUS, SIZE = "[0-9]{1,3}", "[0-9]{1,15}"
# Seconds: between two signs that somebody is there, until a prompt counts as the last word, and until a login has
# answered: it takes its time to refuse, more in a busy guest, and what is typed meanwhile would end it.
AGAIN, QUIET, DECIDED = 3.0, 0.3, 20.0
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()].|\].*?(\x07|\x1b\\)|[=>])")
LOGIN, PASSWORD = re.compile(r"login: *$"), re.compile(r"[Pp]assword: *$")
PROMPT, REFUSED = re.compile(r"[$#%>] ?$"), re.compile(r"[Ll]ogin incorrect|[Pp]ermission denied")
# The shell in the guest: it runs a line at a time. It has no prompt and edits no lines.
SHELL = 'while IFS= read -r line; do eval "$line"; done'
INTERRUPT, END, ESCAPE = "\x03", "\x04", "\x1d"


class Problem(Exception):
    def __init__(self, problem: str, found: str) -> None:
        super().__init__(problem, found)
        self.problem, self.found = problem, found


class Terminal:
    """Holds what virsh shows of the console, and sends what is typed."""

    def __init__(self, command: Sequence[str]) -> None:
        self.master, slave = pty.openpty()
        try:
            self.process = subprocess.Popen(
                command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, close_fds=True
            )
        finally:
            os.close(slave)
        self.seen = ""

    def send(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self.master, data) :]

    def look(self, seconds: float) -> bool:
        """Read what is new; return whether anything came within so many seconds."""
        if not select.select([self.master], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        if not data:
            words = (self.seen.strip().splitlines() or [""])[-1]
            raise Problem("busy" if "console session exists" in words else "silent", f"it was closed ({words})")
        self.seen += data.decode(errors="replace").replace("\r", "")
        return True

    def wait(self, pattern: str, seconds: float) -> re.Match[str] | None:
        """Return the match, and forget what was shown before it; return None if it does not come in time."""
        limit = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end() :]
                return match
            if time.monotonic() >= limit:
                return None
            # What is waited for is short, and a guest may print without an end.
            self.seen = self.seen[-RECENT:]
            self.look(limit - time.monotonic())

    def close(self) -> None:
        # virsh takes no signal while it has a console.
        with contextlib.suppress(OSError):
            self.send(ESCAPE)
        try:
            self.process.wait(AGAIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


class Console:
    """Holds a shell of the guest, until it is closed."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request, self.patience = request, float(request["patience"])
        self.count, self.directory = 0, ""
        _check(request)
        self.terminal = Terminal(["virsh", "-c", URI, "console", request["domain"], "--safe"])
        self.logged_in = False
        try:
            self._log_in()
            self._begin()
        except BaseException:
            self.close()
            raise

    def _log_in(self) -> None:
        terminal, limit = self.terminal, time.monotonic() + self.patience
        sent = {"user": False, "password": False, "interrupted": False}
        # What is sent before virsh has the console is lost.
        terminal.wait("Escape character is.*\n", self.patience)
        terminal.send("\r")
        while True:
            quiet = not terminal.look(QUIET)
            terminal.seen = terminal.seen[-RECENT:]
            text = ESCAPES.sub("", terminal.seen)
            last = text.rpartition("\n")[2]
            if sent["password"] and REFUSED.search(text):
                raise Problem("login", "it refuses user {} with this password".format(self.request["user"]))
            if quiet and PROMPT.search(last):
                return
            # Also where it asks the same for ever.
            if time.monotonic() > limit:
                raise Problem("silent", repr(last[-100:]) if last else "it shows nothing")
            if quiet and LOGIN.search(last):
                if not self.request["user"]:
                    raise Problem("login", "it asks for a login, and no user is given")
                if sent["user"] and sent["password"]:
                    raise Problem("login", "it refuses user {}".format(self.request["user"]))
                self._answer(self.request["user"])
                sent["user"] = self.logged_in = True
            elif quiet and PASSWORD.search(last):
                if not sent["user"] or not self.request["password"]:
                    raise Problem("login", "it asks for a password, and none is given")
                self._answer(self.request["password"])
                sent["password"] = True
            elif quiet and not terminal.look(DECIDED if sent["user"] else AGAIN):
                # A shell of a run that was killed waits for a line: it ends so, and the prompt comes back.
                terminal.send("\r" if sent["user"] or sent["interrupted"] or last else INTERRUPT + "\r")
                sent["interrupted"] = True

    def _answer(self, text: str) -> None:
        self.terminal.seen = ""
        self.terminal.send(text + "\r")

    def _begin(self) -> None:
        after = "; exit" if self.logged_in else ""
        self._answer(f" stty -echo; sh -c {shlex.quote(SHELL)}; stty echo{after}")
        limit = time.monotonic() + self.patience
        while not self._wait_for_end("", AGAIN):
            if time.monotonic() > limit:
                raise Problem("silent", "it runs no command")
        self.directory = self.value("directory=$(umask 077; mktemp -d)", "$directory")
        if not self.directory.startswith("/"):
            raise Problem("failed", "mktemp made no directory in it")

    def _wait_for_end(
        self, command: str, seconds: float, value: str = "", pattern: str = "[^>\n]*"
    ) -> re.Match[str] | None:
        """Return the match of what the guest shows once the command has ended; its first group is the value."""
        self.count += 1
        token = f"{self.count}{uuid.uuid4().hex[:12]}"
        # In two halves: where the guest repeats what it is sent, that is not what is waited for.
        self.terminal.send(f"""{command}\nprintf '%s\\n' "<{token[:4]}""{token[4:]}:{value}>"\n""")
        return self.terminal.wait(rf"<{token}:({pattern})>", seconds)

    def value(self, command: str, value: str, pattern: str = "[^>\n]*") -> str:
        found = self._wait_for_end(command, self.patience, value, pattern)
        for _try in range(TRIES):
            if found:
                return str(found.group(1))
            # The line came apart, as where the kernel printed in it; or the guest takes its time.
            found = self._wait_for_end("", self.patience, value, pattern)
        raise Problem("silent", "it does not answer any more")

    def put(self, name: str, data: bytes) -> None:
        """Write a file into our directory in the guest, and compare checksums."""
        coded, digest = base64.b64encode(data).decode(), hashlib.sha256(data).hexdigest()
        place = f'"$directory"/{name}'
        for _try in range(TRIES):
            self.value(f": >{place}.coded", "")
            for start in range(0, len(coded), LINE):
                self.value(f"printf %s {coded[start : start + LINE]} >>{place}.coded", "")
            made = f"base64 -d <{place}.coded >{place}; sum=$(sha256sum <{place}); rm -f {place}.coded"
            if self.value(made, "${sum%% *}") == digest:
                return
        raise Problem("garbled", "")

    def get(self, name: str) -> bytes:
        """Return the content of a file of our directory in the guest, after comparing checksums."""
        place = f'"$directory"/{name}'
        digest = self.value(f"sum=$(sha256sum <{place})", "${sum%% *}")
        for _try in range(TRIES):
            self.terminal.seen = ""
            self.count += 1
            token = uuid.uuid4().hex
            self.terminal.send(f"""base64 <{place}\nprintf '%s\\n' "<{token[:4]}""{token[4:]}>"\n""")
            found = self._read_until(f"<{token}>")
            lines = [line for line in found.split("\n") if re.fullmatch(r"[A-Za-z0-9+/]{1,76}={0,2}", line)]
            with contextlib.suppress(ValueError):
                data = base64.b64decode("".join(lines))
                if hashlib.sha256(data).hexdigest() == digest:
                    return data
        raise Problem("garbled", "")

    def _read_until(self, mark: str) -> str:
        """Return what is shown before the mark. It may be much, so it only counts that more comes, at some speed."""
        limit = time.monotonic() + self.patience + MOST / SLOWEST
        while mark not in self.terminal.seen:
            if not self.terminal.look(self.patience) or time.monotonic() > limit:
                raise Problem("silent", "it stopped in the middle of a file")
            if len(self.terminal.seen) > MOST:
                raise Problem("garbled", "")
        found, _mark, self.terminal.seen = self.terminal.seen.partition(mark)
        return found

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.put("command", f"exec {shlex.join(request['command'])}\n".encode())
        self.put("input", base64.b64decode(request["input"]))
        limited = f"head -c {LIMIT + 1}"
        # As in ask_agent. The descriptors of the console are not the command's.
        pipes = (
            'status=$({ { { sh "$directory"/command <"$directory"/input 3>&- 4>&-; echo $? >&4; } 2>&3 3>&- | '
            f'{limited} >"$directory"/out; }} 3>&1 | {limited} >"$directory"/err; }} 4>&1)'
        )
        ended = self._wait_for_end(pipes, AGAIN, "$status", STATUS)
        while not ended:
            # What is asked meanwhile waits until the command has ended.
            ended = self._wait_for_end("", 4 * AGAIN, "$status", STATUS)
            end_if_unread()
        answer: dict[str, Any] = {"rc": int(ended.group(1))}
        for name in ("out", "err"):
            size = int(self.value(f'size=$(($(wc -c <"$directory"/{name})))', "$size", SIZE))
            if size > LIMIT:
                raise Problem("truncated", "")
            answer[name] = base64.b64encode(self.get(name)).decode() if size else ""
        return answer

    def write(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.put("piece", base64.b64decode(request["data"]))
        arrow = ">>" if request["append"] else ">"
        path = shlex.quote(request["path"])
        self._run_or_raise(f'cat "$directory"/piece {arrow}{path}')
        return {}

    def read(self, request: Mapping[str, Any]) -> dict[str, Any]:
        path, first = shlex.quote(request["path"]), request["offset"] + 1
        count = min(request["count"], LIMIT)
        self._run_or_raise(f'true <{path} && tail -c +{first} <{path} | head -c {count} >"$directory"/piece')
        data = self.get("piece")
        return {"data": base64.b64encode(data).decode(), "end": len(data) < count}

    def _run_or_raise(self, command: str) -> None:
        status = self.value(f'{{ {command}; }} 2>"$directory"/message; status=$?', "$status", STATUS)
        if status != "0":
            raise Problem("failed", " ".join(self.get("message").decode(errors="replace").split()))

    def close(self) -> None:
        with contextlib.suppress(OSError, Problem):
            if self.directory:
                self.value('rm -rf "$directory"', "")
            if self.directory or self.logged_in:
                # At its end of input the shell ends, and what began it logs out.
                self.terminal.send("\r" + END)
                self.terminal.seen = ""
                limit = time.monotonic() + AGAIN
                while (
                    time.monotonic() < limit
                    and not LOGIN.search(self.terminal.seen)
                    and not PROMPT.search(ESCAPES.sub("", self.terminal.seen))
                ):
                    self.terminal.look(QUIET)
        self.terminal.close()


def end_if_unread() -> None:
    """End this program if nobody reads its answer any more, as when a play was aborted."""
    sys.stdout.write("\n")
    sys.stdout.flush()


def _check(request: Mapping[str, Any]) -> None:
    """Raise Problem unless the domain is there, runs, and is the catalog's."""
    state = _virsh("domstate", request["domain"])
    if state.returncode:
        words = " ".join(state.stderr.split())
        missing = "failed to get domain" in words.lower()
        raise Problem("missing" if missing else "libvirt", words.replace("error: ", ""))
    if request["catalog"]:
        text = _virsh("metadata", request["domain"], request["namespace"]).stdout
        try:
            catalog = ElementTree.fromstring(text).get("catalog", "")
        except ElementTree.ParseError:
            catalog = ""
        if catalog != request["catalog"]:
            raise Problem("foreign", "")
    if "running" not in state.stdout:
        raise Problem("off", "")


def _virsh(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["virsh", "-q", "-c", URI, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with contextlib.closing(Console(request)) as console:
            return {"run": console.run, "write": console.write, "read": console.read}[request["do"]](request)
    except Problem as problem:
        return {"problem": problem.problem, "found": problem.found}


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(answer_to(json.load(sys.stdin)))}\n")
