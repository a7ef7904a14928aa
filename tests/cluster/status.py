"""The state of a cluster as a table for people."""

from __future__ import annotations

from tests.cluster import components, description, health, processes
from tests.cluster.control_plane import Blueprint
from tests.cluster.paths import LocalPaths


def table(paths: LocalPaths) -> tuple[str, bool]:
    """The table, and whether all is well. Without a cluster the table says so."""
    described = description.read(paths)
    if described is None:
        return f"no cluster in {paths.folder}", False
    if described.network is None:
        return f"the cluster in {paths.folder} was not fully made: run `up` or `down`", False
    plan = description.blueprint(paths, described)
    others = [name for name in processes.recorded(paths) if name not in components.COMMAND_LINES]
    rows = [_component(plan, name) for name in (*components.COMMAND_LINES, *others)]
    node_reason = health.node(plan)
    rows.append((f"node {plan.node_name}", "", "", node_reason or "Ready"))
    header = ("COMPONENT", "PID", "UPTIME", "HEALTH")
    lines = [f"{name:<26}{pid:<8}{uptime:<10}{state}" for name, pid, uptime, state in (header, *rows)]
    lines += [f"folder {paths.folder}, API server {plan.network.api_server}"]
    return "\n".join(lines), all(state in ("ok", "Ready") for *_, state in rows)


def _component(plan: Blueprint, name: str) -> tuple[str, str, str, str]:
    record = processes.recorded(plan.paths).get(name)
    if record is None:
        return name, "-", "-", "stopped"
    if not record.running:
        return name, str(record.pid), "-", "died"
    # Of a process that somebody added to the cluster nothing more is known than that it runs.
    probe = health.PROBES.get(name)
    return name, str(record.pid), _duration(record.uptime), (probe(plan) if probe else "") or "ok"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
