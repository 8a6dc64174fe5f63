"""Delivery of events to sinks and subscribers."""

from support.receipts import receipt

from pushengine.events import PushFinished, WaitStarted
from pushengine.runtime.event_bus import EventBus, PushSink
from pushengine.testing import RecordingSink


def event(reason):
    return WaitStarted(push_id="p", reason=reason)


async def test_a_subscription_starts_at_the_call_and_not_at_its_first_iteration():
    """A caller may subscribe, await a push, and only then iterate."""
    bus = EventBus()
    bus.emit(event("before"))
    stream = bus.subscribe()
    bus.emit(event("after"))
    bus.close()
    assert [one.reason async for one in stream] == ["after"]


async def test_a_subscription_to_a_closed_bus_is_empty():
    bus = EventBus()
    bus.close()
    assert [one async for one in bus.subscribe()] == []


def test_the_next_sink_gets_an_event_during_which_a_sink_removes_itself():
    bus = EventBus()

    class Once:
        def emit(self, _event):
            bus.remove(self)

    last = RecordingSink()
    bus.add(Once())
    bus.add(last)
    bus.emit(event("one"))
    assert [one.reason for one in last.events] == ["one"]


def test_every_event_of_a_push_names_its_table_and_pool():
    recorded = RecordingSink()
    sink = PushSink(recorded, table="T", pool="pool-1")
    sink.emit(event("one"))
    sink.emit(PushFinished(push_id="p", receipt=receipt(push_id="p", table="T")))
    for one in recorded.events:
        assert one.fields().items() >= {"push_id": "p", "table": "T", "pool": "pool-1"}.items()
