"""What git has of a folder of this repository: trees, their files, and the state that is not committed yet."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path


class ReleaseError(Exception):
    """What stops a release or the rebuilding of one, in a paragraph: what was found, what is allowed, what to do next."""


def git(root: Path, *arguments: str, index: Path | None = None) -> str:
    """What a git command prints. Errors: ReleaseError with what git said."""
    return _git(root, arguments, index).decode().strip()


def _git(root: Path, arguments: tuple[str, ...], index: Path | None = None) -> bytes:
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    done = subprocess.run(["git", *arguments], cwd=root, env=environment, capture_output=True)
    if done.returncode:
        raise ReleaseError(f"git {' '.join(arguments)} failed in {root.name}: {done.stderr.decode().strip()}")
    return done.stdout


def tree_of(root: Path, commit: str, folder: str) -> str | None:
    """The tree id of a folder in a commit, or None where the commit or the folder is not there."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{commit}:{folder}")
    except ReleaseError:
        return None


def working_tree(root: Path, folder: str) -> str:
    """The tree id of a folder as it is on disk, committed or not, without what git ignores."""
    with tempfile.TemporaryDirectory(prefix="ttt-index-") as temporary:
        index = Path(temporary) / "index"
        git(root, "add", "--all", "--", folder, index=index)
        return git(root, "rev-parse", f"{git(root, 'write-tree', index=index)}:{folder}")


def trees_of(root: Path, folder: str) -> set[str]:
    """Every tree id that a folder has had in the commits that HEAD comes from."""
    commits = git(root, "rev-list", "--full-history", "HEAD", "--", folder).split()
    asked = "".join(f"{commit}:{folder}\n" for commit in commits)
    done = subprocess.run(
        ["git", "cat-file", "--batch-check=%(objectname) %(objecttype)"],
        cwd=root,
        input=asked,
        capture_output=True,
        text=True,
    )
    return {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" tree")}


def has_tree(root: Path, tree: str) -> bool:
    """Is the object here? A shallow clone lacks those of old commits."""
    done = subprocess.run(["git", "cat-file", "-e", f"{tree}^{{tree}}"], cwd=root, capture_output=True)
    return done.returncode == 0


def read(root: Path, tree: str, path: str) -> str:
    """A file of a tree."""
    return _git(root, ("cat-file", "blob", f"{tree}:{path}")).decode()


def extract(root: Path, tree: str, target: Path) -> None:
    """Write all files of a tree below `target`."""
    with tarfile.open(fileobj=io.BytesIO(_git(root, ("archive", "--format=tar", tree)))) as archive:
        archive.extractall(target, filter="data")
