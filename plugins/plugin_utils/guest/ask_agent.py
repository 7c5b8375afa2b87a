# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node by itself, without any file of this collection, and asks the agent of one guest.

It reads a request from standard input, a JSON object:

    domain, namespace, catalog, patience   the domain, which has to carry the catalog's mark ("" for any domain);
                                           how many seconds the agent may take for one answer
    do: run                                command (path and arguments), input (base64)
    do: write                              path, data (base64), append (whether the data is added to the file)
    do: read                               path, offset, count (bytes)

It prints an answer on one line, a JSON object: {rc, out, err} (base64), {} or {data (base64), end}; or
{problem, found}, where problem is one of PROBLEMS, and found is what libvirt or the guest said."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from xml.etree import ElementTree

T = TypeVar("T")
URI = "qemu:///system"
# What went wrong: there is no such domain, it is somebody else's, it does not run, its agent does not answer, its agent
# does not allow a command, what the guest was asked failed in it, it printed more than its agent keeps; or libvirt.
PROBLEMS = ("missing", "foreign", "off", "silent", "refused", "failed", "truncated", "libvirt")
# Seconds between two questions whether a command has ended: the first and the last of them.
FIRST, LAST = 0.01, 0.3
# Bytes in one message, before they are base64. An agent never answers one of 256 KiB, and libvirt gives it up.
PIECE = 48 * 1024
# Bytes of either output that a command may print. libvirt hands on 4 MiB of one answer, in base64; it gives an agent
# that sends 10 MB up for good.
LIMIT = 1024 * 1024
# What a status of a command can be: Windows has 32 bits of them.
MOST_STATUS = 1 << 32
# Shell programs around a command ($@), which keep its status. The first one ends it where it prints too much, and gives
# it a home directory, which the commands of an agent that systemd has started do not have; its descriptors: 3 the
# command's error output, 4 its status, 5 and 6 the agent's. The second one opens its input, where that is more than one
# message, and leaves no file ($1) behind.
LIMITED = f"""HOME=${{HOME:-$(eval echo ~root)}}; export HOME
exec 5>&1 6>&2
status=$({{ {{
    {{ "$@" 3>&- 4>&- 5>&- 6>&-; echo $? >&4; }} 2>&3 3>&- | head -c {LIMIT + 1} >&5
}} 3>&1 | head -c {LIMIT + 1} >&6; }} 4>&1)
exit "$status"
"""
WITH_INPUT = 'exec <"$1" && rm -f "$1" && shift && exec "$@"'


class Problem(Exception):
    def __init__(self, problem: str, found: str) -> None:
        super().__init__(problem, found)
        self.problem, self.found = problem, found


