"""What the tests of several packages need."""

import pytest


@pytest.fixture
def without_environment_proxies(monkeypatch):
    """Remove the proxies that this machine's environment names."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
