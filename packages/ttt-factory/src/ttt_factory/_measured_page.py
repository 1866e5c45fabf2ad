"""The page that holds predictions against what was published: speeds of models, and times of operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ttt_factory._measure_fit import FITTED, Fit, fit
from ttt_factory.measured import QUANTITIES, Speed
from ttt_hw.calibration import Measured, errors_by_class, median_error

UNITS = {"tokens_per_second_per_user": "tokens/s/user", "ttft_ms": "ms to the first token"}
HEAD = """# Published speeds, and what ttt predicts

Written by `ttt calibrate --page`. A prediction is the plan of the model on the board with the estimate of each operation, and
the host: {token} µs between two tokens, {call} µs for each operation of a prefill that is not traced. Rates of chips and where
each is from: `ttt_hw.catalogue`. The rows with their sources: `ttt_factory/published_models.json`, `ttt_hw/published_ops.json`.

Rows of tt_transformers are planned with the matmuls that it runs: in decode weights streamed by cores beside DRAM banks, one a
bank, in prefill multicast in both directions of the grid; and with sums over chips that are split, not fused. Without that,
`ttt plan` chooses faster ones for some shapes. A row's decode reads 256 positions of the cache where the prompt has 128 tokens:
what was written on average while 200 tokens followed. Bound: what most of the predicted time goes to.

Not in the model: collectives in rings or of bfp8 values, which tt_transformers runs on t3k, so that long prompts are
predicted too slow there; weights that are prefetched while something else runs; sampling on the device, and an own time of the
host for each of several replicas; clocks that fall under load; other releases of the same software.
"""


def speeds_page(speeds: Sequence[Speed], ops: Sequence[Measured], unpredicted: Iterable[Mapping[str, Any]]) -> str:
    counted = [speed for speed in speeds if speed.group == "counted"]
    found = fit(counted)
    values = {constant.name: constant.value for constant in FITTED}
    parts = [
        HEAD.format(token=f"{values['token_us']:,.0f}", call=f"{values['call_us']:.0f}"),
        "## Constants that are fitted to these rows\n",
        *_table(
            ("constant", "in the catalogue", "best for the rows below"),
            ([name, f"{values[name]:,.4g}", f"{best:,.4g}"] for name, best in found.values.items()),
        ),
        "\n## Errors\n",
        *_table(
            ("rows", "numbers", "median error", "with the row left out", "largest"),
            _summary(counted, found),
        ),
        "\n## Dense text models\n",
        *_speeds(counted),
        "\n## Dense text models that ran as ttt does not run them\n",
        *_speeds([speed for speed in speeds if speed.group == "differs"], note="differs"),
        "\n## Other rows, which count for nothing\n",
        "Targets, single results, mixtures of experts.\n",
        *_speeds([speed for speed in speeds if speed.group == "shown"], note="note"),
        "\n## Rows without a prediction\n",
        *_table(
            ("what", "published", "why not"),
            ([str(row["what"]), str(row.get("value", f"{row.get('us')} µs")), str(row["why"])] for row in unpredicted),
        ),
        "\n## Operations, by class\n",
        *_table(
            ("class", "rows", "median error", "largest"),
            (
                [kind, f"{len(each)}", _percent(median_error(_errors(each))), _percent(max(map(abs, _errors(each))))]
                for kind, each in errors_by_class(ops).items()
            ),
        ),
        "\n## Operations\n",
        "µs of the kernel.\n",
        *_table(
            ("row", "operation", "published", "predicted", "error", "bound"),
            (
                [
                    each.id,
                    _what(each.row),
                    _number(each.us),
                    _number(each.estimate.time_us),
                    _percent(each.error, sign=True),
                    each.estimate.bound + ("" if each.counts else f"; not counted: {each.row['note']}"),
                ]
                for each in ops
            ),
        ),
    ]
    return "\n".join(parts) + "\n"


def _summary(counted: Sequence[Speed], found: Fit) -> Iterator[list[str]]:
    """Errors with the catalogue as it is; those with a row left out with the constants that the others want."""
    for name, quantities in [("all", QUANTITIES), *((UNITS[quantity], (quantity,)) for quantity in QUANTITIES)]:
        own = [index for index, speed in enumerate(counted) if speed.quantity in quantities]
        errors = [counted[index].error for index in own]
        if not own:
            continue
        yield [
            name,
            f"{len(own)}",
            _percent(median_error(errors)),
            _percent(median_error([found.left_out[index] for index in own])),
            _percent(max(map(abs, errors))),
        ]


def _speeds(speeds: Iterable[Speed], note: str | None = None) -> Iterator[str]:
    head = ["model", "device", "users", "prompt", "what", "published", "predicted", "error", "bound"]
    lines = []
    for speed in speeds:
        row = speed.row
        device = row["device"] + (f" {row['mesh']}" if "mesh" in row else "")
        name = row["model"] + (f" ({row['version']})" if "version" in row else "")
        line = [name, device, f"{row['users']}", f"{row['prompt']}", UNITS[speed.quantity]]
        line += [_number(speed.measured), _number(speed.predicted), _percent(speed.error, sign=True), speed.bound]
        lines.append([*line, str(row[note])] if note is not None else line)
    return _table([*head, "note"] if note is not None else head, lines)


def _what(row: Mapping[str, Any]) -> str:
    if row["op"] == "matmul":
        dtype = row.get("weight_dtype", row["dtype"])
        return f"matmul {row['m']} x {row['k']} x {row['n']}, {dtype} {row['fidelity']}, {row['device']}"
    if row["op"] == "prefill_attention":
        chunks = f"{row['q_chunk']}/{row['k_chunk']}"
        return f"attention of {row['tokens']} tokens, chunks {chunks}, {row['fidelity']}, {row['device']}"
    if row["op"] == "decode_attention":
        return f"attention of {row['users']} users over {row['context']}, {row['kv_dtype']}, {row['device']}"
    if row["op"] == "fused_all_reduce":
        return f"{row['op']} of 32 × {row['columns']} {row['dtype']}, {row['chips']} chips, {row['topology']}, {row['device']}"
    return f"{row['op']} of {row['bytes'] // 1024} KB, {row['chips']} chips, {row['topology']}, {row['device']}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _errors(found: Iterable[Measured]) -> list[float]:
    return [each.error for each in found]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _percent(value: float, *, sign: bool = False) -> str:
    return f"{value:+.0%}" if sign else f"{value:.1%}"
