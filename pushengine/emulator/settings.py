"""Settings of an emulated team: limits, credentials, and a switch for every behavior that the vendor has not published."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pushengine.emulator.faults import FaultPlan

DATA_PUSH_SCOPES = ("integration.data-pools:data_push", "integration.data-pools")
READ_SCOPES = ("integration.data-pools:read", "integration.data-pools")

ChecksumName = Literal["md5", "sha1", "sha256", "crc32", "opaque"]
ClientAuthMethod = Literal["basic", "post"]


@dataclass(frozen=True, kw_only=True)
class EmulatorCredentials:
    """The only credentials that an emulator accepts; a kind of credential that is None is never accepted."""

    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    app_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    """Settings of one emulated team.

    Attributes:
        credentials: The accepted credentials. None: any well-formed credential is accepted, and any client id and secret
            get a token.
        pool_ids: Ids of the pools that exist. None: every pool id exists. Each pool has its own tables.
        forbidden_pool_ids: Ids of the pools for which requests are rejected with 403.
        connection_ids: Ids of the data connections that exist; creating a job with any other one is rejected with 400. None:
            every well-formed id exists. What the platform does with an unknown id is not published.
        tolerates_slashes: Whether a path may contain repeated slashes, and may have or lack one at its end, as the gateway of the
            old base path tolerated. False: any other path than the documented one is a 404.
        tolerates_scope_spellings: Whether `:data-push` and `:datapush`, which versions of the documentation show, mean the
            scope `:data_push`. False: they are unknown scopes.
        submits_per_second: Submits allowed in any one-second interval, a sliding window.
        submits_per_hour: Submits allowed in one UTC hour, a fixed window.
        refused_submits_count: Whether a submit rejected with 429 spends quota too.
        failed_submits_count: Whether a submit within quota that then fails, for example with 404 or 409, spends quota.
        rate_limit_headers: Whether responses to submits carry `x-ratelimit-*` headers, and a 429 also `Retry-After` and a
            JSON body. Only a bare 429 is documented.
        queue_seconds: Seconds that a submitted job stays QUEUED.
        run_seconds: Seconds that a job stays RUNNING before its chunks are applied.
        resubmit: Response to the submit of a job that is not NEW: `conflict` is a 409, `accept` is a 200 without effect,
            `rerun` is a 200 that runs a finished job again.
        conflict_scope: When a submit gets a 409: `job`, only for the status of the job itself; `table`, also while
            another job of the same table is QUEUED or RUNNING.
        unsubmitted_job_ttl_seconds: Age in seconds at which a NEW job disappears.
        unsubmitted_job_ttl_from: Start of that age: `created` is the creation of the job, `modified` its latest change,
            such as an added chunk.
        delete_unsubmitted: Effect of deleting a NEW job: `remove` drops the job and its chunks, `cancel` keeps both and
            sets the status to CANCELED, `ignore` is a 200 without effect, `refuse` is a 409.
        checksum: Algorithm of the chunk checksums; `opaque` is a random string.
        checksum_encoding: Text encoding of the digest.
        checksum_covers: Bytes that the checksum covers: the file, or the whole multipart body.
        chunk_list_lag_seconds: Seconds until a new chunk appears in the chunk list.
        chunk_list_page_size: Maximum number of chunks in one response; the next ones are on `?page=1` and so on. None:
            all chunks are in one response.
        token_lifetime_seconds: Lifetime of an OAuth access token in seconds.
        client_auth_methods: Methods by which a client may authenticate at the token endpoint.
        scopes: Scopes that the OAuth client holds; a request for any other scope fails the grant.
        max_chunk_bytes: Maximum size of an uploaded file in bytes; a larger one is rejected with 413.
        stall_timeout_seconds: Seconds after which a connection is cut if its client neither sends the rest of a request nor reads
            the response. Any progress starts the time again, so slow uploads continue.
        create_returns_body: Whether create responds with the job. False: 201 without a body.
        upload_returns_chunk: Whether an upload responds with the chunk. False: 200 without a body.
        datetime_format: Format of timestamps in JSON.
        default_varchar_length: Length in characters of STRING columns for which the job declares no length.
        accepted_codecs: Parquet compression codecs that pass validation.
        accepts_int64_timestamps: Whether Parquet timestamps may be INT64. INT96 always passes.
        accepts_dates: Whether Parquet DATE columns pass validation.
        accepts_data_page_v2: Whether Parquet data pages of version 2 pass validation.
        accepts_empty_chunks: Whether a Parquet file with 0 rows passes validation.
        delta_new_columns: What a DELTA job does with a column that its table lacks: `refuse` ends the job with ERROR,
            `add` adds the column (NULL in the rows of the table), `ignore` drops its values.
        delta_long_strings: What a DELTA job does with a string longer than its column in the table: `cut` truncates it
            silently, `refuse` ends the job with ERROR, `widen` first lengthens the column to the length that the job declares.
        columns_readable: Whether callers may list tables and columns. False: these calls are rejected with 403. An access
            token also needs one of `READ_SCOPES`; a static key has no scopes and mirrors its owner's permissions.
        lists_exact_types: Whether the list of columns names all seven types of a table schema. False: the four types that
            the vendor's client knows; DATETIME and TIME are listed as DATE, and BOOLEAN as INTEGER.
        now: The server's clock, in Unix seconds.
        fault_plan: Fault plan that is active from the start; `Emulator.faults` shows and replaces it.
    """

    credentials: EmulatorCredentials | None = None
    pool_ids: frozenset[str] | None = None
    forbidden_pool_ids: frozenset[str] = frozenset()
    connection_ids: frozenset[str] | None = None
    tolerates_slashes: bool = True
    tolerates_scope_spellings: bool = True
    submits_per_second: int = 10
    submits_per_hour: int = 250
    refused_submits_count: bool = False
    failed_submits_count: bool = True
    rate_limit_headers: bool = False
    queue_seconds: float = 0.05
    run_seconds: float = 0.1
    resubmit: Literal["conflict", "accept", "rerun"] = "conflict"
    conflict_scope: Literal["job", "table"] = "table"
    unsubmitted_job_ttl_seconds: float = 86_400
    unsubmitted_job_ttl_from: Literal["created", "modified"] = "created"
    delete_unsubmitted: Literal["remove", "cancel", "ignore", "refuse"] = "remove"
    checksum: ChecksumName = "md5"
    checksum_encoding: Literal["hex", "base64"] = "hex"
    checksum_covers: Literal["file", "body"] = "file"
    chunk_list_lag_seconds: float = 0.0
    chunk_list_page_size: int | None = None
    token_lifetime_seconds: int = 899
    client_auth_methods: frozenset[ClientAuthMethod] = frozenset({"basic", "post"})
    scopes: tuple[str, ...] = DATA_PUSH_SCOPES
    max_chunk_bytes: int = 10**9
    stall_timeout_seconds: float = 60.0
    create_returns_body: bool = True
    upload_returns_chunk: bool = True
    datetime_format: Literal["iso", "epoch_ms"] = "iso"
    default_varchar_length: int = 80
    accepted_codecs: frozenset[str] = frozenset({"SNAPPY", "UNCOMPRESSED"})
    accepts_int64_timestamps: bool = False
    accepts_dates: bool = False
    accepts_data_page_v2: bool = False
    accepts_empty_chunks: bool = True
    delta_new_columns: Literal["refuse", "add", "ignore"] = "refuse"
    delta_long_strings: Literal["cut", "refuse", "widen"] = "cut"
    columns_readable: bool = True
    lists_exact_types: bool = False
    now: Callable[[], float] = time.time
    fault_plan: FaultPlan | None = None
