# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that run on a node of their own (world.py), one by one, in one world for the whole pytest run.

    from in_world import in_world

    @in_world
    def test_something() -> None:
        ...          # libvirtd is running, os.environ["NEBULA_WORLD"] is an empty directory

in_bare_world is the same on another node, where no daemon was started. in_nodes is the same beside nodes (nodes.py):

    from in_world import in_nodes
    from nodes import nodes

    @in_nodes(3)
    def test_something() -> None:
        first, second, third = nodes()

A decorated function is called by its name in a process of the world; its arguments have to be JSON. What it prints goes
to the error stream, an exception comes back with its traceback. Within a world already, it simply runs."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
# The distribution's libvirt: built for the very interpreter that .venv is made of.
DISTRIBUTION = "/usr/lib/python3/dist-packages"


class World:
    def __init__(self, program: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / program), *options, sys.executable, "-u", str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                # It is there for many tests, each of which says its name with its request.
                "PYTEST_CURRENT_TEST": "",
            },
            text=True,
        )

    def call(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        request = {
            "file": function.__code__.co_filename,
            "name": function.__name__,
            "arguments": arguments,
            "test": os.environ.get("PYTEST_CURRENT_TEST", ""),
        }
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the world has no pipes")
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the world ended with status {self.process.wait()}: see its messages above")
        answer = json.loads(line)
        if "skipped" in answer:
            import pytest

            pytest.skip(answer["skipped"])
        if "failed" in answer:
            raise AssertionError(f"in the world:\n{answer['failed']}")
        return answer["result"]

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def end(self) -> None:
        """At once, with all that goes on in it."""
        self.process.terminate()
        self.process.wait()


_worlds: dict[tuple[str, ...], World] = {}


def the_world(*words: str) -> World:
    """That of this program with these options."""
    if words not in _worlds:
        _worlds[words] = World(*words)
        atexit.register(_worlds[words].close)
    return _worlds[words]


def call_in(words: tuple[str, ...], function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What a test left that failed, or took too long, would fail those after it: they get another world."""
    world = the_world(*words)
    try:
        return world.call(function, arguments)
    except BaseException as problem:
        if type(problem).__name__ != "Skipped":
            world.end()
            atexit.unregister(_worlds.pop(words).close)
        raise


def in_world(function: Callable[..., Any]) -> Callable[..., Any]:
    return called_in("NEBULA_WORLD", function, "world.py")


def in_bare_world(function: Callable[..., Any]) -> Callable[..., Any]:
    return called_in("NEBULA_WORLD", function, "world.py", "--no-daemons")


def in_nodes(count: int = 3, mtu: int = 1600) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    options = ("--nodes", str(count), "--mtu", str(mtu))
    return lambda function: called_in("NEBULA_NODES", function, "nodes.py", *options)


def called_in(variable: str, function: Callable[..., Any], *words: str) -> Callable[..., Any]:
    """variable: it is set in such a world."""
    if variable in os.environ:
        return function

    @functools.wraps(function)
    def called(**arguments: Any) -> Any:
        if os.geteuid() != 0:
            import pytest

            pytest.skip("a world needs root")
        return call_in(words, function, arguments)

    return marked(called)


def marked(function: Callable[..., Any]) -> Callable[..., Any]:
    """With pytest's mark root, where pytest is."""
    try:
        import pytest
    except ImportError:
        return function
    return pytest.mark.root(function)


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.append(DISTRIBUTION)
    modules: dict[str, ModuleType] = {}
    for line in sys.stdin:
        request = json.loads(line)
        # One process for many tests: what one set as a module sets it must not reach the next.
        os.umask(0o022)
        os.environ["PYTEST_CURRENT_TEST"] = request["test"]
        if "coverage" in sys.modules:
            from covered import name_context

            name_context(request["test"])
        try:
            module = modules.get(request["file"]) or modules.setdefault(request["file"], load(request["file"]))
            answer = {"result": getattr(module, request["name"])(**request["arguments"])}
            leave_nothing()
        except BaseException as problem:
            told = "skipped" if type(problem).__name__ == "Skipped" else "failed"
            answer = {told: str(problem) if told == "skipped" else traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def leave_nothing() -> None:
    """The next test's site has its root where this one's had it, and begins on a bare host."""
    if "NEBULA_WORLD" not in os.environ:
        return
    root = Path(os.environ["NEBULA_WORLD"], "nebula")
    if root.exists():
        left = sorted(map(str, root.rglob("*")))
        shutil.rmtree(root)
        raise AssertionError(f"the test leaves {root} to the next one, with {left}")


def load(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    serve()
