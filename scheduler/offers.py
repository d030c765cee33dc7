"""What hosts offer and jobs need, as words that placement compares: `runtime:litert`, `converter:onnx-export@1a2b3c4d`.

A conversion's key holds the versions of the packages that make it, so it needs a host with these versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from device_registry.capabilities import BackendCapability
from scheduler.conversions import digest
from workers.plugins import plugins

#: Key of a host's description to the word for one of its backends.
_WORDS = {
    "converters": "converter",
    "sources": "source",
    "compressions": "compression",
    "runtimes": "runtime",
}
#: What a conversion may hold at its peak, most of it libraries: MobileNetV3-Small to all formats took up to 1.1 GB (m).
SLOT_BYTES = 2 * 2**30
Seam = Literal["converters", "sources", "compressions", "runtimes"]


def need(seam: Seam, name: str, versions: Mapping[str, str] | None = None) -> str:
    """The word for a backend, of these versions where they matter."""
    word = f"{_WORDS[seam]}:{name}"
    return word if versions is None else f"{word}@{digest(dict(versions))[:8]}"


def slot_count(cpu_count: int, memory_bytes: int) -> int:
    """How many conversions a host makes at once: one per core, as far as its memory goes.

    Args:
        cpu_count: of the host.
        memory_bytes: of the host; 0: it did not say.
    """
    fitting = memory_bytes // SLOT_BYTES if memory_bytes else cpu_count
    return max(1, min(cpu_count, fitting))


def slot_offers(description: Mapping[str, Any]) -> frozenset[str]:
    """What a slot of a host can do: converters, model sources, compressions, each with and without its versions.

    Args:
        description: a HostDescription as a row keeps it.
    """
    seams: tuple[Seam, ...] = ("converters", "sources", "compressions")
    return frozenset(
        need(seam, item["name"], versions)
        for seam in seams
        for item in _able(description, seam)
        for versions in (None, item["versions"])
    )


def device_offers(description: Mapping[str, Any], kind: str) -> frozenset[str]:
    """The runtimes that a host can run on a device of a kind.

    Args:
        description: a HostDescription as a row keeps it.
        kind: cpu, gpu, android, ...
    """
    registered = plugins("runtimes")
    names = [item["name"] for item in _able(description, "runtimes") if item["name"] in registered]
    return frozenset(need("runtimes", name) for name in names if kind in registered[name].load().device_kinds)


def own_offers(offers: frozenset[str], attributes: Mapping[str, Any]) -> frozenset[str]:
    """What of its host's offers a device can do: a phone lists the runtimes that there is a program for.

    Args:
        offers: `device_offers` of its host.
        attributes: of the device.
    """
    listed = attributes.get("runtimes")
    if not isinstance(listed, list | tuple):
        return offers
    return offers & {need("runtimes", str(name)) for name in listed}


def merged(seam: Seam, descriptions: Iterable[Mapping[str, Any]]) -> dict[str, BackendCapability]:
    """What several hosts can do together.

    Returns:
        Each backend by name, with the versions that most of the hosts have that can; where none can, why the first
        cannot.
    """
    items: dict[str, list[Mapping[str, Any]]] = {}
    for description in descriptions:
        for item in description.get(seam, ()):
            items.setdefault(item["name"], []).append(item)
    return {name: _best(found) for name, found in items.items()}


def _best(items: Sequence[Mapping[str, Any]]) -> BackendCapability:
    able = [item for item in items if item["why_not"] is None]
    if not able:
        return BackendCapability(**items[0])
    counts = Counter(digest(item["versions"]) for item in able)
    return BackendCapability(**max(able, key=lambda item: (counts[digest(item["versions"])], digest(item["versions"]))))


def _able(description: Mapping[str, Any], seam: Seam) -> list[Mapping[str, Any]]:
    return [item for item in description.get(seam, ()) if item["why_not"] is None]
