"""Lists of operations, computed with torch, against the models of transformers that they stand for.

Both sides are float32; 2e-5 is a few units in the last place of logits of order 1 through two layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import pad

from ttt_attention import _stepwise_requests as capped_requests, padded_head_dim
from ttt_factory import ModelFactory, ModelSpec
from ttt_factory.requests import model_request, precision_of
from ttt_factory.spec import DecoderLayerSpec
from ttt_ffn import requests as ffn_requests
from ttt_hw.requests import BlockRequest, Workload

Tensor = torch.Tensor
PROMPT, CONTEXT, STEPS = 40, 64, 3
SMALL = {"vocab_size": 75, "num_hidden_layers": 2, "max_position_embeddings": 64}
CONFIGS = {
    "phi3": transformers.Phi3Config(
        **SMALL, hidden_size=96, intermediate_size=72, num_attention_heads=2, num_key_value_heads=1, sliding_window=20,
        pad_token_id=0,
    ),
    "gemma2": transformers.Gemma2Config(
        **SMALL, hidden_size=96, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        sliding_window=16, query_pre_attn_scalar=20, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
    ),
    "gptj": transformers.GPTJConfig(
        vocab_size=75, n_layer=2, n_positions=64, n_embd=96, n_head=2, rotary_dim=8, bos_token_id=1, eos_token_id=1
    ),
    "gpt_neox": transformers.GPTNeoXConfig(**SMALL, hidden_size=96, intermediate_size=72, num_attention_heads=2),
    "gpt_neox sequential": transformers.GPTNeoXConfig(
        **SMALL, hidden_size=96, intermediate_size=72, num_attention_heads=2, use_parallel_residual=False
    ),
    "mixtral": transformers.MixtralConfig(
        **SMALL, hidden_size=64, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2, num_local_experts=4
    ),
}  # fmt: skip


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import run_list

    return run_list


def canonical(family: str, sd: dict[str, Tensor], layer: DecoderLayerSpec, number: int) -> dict[str, Tensor]:
    """A layer's tensors by the roles that the lists name, as transformers stores them."""
    heads, kv = layer.attention.num_heads, layer.attention.num_kv_heads
    head_dim = layer.attention.head_dim
    if family == "gptj":
        p = f"transformer.h.{number}."
        found = {name: sd[f"{p}attn.{name}_proj.weight"] for name in "qkv"} | {"o": sd[f"{p}attn.out_proj.weight"]}
        for part in ("weight", "bias"):
            found |= {f"up_{part}": sd[f"{p}mlp.fc_in.{part}"], f"down_{part}": sd[f"{p}mlp.fc_out.{part}"]}
            found[f"attention_norm.{part}"] = sd[f"{p}ln_1.{part}"]
        return found
    if family == "gpt_neox":
        p = f"gpt_neox.layers.{number}."
        found = {}
        for part, suffix in (("weight", ""), ("bias", "_bias")):
            fused = sd[f"{p}attention.query_key_value.{part}"].unflatten(0, (heads, 3, head_dim))
            found |= {f"{name}{suffix}": fused[:, index].flatten(0, 1) for index, name in enumerate("qkv")}
            found[f"o{suffix}"] = sd[f"{p}attention.dense.{part}"]
            found |= {
                f"up_{part}": sd[f"{p}mlp.dense_h_to_4h.{part}"],
                f"down_{part}": sd[f"{p}mlp.dense_4h_to_h.{part}"],
            }
            found[f"attention_norm.{part}"] = sd[f"{p}input_layernorm.{part}"]
            found[f"ffn_norm.{part}"] = sd[f"{p}post_attention_layernorm.{part}"]
        return found
    p = f"model.layers.{number}."
    found = {"o": sd[f"{p}self_attn.o_proj.weight"], "attention_norm.weight": sd[f"{p}input_layernorm.weight"]}
    if family == "phi3":
        rows = [heads * head_dim, kv * head_dim, kv * head_dim]
        found |= dict(zip("qkv", sd[f"{p}self_attn.qkv_proj.weight"].split(rows), strict=True))
        found["gate_weight"], found["up_weight"] = sd[f"{p}mlp.gate_up_proj.weight"].chunk(2)
        found["down_weight"] = sd[f"{p}mlp.down_proj.weight"]
    else:
        found |= {name: sd[f"{p}self_attn.{name}_proj.weight"] for name in "qkv"}
    if family == "mixtral":
        found["router_weight"] = sd[f"{p}mlp.gate.weight"]
        found["gate_weight"], found["up_weight"] = sd[f"{p}mlp.experts.gate_up_proj"].chunk(2, dim=1)
        found["down_weight"] = sd[f"{p}mlp.experts.down_proj"]
    if family == "gemma2":
        found |= {f"{name}_weight": sd[f"{p}mlp.{name}_proj.weight"] for name in ("gate", "up", "down")}
        found["attention_output_norm.weight"] = sd[f"{p}post_attention_layernorm.weight"]
        found["ffn_norm.weight"] = sd[f"{p}pre_feedforward_layernorm.weight"]
        found["ffn_output_norm.weight"] = sd[f"{p}post_feedforward_layernorm.weight"]
    else:
        found["ffn_norm.weight"] = sd[f"{p}post_attention_layernorm.weight"]
    return found


