"""A network that cuts, stalls, slows down and resets connections between the real engine and the real server."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.fast import FastClock, push_once
from support.tcp_proxy import TcpProxy

from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.errors import PushEngineError
from pushengine.push.outcome import is_resumable

ROWS = 480


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("ID,TEXT\n" + "".join(f"{row:06d},{row % 10}{'x' * 1199}\n" for row in range(ROWS)))
    return path


async def push_through(source, tmp_path, disturb, *, runs=6, **settings):
    """Run the same command through a disturbed network until it is over. Return the outcomes, (rows, distinct ids) and the proxy."""
    clock = FastClock()
    outcomes = []
    with ThreadPoolExecutor(2) as encoders:
        options = EmulatorSettings(queue_seconds=0.0, run_seconds=0.0, now=clock.now)
        async with Emulator(settings=options) as emulator, TcpProxy(emulator.port) as proxy:
            disturb(proxy)
            for _run in range(runs):
                try:
                    receipt = await push_once(proxy.url, clock, encoders, tmp_path / "state", source, **settings)
                except PushEngineError as error:
                    assert is_resumable(error), error
                    outcomes.append(type(error).__name__)
                    proxy.restore()
                else:
                    outcomes.append(receipt.status)
                    break
            (found,) = await emulator.query("select count(*), count(distinct ID) from T")
            runs_of_jobs = sum(job.runs for job in emulator.service.jobs.values())
    assert runs_of_jobs == 1
    return outcomes, found, proxy


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("request_bytes", [1, 200, 400, 1000, 3000, 9000, 16_000])
async def test_a_push_survives_a_cut_after_any_number_of_request_bytes(source, tmp_path, request_bytes, reset):
    def disturb(proxy):
        proxy.cut_after(request=request_bytes, over="all", reset=reset, times=1)

    outcomes, rows, proxy = await push_through(source, tmp_path, disturb)
    assert (outcomes[-1], rows) == ("DONE", (ROWS, ROWS))
    assert proxy.cuts == 1


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("response_bytes", [1, 60, 300, 700, 1200, 1900, 2600])
async def test_a_push_survives_a_cut_after_any_number_of_response_bytes(source, tmp_path, response_bytes, reset):
    def disturb(proxy):
        proxy.cut_after(answer=response_bytes, over="all", reset=reset, times=1)

    outcomes, rows, proxy = await push_through(source, tmp_path, disturb)
    assert (outcomes[-1], rows) == ("DONE", (ROWS, ROWS))
    assert proxy.cuts == 1


async def test_a_push_fails_when_every_connection_is_cut_early_and_the_next_run_finishes_it(source, tmp_path):
    def disturb(proxy):
        proxy.cut_after(request=700, reset=True)

    outcomes, rows, _ = await push_through(source, tmp_path, disturb, max_attempts=2)
    assert len(outcomes) > 1
    assert (outcomes[-1], rows) == ("DONE", (ROWS, ROWS))


async def test_an_unreachable_server_is_reported_soon_and_harms_nothing(source, tmp_path):
    outcomes, rows, _ = await push_through(source, tmp_path, lambda proxy: proxy.refuse(), max_attempts=2)
    assert outcomes == ["RetriesExhaustedError", "DONE"]
    assert rows == (ROWS, ROWS)


async def test_a_stalled_peer_is_detected_in_time(source, tmp_path):
    """The promised limit is 60 s. The settings shorten it so that the test does not wait for a minute."""
    start = time.monotonic()

    def disturb(proxy):
        proxy.stall()

    outcomes, rows, _ = await push_through(
        source, tmp_path, disturb, max_attempts=1, stall_timeout_seconds=1.0, read_timeout_seconds=1.0
    )
    assert outcomes[-1] == "DONE"
    assert len(outcomes) == 2
    assert rows == (ROWS, ROWS)
    assert time.monotonic() - start < 20


async def test_a_push_over_a_slow_network_only_takes_longer(source, tmp_path):
    outcomes, rows, _ = await push_through(source, tmp_path, lambda proxy: proxy.slow(200_000), stall_timeout_seconds=5)
    assert (outcomes, rows) == (["DONE"], (ROWS, ROWS))
