"""HTTP in front of a service: one query a request, as JSON or as a NumPy array's bytes (npy, never a pickle)."""

import io
import json
import math

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lcode.errors import InputError, instance
from lcode.serving.answered import NoAnswer, Refused
from lcode.serving.metrics import Metrics
from lcode.serving.service import Service

NPY = 'application/x-npy'
DEADLINE = 'x-deadline-ms'
A_NUMBER = 32  # bytes of a number in JSON, at most
A_HEADER = 2**12  # bytes beside the numbers


class TooLarge(Exception):
  """A request of more bytes than a query has."""


def make_app(service: Service, metrics: Metrics | None = None) -> Starlette:
  """An ASGI application over a service that is started already.

  POST /predict takes a query, float32[*S]: as JSON, {"query": [...]}, answered by {"answer", "how", "ms", "code"};
  or as npy (content type application/x-npy), answered by npy with the headers x-how and x-ms. The header x-deadline-ms
  is the query's deadline: after how many milliseconds the client gives up. Errors are {"error": sentence}: 400 for what
  is no query, 413 for one that is too large, 503 where it was not accepted, 504 where there is no answer.
  GET /healthz answers 200, /readyz 200 once queries are taken, else 503; /metrics is for Prometheus.

  Args:
    service: started already; `experiments.serve` shows how to run both.
    metrics: what /metrics reads, the observer of the service; None for no such page.

  Raises:
    InputError: if one is something else.
  """
  instance('service', service, Service)
  if metrics is not None:
    instance('metrics', metrics, Metrics)
    metrics.watch(lambda: service.policy.waiting, lambda: len(service.futures))

  async def predict(request: Request) -> Response:
    as_npy = request.headers.get('content-type', '').split(';')[0].strip() == NPY
    try:
      query = _query(await _body(request, service), as_npy)
      answered = await service.predict(query, _deadline(request))
    except InputError as error:
      return _error(400, error)
    except TooLarge as error:
      return _error(413, error)
    except Refused as error:
      return _error(503, error, {'retry-after': '1'})
    except NoAnswer as error:
      return _error(504, error)
    if as_npy:
      return Response(_npy(answered.answer), media_type=NPY,
                      headers={'x-how': answered.how, 'x-ms': f'{answered.ms:.3f}'})
    code = answered.code and [answered.code.k, answered.code.r]
    return JSONResponse({'answer': answered.answer.tolist(), 'how': answered.how, 'ms': round(answered.ms, 3),
                         'code': code})

  async def healthz(request: Request) -> Response:
    return JSONResponse({'status': 'ok'})

  async def readyz(request: Request) -> Response:
    return JSONResponse({'ready': service.ready}, 200 if service.ready else 503)

  async def measured(request: Request) -> Response:
    content, kind = metrics.text()
    return Response(content, media_type=kind)

  routes = [Route('/predict', predict, methods=['POST']), Route('/healthz', healthz), Route('/readyz', readyz)]
  return Starlette(routes=routes + ([Route('/metrics', measured)] if metrics else []))


async def _body(request: Request, service: Service) -> bytes:
  """The request's body; raises TooLarge before more than the largest query's bytes are in memory."""
  most = A_HEADER + A_NUMBER * math.prod(service.served.query_shape)
  content = bytearray()
  async for part in request.stream():
    content += part
    if len(content) > most:
      raise TooLarge(f'a query has at most {most} bytes: send one query a request')
  return bytes(content)


def _query(body: bytes, as_npy: bool) -> np.ndarray:
  """The query in a request; raises InputError if there is none."""
  try:
    if as_npy:
      return np.load(io.BytesIO(body), allow_pickle=False)
    return np.asarray(json.loads(body)['query'], np.float32)
  except (ValueError, TypeError, KeyError, EOFError, OverflowError) as error:
    reason = str(error).split('\n')[0][:100]
    raise InputError(f'the request holds no query ({type(error).__name__}: {reason}): send {{"query": [...]}} as JSON, '
                     f'or a float32 array as {NPY}.') from error


def _deadline(request: Request) -> float:
  """Milliseconds, inf where the request says nothing."""
  given = request.headers.get(DEADLINE)
  try:
    if given is None:
      return math.inf
    if 0 < float(given) < math.inf:
      return float(given)
  except ValueError:
    pass
  raise InputError(f'{DEADLINE}: {given[:40]} is not allowed: give milliseconds above 0.')


def _npy(answer: np.ndarray) -> bytes:
  content = io.BytesIO()
  np.save(content, answer, allow_pickle=False)
  return content.getvalue()


def _error(status: int, error, headers: dict[str, str] | None = None) -> Response:
  return JSONResponse({'error': str(error)}, status, headers)
