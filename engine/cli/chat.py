"""`laneway chat`: a client in the terminal.

Law of this file: Ctrl-C while an answer comes stops that answer; otherwise it leaves. The session
stays on the engine: come back with the same name.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laneway.engine.cli.dialling import Ca, Target, TokenFile, dial
from laneway.engine.cli.terminal import Lines, printable

if TYPE_CHECKING:
    from laneway.engine.client import Client
    from laneway.engine.delivery import Event

__all__ = ["chat"]

_SHOWN_CHARS: Final = 200
_CONNECT_S: Final = 3.0
_PROMPT: Final = "> "


def chat(
    grpc: Target = "127.0.0.1:7700",
    token_file: TokenFile = None,
    tls_ca: Ca = None,
    session: Annotated[str, typer.Option(help="Name of the session; it stays on the engine.")] = "chat",
) -> None:
    """Talk to the model of an engine. Ctrl-C stops the answer, a second one leaves."""
    asyncio.run(_chat(dial(grpc, token_file, tls_ca, session=session, connect_s=_CONNECT_S)))


async def _chat(client: Client) -> None:
    import signal

    async with client:
        talk = _Talk(client)
        loop = asyncio.get_running_loop()
        main = asyncio.current_task()
        assert main is not None

        def interrupted() -> None:
            if not talk.interrupt():
                main.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            await talk.run()
        except asyncio.CancelledError:
            if main.uncancel():
                raise
            typer.echo()
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            await talk.close()


class _Talk:
    """Turns: a line, an answer.

    Args:
        client: connected.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lines = Lines()
        self._run = ""
        self._stopping: asyncio.Task[object] | None = None

    def interrupt(self) -> bool:
        """Stop the answer that comes; False if none comes, or it was asked to stop already."""
        if not self._run or self._stopping is not None:
            return False
        self._stopping = asyncio.create_task(self._client.interrupt(self._run))
        return True

    async def run(self) -> None:
        """Talk until the input ends."""
        while True:
            typer.echo(_PROMPT, nl=False)
            line = await self._lines.next()
            if line is None:
                typer.echo()
                return
            if line.strip():
                await self._turn(line)

    async def _turn(self, line: str) -> None:
        from laneway.routing.errors import AdmissionError

        try:
            self._run = (await self._client.send(line)).run
        except AdmissionError as error:
            typer.secho(error.message, fg="red")
            return
        async for event in self._client:
            _show(event)
            if event.ends_run and event.run == self._run:
                break
        self._run = ""
        await self.close()

    async def close(self) -> None:
        """Wait for an interrupt that is on its way."""
        stopping, self._stopping = self._stopping, None
        if stopping is not None:
            await asyncio.gather(stopping, return_exceptions=True)


def _show(event: Event) -> None:
    if event.kind == "TEXT_MESSAGE_CONTENT":
        typer.echo(printable(event.text), nl=False)
    elif event.kind == "REASONING_MESSAGE_CONTENT":
        typer.secho(printable(event.text), nl=False, dim=True)
    elif event.kind == "TOOL_CALL_START":
        typer.secho(f"-> {printable(str(event.data['toolCallName']))}", dim=True)
    elif event.kind == "TOOL_CALL_RESULT":
        content = event.data["content"]
        text = content if isinstance(content, str) else json.dumps(content)
        typer.secho(f"<- {printable(text)[:_SHOWN_CHARS]}", dim=True)
    elif event.kind == "MESSAGES_SNAPSHOT":
        typer.secho(f"({len(event.data['messages'])} earlier messages)", dim=True)
    elif event.kind == "PUBLISH":
        typer.secho(f"[{event.entity}] {printable(event.body.decode('utf-8', 'replace'))}", fg="yellow")
    elif event.kind == "RUN_FINISHED":
        outcome = (event.data.get("outcome") or {}).get("type", "success")
        typer.echo("" if outcome == "success" else f" ({outcome})")
    elif event.kind == "RUN_ERROR":
        typer.secho(f"\n{printable(str(event.data['message']))}", fg="red")
