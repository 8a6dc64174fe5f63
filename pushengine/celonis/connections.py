"""Connections: TLS verification, the proxy from the environment, and sockets that detect a dead peer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import aiohttp

from pushengine.errors import ConfigError
from pushengine.state.file_errors import setting_errors
from pushengine.text import shown_name

_CA_HINT = "it must be a PEM file"
_KERNEL_SLACK_SECONDS = 5.0
_KEEPALIVE_IDLE_SECONDS, _KEEPALIVE_INTERVAL_SECONDS, _KEEPALIVE_PROBES = 20, 10, 3


def build_ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    """Build a context that verifies against the system's CAs and, if given, a private one. It requires TLS 1.2 or later.

    Raises:
        ConfigError: `ca_file` cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        with setting_errors("cannot read ca_file", ca_file, key="ca_file", hint=_CA_HINT):
            try:
                context.load_verify_locations(cafile=ca_file)
            except ssl.SSLError as exc:
                raise ConfigError(
                    f"cannot use ca_file {shown_name(str(ca_file))}: it holds no certificate",
                    key="ca_file",
                    hint=_CA_HINT,
                ) from exc
    return context


def environment_proxy(url: str) -> dict[str, Any]:
    """Return request arguments for the proxy that the environment names; empty if none applies, as for http:// (loopback only).

    Raises:
        ConfigError: The environment names a proxy that is not supported, such as SOCKS.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" or urllib.request.proxy_bypass(parts.hostname or ""):
        return {}
    proxies = urllib.request.getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy:
        return {}
    address = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if address.scheme not in ("http", "https") or not address.hostname:
        _raise_bad_proxy()
    login, password = urllib.parse.unquote(address.username or ""), urllib.parse.unquote(address.password or "")
    options: dict[str, Any] = {"proxy": f"{address.scheme}://{address.netloc.rpartition('@')[2]}"}
    if login:
        options["proxy_headers"] = {"Proxy-Authorization": aiohttp.encode_basic_auth(login, password)}
    return options


def _raise_bad_proxy() -> NoReturn:
    raise ConfigError(
        "the proxy set in the environment cannot be used",
        key="HTTPS_PROXY",
        hint="use http://host:port; SOCKS is not supported",
    )


def open_socket(address: tuple[Any, ...], *, stall_timeout_seconds: float) -> socket.socket:
    """Open a non-blocking socket that detects a peer that disappeared without closing the connection."""
    family, kind, protocol = address[:3]
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)  # noqa: FBT003
    options = (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _KEEPALIVE_IDLE_SECONDS),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_SECONDS),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", _KEEPALIVE_PROBES),
        # Linux: fail if sent data stays unacknowledged. Slightly longer than the stall watch of `Upload`, which has the better message.
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", int(1000 * (stall_timeout_seconds + _KERNEL_SLACK_SECONDS))),
    )
    for level, name, value in options:
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                sock.setsockopt(level, getattr(socket, name), value)
    return sock


def remove_closed(sockets: list[socket.socket]) -> None:
    """Remove the closed sockets from the list, in place."""
    sockets[:] = [sock for sock in sockets if sock.fileno() != -1]


async def shut_down_sockets(sockets: list[socket.socket]) -> None:
    """Shut down connections that aiohttp has released but that still wait for the peer to close (TLS: up to 30 s); empty the list."""
    for _ in range(50):
        remove_closed(sockets)
        if not sockets:
            return
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0)
