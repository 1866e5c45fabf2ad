"""A model of 32 layers costs a suite what its distinct layers cost: Llama 3.1 8B, shapes alone, on eight chips."""

from __future__ import annotations

import json
import subprocess
import sys

LLAMA_8B = """
import json, time
from ttt_factory import ModelFactory
from ttt_hw import open_mesh
from ttt_testing import TestSuite

config = dict(
    model_type="llama", architectures=["LlamaForCausalLM"], hidden_size=4096, intermediate_size=14336,
    num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, vocab_size=128256, rms_norm_eps=1e-5,
    rope_theta=500000.0, max_position_embeddings=8192, tie_word_embeddings=False, hidden_act="silu",
)
with open_mesh("t3k", backend="mock") as mesh:
    model = ModelFactory.from_spec(ModelFactory.from_huggingface(config), device=mesh)
    start = time.perf_counter()
    suite = TestSuite(model)
    for layer in model.layers:
        for module in (layer, layer.attention, layer.ffn, layer.attention_norm):
            suite.test(module).expect(memory_mb=200, l1_kb=1500)
    report = suite.run()
    print(json.dumps({
        "seconds": time.perf_counter() - start, "runs": report.runs, "values": report.values, "items": len(report.items),
        "failures": [str(item) for item in report.failures],
    }))
"""


def test_32_layers_cost_what_one_does() -> None:
    done = subprocess.run([sys.executable, "-c", LLAMA_8B], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failures"] == []
    assert found["items"] == 32 * 4 * 2 * 3  # layers, modules, modes, expectations
    assert found["runs"] == 4 * 2
    assert found["values"] == "none"
    assert found["seconds"] < 20
