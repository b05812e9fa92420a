"""What Ray has to place hosts on, and the sentence for hosts that it could not place.

Law of this file: a host that does not come is told with numbers: what it asks for, what there is, what
to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["pending", "ray_node", "report"]


def ray_node() -> tuple[str, str]:
    """Return (Ray node id, IP) of this process."""
    import ray

    ip = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
    return ray.get_runtime_context().get_node_id(), ip


def pending(names: Sequence[str], asks: Sequence[Mapping[str, float]], waited_s: float) -> str:
    """Say why these hosts are not there, from what Ray has now. Blocks for milliseconds."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return report(names, asks, waited_s, nodes, ray.available_resources())  # type: ignore[no-untyped-call]


def report(
    names: Sequence[str],
    asks: Sequence[Mapping[str, float]],
    waited_s: float,
    nodes: Sequence[Mapping[str, Any]],
    free: Mapping[str, Any],
) -> str:
    """Return the sentence.

    Args:
        asks: what each of them asks for, by Ray's names of resources. nodes: resources of each.
        free: resources of the cluster, not taken.
    """
    text, short = f"not ready after {waited_s:g} s: {', '.join(names)}.", False
    for resource in sorted({resource for ask in asks for resource in ask}, key=lambda name: (name != "CPU", name)):
        wanted = [ask[resource] for ask in asks if resource in ask]
        owned = [float(node.get(resource, 0.0)) for node in nodes]
        most, left = max(owned, default=0.0), float(free.get(resource, 0.0))
        text += (
            f" Each asks Ray for {resource} {max(wanted):g}, together {sum(wanted):g}; the cluster has "
            f"{resource} {sum(owned):g} ({left:g} free) on {len(owned)} nodes, at most {most:g} on one."
        )
        short = short or most < max(wanted) or left < max(wanted)
    if short:
        return (
            f"{text} Ray has no room: give hosts less (runtime.cpus, runtime.resources), ask for fewer hosts "
            "(runtime.hosts), or add nodes"
        )
    return (
        f"{text} There is room, so they start slowly or not at all: see their logs below /tmp/ray/session_latest/logs "
        "on their nodes, or give them longer (runtime.ready_s)"
    )
