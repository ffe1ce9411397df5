"""What a service tells its log: lines for people, or a line of JSON for each event."""

import datetime
import json
import logging


def event(name: str, **fields) -> dict:
  """`extra` of a logging call: what happened, by a name that stays, and its particulars, as JSON can hold them."""
  return {'event': name, 'fields': fields}


def reason(error: BaseException) -> str:
  """What an exception says, on one line."""
  return f'{type(error).__name__}: ' + str(error).split('\n')[0][:200]


class JsonLines(logging.Formatter):
  """Formats a record as one line of JSON: time (UTC, ISO 8601), level, event, its fields, and the message."""

  def format(self, record: logging.LogRecord) -> str:
    when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return json.dumps({'time': when.isoformat(timespec='milliseconds'), 'level': record.levelname.lower(),
                       'event': getattr(record, 'event', 'message'), **getattr(record, 'fields', {}),
                       'message': record.getMessage()})


def as_json(logger: logging.Logger) -> None:
  """Makes all that this logger's handlers write JSON lines, from INFO on."""
  logger.setLevel(logging.INFO)
  for handler in logger.handlers:
    handler.setFormatter(JsonLines())
