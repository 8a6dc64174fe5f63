"""https for clients that refuse http."""

import asyncio
import http.client
import ssl
import stat
import sys

import pytest

from pushengine import EngineSettings, PushEngine, UserApiKey, errors
from pushengine.emulator import Emulator, EmulatorSettings, Fault, LocalCertificate
from pushengine.emulator.faults import DropAfter
from pushengine.emulator.tls import TlsUnavailableError
from pushengine.testing import EmulatorThread

QUICK = EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)
pytestmark = pytest.mark.usefixtures("without_environment_proxies")


@pytest.fixture(scope="module")
def certificate():
    return LocalCertificate()


@pytest.fixture
def ca_file(certificate, tmp_path):
    path = tmp_path / "ca.pem"
    certificate.write_ca(path)
    return path


async def test_the_engine_pushes_over_https_and_survives_a_lost_response(certificate, ca_file, tmp_path):
    source = tmp_path / "orders.csv"
    source.write_text("ID\n1\n2\n")
    async with Emulator(settings=QUICK, tls=certificate) as emulator:
        assert emulator.url == f"https://127.0.0.1:{emulator.port}"
        emulator.faults = [Fault("upsert", DropAfter(reset=True), nth=1)]
        async with PushEngine(
            emulator.url,
            pool_id="pool",
            auth=UserApiKey("key"),
            settings=EngineSettings(ca_file=ca_file),
            state_dir=tmp_path / "state",
        ) as engine:
            receipt = await engine.push(source, table="orders")
        assert receipt.status == "DONE"
        assert emulator.faults.fired == [("upsert", 1, "drop_after")]
        assert await emulator.query("SELECT ID FROM orders ORDER BY ID") == [(1,), (2,)]


async def test_a_client_that_does_not_know_the_ca_is_told(certificate, tmp_path):
    source = tmp_path / "orders.csv"
    source.write_text("ID\n1\n")
    async with (
        Emulator(tls=certificate) as emulator,
        PushEngine(
            emulator.url,
            pool_id="pool",
            auth=UserApiKey("key"),
            settings=EngineSettings(max_attempts=1),
            state_dir=tmp_path / "state",
        ) as engine,
    ):
        with pytest.raises(errors.ConnectionFailedError, match="certificate"):
            await engine.push(source, table="orders")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_clients_may_use_either_name_of_this_machine(certificate, ca_file, host):
    def read(port):
        connection = http.client.HTTPSConnection(host, port, context=ssl.create_default_context(cafile=str(ca_file)))
        connection.request("GET", "/api/cloud", headers={"Authorization": "Bearer key"})
        status = connection.getresponse().status
        connection.close()
        return status

    with EmulatorThread(settings=QUICK, tls=certificate) as emulator:
        assert await asyncio.to_thread(read, emulator.port) == 200


def test_only_this_user_can_read_the_file_and_no_file_is_overwritten(certificate, ca_file):
    if sys.platform != "win32":
        assert stat.S_IMODE(ca_file.stat().st_mode) == 0o600
    assert "PRIVATE" not in ca_file.read_text()
    with pytest.raises(FileExistsError):
        certificate.write_ca(ca_file)


def test_without_trustme_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(TlsUnavailableError, match=r"pip install 'pushengine\[tls\]'"):
        LocalCertificate()
