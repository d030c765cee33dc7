"""What can be said of an order that is not read strictly yet, or cannot be."""

from __future__ import annotations

from typing import Any

from workers.attempts import failed
from workers.codec import ContractError, to_dict
from workers.contract import Failure, Limits, Order
from workers.report import as_sent


def identity(data: dict[str, Any]) -> tuple[int, str, str]:
    """Which attempt an order is for, its token, and where.

    Raises:
        ContractError: it does not say.
    """
    try:
        attempt_id, place = data["attempt_id"], data["place"]
    except (KeyError, TypeError) as error:
        raise ContractError(f"an order without its attempt or place: {error!r}") from error
    if not isinstance(attempt_id, int) or not isinstance(place, str):
        raise ContractError(f"an order for attempt {attempt_id!r} at {place!r}")
    return attempt_id, str(data.get("token")), place


def refused(data: dict[str, Any], failure: Failure) -> dict[str, str | None]:
    """The report on an order that was not begun, as it is sent."""
    attempt_id, token, place = identity(data)
    limits = Limits(deadline_s=0.0, memory_bytes=0)
    order = Order(attempt_id=attempt_id, token=token, place=place, limits=limits)
    return as_sent(to_dict(failed(order, failure)))
