# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that stand in for those of a host in unit tests: they print what they were told to, and note how they were
called and what they were given to read."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import command


@dataclass(frozen=True)
class Answer:
    """out, err: what is printed. code: what the program ends with. script: what its shell does before."""

    out: str = ""
    err: str = ""
    code: int = 0
    script: str = ""


class Programs:
    """A directory with all programs that the code under test can find: one that was not added is not on this host.

    `command._path` is replaced, since the system's own directories are always in it: no test may reach a real `nft`,
    `ip` or `systemctl` of the machine that it runs on."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._answers: dict[str, dict[str, Answer]] = {}
        directory.mkdir()
        monkeypatch.setattr(command, "_path", lambda: str(directory))

    def answer(self, program: str, words: str, out: str = "", err: str = "", code: int = 0, script: str = "") -> None:
        """What the program does when it is called with exactly these words; with others it fails."""
        answers = self._answers.setdefault(program, {})
        answers[words] = Answer(out, err, code, script)
        noted, read = (shlex.quote(str(self._directory / program) + end) for end in (".calls", ".read"))
        lines = [f"printf '%s\\n' \"$*\" >>{noted}", f"case \"$*\" in -|*' -') cat >>{read} ;; esac", 'case "$*" in']
        for each, answer in answers.items():
            lines += [f"{shlex.quote(each)})", answer.script] if answer.script else [f"{shlex.quote(each)})"]
            lines += [f"printf %s {shlex.quote(answer.out)}", f"printf %s {shlex.quote(answer.err)} >&2"]
            lines += [f"exit {answer.code} ;;"]
        lines += ["esac", f'echo "{program} was not expected to be called with: $*" >&2', "exit 99"]
        self.script(program, "\n".join(lines))

    def script(self, program: str, text: str) -> None:
        """What the program does, whatever it is called with."""
        path = self._directory / program
        path.write_text(f"#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def lose(self, program: str) -> None:
        (self._directory / program).unlink()

    def calls(self, program: str) -> list[str]:
        """The words of each call, in their order."""
        return self._noted(program, ".calls")

    def read(self, program: str) -> list[str]:
        """The lines that it was given on its standard input, of all calls whose last word is a dash."""
        return self._noted(program, ".read")

    def _noted(self, program: str, end: str) -> list[str]:
        path = self._directory / (program + end)
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
