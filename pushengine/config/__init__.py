"""Settings: what they mean, and where their values come from."""

from pushengine.config.load import EngineSettings

__all__ = ["EngineSettings"]
