"""Configuration: the engine settings (`settings`), and reading them from file, environment and flags (`load`)."""

from pushengine.config.options import PushOptions
from pushengine.config.settings import EngineSettings

__all__ = ["EngineSettings", "PushOptions"]
