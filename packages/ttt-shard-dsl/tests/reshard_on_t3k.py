"""A program: every call of several plans runs through ttnn on a mock t3k. One process has one cluster."""

from __future__ import annotations

from typing import Any

import ttnn

from ttt_hw import board, open_mesh
from ttt_shard_dsl import memory_config
from ttt_shard_dsl.reshard import plan


def main() -> None:
    device: Any = board("t3k")
    shape = (1, 8, 256, 2048)
    with open_mesh("t3k", backend="mock") as mesh:
        for rule in (
            "1 h s d@cols -> 1 h s d",
            "1 h s d -> 1 h s d@cols",
            "1 h s d +cols in l1 -> 1 h s d",
            "1 h s d +cols -> 1 h s d@cols in l1",
            "1 h s@cols d -> 1 h@cols s d",
            "1 h s d@cols -> 1 h s@cols d in l1",
            "1 h s d@cols@core in l1 -> 1 h@cols s d",
            "1 h@cols s@core d -> 1 h@cols s@core.y d@core.x as bfp8",
            "1 h@cols s d -> 1 h@cols s d@core in l1",
            "1 h s d@core +cols in l1 -> 1 h s d@core in l1",
            "(a h s)@core d +cols in l1 -> a h s d as bfp8",
            "1 h s d@bank +cols -> 1 h s d@bank",
            "1 h s d~core:32 in l1 -> 1 h s@core.y d@core.x in l1",
            "1 h s d@bank -> 1 h s d~core:32 in l1",
        ):
            made = plan(rule, shape, device=device)
            source = made.source
            config = source.to_memory_config()
            x = ttnn.allocate_tensor_on_device(
                ttnn.Shape(source.chip_shape),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                mesh,
                config,
            )
            out = made.run(x, ttnn)
            assert tuple(out.shape) == made.target.chip_shape, rule
            assert out.memory_config() == made.target.to_memory_config(), rule
            y = x
            for line in made.to_ttnn().splitlines():  # the text is the same calls
                scope = {"ttnn": ttnn, "memory_config": memory_config, "device": device, "x": y}
                exec(line, scope)
                y = scope["x"]
            assert tuple(y.shape) == tuple(out.shape)
            assert y.memory_config() == out.memory_config()


if __name__ == "__main__":
    main()
