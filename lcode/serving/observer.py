"""What a service tells those who watch it."""


class Observer:
  """Told what happens; its own methods do nothing. Times of queries in milliseconds, of coding in seconds."""

  def answered(self, how: str, ms: float) -> None:
    """A query was answered: 'exact', 'reconstructed', 'failed' or 'late'."""

  def refused(self) -> None:
    """A query was not accepted."""

  def died(self) -> None:
    """A worker is gone."""

  def joined(self) -> None:
    """A worker is ready."""

  def wrong(self) -> None:
    """An answer was of the wrong shape, or not finite."""

  def filled(self, waits: tuple[float, ...]) -> None:
    """A group was closed, full or short; `waits` is how long each of its queries waited for that."""

  def coded(self, what: str, seconds: float) -> None:
    """A group was encoded or decoded."""
