"""Nothing in the repository is true on one machine only."""

import re
import subprocess

from tools.workspace import ROOT

MACHINE = re.compile(
    rb"""(?<![\w.~-])/(?:root|work)/                                   # folders of one machine
    | https?://[^\s"'<>)]*(?:/simple\b|pythonhosted|pypi|artifactory)   # package indexes
    | \b(?:extra-)?index-url\b""",
    re.VERBOSE,
)


def files() -> list[str]:
    """Those in git, and those that would be with `git add --all`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_folder_of_this_machine_or_a_package_index() -> None:
    found = []
    for name in files():
        for number, line in enumerate((ROOT / name).read_bytes().split(b"\n"), start=1):
            if MACHINE.search(line) and name != "tests/test_repo_files.py":
                found.append(f"{name}:{number}: {line[:120].decode(errors='replace')}")
    assert found == []


def test_machine_paths_and_indexes_are_seen() -> None:
    seen = [b"open('/root/x')", b"see /work/y", b"https://pypi.org/simple", b"--extra-index-url=x"]
    unseen = [b"https://host/homework/1", b"~/work/x", b"docs/work/x", b"the root/ folder", b"src/root/x"]
    assert all(MACHINE.search(line) for line in seen)
    assert not any(MACHINE.search(line) for line in unseen)


def test_uv_lock_stays_out_of_git() -> None:
    assert "uv.lock" not in files()
