"""Runs the wire tests and one conversation where the main test run does not: on the lowest versions of the dependencies
that setup.cfg allows, and on the other Pythons that are installed.

``python3 .ci/lanes.py`` runs all lanes, ``python3 .ci/lanes.py lowest`` or ``… 3.13`` one of them.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["tests/servers", "tests/engines/test_contract.py", "tests/test_docs.py"]
"""The protocols, the documented conversation on every wire, both stores, and what we use of the libraries' private
parts.
"""

OTHER_PYTHONS = ("3.12", "3.13")


def lowest_versions() -> list[str]:
    """A constraint for each dependency: the version that setup.cfg names as its floor."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    requirements = setup["options"]["install_requires"] + setup["options.extras_require"]["redis"]
    return [
        re.sub(r"^([\w-]+)(\[\w+\])? *>= *([\w.]+).*", r"\1==\3", requirement)
        for requirement in requirements.strip().splitlines()
    ]


def find_python(version: str) -> str | None:
    """The interpreter of a version: one on PATH that runs, or one that pyenv has."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for candidate in [shutil.which(name), *map(str, sorted(pyenv.glob(f"{version}.*/bin/{name}"), reverse=True))]:
        if candidate is not None:
            works = subprocess.run([candidate, "--version"], capture_output=True, check=False)
            if works.returncode == 0:
                return candidate
    return None


def run_lane(name: str, python: str, constraints: list[str]) -> bool:
    """Whether the lane's tests pass, in a virtual environment of its own."""
    print(f"+ lane {name}: {python}, {', '.join(constraints) or 'newest versions'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chat-gateway-lane-") as folder:
        environment = Path(folder, "venv")
        constraint_file = Path(folder, "constraints.txt")
        constraint_file.write_text("\n".join(constraints))
        bin_ = environment / ("Scripts" if os.name == "nt" else "bin")
        commands = [
            [python, "-m", "venv", str(environment)],
            [str(bin_ / "pip"), "install", "-q", "-c", str(constraint_file), "-e", f"{ROOT}[test]"],
            [str(bin_ / "pytest"), *TESTS],
        ]
        return all(subprocess.run(command, cwd=ROOT, check=False).returncode == 0 for command in commands)


def main(wanted: list[str]) -> int:
    lanes: dict[str, tuple[str | None, list[str]]] = {"lowest": (sys.executable, lowest_versions())}
    lanes |= {version: (find_python(version), []) for version in OTHER_PYTHONS}
    failed = []
    for name, (python, constraints) in lanes.items():
        if wanted and name not in wanted:
            continue
        if python is None:
            print(f"+ lane {name}: not installed here")
        elif not run_lane(name, python, constraints):
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