class Agent:
    """Talks to the agent of a running domain."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        import libvirt
        import libvirt_qemu

        self.libvirt, self.send = libvirt, libvirt_qemu.qemuAgentCommand
        libvirt.registerErrorHandler(lambda *_error: None, None)
        # How libvirt reports that the agent has answered with an error; the second one since libvirt 7.
        self.answered = (libvirt.VIR_ERR_INTERNAL_ERROR, getattr(libvirt, "VIR_ERR_AGENT_COMMAND_FAILED", None))
        self.patience = int(request["patience"])
        try:
            self.connection = libvirt.open(URI)
            self.domain = self.connection.lookupByName(request["domain"])
            running = self.domain.isActive()
        except libvirt.libvirtError as error:
            missing = error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
            raise Problem("missing" if missing else "libvirt", message(error)) from None
        if request["catalog"] and self.catalog(request["namespace"]) != request["catalog"]:
            raise Problem("foreign", "")
        if not running:
            raise Problem("off", "")

    def catalog(self, namespace: str) -> str:
        try:
            text = self.domain.metadata(self.libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace)
            return ElementTree.fromstring(text).get("catalog", "")
        except (self.libvirt.libvirtError, ElementTree.ParseError):
            return ""

    def ask(self, command: str, **arguments: Any) -> Any:
        text = json.dumps({"execute": command, "arguments": arguments})
        try:
            answer = self.send(self.domain, text, self.patience, 0)
        except self.libvirt.libvirtError as error:
            words = message(error)
            if error.get_error_code() not in self.answered:
                raise Problem("silent", words) from None
            if "disabled" in words or "has not been found" in words or "not allowed" in words:
                raise Problem("refused", f"{command}: {words}") from None
            raise Problem("failed", words) from None
        try:
            return json.loads(answer)["return"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise nonsense(command) from None

    def value(self, command: str, key: str, kind: type[T], **arguments: Any) -> T:
        """Return one value of what the agent answers. Raise Problem if it is of another kind, as guests may answer."""
        return of_kind(self.ask(command, **arguments), command, key, kind)

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        data = base64.b64decode(request["input"])
        command = ["/bin/sh", "-c", LIMITED, "sh", *request["command"]]
        if len(data) <= PIECE:
            return self.whole(self.execute(command, data))
        made = self.execute(["/bin/sh", "-c", "umask 077 && mktemp"])
        path = base64.b64decode(made["out"]).decode().strip()
        if made["rc"] or not path:
            raise Problem("failed", "mktemp: " + base64.b64decode(made["err"]).decode(errors="replace").strip())
        try:
            self.put(path, data, append=False)
        except Problem:
            self.execute(["/bin/sh", "-c", 'rm -f "$1"', "sh", path])
            raise
        return self.whole(self.execute(["/bin/sh", "-c", WITH_INPUT, "sh", path, *command]))

    @staticmethod
    def whole(ended: dict[str, Any]) -> dict[str, Any]:
        if any(len(base64.b64decode(ended[output])) > LIMIT for output in ("out", "err")):
            raise Problem("truncated", "")
        return ended

    def execute(self, command: Sequence[str], data: bytes = b"") -> dict[str, Any]:
        asked: dict[str, Any] = {"path": command[0], "arg": command[1:], "capture-output": True}
        if data:
            asked["input-data"] = base64.b64encode(data).decode()
        process = self.value("guest-exec", "pid", int, **asked)
        pause = FIRST
        # A command may run as long as it likes, as with any connection: the task's `timeout` ends it.
        while True:
            state = self.ask("guest-exec-status", pid=process)
            if of_kind(state, "guest-exec-status", "exited", bool):
                break
            time.sleep(pause)
            pause = min(pause * 1.5, LAST)
            if pause == LAST:
                end_if_unread()
        # As a shell has it for a command that a signal ended.
        known = {"exitcode": 0, "signal": 0, "out-data": "", "err-data": "", **state}
        number, signal = (of_kind(known, "guest-exec-status", key, int) for key in ("exitcode", "signal"))
        out, err = (of_kind(known, "guest-exec-status", key, str) for key in ("out-data", "err-data"))
        ended = number if "exitcode" in state else 128 + signal
        if not -MOST_STATUS < ended < MOST_STATUS:
            raise nonsense("guest-exec-status")
        decoded(out, "guest-exec-status")
        decoded(err, "guest-exec-status")
        return {"rc": ended, "out": out, "err": err}

    def write(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.put(request["path"], base64.b64decode(request["data"]), request["append"])
        return {}

    def put(self, path: str, data: bytes, append: bool) -> None:
        handle = self.ask("guest-file-open", path=path, mode="a" if append else "w")
        try:
            while data:
                piece = data[:PIECE]
                written = {"handle": handle, "buf-b64": base64.b64encode(piece).decode()}
                count = self.value("guest-file-write", "count", int, **written)
                if not count:
                    raise Problem("failed", "nothing more can be written to it")
                if not 0 < count <= len(piece):
                    raise Problem("failed", f"its agent was given {len(piece)} bytes, and says that it wrote {count}")
                data = data[count:]
            self.ask("guest-file-flush", handle=handle)
        finally:
            self.ask("guest-file-close", handle=handle)

    def read(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found, end = b"", False
        handle = self.ask("guest-file-open", path=request["path"], mode="r")
        try:
            self.ask("guest-file-seek", handle=handle, offset=request["offset"], whence=0)
            while len(found) < request["count"] and not end:
                count = min(PIECE, request["count"] - len(found))
                answer = self.ask("guest-file-read", handle=handle, count=count)
                piece = decoded(of_kind(answer, "guest-file-read", "buf-b64", str), "guest-file-read")
                end = of_kind(answer, "guest-file-read", "eof", bool)
                if len(piece) > count:
                    raise Problem("failed", f"its agent gave {len(piece)} bytes, and {count} were asked for")
                if not piece and not end:
                    raise Problem("failed", "its agent gave nothing, and did not say that the file has ended")
                found += piece
        finally:
            self.ask("guest-file-close", handle=handle)
        return {"data": base64.b64encode(found).decode(), "end": end}


def of_kind(answer: Any, command: str, key: str, kind: type[T]) -> T:
    value = answer.get(key) if isinstance(answer, dict) else None
    # Among Python's numbers are its truth values.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise nonsense(command)
    return value


def decoded(text: str, command: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        raise nonsense(command) from None


def nonsense(command: str) -> Problem:
    return Problem("failed", f"{command}: its agent does not answer as an agent does")


def end_if_unread() -> None:
    """End this program if nobody reads its answer any more, as when a play was aborted."""
    sys.stdout.write("\n")
    sys.stdout.flush()


def message(error: Any) -> str:
    return " ".join(str(error.get_error_message() or error).split())


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        agent = Agent(request)
        return {"run": agent.run, "write": agent.write, "read": agent.read}[request["do"]](request)
    except Problem as problem:
        return {"problem": problem.problem, "found": problem.found}


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(answer_to(json.load(sys.stdin)))}\n")
