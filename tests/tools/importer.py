# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run galaxy-importer on the artifact, as Ansible Galaxy does on an upload: importer.py ARTIFACT. Warnings fail too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def main() -> int:
    artifact = Path(sys.argv[1]).absolute()
    work = Path("build/importer").absolute()  # it leaves importer_result.json where it runs
    work.mkdir(parents=True, exist_ok=True)
    # `make ansible-lint` has looked at the same files, more strictly.
    settings = work / "importer.cfg"
    settings.write_text("[galaxy-importer]\nRUN_ANSIBLE_LINT = False\n", encoding="utf-8")
    # It calls ansible-doc by name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run = subprocess.run(
        [sys.executable, "-m", "galaxy_importer.main", str(artifact)],
        cwd=work,
        env={**os.environ, "PATH": path, "GALAXY_IMPORTER_CONFIG": str(settings)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    sys.stdout.write(run.stdout)
    complaints = re.findall(r"^(?:ERROR|WARNING|CRITICAL): .*", run.stdout, re.MULTILINE)
    if complaints:
        print(f"importer.py: {len(complaints)} complaints")
    return run.returncode or bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
