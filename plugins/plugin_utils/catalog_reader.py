# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the catalog before there is a play: an `ansible` process of its own calls nebula_info on the front-end.

So a front-end is reached here as it is in playbooks, whatever the connection, the user and the way to become root are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants

from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE, printable
from ansible_collections.nebula.provision.plugins.module_utils.text.packed_json import unpack
from ansible_collections.nebula.provision.plugins.plugin_utils.harmless_answers import is_deep

MODULE = "nebula.provision.nebula_info"
# Settings that would change what is printed, or where it goes; and an inventory that would be read once more.
_UNSET = (
    "ANSIBLE_INVENTORY", "ANSIBLE_CALLBACK_PLUGINS", "ANSIBLE_CALLBACKS_ENABLED",
    "ANSIBLE_CALLBACK_WHITELIST", "ANSIBLE_CHECK_MODE_MARKERS",
)  # fmt: skip
_SET = {
    "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal",
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    "ANSIBLE_LOG_PATH": os.devnull,
    "ANSIBLE_LOAD_CALLBACK_PLUGINS": "false",
    "ANSIBLE_FORCE_COLOR": "false",
    "ANSIBLE_NOCOLOR": "true",
    "ANSIBLE_INVENTORY_ENABLED": "ansible.builtin.yaml",
    "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true",
    "ANSIBLE_DEPRECATION_WARNINGS": "false",
    "ANSIBLE_DISPLAY_FAILED_STDERR": "false",
    "ANSIBLE_RETRY_FILES_ENABLED": "false",
    "ANSIBLE_VERBOSITY": "0",
}
# Command `ansible`, by this Python, which would look for all modules in the working directory first, and that may be
# anybody's. -I would leave out PYTHONPATH, by which Ansible may be found.
PROGRAM = (
    "import sys; sys.path[:] = filter(None, sys.path); from ansible.cli.adhoc import main; "
    "main(['ansible', *sys.argv[1:]])"
)
# Environment variables that say how Ansible and ssh reach a host, and as whom.
_DECIDING = re.compile(
    r"ANSIBLE_(REMOTE_(USER|PORT)|TRANSPORT|CONNECTION|PRIVATE_KEY|BECOME|SUDO|SU|DOAS|RUNAS|PARAMIKO|LOCAL|DOCKER"
    r"|PODMAN|SSH_(ARGS|COMMON_ARGS|EXTRA_ARGS|EXECUTABLE|PRIVATE_KEY|REMOTE|PORT|HOST))"
    r"|(DOCKER_(HOST|CONTEXT)|CONTAINER_(HOST|CONNECTION))\Z"
)
# Files that say where ssh finds a host, besides what Ansible says of it: the user's, and the machine's.
SSH_CONFIGURATIONS = (".ssh/config", "/etc/ssh/ssh_config")
# Which machine this is: where a front-end is reached as "this machine", others with the same store mean others by it.
MACHINE_ID = Path("/etc/machine-id")
_LOCAL_CONNECTIONS = ("local", "ansible.builtin.local")
_PASSWORD = re.compile(r"pass(word|wd|phrase)?$", re.IGNORECASE)
# Seconds until a process that was asked to end is killed.
_PATIENCE = 2


class CatalogNotRead(Exception):
    """Says that the front-end did not answer, or could not read its catalog. The message is what it said."""


def read(
    name: str, variables: Mapping[str, Any], gather: Sequence[str], options: Mapping[str, Any], timeout: int
) -> dict[str, Any]:
    """Return what nebula_info returns on a host. Raise CatalogNotRead if it returns nothing.
    variables: by which Ansible reaches the host. They may hold passwords, so they are in a file that only this user can
    read, for as long as this takes (timeout: seconds at most).
    options: further options of nebula_info."""
    with tempfile.TemporaryDirectory(prefix="nebula-inventory-") as directory:
        inventory = Path(directory, "front-end.yml")
        inventory.touch(mode=0o600)
        inventory.write_text(_inventory(name, variables), encoding="utf-8")
        # Files of variables beside a playbook are not wanted: all that counts is in the inventory.
        program = [sys.executable, "-c", PROGRAM, name, "-i", str(inventory), "--playbook-dir", directory]
        program += ["-m", MODULE, "-a", json.dumps({"gather": [*gather], "_packed": True, **options})]
        done = _run(program, _environment(directory), timeout)
    return _answer(done)


