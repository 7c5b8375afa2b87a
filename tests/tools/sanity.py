# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test sanity on what the artifact holds: sanity.py ARTIFACT [arguments of ansible-test sanity].

ansible-test wants a real directory …/ansible_collections/nebula/provision (a link is fatal to it), keeps environments
below ~/.ansible and hands nothing of our environment on but HOME and PATH. It gets a home of its own in build/, where
its environments stay for the next run, and where pip's settings are found as we have them."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ansible_test

WORK = Path("build/sanity").absolute()
HOME = WORK / "home"
# Some of the tests that every run must have reached: ansible-test that finds no files ends well.
EXPECTED = {"ansible-doc", "compile", "import", "pep8", "pylint", "validate-modules", "yamllint"}
FLOOR = "3.9"
COLLECTION = WORK / "ansible_collections/nebula/provision"

# Stands where ansible-test expects the download of get-pip.py, which a machine with only a package mirror can't fetch.
# It is called with the arguments of `pip install`, by an interpreter that has no pip yet. A wheel of pip can install
# itself, which takes a third of the time of Python's own pip that then replaces itself, and there are ten environments.
BOOTSTRAP_PIP = """\
import os
import subprocess
import sys

environment = {{k: v for k, v in os.environ.items() if k != "GET_PIP"}}
install = [sys.executable, {wheel!r} + "/pip", "install", "--no-index", "--no-compile", {wheel!r}]
sys.exit(subprocess.run(install, env=environment).returncode)
"""


def unpack(artifact: Path) -> None:
    shutil.rmtree(COLLECTION, ignore_errors=True)
    COLLECTION.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", artifact, "-C", COLLECTION], check=True)
    # Without a repository of its own, ansible-test asks that of the checkout around it, to which all of build/ is
    # ignored: it would skip everything, and succeed.
    subprocess.run(["git", "init", "--quiet", COLLECTION], check=True)


def provide_bootstrap() -> None:
    requirements = Path(ansible_test.__path__[0]) / "_internal/python_requirements.py"
    versions = set(re.findall(r"pip='([\d.]+)'", requirements.read_text()))
    if not versions:
        sys.exit(f"sanity.py: no version of pip found in {requirements}; this ansible-core bootstraps differently")
    cache = HOME / ".ansible/test/cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in versions:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", cache, f"pip=={version}"]
        subprocess.run(pip, check=True)
        (wheel,) = cache.glob(f"pip-{version}-*.whl")
        bootstrap = BOOTSTRAP_PIP.format(wheel=str(wheel))
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(bootstrap)


def provide_pip_settings() -> None:
    """The effective settings of pip, from files and environment alike, as one file below HOME."""
    pip = [sys.executable, "-m", "pip"]
    settings = configparser.RawConfigParser()
    settings["global"] = {"cache-dir": _output([*pip, "cache", "dir"]).strip(), "quiet": "2"}
    for line in _output([*pip, "config", "list"]).splitlines():
        name, _equals, value = line.partition("=")
        section, _dot, key = name.rpartition(".")
        if key in ("config-file", "constraint"):
            continue
        section = "global" if section == ":env:" else section
        if not settings.has_section(section):
            settings.add_section(section)
        settings[section][key] = ast.literal_eval(value)
    target = HOME / ".config/pip/pip.conf"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch(mode=0o600)  # an index URL may hold a password
    with target.open("w") as file:
        settings.write(file)


def environment() -> dict[str, str]:
    """PATH without version managers' shims: ansible-test tries each python3.N, and shims answer for inactive ones."""
    path = [str(Path(sys.executable).parent)]
    path += [entry for entry in os.environ["PATH"].split(os.pathsep) if Path(entry).name != "shims"]
    # The floor of targets is tried where a version manager has it. At the end, so that nothing else is found there.
    path += [str(entry) for entry in sorted(Path("~/.pyenv/versions").expanduser().glob(f"{FLOOR}.*/bin"))]
    return {**os.environ, "HOME": str(HOME), "PATH": os.pathsep.join(path), "XDG_CONFIG_HOME": str(HOME / ".config")}


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> int:
    unpack(Path(sys.argv[1]))
    provide_bootstrap()
    provide_pip_settings()
    results = [_run(arguments) for arguments in ([sys.argv[2:]] if sys.argv[2:] else _all())]
    failed = next((status for status, _ran in results if status), 0)
    missing = EXPECTED.difference(*(ran for _status, ran in results))
    if missing and not sys.argv[2:]:
        print(f"sanity.py: did not run: {', '.join(sorted(missing))}")
        return failed or 1
    return failed


def _all() -> list[list[str]]:
    """Arguments for each run of ansible-test. Test import takes a minute for each Python: where the floor of targets is
    there, unit tests have imported everything on the other one."""
    if shutil.which(f"python{FLOOR}", path=environment()["PATH"]) is None:
        return [[]]
    return [["--skip-test", "import"], ["--test", "import", "--python", FLOOR]]


def _run(arguments: list[str]) -> tuple[int, set[str]]:
    """Return the exit status, and the names of the tests that ran."""
    ran = set()
    with subprocess.Popen(
        ["ansible-test", "sanity", "--color", "no", *arguments],
        cwd=COLLECTION,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        for line in run.stdout or ():
            print(line, end="", flush=True)
            ran.update(re.findall(r'^Running sanity test "(.+?)"', line))
    return run.returncode, ran


if __name__ == "__main__":
    sys.exit(main())
