"""The Data Push API, emulated over real HTTP on this machine, with its tables in DuckDB.

It is a second, independent implementation of the API contract. It imports nothing from the engine and treats every
client the same, so official and hand-written clients work with it too.

    async with Emulator() as emulator:
        ...  # point any client at emulator.url
        rows = await emulator.query("SELECT count(*) FROM orders")

Clients that refuse http:// need a certificate (extra `tls`):

    certificate = LocalCertificate()
    async with Emulator(tls=certificate) as emulator:
        certificate.write_ca(path)  # let the client trust this file

Faults are data (see `faults`):

        emulator.faults = FaultPlan([Fault("upsert", DropAfter(), nth=2)])
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pushengine.emulator.faults import Fault, FaultPlan
    from pushengine.emulator.plan_data import FaultPlanError
    from pushengine.emulator.server import Emulator
    from pushengine.emulator.settings import EmulatorCredentials, EmulatorSettings
    from pushengine.emulator.tls import LocalCertificate

__all__ = [
    "Emulator",
    "EmulatorCredentials",
    "EmulatorSettings",
    "Fault",
    "FaultPlan",
    "FaultPlanError",
    "LocalCertificate",
]


_LAZY_MODULES = {
    "Emulator": "server",
    "EmulatorCredentials": "settings",
    "EmulatorSettings": "settings",
    "Fault": "faults",
    "FaultPlan": "faults",
    "FaultPlanError": "plan_data",
    "LocalCertificate": "tls",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package does not import DuckDB and aiohttp."""
    if name in _LAZY_MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
