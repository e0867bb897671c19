"""What docs/deployment.md shows can be used as it is: its files are what their programs read, and name settings that
exist, with values that are valid.

`tests/test_balancing.py` and `test_base_path.py` run nginx with its configurations, `test_platform.py` its Procfile.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.valkey import DURABLE
from test_config import parse

pytestmark = pytest.mark.fast

DOCUMENT = (Path(__file__).parents[1] / "docs" / "deployment.md").read_text()
BLOCKS = [
    (language, text.replace(f"\n{indent}", "\n"))
    for indent, language, text in re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", DOCUMENT, re.DOTALL | re.MULTILINE)
]
PROSE = re.sub(r"^ *```.*?```$", "", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
PROBES = {"/health/live", "/health/ready"}

SYSTEMD = [pytest.param(found, marks=pytest.mark.process) for found in [shutil.which("systemd-analyze")] if found]

STANDS_FOR = {"POD_IP": "10.0.0.5", "STORE_PASSWORD": "secret", "REDIS_URL": "redis://valkey.internal:6379"}
"""Values of the variables that what is shown refers to."""


def blocks(language: str) -> list[str]:
    return [text for shown, text in BLOCKS if shown == language]


def expand(value: str) -> str:
    """With the values of the variables to which it refers."""
    for name, text in STANDS_FOR.items():
        value = value.replace(f"$({name})", text).replace(f"${name}", text)
    return value


def check_environment(variables: dict[str, str]) -> None:
    """All that are the gateway's are settings, and their values are valid."""
    ours = {name: expand(str(value)) for name, value in variables.items() if name.startswith("GATEWAY_")}
    assert ours
    for name, value in ours.items():
        default = getattr(parse(), name.removeprefix("GATEWAY_").lower())
        changed = getattr(parse(**{name: value}), name.removeprefix("GATEWAY_").lower())
        assert name in {"GATEWAY_HOST", "GATEWAY_PORT"} or changed != default, f"{name}={value} changes nothing"


def kubernetes() -> dict[tuple[str, str], dict[str, Any]]:
    """The objects by their kind and name."""
    (manifest,) = [text for text in blocks("yaml") if "apiVersion" in text]
    objects = list(yaml.safe_load_all(manifest))
    assert all(thing["apiVersion"] for thing in objects)
    return {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects}


def container(thing: dict[str, Any]) -> dict[str, Any]:
    (only,) = thing["spec"]["template"]["spec"]["containers"]
    return dict(only)


def compose() -> dict[str, Any]:
    (text,) = [text for text in blocks("yaml") if "services:" in text]
    return dict(yaml.safe_load(text))


