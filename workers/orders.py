"""What can be said of an order before it is read strictly."""

from __future__ import annotations

from typing import Any

from workers.codec import ContractError


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
