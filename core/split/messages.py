"""What front and back say to each other: the kinds of frames, and tensors in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import CoreError, PeerError
from core.split.codec import Encoded
from core.split.wire import Frame

# The front speaks first; the back answers each in order.
BEGIN, READY = "begin", "ready"  # where a session goes on from
FEATURES, GRADIENT = "features", "gradient"  # one training step
EVALUATE, SCORES = "evaluate", "scores"  # one test batch
MOVE, MOVED = "move", "moved"  # blocks change sides
SAVE, SAVED = "save", "saved"  # a snapshot on both sides
WEIGHTS, DISTRIBUTIONS = "weights", "distributions"  # how weights are distributed
DRAINED = "drained"  # nothing of an epoch is under way any more
PROBE, PROBED = "probe", "probed"  # bytes that measure an idle link
SHOW, SHOWN = "show", "shown"  # images to look at, which stay with the back
FINISH, FINISHED = "finish", "finished"
REFUSED = "refused"  # the back could not use a frame; nothing has changed there

REASON = 500  # characters of a refusal

_TENSOR = "tensor/"


def with_tensor(
    kind: str,
    step: int,
    encoded: Encoded,
    arrays: dict[str, NDArray[Any]] | None = None,
    **facts: Any,
) -> Frame:
    """A frame that carries an encoded tensor beside other arrays and facts."""
    own = {_TENSOR + name: array for name, array in encoded.arrays.items()}
    return Frame(kind, step, own | (arrays or {}), facts | {"encoded": encoded.facts})


def tensor_of(frame: Frame) -> Encoded:
    """The encoded tensor of a frame. Raises ValueError where it has none."""
    facts = frame.facts.get("encoded")
    if not isinstance(facts, dict):
        raise ValueError(f"a frame {frame.kind!r} of step {frame.step} carries no tensor")
    own = {k.removeprefix(_TENSOR): v for k, v in frame.arrays.items() if k.startswith(_TENSOR)}
    return Encoded(own, facts)


def refusal(step: int, error: Exception) -> Frame:
    """Says why a frame could not be used, with the exit code that the error has."""
    code = error.exit_code if isinstance(error, CoreError) else PeerError.exit_code
    return Frame(REFUSED, step, {}, {"reason": f"{error}"[:REASON], "exit_code": code})


def refused(frame: Frame, who: str) -> CoreError:
    """The error that a refusal tells of, with the exit code that it has on the other side."""
    code, reason = frame.facts.get("exit_code"), f"{frame.facts.get('reason')}"[:REASON]
    kinds = [each for each in CoreError.__subclasses__() if each.exit_code == code]
    return (kinds or [PeerError])[0](f"{who}: {reason}")


@contextmanager
def understanding(who: str, step: int) -> Iterator[None]:
    """Read what the other side sent, which comes from outside. Raises PeerError for what does not
    fit."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        said = f"{who} sent nonsense at step {step}: {type(error).__name__} {error}"
        raise PeerError(said[:REASON]) from error


def integers(frame: Frame, name: str, number: int | None = None) -> NDArray[np.int64]:
    """A list of integers of a frame, as many as `number` where that is given. Raises ValueError."""
    array = frame.arrays.get(name)
    if array is None or array.dtype != np.int64 or array.ndim != 1:
        raise ValueError(f"a frame {frame.kind!r} of step {frame.step} has no list {name!r}")
    if number is not None and len(array) != number:
        raise ValueError(f"{name!r} has {len(array)} entries for {number} samples")
    return array
