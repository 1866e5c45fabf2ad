"""A sample of the layers session: ttnn accepts layers with experts, and with latent attention, on eight chips, in both modes."""

from tools.real_layers import CASES, CONFIGS, check

from ttt_hw import open_mesh, run_in_process

MODELS = ("gpt-oss-20b", "deepseek-v3")


def accepted(board: str) -> list[str]:
    with open_mesh(board, backend="mock") as mesh:
        return [line for model in MODELS for line in check(model, mesh, (128,), (32,))]


def test_layers_are_accepted() -> None:
    lines = run_in_process(accepted, "t3k", device="t3k")
    assert [line.rpartition(":")[0] for line in lines] == [
        f"{model}, kind {kind}, {forward}"
        for model in MODELS
        for kind in (0, 1)
        for forward in ("prefill 128", "decode 32")
    ]


def test_every_model_has_a_configuration() -> None:
    models = {model for models in CASES.values() for model in models} - {"gpt-oss-20b"}
    assert all((CONFIGS / f"{model}.json").exists() for model in models)
