"""The state folder: journal, quota ledger, locks and spool."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from pushengine.errors import ConfigError, JournalError


@dataclasses.dataclass(frozen=True, slots=True)
class StateFolder:
    """Where this user's state on this host lies. Nothing has to be there yet."""

    path: Path

    @property
    def journal(self) -> Path:
        """What was intended and learned of each push."""
        return self.path / "journal.sqlite3"

    @property
    def quota(self) -> Path:
        """The ledger of submits."""
        return self.path / "quota.sqlite3"

    @property
    def locks(self) -> Path:
        """Folder with a lock file for each push that is under way."""
        return self.path / "locks"

    @property
    def spool(self) -> Path:
        """Folder of sources that can be read only once; absolute, since the journal names its files."""
        return (self.path / "spool").absolute()

    def make(self) -> None:
        """Make the folder, private to the user, if it is not there.

        Raises:
            ConfigError: It cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot make the state folder {self.path}: {error.strerror}",
                key="PUSHENGINE_STATE_DIR",
                hint="name a folder that this user may write",
            ) from error


def default_state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """`PUSHENGINE_STATE_DIR`, else the platform's folder for the state of a user's programs."""
    variable = (os.environ if environ is None else environ).get("PUSHENGINE_STATE_DIR")
    return Path(variable).expanduser() if variable else platformdirs.user_state_path("pushengine")


_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs", "fuse.glusterfs"}
)


def refuse_network_file_system(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """WAL needs memory shared by all processes, which network file systems do not give.

    Raises:
        JournalError: The folder is on one.
    """
    try:
        mounts = mountinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    place = os.path.realpath(folder)
    best, kind = "", ""
    for line in mounts:
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].replace("\\040", " ")
        if len(point) >= len(best) and (place == point or place.startswith(point.rstrip("/") + "/")):
            best, kind = point, after.split(" ")[0]
    if kind in _NETWORK_FILE_SYSTEMS:
        raise JournalError(
            f"the state folder {folder} is on a network file system ({kind})",
            path=str(folder),
            hint="put it on a local disk: PUSHENGINE_STATE_DIR",
        )
