"""Settings: what they mean (`settings`), and where their values come from (`load`)."""

from pushengine.config.settings import EngineSettings

__all__ = ["EngineSettings"]