def places(layer: DecoderLayerSpec) -> list[int]:
    """Where element i of a head lies in the padded head: partners half of it apart, whatever the rotation's style."""
    attention = layer.attention
    assert attention.rope is not None
    half, rotated = padded_head_dim(attention.head_dim) // 2, attention.rope.rotated(attention.head_dim)
    where = []
    for i in range(rotated):
        if attention.rope.style == "interleaved":
            where.append(i // 2 + half * (i % 2))
        else:
            where.append(i % (rotated // 2) + half * (i // (rotated // 2)))
    free = [place for place in range(2 * half) if place not in where]
    return where + free[: attention.head_dim - rotated]


def arranged(heads: Tensor, layer: DecoderLayerSpec) -> Tensor:
    """[heads · hd, ..] → [heads · padded, ..]."""
    split = heads.reshape(-1, layer.attention.head_dim, *heads.shape[1:])
    wide = torch.zeros(len(split), padded_head_dim(layer.attention.head_dim), *heads.shape[1:])
    wide[:, places(layer)] = split
    return wide.flatten(0, 1)


def tables(layer: DecoderLayerSpec, context: int) -> tuple[Tensor, Tensor]:
    attention = layer.attention
    assert attention.rope is not None
    rotated, half = attention.rope.rotated(attention.head_dim), padded_head_dim(attention.head_dim) // 2
    frequencies = attention.rope.theta ** (-torch.arange(0, rotated, 2, dtype=torch.float64) / rotated)
    angles = pad(torch.arange(context)[:, None] * frequencies, (0, half - rotated // 2)).repeat(1, 2)
    return angles.cos().float(), angles.sin().float()


def fitted(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Padded with zeros to a stored shape."""
    assert tensor.dim() <= len(shape)
    while tensor.dim() < len(shape):
        tensor = tensor[None]
    assert all(size <= wanted for size, wanted in zip(tensor.shape, shape, strict=True)), (tensor.shape, shape)
    sides = [(0, wanted - size) for size, wanted in zip(tensor.shape, shape, strict=True)]
    return pad(tensor, [side for pair in reversed(sides) for side in pair])


def stored_values(
    block: BlockRequest, found: dict[str, Tensor], layer: DecoderLayerSpec, causal: Any
) -> dict[str, Tensor]:
    attention = layer.attention
    cos, sin = tables(layer, attention.max_context)
    known = {"attention.output_weight": arranged(found["o"].T, layer), "cos_table": cos, "sin_table": sin}
    known["attention.qkv_weight"] = torch.cat([arranged(found[name], layer) for name in "qkv"]).T
    if attention.qkv_bias:
        known["attention.qkv_bias"] = torch.cat([arranged(found[f"{name}_bias"], layer) for name in "qkv"])
    if attention.output_bias:
        known["attention.output_bias"] = found["o_bias"]
    for name, tensor in found.items():
        if name.startswith(("gate_", "up_", "down_", "router_")):
            known[f"ffn.{name}"] = tensor.transpose(-1, -2) if name.endswith("weight") else tensor
        elif "norm." in name:
            known[name] = tensor + (layer.attention_norm.offset if name.endswith("weight") else 0)
    for stored in block.stored:
        if stored.name.startswith("causal_mask"):
            rows, piece = stored.type.shape[-2], int((stored.name.partition(".")[2]) or 0)
            known[stored.name] = causal(CONTEXT, attention.window)[piece * rows :][:rows]
        elif stored.name == "head_groups":
            _, kv_heads, heads, _ = stored.type.shape
            known[stored.name] = torch.eye(kv_heads).repeat_interleave(heads // kv_heads, dim=1)[None, :, :, None]
        elif stored.name.startswith("mask_table"):
            assert attention.soft_cap is not None
            known[stored.name] = causal(CONTEXT, attention.window) / attention.soft_cap
        elif stored.kind == "cache":
            known[stored.name] = torch.zeros(stored.type.shape)
    return {
        stored.name: fitted(known[stored.name], stored.type.shape) for stored in block.stored if stored.kind != "index"
    }


class Listed:
    """A model that runs its lists."""

    def __init__(self, spec: ModelSpec, sd: dict[str, Tensor], run: Any) -> None:
        self.spec, self.sd, self.tools = spec, sd, run
        self.caches: list[dict[str, Tensor]] = [{} for _ in spec.layers]

    def forward(self, ids: Tensor, work: Workload, positions: Tensor) -> Tensor:
        spec, run, sd = self.spec, self.tools.run, self.sd
        request = model_request(spec, work, precision_of(spec, "performance"))
        table = next(sd[name] for name in TABLES if name in sd)
        x = run(request.part("embedding"), {"ids": ids, "table": table * spec.embedding.scale}, 1.0)["embedding"]
        kinds = list(dict.fromkeys(spec.layers))
        for number, layer in enumerate(spec.layers):
            block = request.parts[1 + kinds.index(layer)].block
            values = stored_values(block, canonical(spec.family, sd, layer, number), layer, self.tools.causal)
            values |= self.caches[number]
            known = run(block, {**values, "x": x, "positions": positions}, layer.attention.scale)
            self.caches[number] = {name: known[name] for name in ("attention.keys", "attention.values")}
            x = known[block.outputs[0]]
        block = request.part("head")
        norm = next(name for name in FINAL_NORMS if f"{name}.weight" in sd)
        own = {
            "final_norm.weight": sd[f"{norm}.weight"] + spec.final_norm.offset,
            "final_norm.bias": sd.get(f"{norm}.bias"),
            "head.weight": (table if spec.head.tied else sd["lm_head.weight"]).T,
            "head.bias": sd.get("lm_head.bias"),
        }
        values = {stored.name: fitted(own[stored.name], stored.type.shape) for stored in block.stored}  # type: ignore[arg-type]
        return run(block, {**values, "x": x}, 1.0)[block.outputs[0]][0, 0]  # type: ignore[no-any-return]


TABLES = ("model.embed_tokens.weight", "transformer.wte.weight", "gpt_neox.embed_in.weight")
FINAL_NORMS = ("model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_list_computes_what_its_model_does(name: str, run: Any) -> None:
    compare(name, run)


@pytest.mark.parametrize("name", ["gemma2", "mixtral"])
def test_a_list_in_pieces_computes_the_same(name: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capped_requests, "MAX_SCORES_BYTES", 1)
    monkeypatch.setattr(ffn_requests, "MAX_EXPERT_ROWS", 32)
    assert any(".1" in name for name in compare(name, run))


def compare(name: str, run: Any) -> list[str]:
    """The names of a layer's operations in prefill."""
    torch.manual_seed(0)
    config = CONFIGS[name]
    theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter_name, parameter in theirs.named_parameters():  # wide enough that a wrong head or row moves the logits
        parameter.data.normal_(0.0, 0.2 if parameter.dim() > 1 else 0.5)
        if "norm" in parameter_name and parameter_name.endswith("weight") and name != "gemma2":
            parameter.data += 1
    sd = {key: value.detach() for key, value in theirs.state_dict().items()}
    ours = Listed(ModelFactory.from_huggingface(config.to_dict()), sd, run)
    ids = torch.randint(0, 75, (2, PROMPT + STEPS))
    ids[1, :PROMPT] = ids[0, :PROMPT]  # two users with one prompt, who go on differently
    prefill = Workload(mode="prefill", tokens=PROMPT, context=CONTEXT)
    decode = Workload(mode="decode", users=2, context=CONTEXT)
    with torch.no_grad():
        expected = theirs(ids).logits[:, PROMPT - 1 :]
        padded = pad(ids[:1, :PROMPT], (0, CONTEXT - PROMPT))
        logits = [ours.forward(padded, prefill, torch.arange(CONTEXT)[None]).repeat(2, 1)]
        ours.caches = [{key: cache.repeat(2, 1, 1, 1) for key, cache in layer.items()} for layer in ours.caches]
        for position in range(PROMPT, PROMPT + STEPS):
            logits.append(ours.forward(ids[None, :, position], decode, torch.tensor([position] * 2)))
    spread = expected.std()
    assert spread > 0.1
    assert (torch.stack(logits, dim=1) - expected).abs().max() < 2e-5 * max(1.0, float(spread))
    block = model_request(ours.spec, prefill, precision_of(ours.spec, "performance")).parts[1].block
    return [op.name for op in block.ops]
