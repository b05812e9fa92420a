"""The verdict: what was promised, what happened, and the table that shows it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from examples.demo.models import IDLE

if TYPE_CHECKING:
    from examples.demo.hosts import Loss
    from laneway.routing.membership import Member

_LANES = ("critical", "high", "normal", "low")


class Books(NamedTuple):
    """What the dispatcher counted: taken in, told what became of it, sent out numbered, given up."""

    accepted: int
    accounted: int
    issued: int
    dead: int


class Hosting(NamedTuple):
    """What a cluster had: its hosts, how long it took to start, the hosts it lost, events handled again."""

    hosts: Sequence[Member]
    started_s: float
    losses: Sequence[Loss]
    again: int


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
    slots: str,
    cuts: int,
    books: Books,
    hosting: Hosting | None,
    took_s: float,
) -> Verdict:
    """Compare what each client saw with what was promised."""
    where = "" if hosting is None else " · on Ray"
    verdict = Verdict(f"laneway demo · model {model if model != 'synthetic' else 'SYNTHETIC'}{where}")
    for role, result in results.items():
        if "error" in result:
            verdict.check(role, False, result["error"])
    if verdict.failures:
        return verdict
    chats = [results["chat-1"], results["chat-2"]]
    verdict.row("events in / out", f"{books.accepted:,} accepted / {books.issued:,} numbered")
    answered = (results["flood"]["ok"] + results["flood"]["refused"]) / results["flood"]["took_s"]
    overall = (books.accepted + books.issued) / took_s
    verdict.row(
        "events/s", f"{answered:,.0f} answered in the flood; {overall:,.0f} over all {took_s:.0f} s, models included"
    )
    balanced = books.accepted == books.accounted
    verdict.check("books balance", balanced, f"accepted {books.accepted:,} = accounted for {books.accounted:,}")
    if hosting is None:
        verdict.check("given up", books.dead == 0, books.dead)
    else:
        verdict.check("given up", books.dead == 1, f"{books.dead}: the run whose host was killed")
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
    verdict.check("model slot free after", slots == IDLE, slots or "it did not say")
    _judge_resume(verdict, results["steady"], results["cut"], cuts)
    if hosting is not None:
        _judge_hosts(verdict, hosting, results["retry"])
    return verdict


def _judge_lanes(verdict: Verdict, lanes: Mapping[str, Any], flood: Mapping[str, Any]) -> None:
    verdict.row(
        "flood",
        f"{flood['offered']:,} offered in {flood['took_s']:.1f} s, {flood['ok']:,} taken, {flood['refused']:,} refused",
    )
    verdict.check("flood was pushed back", flood["refused"] > 0 and flood["typed"], "with a typed error and a delay")
    answered = f"{flood['answered']:,} of {flood['ok']:,}"
    verdict.check("taken and answered", flood["answered"] == flood["ok"], answered)
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


def _judge_hosts(verdict: Verdict, hosting: Hosting, retry: Mapping[str, Any]) -> None:
    for host in hosting.hosts:
        verdict.row(host.name, f"pid {host.pid}, node {host.node[:8]}, pools {', '.join(host.pools)}")
    pids = {host.pid for host in hosting.hosts} | {loss.pid for loss in hosting.losses}
    apart = os.getpid() in pids and len(pids) == len(hosting.hosts) + len(hosting.losses)
    verdict.check("a process for each", apart, f"{len(pids)} pids so far, {os.getpid()} is this one")
    nodes = len({host.node for host in hosting.hosts})
    verdict.row("cluster started in", f"{hosting.started_s:.1f} s, {nodes} node{'s' if nodes > 1 else ''}")
    verdict.check("hosts killed", len(hosting.losses) == 2, f"{len(hosting.losses)} of 2, while they worked")
    for loss in hosting.losses:
        healed = loss.healed_ms is not None
        heir = f"a cell again after {loss.healed_ms:,.0f} ms, pid {loss.heir_pid}" if healed else "no cell came back"
        verdict.check(f"kill -9 of {loss.host}", healed, f"pid {loss.pid}; {heir}")
    verdict.check("handled again elsewhere", hosting.again > 0, f"{hosting.again} events; none was lost, see above")
    told = retry["code"] == "HOST_LOST" and retry["retryable"]
    verdict.check("run on a lost host", told, f"told {retry['code']} after {retry['words']} deltas")
    verdict.check("retried by parentRunId", retry["finished"] and retry["parent"], f"{retry['chars']} characters")


def table(verdict: Verdict) -> Table:
    """Draw the verdict."""
    drawn = Table(title=verdict.title, show_header=False, title_justify="left")
    drawn.add_column(style="bold")
    drawn.add_column()
    for name, value in verdict.rows:
        drawn.add_row(name, value)
    return drawn
