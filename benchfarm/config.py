"""Where things are: from the environment, with defaults that work on a new machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from scheduler.embedded import Home

#: Caches and proxies that loading pretrained weights needs; nothing else of the user's environment reaches a child.
_WEIGHTS_VARIABLES = (
    "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "TORCH_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
)  # fmt: skip


def load_home() -> Home:
    """The data directory: BENCHFARM_HOME, or the user's data folder; the database and store in it unless told."""
    path = Path(os.environ.get("BENCHFARM_HOME") or user_data_path("benchfarm")).expanduser().absolute()
    return Home(
        path=path,
        database_url=os.environ.get("BENCHFARM_DATABASE_URL") or f"sqlite:///{path / 'benchfarm.db'}",
        store_url=os.environ.get("BENCHFARM_STORE_URL") or f"file://{path / 'artifacts'}",
    )


def weights_environment() -> dict[str, str]:
    """What a child needs to find pretrained weights: caches and proxies as the user set them."""
    home = Path.home()
    defaults = {
        "HF_HOME": str(home / ".cache" / "huggingface"),
        "TORCH_HOME": str(home / ".cache" / "torch"),
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "0"),
    }
    return defaults | {name: os.environ[name] for name in _WEIGHTS_VARIABLES if name in os.environ}