def digest(source: str, name: str, variables: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return the key under which the answer to a question is cached.

    It covers all that decides which catalog is read, and as whom. Ansible's own settings and the user's ssh
    configuration count, too, and this machine if it is the front-end itself. Passwords do not count: the key is stored
    with the answer, and a password could be guessed from it.
    source: path of the file that asks; the other arguments are those of read()."""
    environment = {key: value for key, value in os.environ.items() if _DECIDING.match(key)}
    configuration = Path(constants.CONFIG_FILE or os.devnull)
    asked = {
        "source": os.path.abspath(source),
        "name": name,
        "variables": _without_passwords(variables),
        "options": options,
        "environment": _without_passwords(environment),
        "configuration": [str(configuration), hashlib.sha256(_content(configuration)).hexdigest()],
        "user": [os.geteuid(), str(Path("~").expanduser())],
        "ssh": [hashlib.sha256(_content(_home() / name)).hexdigest() for name in SSH_CONFIGURATIONS],
        "machine": _this_machine() if _is_this_machine(name, variables) else [],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _without_passwords(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not _PASSWORD.search(key)}


def _home() -> Path:
    """Return the directory where ssh looks for the user's own files: ssh does not heed HOME."""
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return Path("~").expanduser()


def _is_this_machine(name: str, variables: Mapping[str, Any]) -> bool:
    address = str(variables.get("ansible_host") or variables.get("ansible_ssh_host") or name)
    local = str(variables.get("ansible_connection") or "") in _LOCAL_CONNECTIONS
    return local or address == "localhost" or address.startswith("127.") or address == "::1"


def _this_machine() -> list[str]:
    return [os.uname().nodename, _content(MACHINE_ID).decode("ascii", "replace").strip()]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _run(program: Sequence[str], environment: Mapping[str, str], timeout: int) -> subprocess.CompletedProcess[str]:
    with subprocess.Popen(
        program,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            raise CatalogNotRead(printable(f"there was no answer within {timeout} s (option timeout)")) from None
    return subprocess.CompletedProcess(program, process.returncode, out, err)


def _end(process: subprocess.Popen[str]) -> None:
    """End the process and the processes that it began, such as ssh. After a signal it removes its own files."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_PATIENCE)


def _inventory(name: str, variables: Mapping[str, Any]) -> str:
    """Return an inventory of one host. Ansible takes none of its values for a template, whatever they look like."""
    return f'{{"all": {{"hosts": {{{json.dumps(name)}: {_untemplated(variables)}}}}}}}\n'


def _untemplated(value: Any) -> str:
    """Return the value as YAML whose texts are marked as no templates."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_untemplated(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_untemplated, value)) + "]"
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return f"!unsafe {json.dumps(str(value))}"


def _environment(directory: str) -> dict[str, str]:
    """Return the environment of the call. directory: its temporary directory, which is removed afterwards."""
    own = {key: value for key, value in os.environ.items() if key not in _UNSET}
    # Ansible would put ssh's sockets into the home directory, and an execution environment's may be read-only. Where it
    # is not, they stay there, so that the next call finds a connection that is still open.
    if not _can_be_made(Path("~/.ansible/cp").expanduser()):
        own.setdefault("ANSIBLE_SSH_CONTROL_PATH_DIR", directory)
    # Where this Ansible looks for collections may have been told to it by an option or a file of its own.
    paths = os.pathsep.join(map(str, constants.config.get_config_value("COLLECTIONS_PATHS")))
    return {**own, **_SET, "ANSIBLE_COLLECTIONS_PATH": paths}


def _can_be_made(directory: Path) -> bool:
    there = next(each for each in (directory, *directory.parents) if each.exists())
    return os.access(there, os.W_OK | os.X_OK)


def _answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what the host answered. Callback minimal prints it as NAME | WORD => {…}."""
    head, mark, body = done.stdout.partition(" => ")
    try:
        answer = dict(json.loads(body)) if mark else {}
    except ValueError:
        answer = {}
    if done.returncode == 0 and "packed" in answer:
        return _unpacked(answer["packed"])
    if answer:
        reason = answer.get("msg") or "it failed without a word"
        # Where the module did not begin, the reason is what the host's shell or Python printed.
        printed = str(answer.get("module_stderr") or answer.get("module_stdout") or "").split("\n")
        reason = ": ".join([reason, *[line for line in printed if line.strip()][-1:]])
    else:
        lines = (done.stderr.strip() or head.strip()).splitlines() or [f"ansible ended with status {done.returncode}"]
        reason = next((line for line in lines if "ERROR" in line), lines[-1])
    raise CatalogNotRead(printable(" ".join(str(reason).split()), ONE_LINE))


def _unpacked(text: Any) -> dict[str, Any]:
    try:
        answer = unpack(str(text))
        if isinstance(answer, dict) and "catalog" in answer and not is_deep(answer):
            return answer
        reason = "it says nothing of a catalog, or is too deep"
    except ValueError as error:
        reason = str(error)
    raise CatalogNotRead(printable(f"its answer is none of module {MODULE}: {reason}", ONE_LINE))
