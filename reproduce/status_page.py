"""Where each network of a folder is, as a page on this machine that renews itself: ``run_paper.py status OUT --serve``.

The page is whole without JavaScript; with it, the table is replaced as the server sends a new one (server-sent events).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from caffe_compat.errors import CaffeCompatError, DataError
from reproduce.status import REFRESH_S, Row, rows_of, summary, words

HOST = "127.0.0.1"
#: names that a browser on this machine may have asked for: another one's page must not read ours by a name of its own
HOSTS = ["127.0.0.1", "localhost", "[::1]"]
#: points of a curve, at most: more than its width in pixels are not seen
POINTS = 160


def table(out: Path) -> str:
    """The part of the page that changes: HTML, everything from files escaped."""
    return _render("status_table.html.jinja", out)


def page(out: Path) -> str:
    """The whole page."""
    return _render("status.html.jinja", out)


def application(out: Path, refresh_s: float = REFRESH_S) -> Any:
    """The page, and its events, as an ASGI application."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, StreamingResponse
    from starlette.routing import Route

    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }

    async def show(request: Request) -> HTMLResponse:
        return HTMLResponse(await asyncio.to_thread(page, out), headers=headers)

    async def tell(request: Request) -> StreamingResponse:
        return StreamingResponse(events(out, refresh_s), media_type="text/event-stream", headers=headers)

    return Starlette(
        routes=[Route("/", show), Route("/events", tell)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
    )


async def events(out: Path, refresh_s: float) -> AsyncIterator[str]:
    """The table as server-sent events, each time that it has changed."""
    last = ""
    while True:
        text = await asyncio.to_thread(table, out)
        # A line now and then shows that the browser has gone.
        yield f"data: {json.dumps(text)}\n\n" if text != last else ": nothing new\n\n"
        last = text
        await asyncio.sleep(refresh_s)


def serve(out: Path, port: int, console: Console) -> None:
    """Serve the page to this machine alone, until Ctrl-C.  DataError where that cannot be done."""
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError:
        raise DataError("--serve: needs starlette and uvicorn; run `pip install 'caffe-compat[serve]'`") from None
    rows_of(out)  # is there such a folder?
    server = uvicorn.Server(
        uvicorn.Config(application(out), host=HOST, port=port, log_level="error", timeout_graceful_shutdown=1)
    )
    console.print(f"http://{HOST}:{port}/ shows {out}; Ctrl-C ends it", highlight=False, markup=False)
    try:
        server.run()
    except SystemExit:
        raise DataError(f"--port {port}: cannot be used; choose another one") from None


def _render(template: str, out: Path) -> str:
    # Imported here: status as a list does without it.
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("reproduce", "."), autoescape=True)
    try:
        rows = rows_of(out, curves=True)
        counts = summary(out, rows)
    except CaffeCompatError as error:  # the page stays, and says so
        rows, counts = [], str(error)
    return environment.get_template(template).render(out=str(out), counts=counts, rows=[_shown(row) for row in rows])


def _shown(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "state": row.state,
        "details": row.details,
        "worker": row.worker,
        "iteration": row.iteration,
        "iterations": row.iterations,
        "left": "" if row.left_s is None else words(row.left_s),
        "points": curve_points(row.curve, row.iterations),
        "curve_text": f"loss from {row.curve[0][1]:.3g} to {row.curve[-1][1]:.3g}" if row.curve else "",
    }


def curve_points(curve: Sequence[tuple[int, float]], iterations: int) -> str:
    """A curve in a box of 100 by 30: x is the iteration of all, y falls from the largest loss to zero."""
    finite = [(i, loss) for i, loss in curve if abs(loss) < float("inf")]
    step = -(-len(finite) // POINTS) or 1
    top = max((loss for _, loss in finite), default=0.0) or 1.0
    shown = sorted({*finite[::step], *finite[-1:]}) if len(finite) > 1 else []
    return " ".join(f"{100 * i / max(1, iterations):.1f},{30 - 28 * max(0.0, loss) / top:.1f}" for i, loss in shown)
