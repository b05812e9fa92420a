"""The verdict: what was promised, what happened, and the table that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

_LANES = ("critical", "high", "normal", "low")


@dataclass(slots=True)
class Verdict:
    """Rows of the table and what failed."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def row(self, name: str, value: object) -> None:
        """Add a row that is only told."""
        self.rows.append((name, str(value)))

    def check(self, name: str, good: bool, value: object) -> None:
        """Add a row that must be good."""
        mark = "[green]✓[/]" if good else "[red]✗[/]"
        self.rows.append((name, f"{mark} {value}"))
        if not good:
            self.failures.append(f"{name}: {value}")


def judge(
    results: Mapping[str, Mapping[str, Any]],
    *,
    model: str,
    slots_free: bool,
    cuts: int,
    accepted: int,
    books: tuple[int, int],
    issued: int,
    took_s: float,
) -> Verdict:
    """Compare what each client saw with what was promised."""
    verdict = Verdict(f"laneway demo · model {model if model != 'synthetic' else 'SYNTHETIC'}")
    for role, result in results.items():
        if "error" in result:
            verdict.check(role, False, result["error"])
    if verdict.failures:
        return verdict
    chats = [results["chat-1"], results["chat-2"]]
    verdict.row("events in / out", f"{accepted:,} accepted / {issued:,} numbered")
    answered = (results["flood"]["ok"] + results["flood"]["refused"]) / results["flood"]["took_s"]
    overall = (accepted + issued) / took_s
    verdict.row(
        "events/s", f"{answered:,.0f} answered in the flood; {overall:,.0f} over all {took_s:.0f} s, models included"
    )
    verdict.check("books balance", books[0] == books[1], f"accepted {books[0]:,} = accounted for {books[1]:,}")
    _judge_lanes(verdict, results["lanes"], results["flood"])
    verdict.row("first token", ", ".join(f"{chat['first_token_ms'] / 1000:.2f} s" for chat in chats))
    verdict.check(
        "chats",
        all(chat["finished"] and chat["chars"] for chat in chats),
        f"{sum(c['chars'] for c in chats)} characters",
    )
    tools = results["tools"]
    verdict.check("tool calls", tools["ok"] == tools["asked"], f"{tools['ok']} of {tools['asked']}: {tools['what']}")
    _judge_document(verdict, results["editor-1"], results["editor-2"])
    interrupt = results["interrupt"]
    verdict.check("interrupt", interrupt["cancelled"], f"run ended {interrupt['ended_ms']:.0f} ms after it was asked")
    verdict.check("model slot free after", slots_free, "idle" if slots_free else "still generating")
    _judge_resume(verdict, results["steady"], results["cut"], cuts)
    return verdict


def _judge_lanes(verdict: Verdict, lanes: Mapping[str, Any], flood: Mapping[str, Any]) -> None:
    verdict.row(
        "flood",
        f"{flood['offered']:,} offered in {flood['took_s']:.1f} s, {flood['ok']:,} taken, {flood['refused']:,} refused",
    )
    verdict.check("flood was pushed back", flood["refused"] > 0 and flood["typed"], "with a typed error and a delay")
    for lane in _LANES:
        seen = lanes[lane]
        verdict.row(f"{lane} lane p50 / p99", f"{seen['p50_ms']:.1f} / {seen['p99_ms']:.1f} ms of {seen['count']}")
    verdict.check("critical events lost", lanes["critical"]["lost"] == 0, lanes["critical"]["lost"])


def _judge_document(verdict: Verdict, one: Mapping[str, Any], two: Mapping[str, Any]) -> None:
    same = one["json"] == two["json"] and one["edits"] > 0 and two["edits"] > 0
    verdict.check("document converged", same, f"{one['edits']} + {two['edits']} edits, {one['json'][:60]}")


def _judge_resume(verdict: Verdict, steady: Mapping[str, Any], cut: Mapping[str, Any], cuts: int) -> None:
    verdict.check(
        "connection cut and resumed", cuts > 0 and cut["reconnects"] > 0, f"{cuts} cut, {cut['reconnects']} resumed"
    )
    same = steady["sha256"] == cut["sha256"] and steady["chars"] > 0
    verdict.check(
        "resume exact", same, f"{cut['chars']} characters, sha256 {cut['sha256'][:12]} = {steady['sha256'][:12]}"
    )


def table(verdict: Verdict) -> Table:
    """Draw the verdict."""
    drawn = Table(title=verdict.title, show_header=False, title_justify="left")
    drawn.add_column(style="bold")
    drawn.add_column()
    for name, value in verdict.rows:
        drawn.add_row(name, value)
    return drawn
