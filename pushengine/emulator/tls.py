"""A certificate for this machine, for clients that refuse http://, such as the vendor's. Needs trustme (extra `tls`)."""

import os
import ssl
from pathlib import Path

HOSTS = ("127.0.0.1", "::1", "localhost")


class TlsUnavailableError(RuntimeError):
    """trustme is not installed."""


class LocalCertificate:
    """A new private CA, and a certificate from it for `HOSTS`. The keys stay in memory.

    Attributes:
        context: Context of a server with the certificate.

    Raises:
        TlsUnavailableError: trustme is not installed.
    """

    def __init__(self) -> None:
        try:
            import trustme  # noqa: PLC0415 - an optional dependency
        except ImportError as exc:
            raise TlsUnavailableError("TLS needs trustme: pip install 'pushengine[tls]'") from exc
        authority = trustme.CA(organization_name="pushengine emulator")
        self._ca_pem: bytes = authority.cert_pem.bytes()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        authority.issue_cert(*HOSTS).configure_cert(self.context)

    def write_ca(self, path: Path) -> None:
        """Write the certificate of the CA, which clients must trust, as PEM to a new file that only this user can read.

        Raises:
            OSError: The file exists or cannot be written.
        """
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(self._ca_pem)
