"""Any request gets an answer, none of them a 500; after all of them the emulator still loads a table.

Requests are sent as raw bytes, because a client library would refuse to send many of them. Each run makes the same requests; for others:
`REQUESTS=100000 pytest -m slow tests/contract/test_fuzz.py`.
"""

import asyncio
import contextlib
import io
import json
import os
from dataclasses import dataclass, field
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushengine.emulator import Emulator, EmulatorSettings

SHORT, LONG = 400, int(os.environ.get("REQUESTS", "10000"))
SECONDS = 20
JOBS = "/data-ingestion/api/v1/data-push/pool-1/jobs/"
BOUNDARY = "fuzz-boundary"
FINAL = {"DONE", "ERROR", "CANCELED"}


@dataclass
class Request:
    method: str = "POST"
    path: str = JOBS
    headers: list = field(default_factory=list)
    body: bytes = b""

    def to_bytes(self):
        given_names = {name.lower() for name, _ in self.headers}
        headers = [("Host", "localhost"), ("Connection", "close"), *self.headers]
        if not given_names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


class Target:
    """An emulator whose event loop runs only while a request is under way."""

    def __init__(self, runner, caplog):
        self.runner = runner
        self.caplog = caplog
        self.emulator = Emulator(
            settings=EmulatorSettings(
                queue_seconds=0,
                run_seconds=0,
                submits_per_second=10**6,
                submits_per_hour=10**6,
                stall_timeout_seconds=0.2,
            )
        )

    def send(self, request):
        """Return the status and the body of the response; both are empty if the server only closed the connection."""
        return self.runner.run(self._send(request))

    async def _send(self, request):
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.emulator.port)
            with contextlib.suppress(ConnectionError):
                writer.write(request.to_bytes())
                await writer.drain()
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1]) if head else 0
        if request.method != "HEAD" and b"application/json" in head.lower():
            json.loads(body)
        assert status < 500, (request, answer, self.caplog.text)
        assert not self.caplog.records, self.caplog.text
        return status, body

    def new_job(self, **fields):
        body = json.dumps({"targetName": "t", "type": "REPLACE"} | fields).encode()
        status, answer = self.send(Request(headers=AUTHORIZED, body=body))
        return json.loads(answer)["id"] if status == 200 else None

    def upload(self, job_id, content, kind="upserted"):
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n\r\n'.encode()
        headers = [*AUTHORIZED, ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")]
        body = head + content + f"\r\n--{BOUNDARY}--\r\n".encode()
        return self.send(Request(path=f"{JOBS}{job_id}/chunks/{kind}", headers=headers, body=body))[0]

    def load(self, job_id, query=""):
        """Submit a job and return its last status and its logs."""
        status, _ = self.send(Request(path=f"{JOBS}{job_id}{query}", headers=AUTHORIZED))
        assert status == 200
        while True:
            _, body = self.send(Request("GET", f"{JOBS}{job_id}", AUTHORIZED))
            job = json.loads(body)
            if job["status"] in FINAL:
                assert not any("Internal error" in line for line in job["logs"]), job
                return job["status"], job["logs"]


@pytest.fixture
def target(caplog):
    caplog.set_level("WARNING", "pushengine.emulator")
    with asyncio.Runner() as runner:
        target = Target(runner, caplog)
        runner.run(target.emulator.start())
        try:
            yield target
            assert_serves(target)
        finally:
            runner.run(target.emulator.aclose())


def assert_serves(target):
    """Check that an ordinary push still works, and that nothing is left of the others."""
    job_id = target.new_job(targetName="after", tableSchema=None)
    assert target.upload(job_id, parquet({"a": [1, 2]})) == 200
    assert target.load(job_id)[0] == "DONE"
    assert target.runner.run(target.emulator.query("SELECT a FROM main.after")) == [(1,), (2,)]
    target.runner.run(no_connections(target.emulator))


async def no_connections(emulator):
    async with asyncio.timeout(SECONDS):
        while emulator.connections:
            await asyncio.sleep(0.01)


def parquet(columns):
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, use_deprecated_int96_timestamps=True, compression="snappy")
    return stream.getvalue()