def directives(words: list[str]) -> dict[str, str]:
    """Those of a Valkey server, from the words of its command."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return {name.removeprefix("--"): value for name, value in pairs}


def test_commands_of_the_gateway_have_valid_flags() -> None:
    """In files, and in the text."""
    commands = re.findall(r"\bgateway (--[^\n`]+)", DOCUMENT)
    assert len(commands) >= 4
    for command in commands:
        parse(shlex.split(expand(command)))


def test_flags_and_variables_in_the_text_are_settings() -> None:
    flags = set(re.findall(r"`--([\w-]+)", PROSE))
    assert len(flags) > 10
    variables = set(re.findall(r"\bGATEWAY_(\w+)", DOCUMENT))
    assert len(variables) > 5
    settings = parse()
    for name in {*(flag.replace("-", "_") for flag in flags), *(variable.lower() for variable in variables)}:
        assert hasattr(settings, name), name


def test_assignments_of_variables_are_valid() -> None:
    """Wherever one is given a value."""
    assigned = dict(re.findall(r"\b(GATEWAY_\w+)=([^\s`]+)", DOCUMENT))
    assert len(assigned) > 5
    check_environment(assigned)


def test_log_events_in_the_text_are_logged() -> None:
    """Those of the table of signs."""
    section = DOCUMENT.split("\n## When something is wrong\n")[1].split("\n## ")[0]
    source = "".join(path.read_text() for path in (Path(__file__).parents[1] / "gateway").rglob("*.py"))
    events = [event for event in re.findall(r"`([a-z]+(?: [a-z]+){2,})`", section) if event != "xhr poll error"]
    assert len(events) >= 3
    for event in events:
        assert f'"{event}' in source, event


@pytest.mark.parametrize("program", [None, *SYSTEMD])
def test_the_unit_is_one_that_systemd_takes(program: str | None, tmp_path: Path) -> None:
    """By its form and its settings; and by systemd, where there is one, which reports names that it does not know."""
    (unit,) = blocks("ini")
    if program is None:
        lines = [line for line in unit.splitlines() if line and not line.startswith("#")]
        assert [line for line in lines if line.startswith("[")] == ["[Unit]", "[Service]", "[Install]"]
        assert all(re.fullmatch(r"\[\w+\]|[A-Z]\w+=.*", line) for line in lines)
        check_environment(dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE)))
        return
    path = tmp_path / "gateway.service"
    path.write_text(unit.replace("/opt/gateway/bin/gateway", "/bin/true"))
    done = subprocess.run([program, "verify", path], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, path.name in done.stderr) == (0, False), done.stderr


def test_compose_has_three_nodes_that_nginx_knows() -> None:
    """At fixed addresses, with a store that syncs each write."""
    project = compose()
    services = project["services"]
    nodes = [service for name, service in services.items() if name.startswith("gateway")]
    addresses = [node["networks"]["chat"]["ipv4_address"] for node in nodes]
    (config,) = [text for text in blocks("nginx") if "upstream gateways {" in text]
    assert re.findall(r"server ([\d.]+):8080;", config) == addresses
    assert len(set(addresses)) == 3
    for node in nodes:
        check_environment(node["environment"])
        assert node["environment"]["GATEWAY_TRUST_PROXY"] == services["nginx"]["networks"]["chat"]["ipv4_address"]
        assert any(probe in node["healthcheck"]["test"][-1] for probe in PROBES)
        compile(node["healthcheck"]["test"][-1], "healthcheck", "exec")
    _, *words = services["valkey"]["command"]
    assert DURABLE.items() <= directives(words).items()
    assert directives(words)["maxmemory-policy"] == "noeviction"


def test_the_image_has_the_store_s_client_and_is_reached_from_outside() -> None:
    (dockerfile,) = blocks("dockerfile")
    python = (Path(__file__).parents[1] / ".python-version").read_text().strip()
    assert re.findall(r"^FROM python:([\d.]+)-slim", dockerfile, re.MULTILINE) == [python, python]
    assert "'/src[redis]'" in dockerfile
    check_environment(dict(re.findall(r"^ENV (\w+)=(\S+)$", dockerfile, re.MULTILINE)))


def test_pods_are_replaced_one_by_one_with_time_to_stop() -> None:
    deployment = kubernetes()["Deployment", "chat"]["spec"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    gateway = container({"spec": deployment})
    waits = int(gateway["lifecycle"]["preStop"]["exec"]["command"][1])
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] >= waits + 10
    assert deployment["template"]["spec"]["enableServiceLinks"] is False
    probes = [gateway[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")]
    assert probes == ["/health/live", "/health/ready"]


def test_pods_have_valid_settings_and_a_durable_store() -> None:
    objects = kubernetes()
    gateway, store = container(objects["Deployment", "chat"]), container(objects["StatefulSet", "chat-store"])
    variables = {entry["name"]: entry.get("value", "") for entry in gateway["env"]}
    check_environment(variables)
    assert set(re.findall(r"\$\((\w+)\)", "".join(variables.values()))) == {
        name for name, value in variables.items() if not value
    }
    assert DURABLE.items() <= directives(store["args"]).items()
    assert directives(store["args"])["maxmemory-policy"] == "noeviction"


def test_services_and_budgets_select_pods_that_there_are() -> None:
    """By label and by the name of the port."""
    objects = kubernetes()
    pods = [thing["spec"]["template"] for (kind, _), thing in objects.items() if kind in {"Deployment", "StatefulSet"}]
    ports = {port["name"]: pod["metadata"]["labels"] for pod in pods for port in pod["spec"]["containers"][0]["ports"]}
    for kind, name in objects:
        if kind == "Service":
            spec = objects[kind, name]["spec"]
            assert [ports[port["targetPort"]] for port in spec["ports"]] == [spec["selector"]]
    budget = objects["PodDisruptionBudget", "chat"]["spec"]
    assert budget["selector"]["matchLabels"] in [pod["metadata"]["labels"] for pod in pods]
