"""A sample of the layers session: ttnn accepts the layers of a mixture of experts on eight chips, in both modes."""

from tools.real_layers import CASES, CONFIGS, check

from ttt_hw import open_mesh, run_in_process


def accepted(board: str, model: str) -> list[str]:
    with open_mesh(board, backend="mock") as mesh:
        return list(check(model, mesh, (128,), (32,)))


def test_a_layer_is_accepted() -> None:
    lines = run_in_process(accepted, "t3k", "gpt-oss-20b", device="t3k")
    assert [line.rpartition(":")[0] for line in lines] == [
        f"gpt-oss-20b, kind {kind}, {forward}" for kind in (0, 1) for forward in ("prefill 128", "decode 32")
    ]


def test_latents_and_experts_in_groups_are_accepted() -> None:
    lines = run_in_process(accepted, "t3k", "deepseek-v3", device="t3k")
    assert [line.rpartition(":")[0] for line in lines] == [
        f"deepseek-v3, kind {kind}, {forward}" for kind in (0, 1) for forward in ("prefill 128", "decode 32")
    ]


def test_every_model_has_a_configuration() -> None:
    models = {model for models in CASES.values() for model in models} - {"gpt-oss-20b"}
    assert all((CONFIGS / f"{model}.json").exists() for model in models)
