"""The example shop and the widget's bundle, as files.

Knows where they lie in the package. Invariant: pages carry a policy without 'unsafe-inline'; other
sites may embed the widget and nothing else.
"""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from server.edge import SHOP_CSP

_SERVER = Path(__file__).parent.parent
SHOP_PAGE = _SERVER / "shop_page"
WIDGET = _SERVER / "static"


class _WidgetFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response


class _ShopFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = SHOP_CSP
        return response


def install(app: FastAPI) -> None:
    """Adds `/`, `/shop/*` and `/widget/*`."""

    @app.get("/", include_in_schema=False)
    async def shop() -> FileResponse:
        headers = {"Content-Security-Policy": SHOP_CSP, "Cache-Control": "no-cache"}
        return FileResponse(SHOP_PAGE / "index.html", headers=headers)

    app.mount("/shop", _ShopFiles(directory=SHOP_PAGE, check_dir=False))
    app.mount("/widget", _WidgetFiles(directory=WIDGET, check_dir=False))
