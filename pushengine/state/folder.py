"""The state folder, which holds the journal, the quota ledger, the locks and the spool."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs

from pushengine.errors import ConfigError, JournalError
from pushengine.state.file_errors import expanded_setting, setting_errors, status
from pushengine.text import format_count, shell_word, shown_name

_VARIABLE = "PUSHENGINE_STATE_DIR"
_HINT = "set PUSHENGINE_STATE_DIR, or dir in [state], to a folder that this user can write to"
_CHECKS_OWNERS = hasattr(os, "geteuid")  # not on Windows
_OTHERS, _OTHERS_WRITE = 0o077, 0o022


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

    def find_journal(self) -> Path | None:
        """Return the path of the journal; None if there is none yet.

        Raises:
            ConfigError: The state folder cannot be used, so it is unknown whether there is one.
        """
        hint = "set PUSHENGINE_STATE_DIR, or dir in [state], to the folder that the pushes used"
        with setting_errors("cannot read the state folder", self.path, key=_VARIABLE, hint=hint):
            return None if status(self.journal) is None else self.journal

    def make(self) -> tuple[str, ...]:
        """Create the folder if it does not exist, and take access to it and its content from other users.

        Returns:
            A note for people on each thing that others had access to.

        Raises:
            ConfigError: The folder cannot be created, it or something in it belongs to another user, or others can write to it and it
                holds other things, too.
        """
        with _usable(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tuple(self._made_private()) if _CHECKS_OWNERS else ()

    def _made_private(self) -> Iterator[str]:
        with _usable(self.path):
            found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise ConfigError(
                f"the state folder {shown_name(str(self.path))} belongs to another user ({_user_named(found.st_uid)})",
                key=_VARIABLE,
                hint=f"set {_VARIABLE} to a folder of this user, such as a new one in it:"
                f" {shell_word(str(self.path / f'user-{os.geteuid()}'))}",
            )
        mode = stat.S_IMODE(found.st_mode)
        is_shared = bool(mode & _OTHERS) and self._is_shared(mode)
        if is_shared and mode & _OTHERS_WRITE:
            raise ConfigError(
                f"other users can write to the state folder {shown_name(str(self.path))} (mode {mode:04o}),"
                " which is not pushengine's own",
                key=_VARIABLE,
                hint=f"set {_VARIABLE} to a folder of its own, such as a new one in it:"
                f" {shell_word(str(self.path / 'pushengine'))}",
            )
        if mode & _OTHERS and not is_shared:
            with _usable(self.path):
                self.path.chmod(mode & ~_OTHERS)
            yield (
                f"other users had access to the state folder {shown_name(str(self.path))} (mode {mode:04o});"
                " now only this user has"
            )
        yield from self._content_made_private()

    def _is_shared(self, mode: int) -> bool:
        """Whether the folder is for other things, too, like `/tmp`: others would miss it if it were made private."""
        own = (*(path.name for path in (self.journal, self.quota)), self.locks.name, self.spool.name, self.rejects.name)
        with _usable(self.path):
            return bool(mode & stat.S_ISVTX) or any(not path.name.startswith(own) for path in self.path.iterdir())

    def _content_made_private(self) -> Iterator[str]:
        loose = 0
        for path in self._content():
            with _usable(path), contextlib.suppress(FileNotFoundError):  # deleted by another process meanwhile
                loose += _make_private(path)
        if loose:
            what = f"{format_count(loose, 'file')} in the state folder {shown_name(str(self.path))}"
            yield f"other users could write {what}; now only this user can"

    def _content(self) -> Iterator[Path]:
        for database in (self.journal, self.quota):
            yield from (Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm"))
        for folder in (self.locks, self.spool, self.rejects):
            yield folder
            with _usable(folder), contextlib.suppress(FileNotFoundError):
                yield from [Path(entry.path) for entry in os.scandir(folder)]


def _usable(path: Path) -> contextlib.AbstractContextManager[None]:
    return setting_errors("cannot use the state folder:", path, key=_VARIABLE, hint=_HINT)


def _make_private(path: Path) -> bool:
    """Take access to a file in the state folder from other users; return whether they could write it.

    Raises:
        ConfigError: The file belongs to another user, who could change it at any time.
        FileNotFoundError: There is no such file.
    """
    found = path.lstat()
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"{shown_name(str(path))} in the state folder belongs to another user ({_user_named(found.st_uid)})",
            key=_VARIABLE,
            hint=f"find out who wrote it, and delete it; or set {_VARIABLE} to another folder",
        )
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode) or not mode & _OTHERS:
        return False
    path.chmod(mode & ~_OTHERS)
    return bool(mode & _OTHERS_WRITE)


def _user_named(uid: int) -> str:
    import pwd  # noqa: PLC0415 - not on Windows

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def default_state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return `PUSHENGINE_STATE_DIR` if it is set, otherwise the operating system's standard folder for a user's program state.

    Raises:
        ConfigError: The variable names a file, a user that does not exist, or a path that cannot be used.
    """
    variable = (os.environ if environ is None else environ).get(_VARIABLE)
    if not variable:
        return platformdirs.user_state_path("pushengine")
    return require_folder(expanded_setting(variable, key=_VARIABLE), key=_VARIABLE)


def resolve_state_dir(state_dir: str | os.PathLike[str] | None) -> Path:
    """Return the state folder that a caller names, `~` expanded; None means the default.

    Raises:
        ConfigError: The name is empty, or names a file, a user that does not exist, or a path that cannot be used.
    """
    if state_dir is None:
        return default_state_dir()
    if not os.fspath(state_dir).strip():
        raise ConfigError("state_dir is empty", key="state_dir", hint="leave it out for the default folder")
    return require_folder(expanded_setting(state_dir, key="state_dir"), key="state_dir")


def require_folder(path: Path, *, key: str) -> Path:
    """Return the path of a folder that need not exist yet.

    Raises:
        ConfigError: It is a file, or the path cannot be used.
    """
    with setting_errors(f"{key}: cannot use the state folder", path, key=key, hint=_HINT):
        os.fsencode(path)
        found = status(path)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{key}: the state folder {shown_name(str(path))} is a file", key=key, hint="name a folder")
    return path


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
