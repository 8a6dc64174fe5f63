"""Receipts for tests of what is done with a receipt."""

from pushengine.model import Receipt


def receipt(**changes):
    """Return the receipt of a small push that is DONE, with these changes."""
    fields = {
        "push_id": "push",
        "job_id": "job",
        "table": "TABLE",
        "mode": "append",
        "status": "DONE",
        "rows": 1,
        "chunks": 1,
        "payload_bytes": 1,
        "source_bytes": 1,
        "elapsed_seconds": 1.0,
        "retries": 0,
        "submits": 1,
        "restarts": 0,
        "resumed": False,
        "verified": "count",
        "job_logs": (),
    }
    return Receipt(**(fields | changes))
