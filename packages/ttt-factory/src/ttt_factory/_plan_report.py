"""What `ttt plan` prints: operations by section and mode, totals, a map of the memory, and why an operation is planned so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ttt_core import PlacementError
from ttt_factory.plan import MemoryUse, ModelPlan, Section
from ttt_hw import PATTERNS, BlockPlan, PlannedMove, PlannedOp, candidates_of, first_problem, legal_options, short_name

GB = 1e9
MODES = ("decode", "prefill")
KINDS = (("weights", "blue"), ("cache", "magenta"), ("tables", "cyan"), ("activations", "yellow"))
BAR = 60
PER_PATTERN = 2  # rejected configs that --why shows
TIE_US = 0.05
FULL_GRID = 0.9  # of the cores: less, for an operation that computes all the time, wants a reason
BOUND_COLOURS = {"compute": "green", "dram": "blue", "noc": "cyan", "link": "magenta", "overhead": "yellow"}


def print_plan(plan: ModelPlan) -> None:
    console = Console(highlight=False)
    for mode in MODES:
        for section in plan.sections:
            console.print(_operations(section, mode))
    console.print(_totals(plan))
    console.print(_memory(plan))
    for line in memory_bar(plan.memory):
        console.print(line, soft_wrap=True)
    console.print(_verdict(plan), soft_wrap=True)


def _operations(section: Section, mode: str) -> Table:
    plan = section.plans[mode]
    times = f" × {section.count}" if section.count > 1 else ""
    table = Table(
        title=f"{mode}: {section.name}{times}, {plan.time_us:,.1f} µs each",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("operation", no_wrap=True)
    table.add_column("pattern", no_wrap=True)
    for name in ("cores", "L1 bytes", "µs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound", no_wrap=True)
    part = ""
    for op in plan.ops:
        before, (part, name) = part, _split(op.request.name)
        if part != before:
            table.add_row(Text(part, "bold"))
        for move in op.moves:
            table.add_row(*_move_row(move))
        table.add_row(
            name,
            type(op.pattern).__name__,
            f"{op.pattern.cores(op.request, plan.board)}",
            f"{op.l1_bytes:,}",
            f"{op.estimate.time_us:,.1f}",
            Text(op.estimate.bound, BOUND_COLOURS[op.estimate.bound]),
        )
    for move in plan.exits:
        table.add_row(*_move_row(move))
    return table


def _split(name: str) -> tuple[str, str]:
    """The part of the layer, and the operation in it; a piece keeps what it is a piece of."""
    words = name.split(".")
    own = 2 if words[-1].isdigit() and len(words) > 1 else 1
    return ".".join(words[:-own]), ".".join(words[-own:])


def _move_row(move: PlannedMove) -> tuple[Any, ...]:
    source, target = (_where(layout).partition(" on ")[0] for layout in (move.reshard.source, move.reshard.target))
    return (
        Text(f"  {source} → {target}", "dim"),
        Text("Reshard", "dim"),
        "",
        Text(f"{move.l1_bytes:,}", "dim"),
        Text(f"{move.estimate.time_us:,.1f}", "dim"),
        Text(move.estimate.bound, "dim"),
    )


def _where(layout: str) -> str:
    """A layout in few words: what it splits, and where."""
    dims, _, rest = layout.partition(" in ")
    memory, _, cores = rest.partition(" on ")
    places = {"@core.y": "blocks", "h@core": "users", "s@core": "rows", "d@core": "columns", "@bank": "banks"}
    split = next((words for mark, words in places.items() if mark in dims), "")
    return " ".join(part for part in (memory.upper(), split, f"on {cores}" if cores else "") if part)


def _totals(plan: ModelPlan) -> Table:
    board, demand = plan.board, plan.demand
    table = Table(title="estimated speed", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("", justify="right")
    chips = f"{board.num_chips} chip{'s' if board.num_chips > 1 else ''}"
    if board.replicas > 1:
        chips += f", {board.replicas} rows of equal copies"
    if board.hidden_chips > 1:
        chips += f", the hidden dim split over {board.hidden_chips} rows"
    table.add_row("board", f"{board.name} {board.mesh_text} ({chips}), {demand.mode}")
    table.add_row("decode", f"{plan.time_us('decode') / 1e3:,.2f} ms a token for {demand.users} users")
    table.add_row("host", f"{plan.host_us / 1e3:,.2f} ms between two tokens")
    table.add_row("tokens/s/user", f"{plan.tokens_per_second_per_user:,.1f}")
    table.add_row("tokens/s", f"{plan.tokens_per_second_per_user * demand.users * board.replicas:,.0f}")
    table.add_row("first token", f"{plan.ttft_ms:,.1f} ms for a prompt of {demand.prompt}")
    return table


def _memory(plan: ModelPlan) -> Table:
    memory = plan.memory
    table = Table(title="DRAM per chip", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("bytes", justify="right")
    table.add_column("of capacity", justify="right")
    for name, size in _sizes(memory):
        table.add_row(name, f"{size:,}", f"{100 * size / memory.capacity:.1f} %")
    table.add_row("total", f"{memory.total:,}", f"{100 * memory.total / memory.capacity:.1f} %")
    table.add_row("capacity", f"{memory.capacity:,}", "")
    return table


def _sizes(memory: MemoryUse) -> list[tuple[str, int]]:
    return [(name, getattr(memory, name)) for name, _ in KINDS]


def memory_bar(memory: MemoryUse) -> list[Text]:
    """The DRAM of a chip as a bar, with a legend."""
    scale = BAR / max(memory.capacity, memory.total)
    bar, legend = Text(), Text()
    for name, colour in KINDS:
        size = getattr(memory, name)
        bar.append("█" * round(size * scale), colour)
        legend.append("█ ", colour).append(f"{name} {size / GB:.2f} GB  ")
    free = memory.capacity - memory.total
    if free >= 0:
        bar.append("░" * max(0, BAR - len(bar)), "dim")
        legend.append("░ ", "dim").append(f"free {free / GB:.2f} GB")
    else:
        legend.append(f"{-free / GB:.2f} GB too many", "red")
    return [bar, legend]


def _verdict(plan: ModelPlan) -> str:
    fitting = "; ".join(
        f"{users} user{'s' if users > 1 else ''}: {context:,}" for users, context in plan.largest.items() if context
    )
    longest = f"longest context that fits, by users: {fitting}" if fitting else "no context fits, whatever the users"
    if plan.fits:
        return f"fits: [green]yes[/]; {longest}"
    changes = "; ".join(plan.changes) or "no single change of precision, batch, context or board makes it fit"
    return (
        f"fits: [red]no[/], {plan.memory.missing:,} bytes of DRAM too many on each chip. What would help: {changes}. "
        f"{longest[0].upper()}{longest[1:]}."
    )


def print_why(plan: ModelPlan, name: str) -> None:
    """The choice for an operation and the best that were not chosen. Errors: PlacementError for an unknown operation."""
    console = Console(highlight=False)
    found = list(_planned(plan, name))
    if not found:
        known = sorted({op.request.name.rpartition(".")[2] for _, _, block in plan.blocks() for op in block.ops})
        raise PlacementError(f"--why {name}: there is no such operation. There are {', '.join(known)}.")
    for section, mode, block, op in found:
        console.print(f"[bold]{mode}: {section.name}, {op.request.name}[/]")
        console.print(f"  {op.request}", soft_wrap=True)
        console.print(f"  [green]{op.pattern}[/]", soft_wrap=True)
        console.print(f"  reads {', '.join(op.reads)}; makes {', '.join(op.results) or 'nothing new'}", soft_wrap=True)
        console.print(f"  {_terms(op)}", soft_wrap=True)
        if idle := _idle(op, block):
            console.print(f"  {idle}", soft_wrap=True)
        for line in _rejected(op, block):
            console.print(f"  {line}", soft_wrap=True)


def _planned(plan: ModelPlan, name: str) -> Iterator[tuple[Section, str, BlockPlan, PlannedOp]]:
    wanted_mode, _, rest = name.partition(".")
    bare = rest if wanted_mode in MODES else name
    for section, mode, block in plan.blocks():
        for op in block.ops:
            if (wanted_mode not in MODES or wanted_mode == mode) and (
                op.request.name == bare or op.request.name.endswith(f".{bare}")
            ):
                yield section, mode, block, op


def _terms(op: PlannedOp) -> str:
    e = op.estimate
    parts = (
        ("compute", e.compute_us),
        ("DRAM", e.dram_us),
        ("NoC", e.noc_us),
        ("links", e.link_us),
    )
    terms = ", ".join(f"{name} {time:,.1f}" for name, time in parts if time >= 0.05)
    moved = sum(move.estimate.time_us for move in op.moves)
    moves = f", and {moved:,.1f} to bring its inputs there" if moved else ""
    return (
        f"{e.time_us:,.1f} µs: the longest of {terms or 'nothing'} + {e.overhead_us:,.1f} to start{moves}; bound by {e.bound}; "
        f"buffers {op.buffers:,} bytes, {op.l1_bytes:,} on a core with what is alive"
    )


def _rejected(op: PlannedOp, block: BlockPlan) -> Iterator[str]:
    """The best other ways of each pattern, then the patterns that have none, with the rule they break."""
    options = legal_options(op.request, block.board)
    shown: Counter[type] = Counter()
    for option in options:
        kind = type(option.pattern)
        if (option.pattern, option.reads, option.results) == (op.pattern, op.reads, op.results) or shown[
            kind
        ] == PER_PATTERN:
            continue
        shown[kind] += 1
        slower = option.time_us - op.estimate.time_us
        places = [
            f"{name} lies in {block.stored[name]}, not {text}"
            for name, text in zip(op.request.inputs, option.reads, strict=True)
            if block.stored.get(name, text) != text
        ]
        if places:
            why = f"{slower:+,.1f} µs, and {'; '.join(places)}"
        elif slower > TIE_US:
            why = f"{slower:+,.1f} µs"
        elif (option.reads, option.results) == (op.reads, op.results):
            why = f"{slower:+,.1f} µs, and no less L1"
        else:
            why = f"{slower:+,.1f} µs, but its neighbours would have to move their tensors, or L1 lacks the room beside them"
        yield f"[dim]not[/] {option.pattern}, reading {', '.join(map(_where, option.reads))}: {why}"
    legal = {type(option.pattern) for option in options}
    for name, kind in PATTERNS.items():
        if isinstance(op.request, kind.serves) and kind not in legal:
            first = next(iter(candidates_of(op.request, block.board, kind)), None)
            problem = "it offers no config" if first is None else first_problem(first, op.request, block.board)
            problem = problem or "another config that reads and makes the same layouts is faster and takes no more L1"
            yield f"[dim]not[/] {name}: {problem}"


def _idle(op: PlannedOp, block: BlockPlan) -> str:
    """What keeps a compute-bound operation from the whole grid; empty where nothing does."""
    x, y = block.board.grid
    cores = op.pattern.cores(op.request, block.board)
    if op.estimate.bound != "compute" or cores >= FULL_GRID * x * y:
        return ""
    wider = [
        option
        for option in legal_options(op.request, block.board)
        if option.pattern.cores(op.request, block.board) >= FULL_GRID * x * y
    ]
    if not wider:
        return f"{cores} of {x * y} cores: no config divides its tiles over more"
    best = min(wider, key=lambda option: option.time_us)
    return (
        f"{cores} of {x * y} cores: the best with at least {FULL_GRID:.0%} of them, {best.pattern}, is estimated at "
        f"{best.time_us:,.1f} µs"
    )


def to_json(plan: ModelPlan) -> dict[str, Any]:
    """Everything that is printed, for programs. Times in µs unless named otherwise, sizes in bytes."""
    memory, demand, board = plan.memory, plan.demand, plan.board
    return {
        "schema": 1,
        "device": board.name,
        "mesh": list(board.mesh),
        "rows": board.rows,
        "backend": "none",
        "values": "none",
        "mode": demand.mode,
        "precision": {role: short_name(dtype) for role, dtype in demand.precision.items()},
        "batch": demand.users,
        "context": demand.context,
        "prefill": demand.prompt,
        "tensor_parallel": board.mesh[1] * board.hidden_chips,
        "data_parallel": board.replicas,
        "tokens_per_second_per_user": plan.tokens_per_second_per_user,
        "tokens_per_second": plan.tokens_per_second_per_user * demand.users * board.replicas,
        "decode_ms": plan.time_us("decode") / 1e3,
        "ttft_ms": plan.ttft_ms,
        "fits": plan.fits,
        "dram_bytes_per_chip": memory.total,
        "dram": {**dict(_sizes(memory)), "total": memory.total, "capacity": memory.capacity},
        "largest_context": {str(users): context for users, context in plan.largest.items()},
        "changes": [] if plan.fits else plan.changes,
        "ops": [
            {
                "section": section.name,
                "count": section.count,
                "mode": mode,
                "name": op.request.name,
                **op.pattern.to_json(),
                "reads": list(op.reads),
                "results": list(op.results),
                "moves": [
                    {"tensor": move.tensor, "source": move.reshard.source, "target": move.reshard.target}
                    for move in op.moves
                ],
                "cores": op.pattern.cores(op.request, block.board),
                "buffer_bytes": op.buffers,
                "l1_bytes": op.l1_bytes,
                "time_us": op.time_us,
                "bound": op.estimate.bound,
            }
            for section, mode, block in plan.blocks()
            for op in block.ops
        ],
    }
