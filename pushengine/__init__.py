"""pushengine: load tables into Celonis data pools through the Data Push API, fast, in bounded memory and within the submit quota.

Importing the package is cheap: pyarrow, aiohttp and the other libraries are imported on first use of a name that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pushengine import errors

if TYPE_CHECKING:
    from pushengine.config.settings import EngineSettings as EngineSettings
    from pushengine.credentials import AppKey as AppKey
    from pushengine.credentials import OAuthClient as OAuthClient
    from pushengine.credentials import UserApiKey as UserApiKey
    from pushengine.engine import PushEngine as PushEngine
    from pushengine.errors import PushEngineError as PushEngineError
    from pushengine.model import Plan as Plan
    from pushengine.model import Receipt as Receipt

__version__ = "0.1.0"

_LAZY_MODULES = {
    "PushEngine": "pushengine.engine",
    "AppKey": "pushengine.credentials",
    "OAuthClient": "pushengine.credentials",
    "UserApiKey": "pushengine.credentials",
    "EngineSettings": "pushengine.config.load",
    "PushEngineError": "pushengine.errors",
    "Plan": "pushengine.model",
    "Receipt": "pushengine.model",
}

__all__ = [
    "AppKey",
    "EngineSettings",
    "OAuthClient",
    "Plan",
    "PushEngine",
    "PushEngineError",
    "Receipt",
    "UserApiKey",
    "errors",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return getattr(importlib.import_module(_LAZY_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY_MODULES])