def settings_of(count, *, derandomize):
    return settings(
        max_examples=count,
        derandomize=derandomize,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# Strategies

AUTHORIZED = [("Authorization", "Bearer key")]
CHARACTERS = st.characters(exclude_categories=()) | st.sampled_from("\x00\r\n\"'\\;,.\ud800\u2028\U0001f600")
TEXT = st.text(CHARACTERS, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just(10**4000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def often(*values):
    """Return a strategy for these values that sometimes gives anything else."""
    return st.sampled_from(values) | st.sampled_from(values) | JSON


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "charSet": often("UTF-8", "utf-16", "idna", "punycode", "cp037", "ISO-2022-JP", "UTF-32BE"),
        "separatorSequence": often(",", ";", "\t", "'"),
        "quoteSequence": often('"', "'", ","),
        "escapeSequence": often('"', "\\", ","),
        "lineEnding": often("\n", "\r\n", "\r"),
        "decimalSeparator": often(",", ".", "'"),
        "thousandSeparator": often(".", ",", "''"),
        "dateFormat": often("yyyy-MM-dd", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "QQ", "'"),
        "additionalColumnOptions": st.lists(
            st.dictionaries(
                st.sampled_from(["columnName", "dateFormat", "decimalSeparator"]), often("a", "b"), max_size=3
            )
            | JSON,
            max_size=3,
        )
        | JSON,
    },
)
COLUMN = st.fixed_dictionaries(
    {"columnName": often("a", "b", "A"), "columnType": often("STRING", "INTEGER", "DATETIME", "FLOAT", "TIME", "DATE")},
    optional={"fieldLength": often(1, 80, 16250), "decimals": JSON, "pkField": JSON},
)
FIELDS = {
    "dataPoolId": often("pool-1", None),
    "connectionId": often(None, "c1", "", "main", "temp", "information_schema"),
    "fileType": often("CSV", "PARQUET", None),
    "keys": often([], ["a"], ["a", "b"], ["b"], None),
    "upsertStrategy": often("UPSERT_WITH_NULLIFICATION", None),
    "tableSchema": st.fixed_dictionaries({"columns": st.lists(COLUMN, max_size=3) | JSON}) | JSON | st.none(),
    "fallbackVarcharLength": often(1, 80, 65_000, None),
    "csvParsingOptions": OPTIONS | JSON,
    "allowDuplicate": often(True, False, None),
}
JOB = st.fixed_dictionaries(
    {"targetName": often("t", "T\u00e4", 't"; DROP TABLE t'), "type": often("REPLACE", "DELTA")},
    optional=FIELDS | {"foreignKeys": JSON, "id": JSON, "status": JSON, "postExecutionQuery": JSON, "unknown": JSON},
)
HEADERS = st.lists(
    st.tuples(
        st.just("Authorization"),
        st.sampled_from(["Bearer key", "appkey k", "Bearer", "Basic YTpi", "Basic ::", "\udcff", "Bearer \udcff"]),
    )
    | st.tuples(
        st.just("Content-Type"),
        st.sampled_from(
            [
                *(
                    "application/json",
                    "application/x-www-form-urlencoded",
                    "application/x-www-form-urlencoded; charset=rot13",
                ),
                *(
                    f"multipart/form-data; boundary={BOUNDARY}",
                    "multipart/form-data",
                    "multipart/form-data; boundary=\udcff",
                ),
                *(
                    "text/csv",
                    ";;;",
                    "multipart/form-data; boundary=" + "x" * 300,
                    "multipart/mixed; boundary*=utf-8''x",
                ),
            ]
        ),
    )
    | st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "identity", "br", "deflate", "x", "\udcff"]))
    | st.tuples(st.just("Transfer-Encoding"), st.sampled_from(["chunked", "gzip, chunked", "x"]))
    | st.tuples(st.just("Content-Length"), st.sampled_from(["0", "1", "-1", "1000", "99999999999999", "x"]))
    | st.tuples(st.just("Expect"), st.sampled_from(["100-continue", "x"]))
    | st.tuples(
        st.sampled_from(["Host", "X-Test", "Upgrade", "Connection", "Cookie"]),
        st.sampled_from(["", "x", "a, b", "websocket", "upgrade", "\udcff", ":1"]),
    ),
    max_size=4,
)
SEGMENT = st.sampled_from(
    ["", "jobs", "pool-1", "{id}", "chunks", "upserted", "..", ".", "%00", "%2F", "%ff", "*", "?", "#", "%"]
) | TEXT.map(lambda text: quote(text.encode("utf-8", "surrogatepass")))
KNOWN_PATHS = st.sampled_from(
    [
        *(
            JOBS,
            JOBS + "{id}",
            JOBS + "{id}/chunks",
            JOBS + "{id}/chunks/upserted",
            JOBS + "{id}/chunks/deleted",
            JOBS[:-1],
        ),
        *(
            JOBS + "/{id}",
            "/integration/api/pools",
            "/integration/api/pools/p/tables",
            "/integration/api/pools/p/columns",
        ),
        *("/oauth2/token", "/.well-known/openid-configuration", "/api/team", "/api/cloud", "/api/cloud/permissions"),
        *("//" + JOBS, "*", "http://other/x", JOBS + "%00", JOBS + "{id}/"),
    ]
)
PATH = KNOWN_PATHS | KNOWN_PATHS | st.lists(SEGMENT, max_size=9).map(lambda parts: "/" + "/".join(parts))
QUERY = st.lists(
    st.tuples(
        st.sampled_from(
            ["page", "duplicateRemovalColumn", "tableName", "schemaName", "grant_type", "scope", "client_id"]
        ),
        st.sampled_from(["", "1", "9" * 5000, "a", "%00", "%ff", "%", "client_credentials"])
        | TEXT.map(lambda t: quote(t.encode("utf-8", "surrogatepass"))),
    ),
    max_size=3,
).map(lambda pairs: "?" + "&".join(f"{name}={value}" for name, value in pairs) if pairs else "")
FORMS = st.lists(
    st.tuples(
        st.sampled_from(["grant_type", "scope", "client_id", "client_secret", "file", "\udcff"]),
        st.sampled_from(["client_credentials", "a", "", "integration.data-pools", "\udcff"]) | TEXT,
    ),
    max_size=4,
)


