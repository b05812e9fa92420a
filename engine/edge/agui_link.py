"""One AG-UI client's link to its run: ask for it, read it to its end, whatever happened before.

Law of this file: asking again never runs twice. A run whose id is known is joined, from its
beginning or from the client's place; what cannot be continued whole is refused (RESUME_FAILED)
before anything was written. The link never grants, as stock clients cannot, so it is paced.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any, Final

from laneway.actors.ports import Principal
from laneway.engine.edge.agui_input import RunRequest
from laneway.engine.edge.agui_output import Place, RunOutput
from laneway.engine.edge.gateway import Attachment, Gateway
from laneway.engine.edge.hosting import origin
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import DeadlineExceeded, ResumeFailed
from laneway.routing.failures import error_of_code
from laneway.routing.handshake import Hello, parse_cursor
from laneway.routing.lanes import Lane
from laneway.routing.replay import Cursor

__all__ = ["RunLink"]

_URGENT: Final = 0
_ANSWER_S: Final = 30.0
_EVERYTHING: Final = 2**53
"""A grant for a reader in this process that passes over what it reads."""
_LOST: Final = "what this run said before cannot be read from there any more; ask again as a new run"


class RunLink:
    """A client's part in one run; `open` it, read until `over`, `close` it.

    Args:
        place: what the client has already, by its Last-Event-ID.
        trace: W3C traceparent, or empty.
    """

    def __init__(
        self, gateway: Gateway, asked: RunRequest, principal: Principal, place: Place | None = None, trace: str = ""
    ) -> None:
        self._gateway = gateway
        self._asked = asked
        self._principal = principal
        self._place = place
        self._trace = trace
        self._client = f"agui-{uuid.uuid4().hex}"
        self._counter = 0
        self._attachment: Attachment | None = None
        self._output = RunOutput(asked, Place(Cursor()))
        self._ready: list[bytes] = []
        self._ended = False

    @property
    def over(self) -> bool:
        """The run's end was read: nothing more will come."""
        return self._output.over and not self._ready

    async def open(self) -> None:
        """Ask for the run and return once it is accepted, or known.

        Raises the refusal, ResumeFailed, and DeadlineExceeded if no answer came within 30 s.
        """
        how = await self._attach()
        try:
            async with asyncio.timeout(_ANSWER_S):
                grade = await self._ask()
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the run was not accepted within {_ANSWER_S:g} s; repeat the request: it does not run twice"
            ) from error
        if self._place is not None and self._ended:
            await self._find_end(self._place.cursor)
        elif grade == "duplicate" and how == "new":  # known only since, or too long ago: where does it begin?
            self._ready.clear()
            if await self._attach() == "new":
                raise ResumeFailed(_LOST, reason="OUT_OF_WINDOW")

    async def _find_end(self, have: Cursor) -> None:
        """The run is over: if its end lies before the client's place, nothing would come; it is told again.

        A run of which the session does not know any more where it began is left as it is.
        """
        hello = Hello((1,), f"{self._client}-end", self._asked.session, run=self._asked.run_id)
        looking = await self._gateway.attach(hello, self._principal, origin("agui"))
        try:
            welcome = (await looking.frames())[0].header["welcome"]
            if welcome["resume"] != "run":
                return
            found = RunOutput(self._asked, Place(parse_cursor(welcome["cursor"], "welcome.cursor")), only_end=True)
            await looking.receive({"grant": _EVERYTHING}, [])
            async with asyncio.timeout(_ANSWER_S):
                said, urgent = await _until_over(looking, found)
        except TimeoutError:
            return  # the client's own link goes on
        finally:
            await looking.close()
        end = found.place.cursor
        if end.urgent <= have.urgent if urgent else end.data <= have.data:
            self._output, self._ready = found, [said]

    async def read(self) -> bytes:
        """Wait for what comes next; may be empty. Raises the LanewayError that ended the link."""
        if self._ready:
            return self._ready.pop(0)
        assert self._attachment is not None, "open() comes first"
        frames = await self._attachment.frames()
        return b"".join(self._output.take(frame.header, frame.envelopes) for frame in frames)

    async def cancel(self) -> None:
        """Ask for the end of the run; it is acted on at once."""
        if self._attachment is not None:
            await self._attachment.receive({}, [self._event("INTERRUPT", Lane.CRITICAL)])

    async def close(self) -> None:
        """Leave; the run goes on."""
        if self._attachment is not None:
            await self._attachment.close()

    async def _attach(self) -> str:
        """Attach, and return how the link begins: "new", "run" or "resumed". Raises ResumeFailed."""
        await self.close()
        place = self._place
        hello = Hello(
            versions=(1,),
            client=self._client,
            session=self._asked.session,
            cursor=None if place is None else place.cursor,
            run=self._asked.run_id,
            grants=False,
        )
        self._attachment = await self._gateway.attach(hello, self._principal, origin("agui"))
        welcome: Mapping[str, Any] = (await self._attachment.frames())[0].header["welcome"]
        how, self._ended = str(welcome["resume"]), welcome.get("over") is True
        if how == "failed":
            raise ResumeFailed(_LOST, reason=str(welcome["reason"]))
        start = parse_cursor(welcome["cursor"], "welcome.cursor")
        if place is None:
            self._output = RunOutput(self._asked, Place(start))
        else:
            self._output = RunOutput(self._asked, place, resumed=True)
        return how

    async def _ask(self) -> str:
        """Send the RUN_INPUT and return what it was answered with; keep what the run says meanwhile."""
        assert self._attachment is not None
        event = self._event("RUN_INPUT", Lane.HIGH, self._asked.body)
        await self._attachment.receive({}, [event])
        while True:
            answer = ""
            for frame in await self._attachment.frames():
                self._ready.append(self._output.take(frame.header, frame.envelopes))
                for _, code, reason, message, retry_after_ms in frame.header.get("refused", ()):
                    raise error_of_code(code, message, reason=reason, retry_after_ms=retry_after_ms)
                for _, _, grade in frame.header.get("ok", ()):
                    answer = grade
            if answer:
                return answer

    def _event(self, kind: str, lane: Lane, body: bytes = b"") -> Envelope:
        self._counter += 1
        return envelope(
            kind,
            producer=self._client,
            counter=self._counter,
            tenant=self._principal.tenant,
            session=self._asked.session,
            lane=lane,
            run=self._asked.run_id,
            trace=self._trace,
            body=body,
        )


async def _until_over(attachment: Attachment, output: RunOutput) -> tuple[bytes, bool]:
    """Read to the run's end; returns what is said of it, and whether it is an urgent event."""
    while True:
        for frame in await attachment.frames():
            said = output.take(frame.header, frame.envelopes)
            if output.over:
                return said, frame.header["stream"] == _URGENT
