"""What an emulated team looks like: limits, credentials, and a switch for every fact the vendor has not published."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pushengine.emulator.faults import FaultPlan

DATA_PUSH_SCOPES = ("integration.data-pools:data_push", "integration.data-pools")

ChecksumName = Literal["md5", "sha1", "sha256", "crc32", "opaque"]
ClientAuthMethod = Literal["basic", "post"]


@dataclass(frozen=True, kw_only=True)
class EmulatorCredentials:
    """The only credentials a strict emulator accepts; one that is None admits nobody."""

    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    app_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    """Settings of one emulated team.

    Attributes:
        credentials: Who may call. None: any well-formed credential, and any client id and secret get a token.
        pool_ids: The pools that exist. None: every pool id does, each with tables of its own.
        forbidden_pool_ids: Pools that answer 403.
        submits_per_second: Submits allowed in any sliding second.
        submits_per_hour: Submits allowed in one UTC hour, a fixed window.
        refused_submits_count: Whether a submit answered with 429 spends quota as well.
        failed_submits_count: Whether a submit within quota that is then refused, as by 404 or 409, has spent quota.
        rate_limit_headers: Send `x-ratelimit-*`, and `Retry-After` with a JSON body on 429. Documented is a bare 429.
        queue_seconds: How long a submitted job stays QUEUED.
        run_seconds: How long a job stays RUNNING before its work is applied.
        resubmit: Submit of a job that is not NEW: `conflict` is a 409, `accept` a 200 without effect, `rerun` a 200
            that runs a finished job a second time.
        conflict_scope: `job`: 409 only for the job itself; `table`: also while another job of the table is at work.
        unsubmitted_job_ttl_seconds: Age at which a NEW job is gone.
        unsubmitted_job_ttl_from: What its age is counted from: its creation, or the latest change, as by a chunk.
        delete_unsubmitted: Delete of a NEW job: `remove` drops it and its chunks, `cancel` leaves both with the status
            CANCELED, `ignore` is a 200 without effect, `refuse` a 409.
        checksum: Algorithm of the chunk checksums; `opaque` is a random string.
        checksum_encoding: How the digest is written.
        checksum_covers: The bytes it is taken over: the file, or the whole multipart body.
        chunk_list_lag_seconds: How long a new chunk is missing from the chunk list.
        chunk_list_page_size: How many chunks one answer lists at most; the others are on `?page=1` and so on. None: all.
        token_lifetime_seconds: Life of an OAuth access token.
        client_auth_methods: Ways a client may authenticate at the token endpoint.
        scopes: The scopes the OAuth client holds; asking for another one fails the grant.
        max_chunk_bytes: Largest file of one upload; above it 413.
        create_returns_body: False: create answers 201 without a body.
        upload_returns_chunk: False: an upload answers 200 without a body.
        datetime_format: How timestamps appear in JSON.
        default_varchar_length: Length of STRING columns that nobody declared.
        accepted_codecs: Parquet compression codecs that pass validation.
        accepts_int64_timestamps: Whether Parquet timestamps may be INT64. INT96 always passes.
        accepts_dates: Whether Parquet DATE columns pass.
        accepts_data_page_v2: Whether Parquet data pages of version 2 pass.
        now: The server's clock, in unix seconds.
        fault_plan: What goes wrong from the start; `Emulator.faults` shows and replaces it.
    """

    credentials: EmulatorCredentials | None = None
    pool_ids: frozenset[str] | None = None
    forbidden_pool_ids: frozenset[str] = frozenset()
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
    create_returns_body: bool = True
    upload_returns_chunk: bool = True
    datetime_format: Literal["iso", "epoch_ms"] = "iso"
    default_varchar_length: int = 80
    accepted_codecs: frozenset[str] = frozenset({"SNAPPY", "UNCOMPRESSED"})
    accepts_int64_timestamps: bool = False
    accepts_dates: bool = False
    accepts_data_page_v2: bool = False
    now: Callable[[], float] = time.time
    fault_plan: FaultPlan | None = None
