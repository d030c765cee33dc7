"""How a webhook's receiver knows that a message is the farm's own, and new: HMAC-SHA256 over time and body.

What a receiver does with it stands in docs/notifications.md; the tests run it from there.
"""

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