def url_encoded(pairs):
    return "&".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "replace")


def multipart(pairs):
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in pairs
    ]
    return ("".join(parts) + f"--{BOUNDARY}--\r\n").encode("utf-8", "replace")


DEEP = [b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000]
BODY = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JOB.map(lambda value: json.dumps(value).encode())
    | FORMS.map(url_encoded)
    | FORMS.map(multipart)
    | st.sampled_from([b"", b"{}", b"null", *DEEP, b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n"])
)
METHOD = st.sampled_from(["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "CONNECT", "get", "X-Y"])
REQUEST = st.builds(
    lambda method, path, query, headers, body: Request(method, path + query, headers, body),
    st.sampled_from(["GET", "POST"]) | METHOD,
    PATH,
    QUERY,
    HEADERS | HEADERS.map(lambda headers: [*AUTHORIZED, *headers]),
    BODY,
)


def mutated(content):
    """Return a strategy for a file in which a few bytes are changed, removed or added."""

    def change(edits):
        data = bytearray(content)
        for position, removed, added in edits:
            start = position % (len(data) + 1)
            data[start : start + removed] = added
        return bytes(data)

    edit = st.tuples(
        st.integers(0, 10_000),
        st.integers(0, 3),
        st.binary(max_size=3) | st.sampled_from([b'"', b"\n", b",", b"\x00", b"\xff"]),
    )
    return st.lists(edit, max_size=4).map(change)


FILES = st.one_of(
    mutated(parquet({"a": [1, 2], "b": ["x", None]})),
    mutated(parquet({"a": ["x" * 200], "b": pa.array([0], pa.timestamp("ns"))})),
    mutated(b'a,b\n1,"x"\n2,y\n'),
    mutated("a,b\n1,\u00e4\n".encode("utf-16")),
    st.binary(max_size=60),
)


# Tests


def send_any(target, requests):
    job_id = target.new_job()
    for request in requests:
        request.path = request.path.replace("{id}", job_id)
        target.send(request)


def push_any(target, job, files, kinds, query):
    job_id = target.new_job(**json.loads(json.dumps(job)))
    if job_id is None:
        return
    for file, kind in zip(files, kinds, strict=True):
        target.upload(job_id, file, kind)
    target.load(job_id, query)


REQUESTS = st.lists(REQUEST, min_size=1, max_size=3)
PUSH = {
    "job": JOB,
    "files": st.lists(FILES, min_size=2, max_size=2),
    "kinds": st.lists(st.sampled_from(["upserted", "upserted", "deleted"]), min_size=2, max_size=2),
    "query": st.sampled_from(["", "?duplicateRemovalColumn=b", "?duplicateRemovalColumn=%00"]),
}


def test_any_request_gets_an_answer(target):
    given(REQUESTS)(settings_of(SHORT, derandomize=True)(lambda requests: send_any(target, requests)))()


def test_any_job_with_any_files_ends(target):
    given(**PUSH)(settings_of(SHORT // 2, derandomize=True)(lambda **push: push_any(target, **push)))()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_more_requests_get_an_answer(target):
    given(REQUESTS)(settings_of(LONG, derandomize=False)(lambda requests: send_any(target, requests)))()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_more_jobs_end(target):
    given(**PUSH)(settings_of(LONG, derandomize=False)(lambda **push: push_any(target, **push)))()
