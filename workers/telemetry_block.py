"""The full-rate telemetry of one attempt as one compressed block of columns, for the artifact store.

An `.npz` without pickles: `offset_s` (float64, seconds since the anchor), `channel` (uint16), `value` (float64, NaN
where there is none), `quality` (uint8), and `about`, which is JSON: the anchor (epoch seconds by the agent's clock when
the attempt began there), the channels, the names of the qualities, and why what has no value has none.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Sequence
from typing import Any

from workers.errors import AttemptError, Cause
from workers.readings import QUALITIES, Meaning, meaning_of
from workers.report import Reading

_VERSION = 1


def write_block(readings: Sequence[Reading], anchor: float) -> bytes:
    """Readings as a block.

    Args:
        readings: whose values are numbers, or absent.
        anchor: epoch seconds when the attempt began.
    """
    import numpy as np  # an agent that only carries conversions has no use for it

    channels: dict[Meaning, int] = {}
    channel = [channels.setdefault(meaning_of(reading), len(channels)) for reading in readings]
    about = {
        "version": _VERSION,
        "anchor": anchor,
        "channels": list(channels),
        "qualities": QUALITIES,
        "why": {position: reading.why for position, reading in enumerate(readings) if reading.why is not None},
    }
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        offset_s=np.array([reading.at - anchor for reading in readings], dtype="<f8"),
        channel=np.array(channel, dtype="<u2"),
        value=np.array([math.nan if reading.value is None else reading.value for reading in readings], dtype="<f8"),
        quality=np.array([QUALITIES.index(reading.quality) for reading in readings], dtype="<u1"),
        about=np.frombuffer(json.dumps(about).encode(), dtype="<u1"),
    )
    return packed.getvalue()


def read_block(data: bytes) -> list[Reading]:
    """The readings of a block; nothing in it is ever unpickled.

    Raises:
        AttemptError: it is no such block, or of a later version.
    """
    import numpy as np

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            about: dict[str, Any] = json.loads(arrays["about"].tobytes())
            if about["version"] != _VERSION:
                message = f"the telemetry is of version {about['version']}: upgrade benchfarm"
                raise AttemptError(Cause.USER, "bad_block", message)
            columns = zip(*(arrays[name].tolist() for name in ("offset_s", "channel", "value", "quality")), strict=True)
            return [_reading(about, position, *one) for position, one in enumerate(columns)]
    except (ValueError, KeyError, IndexError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise AttemptError(Cause.INFRASTRUCTURE, "bad_block", "the block of full-rate telemetry is damaged") from error


def _reading(
    about: dict[str, Any], position: int, offset_s: float, channel: int, value: float, quality: int
) -> Reading:
    sensor, domain, quantity, unit = about["channels"][channel]
    return Reading(
        sensor=sensor,
        domain=domain,
        quantity=quantity,
        unit=unit,
        value=None if math.isnan(value) else value,
        quality=about["qualities"][quality],
        at=about["anchor"] + offset_s,
        why=about["why"].get(str(position)),
    )
