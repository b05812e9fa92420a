"""The state pool: shared documents on the CRDT library.

Law of this file: importing it loads the library, so the engine does that with its first document
event and not before.
"""

from __future__ import annotations

from typing import Any

from laneway.actors.ports import Clock, Outlet, Probe, Store
from laneway.actors.sync.documents import Documents
from laneway.engine.documents.yjs import YjsEngine
from laneway.routing.classify import KindTable

__all__ = ["make_documents"]


def make_documents(
    store: Store, outlet: Outlet, clock: Clock, kinds: KindTable, probe: Probe, **several: Any
) -> Documents:
    """Return the handler of document events of one engine; its owner closes it.

    Args:
        several: where there are several fronts, `homes` and `elsewhere`, as for Documents.
    """
    return Documents(store, YjsEngine(), outlet=outlet, clock=clock, kinds=kinds, probe=probe, **several)
