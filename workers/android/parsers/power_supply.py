"""`/sys/class/power_supply`: the kernel's own view of the battery and of what feeds it."""

from __future__ import annotations

from dataclasses import dataclass

from workers.android.parsers.files import entries
from workers.android.parsers.value import Value, absent, integer, plain_lines, shortened

_LEAVES = frozenset({"current_now", "voltage_now", "charge_counter", "status", "online"})
_STATUS = {"charging", "discharging", "not charging", "full", "unknown"}
#: A driver that cannot answer hands its error number on as a value.
_ERROR_NUMBERS = {
    -5: "EIO",
    -11: "EAGAIN",
    -16: "EBUSY",
    -19: "ENODEV",
    -22: "EINVAL",
    -61: "ENODATA",
    -95: "EOPNOTSUPP",
    -110: "ETIMEDOUT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSupply:
    """One look. Current and charge are as told: their units differ by driver (`workers.android.power`)."""

    #: Of the battery itself, else of its gauge.
    current_raw: Value
    voltage_mv: Value
    charge_raw: Value
    status: str | None
    #: Names of chargers to whether they feed the phone.
    online: dict[str, bool]
    unread: tuple[str, ...] = ()


def read_power_supply(text: str) -> PowerSupply:
    """Read lines `.../power_supply/NAME/FILE:VALUE`."""
    unread: list[str] = []
    told: dict[str, list[Value]] = {leaf: [] for leaf in _LEAVES}
    status: str | None = None
    online: dict[str, bool] = {}
    for entry in entries(plain_lines(text), _LEAVES, unread):
        of_battery = entry.folder in ("battery", "bms") or "gauge" in entry.folder
        if entry.refused:
            told[entry.leaf].append(Value(None, entry.quality, f"{entry.folder}/{entry.leaf}: {entry.text}"))
        elif entry.leaf == "status" and entry.text.lower() in _STATUS:
            # The battery's own word counts; gauges are asked after it and repeat it.
            status = status or entry.text.lower()
        elif entry.leaf == "status" or (value := integer(entry.text)) is None:
            unread.append(f"{entry.folder}/{entry.leaf}: {entry.text}")
        elif entry.leaf != "online":
            told[entry.leaf].append(_told(value))
        elif not of_battery:  # Samsung's battery/online is the number of a cable type
            online[entry.folder] = value > 0
    return PowerSupply(
        current_raw=_best(told["current_now"], "no current_now"),
        voltage_mv=_millivolts(_best(told["voltage_now"], "no voltage_now")),
        charge_raw=_best(told["charge_counter"], "no charge_counter"),
        status=status,
        online=online,
        unread=shortened(unread),
    )


def _told(raw: int) -> Value:
    if raw in _ERROR_NUMBERS:
        return Value(None, "implausible", f"{raw} is the error {_ERROR_NUMBERS[raw]}, not a value")
    if raw == 0:
        return Value(None, "implausible", "0, which stands for absent as well")
    return Value(raw)


def _best(values: list[Value], missing: str) -> Value:
    """The first that has a value; else the first refusal that says more than that there is no such file."""
    refusals = [value for value in values if value.value is None]
    ranked = [value for value in values if value.value is not None]
    ranked += [value for value in refusals if value.quality != "unsupported"] + refusals
    return ranked[0] if ranked else absent(missing)


def _millivolts(raw: Value) -> Value:
    """Told in microvolts by the kernel's rule; some gauges tell millivolts."""
    if raw.value is None:
        return raw
    for per_millivolt in (1000, 1):
        if 2500 <= raw.value / per_millivolt <= 20_000:
            return Value(raw.value / per_millivolt)
    return Value(None, "implausible", f"voltage_now {raw.value:g}")
