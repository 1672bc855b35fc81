"""GET /metrics for Prometheus.

Knows HTTP; the numbers are server.metrics'. They name no visitor and hold no text, but versions,
traffic and thumbs are the shop's business: a token is needed. Not an address of loopback, for
behind a proxy everybody has one.
"""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from server.routes.callers import MetricsReader

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
def read_metrics(request: Request, reader: MetricsReader) -> Response:
    """Every metric of this process in Prometheus' text format."""
    text = generate_latest(request.app.state.metrics)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
