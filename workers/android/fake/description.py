"""What a played phone is: the entries of a rack's file, and the phones that they may start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from workers.android.identity import PLAYED

FEATURES = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "sendrecv_v2")


@dataclass(frozen=True, kw_only=True)
class Description:
    """One phone, as it leaves the box. An entry of a rack's file has these keys; all but the name may be left out."""

    #: What tests call it; its serial number unless `properties` say another.
    name: str
    #: Whose habits it has: plain, pixel, samsung, xiaomi.
    vendor: str = "plain"
    #: What getprop answers, beside and instead of the vendor's.
    properties: Mapping[str, str] = field(default_factory=dict)
    #: What it can do on the wire; without shell_v2 there is no exit status.
    features: tuple[str, ...] = FEATURES
    #: What it makes of the host's key: unasked, accepted, rejected.
    key: str = "unasked"
    storage_mb: int = 1024
    #: How long it is away when it restarts.
    restart_s: float = 1.0
    #: What a delegate of the stand-in of benchmark_model takes: gpu, nnapi, ... to full, partial, none or missing.
    delegates: Mapping[str, str] = field(default_factory=lambda: {"gpu": "full", "nnapi": "partial"})
    #: Files that it has beside its vendor's, below /sys only; None: nobody may read it.
    files: Mapping[str, str | None] = field(default_factory=dict)
    has_fixed_performance: bool = True
    can_suspend_input: bool = False
    #: Charge, heat and load in the beginning: fields of `workers.android.fake.condition.Condition`.
    condition: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Description:
        """Read an entry.

        Raises:
            ValueError: it has a key that means nothing, or an unknown vendor.
        """
        known = {each.name for each in fields(cls)}
        if unknown := entry.keys() - known:
            raise ValueError(f"a phone has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
        given = dict(entry)
        if "features" in given:
            given["features"] = tuple(given["features"])
        described = cls(**given)
        if described.vendor not in VENDORS:
            raise ValueError(f"no vendor {described.vendor}; there are {', '.join(VENDORS)}")
        return described

    def all_properties(self) -> dict[str, str]:
        """What getprop lists."""
        return {
            "ro.serialno": f"FAKE{self.name.upper()}",
            "ro.boot.serialno": f"FAKE{self.name.upper()}",
            "ro.product.cpu.abi": "arm64-v8a",
            "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
            "sys.boot_completed": "1",
            PLAYED: "1",
            **VENDORS[self.vendor].properties,
            **self.properties,
        }


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """Habits of a kind of phone; `workers.android.fake.condition` writes what they change."""

    properties: Mapping[str, str]
    #: Kernel's name of a thermal zone, and how many of its units are one degree.
    zones: tuple[tuple[str, int], ...] = (("battery", 1000), ("cpu-0-0", 1000), ("skin-therm", 1000))
    #: (type, name) of the thermal HAL; none: it has no HAL.
    hal: tuple[tuple[int, str], ...] = ((0, "CPU0"), (1, "GPU0"), (2, "battery"), (3, "skin"))
    #: Rails of the on-device power monitor.
    rails: tuple[str, ...] = ()
    #: Microampere for each unit of current_now, and the sign of a discharge.
    current_unit_ua: int = 1
    discharge_sign: int = -1
    #: Microampere hours for each unit of the charge counter.
    charge_unit_uah: int = 1
    #: Further lines of `dumpsys battery`.
    battery_lines: str = ""
    #: Clock domains: first CPU, how many, lowest and highest kHz.
    clocks: tuple[tuple[int, int, int, int], ...] = ((0, 4, 300_000, 1_804_800), (4, 4, 500_000, 2_496_000))


def _properties(brand: str, model: str, device: str, soc: tuple[str, str], release: str, sdk: int) -> dict[str, str]:
    maker, chip = soc
    return {
        "ro.product.brand": brand.lower(),
        "ro.product.manufacturer": brand,
        "ro.product.model": model,
        "ro.product.name": device,
        "ro.product.device": device,
        "ro.soc.manufacturer": maker,
        "ro.soc.model": chip,
        "ro.hardware": device,
        "ro.build.version.release": release,
        "ro.build.version.sdk": str(sdk),
        "ro.build.version.security_patch": "2026-09-05",
        "ro.build.fingerprint": f"{brand.lower()}/{device}/{device}:{release}/FAKE.260905.001/1:user/release-keys",
    }


_SAMSUNG_LINES = """  mSecPlugTypeSummary: 2
  LED Charging: true
  LED Low Battery: true
  current now: {current}
  charge counter: {charge}
  Adaptive Fast Charging Settings: true
  FEATURE_WIRELESS_FAST_CHARGER_CONTROL: true
  mSavedBatteryAsoc: -1

  Battery service event log:
09-05 10:00:01.000 sendIntent ACTION_BATTERY_CHANGED: level:12, status:2
"""

VENDORS: Mapping[str, Vendor] = {
    "plain": Vendor(properties=_properties("Acme", "Fake Phone", "fake", ("Acme", "AC100"), "14", 34)),
    "pixel": Vendor(
        properties=_properties("Google", "Pixel 8", "shiba", ("Google", "Tensor G3"), "15", 35),
        hal=((0, "BIG"), (0, "LITTLE"), (1, "G3D"), (2, "battery"), (3, "VIRTUAL-SKIN"), (9, "TPU"), (6, "batoilo")),
        rails=("S2M_VDD_CPUCL2", "S3M_VDD_CPUCL1", "S4M_VDD_CPUCL0", "S8S_VDD_G3D", "S9S_VDD_AOC", "S10M_VDD_TPU"),
        clocks=((0, 4, 324_000, 1_704_000), (4, 4, 402_000, 2_367_000), (8, 1, 500_000, 2_914_000)),
    ),
    "samsung": Vendor(
        properties=_properties("Samsung", "SM-S911B", "dm1q", ("QTI", "SM8550"), "14", 34),
        zones=(("battery", 10), ("cpu-1-0", 1000), ("skin-msm-therm", 1)),
        # Shifted by one against the specification, and a sensor that is not there.
        hal=((1, "CPU"), (3, "BATTERY"), (4, "SKIN"), (9, "ABSENT")),
        current_unit_ua=1000,
        battery_lines=_SAMSUNG_LINES,
    ),
    "xiaomi": Vendor(
        properties={
            **_properties("Xiaomi", "23127PN0CC", "houji", ("QTI", "SM8650"), "14", 34),
            "ro.product.marketname": "Xiaomi 14",
        },
        hal=(),
        discharge_sign=1,
        charge_unit_uah=1000,
    ),
}
