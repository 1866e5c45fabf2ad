"""Layouts are written in the layout language: nobody else builds what it makes."""

from __future__ import annotations

import re

from tools.workspace import ROOT

BY_HAND = re.compile(
    r"\bttnn\.(ShardSpec|NdShardSpec|CoreRangeSet|CoreRange|MemoryConfig|MeshMapperConfig|create_mesh_mapper|"
    r"create_mesh_composer|create_sharded_memory_config|ShardTensorToMesh|ShardTensor2dMesh|ReplicateTensorToMesh)\b"
)


def test_no_other_package_builds_a_shard_spec_or_mesh_mapper() -> None:
    sources = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("models/*/src/**/*.py")]
    found = {
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources
        if "ttt_shard_dsl" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BY_HAND.search(line)
    }
    assert len(sources) > 80
    assert found == set()
