"""A folder's content as a value that can be compared. Runs in pytest."""

from pathlib import Path


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every entry below `folder`: mode, inode, content of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_ino, content)
    return found
