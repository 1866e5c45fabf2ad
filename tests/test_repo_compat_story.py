"""A user's story: ttt-norm of one release and ttt-attention of another, from built wheels alone, make a layer that runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version
from tools.compat_cell import constraints
from tools.drift import snapshots
from tools.environments import install, interpreter_of, make, run
from tools.releases import Release, build, head, last_release

WANTED = ("ttt-norm", "ttt-attention", "ttt-ffn", "ttt-patterns")
SCRIPT = """
import json, sys
from importlib.metadata import version
import numpy as np
from ttt_attention import MultiHeadAttention
from ttt_ffn import SwiGLU
from ttt_hw import open_mesh, upload
from ttt_norm import RMSNorm
from ttt_patterns import DecoderLayer

with open_mesh("n150", backend="mock") as mesh:
    layer = DecoderLayer(
        attention=MultiHeadAttention(hidden_dim=64, num_heads=2, device=mesh),
        ffn=SwiGLU(hidden_dim=64, intermediate_dim=96, device=mesh),
        norm=RMSNorm(dim=64, device=mesh),
        residual_pattern="pre_norm",
        device=mesh,
    )
    positions = upload(np.arange(32, dtype=np.int32)[None], mesh, dtype="int32", layout="row_major")
    x = upload(np.zeros((1, 1, 32, 64), np.float32), mesh, dtype="bfloat16")
    shape = list(layer.prefill_forward(x, cache=None, positions=positions).shape)
names = {name: version(name) for name in ("ttt-norm", "ttt-attention")}
print(json.dumps({"shape": shape, "torch": "torch" in sys.modules, "versions": names}))
"""


def test_a_layer_of_two_releases(tmp_path: Path) -> None:
    """Before a package is released twice, its second version is the one that what is here would have."""
    wheels = {}
    pending = list(WANTED)
    while pending:
        if (name := pending.pop()) not in wheels:
            release = version_of(name)
            wheels[name] = build(release, tmp_path / "wheels")
            needed = [Requirement(text).name for text in release.dependencies]
            pending += [each for each in needed if each.startswith("ttt-")]
    environment = make(tmp_path, python="3.12")
    (tmp_path / "constraints.txt").write_text("\n".join(constraints()))
    install(environment, [*wheels.values(), f"ttnn=={max(snapshots())}"], "--constraint", tmp_path / "constraints.txt")

    printed = run([interpreter_of(environment), "-I", "-c", SCRIPT], tmp_path)
    said = json.loads(printed.splitlines()[-1])
    assert said["shape"] == [1, 1, 32, 64]
    assert said["torch"] is False
    assert said["versions"] == {name: version_of(name).version for name in ("ttt-norm", "ttt-attention")}
    assert said["versions"]["ttt-norm"] != said["versions"]["ttt-attention"]


def version_of(name: str) -> Release:
    """The last release of ttt-norm, the next of ttt-attention; of the others what is here."""
    here = head(name)
    public = Version(here.version)
    if name == "ttt-norm":
        return last_release(name) or replace(here, version=public.public)
    if name == "ttt-attention":
        version = f"{public.major}.{public.minor}.{public.micro + 1}"
        return replace(here, version=version, uv="", wheel="", sdist="")
    return here
