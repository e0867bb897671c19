"""The web client: its own checks pass, and pip builds it when, and only when, that is needed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

WEBCLIENT = Path(__file__).parent.parent / "webclient"
NOT_SOURCES = shutil.ignore_patterns("node_modules", "__pycache__")


def load_backend(webclient: Path) -> ModuleType:
    """The build backend of the tree that ``webclient`` is a part of."""
    spec = importlib.util.spec_from_file_location("build_backend", webclient / "build_backend.py")
    assert spec is not None
    assert spec.loader is not None
    backend = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = backend  # where dataclasses look up annotations
    spec.loader.exec_module(backend)
    return backend


@pytest.fixture
def webclient(tmp_path: Path) -> Path:
    """A copy of the sources, in a tree without a page."""
    return Path(shutil.copytree(WEBCLIENT, tmp_path / "tree" / "webclient", ignore=NOT_SOURCES))


@pytest.fixture
def backend(webclient: Path) -> ModuleType:
    return load_backend(webclient)


@pytest.fixture
def npm_runs(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The npm commands that were run; each does nothing but create a page."""
    runs: list[str] = []

    def run_npm(_node: Any, folder: Path, *arguments: str) -> None:
        runs.append(arguments[0])
        (folder / "page").mkdir(exist_ok=True)
        (folder / "page" / "index.html").write_text("a page")

    monkeypatch.setattr(backend, "_run_npm", run_npm)
    monkeypatch.setattr(backend, "_find_node", lambda: backend.Node("node", ("npm",)))
    return runs


@pytest.mark.timeout(360)  # 45 s alone; the suite's guard against tests that hang is 120
def test_the_types_and_unit_tests_of_the_page_pass(webclient: Path, backend: ModuleType) -> None:
    """TypeScript, the components and the unit tests are in order; what a failing one prints is shown."""
    node = backend._find_node()
    path = os.pathsep.join([str(Path(node.executable).parent), os.environ["PATH"]])
    for command in (["ci", "--ignore-scripts", "--prefer-offline"], ["run", "check"], ["test"]):
        subprocess.run([*node.npm, *command], cwd=webclient, env=os.environ | {"PATH": path}, check=True)


def test_the_lock_file_names_no_registry() -> None:
    """Any mirror can serve the packages, for every platform."""
    assert '"resolved"' not in (WEBCLIENT / "package-lock.json").read_text()


def test_the_page_is_built_once(backend: ModuleType, npm_runs: list[str]) -> None:
    """While the sources stay as they are, neither npm nor Node is needed again."""
    backend.ensure_page()
    assert npm_runs == ["ci", "run"]
    assert (backend.PAGE / "index.html").read_text() == "a page"
    backend.ensure_page()
    assert npm_runs == ["ci", "run"]


@pytest.mark.parametrize("name", ["src/App.svelte", "package-lock.json", "src/new.ts"])
def test_changed_sources_rebuild_the_page(backend: ModuleType, npm_runs: list[str], name: str) -> None:
    backend.ensure_page()
    with (backend.WEBCLIENT / name).open("a") as source:
        source.write("\n")
    backend.ensure_page()
    assert npm_runs == ["ci", "run"] * 2


def test_a_rebuild_removes_old_assets(backend: ModuleType, npm_runs: list[str]) -> None:
    backend.PAGE.mkdir(parents=True)
    (backend.PAGE / "old.js").touch()
    backend.ensure_page()
    assert sorted(path.name for path in backend.PAGE.iterdir()) == [".sources.sha256", "index.html"]
    assert npm_runs


def test_node_is_required_only_for_a_build(
    backend: ModuleType, npm_runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build requirement brings Node to a machine without one, unless the page is there already."""
    assert backend._node_requirements() == []
    with monkeypatch.context() as without_node:
        without_node.setattr(backend, "_find_node", lambda: None)
        assert backend._node_requirements() == [backend.NODE_REQUIREMENT]
    backend.ensure_page()
    assert npm_runs
    monkeypatch.setattr(backend, "_find_node", lambda: None)
    assert backend._node_requirements() == []


@pytest.mark.parametrize(
    ("version", "suits"),
    [("v20.18.3", False), ("v20.19.0", True), ("v21.7.3", False), ("v22.11.0", False), ("v22.12.0", True),
     ("v24.0.0", True), ("who knows", False)],
)  # fmt: skip
def test_only_a_node_that_can_run_vite_is_accepted(
    backend: ModuleType, tmp_path: Path, version: str, suits: bool
) -> None:
    node = make_executable(tmp_path / "node", f"echo '{version}'")
    assert backend._runs_vite(backend.Node(str(node), ())) is suits


def test_a_failing_npm_is_explained(backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message without a traceback: npm's reason, and what to do. The page that was there stays."""
    npm = make_executable(
        tmp_path / "npm", "echo 'npm warn old' >&2; echo 'npm error reason: connect ECONNREFUSED' >&2; exit 1"
    )
    monkeypatch.setattr(backend, "_find_node", lambda: backend.Node(str(npm), (str(npm),)))
    backend.PAGE.mkdir(parents=True)
    (backend.PAGE / "index.html").touch()
    with pytest.raises(SystemExit) as stopped:
        backend.ensure_page()
    message = str(stopped.value)
    assert "`npm ci" in message
    assert "reason: connect ECONNREFUSED" in message
    assert "npm warn" not in message
    assert "npm_config_registry" in message
    assert (backend.PAGE / "index.html").exists()


def make_executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
