# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of the benchmarks; what they measure is not tested, and nothing here is timed."""

from __future__ import annotations

import base64
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def path():
    # They are programs, which find each other beside themselves.
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def measure():
    return importlib.import_module("measure")


@pytest.mark.parametrize(
    ("made", "ours", "peer", "limit", "ratio", "met"),
    [
        ("at_most", 0.25, 0.2, 1.25, 1.25, True),
        ("at_most", 0.26, 0.2, 1.25, 1.3, False),
        ("at_least", 0.2, 1.0, 5, 5, True),
        ("at_least", 0.21, 1.0, 5, 4.7619, False),
    ],
)
def test_ratio_is_as_its_target_reads_it(measure, made, ours, peer, limit, ratio, met):
    row = getattr(measure.Row, made)("a row", ours, peer, "s", limit).as_json()
    assert (row["ratio"], row["met"]) == (ratio, met)


def test_json_has_the_promised_keys_and_no_others(measure):
    row = measure.Row.limit("a row", 16.0, 15, "s").as_json()
    assert row == {
        "name": "a row",
        "ours": 16.0,
        "peer": 15,
        "unit": "s",
        "ratio": 1.0667,
        "target": "≤ 15 s",
        "met": False,
    }


def test_a_missed_target_is_in_the_table(measure):
    shown = measure.table([measure.Row.exactly("changed", 2, 0, "results"), measure.Row.fact("x", 1.0, None, "s")])
    lines = shown.splitlines()
    assert lines[1].split() == ["changed", "2", "0", "results", "–", "=", "0", "MISSED"]
    assert lines[2].split() == ["x", "1", "–", "s", "–"]


def test_medians_of_contestants_that_take_turns(measure, capsys):
    order = []

    def contestant(name, figures):
        values = iter(figures)

        def measured():
            order.append(name)
            return next(values)

        return measured

    found = measure.take_turns(3, {"ours": contestant("ours", [1, 9, 2]), "peer": contestant("peer", [4, 5, 60])})
    assert found == {"ours": 2, "peer": 5}
    assert order == ["ours", "peer"] * 3


def test_a_program_that_fails_gives_no_figure(measure):
    with pytest.raises(measure.MeasurementFailed, match=r"ended with 3:\nwhy"):
        measure.run([sys.executable, "-c", "print('why'); raise SystemExit(3)"])


def test_memory_is_that_of_the_program(measure):
    # A child's peak begins with its parent's size; that of pytest after a thousand tests says nothing here.
    program = (
        "import sys, measure\n"
        "done = measure.run([sys.executable, '-c', 'x = bytearray(150 << 20); print(1)'])\n"
        "print(done.output.strip(), round(done.memory))"
    )
    place = Path(measure.__file__).parent
    told = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, check=True)
    output, memory = told.stdout.split()
    assert output == "1" and 150 < int(memory) < 300


def test_tasks_and_changes_are_counted(measure):
    output = """
PLAY [Check the inventory] ****
TASK [Check that there is one] ****
ok: [localhost]
TASK [nebula.provision.vm : Act] ****
changed: [world]
PLAY RECAP ****
localhost                  : ok=1    changed=0    unreachable=0    failed=0    skipped=0
world                      : ok=24   changed=3    unreachable=0    failed=0    skipped=7
"""
    setting = importlib.import_module("setting")
    found = setting.counted(measure.Finished(1.5, 1.0, 30.0, output))
    assert (found.seconds, found.tasks, found.changed) == (1.5, 2, 3)


def wrapper(arguments):
    params = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    packed = base64.b64encode(b"x" * 100).decode()
    return f"    _ansiballz_main(\nmodule_fqn='m',\nparams={params!r},\nextensions={{}},\nzip_data='{packed}',\n)\n"


def test_a_payload_is_given_other_arguments():
    payload = importlib.import_module("payload")
    made = payload.Payload("nebula_vm", wrapper({"old": "it's", "_ansible_check_mode": True, "_ansible_diff": False}))
    assert made.size == 100
    scope = {"_ansiballz_main": lambda **given: scope.update(given)}
    text = made.with_arguments({"vms": '[{"name": "a\\nb"}]'})
    exec("if True:\n" + text, scope)
    assert json.loads(scope["params"]) == {
        "ANSIBLE_MODULE_ARGS": {"vms": '[{"name": "a\\nb"}]', "_ansible_check_mode": False, "_ansible_diff": False}
    }


def test_a_wrapper_of_another_form_is_told():
    payload, measure = importlib.import_module("payload"), importlib.import_module("measure")
    with pytest.raises(measure.MeasurementFailed, match="nebula_vm"):
        _size = payload.Payload("nebula_vm", "something else").size


def test_every_module_of_targets_has_its_row():
    modules = importlib.import_module("modules")
    assert modules.shipped() == set(modules.idle("", ""))


def test_make_bench_runs_every_benchmark():
    programs = [file for file in BENCHMARKS.glob("*.py") if "\ndef rows(" in file.read_text(encoding="utf-8")]
    run = importlib.import_module("run")
    # context_iso is a program of its own, which run.py starts.
    assert set(run.BENCHMARKS) == {file.stem for file in programs} | {"context_iso"}
    table = (BENCHMARKS.parent / "docs/testing.md").read_text(encoding="utf-8")
    assert [name for name in run.BENCHMARKS if f"| `{name}.py` |" not in table] == []


@pytest.fixture
def on_a_disk():
    # /tmp may be memory, which is never cold.
    with tempfile.TemporaryDirectory(prefix="nebula-test-", dir="/var/tmp") as directory:
        yield Path(directory)


def test_what_is_in_the_page_cache_is_no_cold_file(on_a_disk, monkeypatch):
    images, measure = importlib.import_module("images"), importlib.import_module("measure")
    file = on_a_disk / "file"
    images.write_content(file, 8)
    assert (file.stat().st_size, file.stat().st_blocks * 512) == (8 * images.MIB, 6 * images.MIB)
    assert images.in_cache(file) > images.MIB
    images.cold(file)
    assert images.in_cache(file) <= images.MIB
    file.read_bytes()
    monkeypatch.setattr(images.os, "posix_fadvise", lambda *_arguments: None)
    with pytest.raises(measure.MeasurementFailed, match="page cache"):
        images.cold(file)


def test_the_table_of_image_formats_says_what_was_measured():
    formats = importlib.import_module("image_formats")
    assert [formats.in_words(seconds) for seconds in (0.0004, 0.0123, 1.26)] == ["0 ms", "12 ms", "1.3 s"]
    assert [formats.room(mib) for mib in (-0.1, 0.19, 767.9)] == ["0.0 MB", "0.2 MB", "768 MB"]
    assert formats.line("a", 1) == "| a | 1 |"
    kinds = {name: [kind.name for kind in formats.kinds_on(name, "raw")] for name in formats.MKFS}
    assert [any("reflink" in kind for kind in kinds[name]) for name in ("ext4", "xfs", "btrfs")] == [False, True, True]
