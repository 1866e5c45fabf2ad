"""The Python of READMEs that need a whole model; the examples of the other packages run in the wheels session, or beside them."""

import re
import subprocess
import sys

import pytest
from tools.wheels import TOGETHER
from tools.workspace import ROOT

PYTHON_BLOCKS = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
READMES = {
    path: "\n".join(blocks)
    for path in ("README.md", *(f"packages/{name}/README.md" for name in TOGETHER))
    if (blocks := PYTHON_BLOCKS.findall((ROOT / path).read_text()))
}


@pytest.mark.parametrize("path", READMES)
def test_the_examples_of_a_readme_run(path: str) -> None:
    done = subprocess.run([sys.executable, "-c", READMES[path]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
