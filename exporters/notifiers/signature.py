"""How a webhook's receiver knows that a message is the farm's own, and new: HMAC-SHA256 over time and body."""

from __future__ import annotations

import hashlib
import hmac

#: Headers of every message of a webhook.
KEY_HEADER = "Idempotency-Key"
EVENT_HEADER = "Benchfarm-Event"
TIME_HEADER = "Benchfarm-Timestamp"
SIGNATURE_HEADER = "Benchfarm-Signature"


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The value of the signature's header.

    Args:
        secret: shared with the receiver.
        timestamp: seconds since 1970, as the header beside it says.
        body: exactly as sent.
    """
    return "v1=" + hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()


def is_genuine(
    secret: str, timestamp: str, signature: str, body: bytes, *, now: float, tolerance_s: float = 300.0
) -> bool:
    """What a receiver does (docs/notifications.md has it without this library).

    Args:
        secret: shared with the farm.
        timestamp: of its header.
        signature: of its header.
        body: exactly as received.
        now: seconds since 1970.
        tolerance_s: a message that is older, or newer, is somebody else's copy of one.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
        return False
    fresh = abs(now - int(timestamp)) <= tolerance_s
    return hmac.compare_digest(sign(secret, int(timestamp), body).encode(), signature.encode()) and fresh
