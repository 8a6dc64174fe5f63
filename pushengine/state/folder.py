"""The state folder, which holds the journal, the quota ledger, the locks and the spool."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from pushengine.errors import ConfigError, JournalError


@dataclasses.dataclass(frozen=True, slots=True)
class StateFolder:
    """The paths of this user's state on this host. None of them has to exist yet."""

    path: Path

    @property
    def journal(self) -> Path:
        """The journal: the SQLite file that records each push."""
        return self.path / "journal.sqlite3"

    @property
    def quota(self) -> Path:
        """The quota ledger: the SQLite file that counts submits."""
        return self.path / "quota.sqlite3"

    @property
    def locks(self) -> Path:
        """The folder of lock files, one for each push identity."""
        return self.path / "locks"

    @property
    def spool(self) -> Path:
        """The folder for copies of sources that can be read only once. Absolute, because the journal stores paths of its files."""
        return (self.path / "spool").absolute()

    @property
    def rejects(self) -> Path:
        """The default folder of the files that list rejected rows. Absolute, because receipts name these files."""
        return (self.path / "rejects").absolute()

    def make(self) -> None:
        """Create the folder, private to the user, if it does not exist.

        Raises:
            ConfigError: The folder cannot be created.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot create the state folder {self.path}: {error.strerror}",
                key="PUSHENGINE_STATE_DIR",
                hint="set PUSHENGINE_STATE_DIR, or dir in [state], to a folder that this user can write to",
            ) from error


def default_state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return `PUSHENGINE_STATE_DIR` if it is set, otherwise the operating system's standard folder for a user's program state."""
    variable = (os.environ if environ is None else environ).get("PUSHENGINE_STATE_DIR")
    return Path(variable).expanduser() if variable else platformdirs.user_state_path("pushengine")


def resolve_state_dir(state_dir: str | os.PathLike[str] | None) -> Path:
    """Return the state folder that a caller names, `~` expanded; None means the default.

    Raises:
        ConfigError: The name is empty.
    """
    if state_dir is None:
        return default_state_dir()
    if not os.fspath(state_dir).strip():
        raise ConfigError("state_dir is empty", key="state_dir", hint="leave it out for the default folder")
    return Path(state_dir).expanduser()


_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs", "fuse.glusterfs"}
)


def refuse_network_file_system(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Raise an error if the folder is on a network file system.

    SQLite's write-ahead log needs memory shared by all processes, which network file systems do not provide. Does nothing where `mountinfo`
    cannot be read.

    Raises:
        JournalError: The folder is on a network file system.
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
            hint="set PUSHENGINE_STATE_DIR to a folder on a local disk",
        )
