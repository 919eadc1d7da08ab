"""Those who hold the columns, as the server sees them: parties behind channels, or all of them in
this process."""

import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import CoreError, DataError, PeerError, given_up
from core.federated.network import make_party
from core.federated.silos import Silo
from core.models.din import FEATURES as WIDTH
from core.split import codec as codecs
from core.split.channel import Channel, SessionLost
from core.split.messages import (
    BEGIN,
    DRAINED,
    EVALUATE,
    FEATURES,
    FINISH,
    FINISHED,
    GRADIENT,
    READY,
    REASON,
    SAVE,
    SAVED,
    SCORES,
    refusal,
    tensor_of,
    with_tensor,
)
from core.split.part import State, below, under
from core.split.sender import Sender
from core.split.server import Server
from core.split.wire import Frame

log = logging.getLogger(__name__)

Row = dict[str, Any]
Samples = NDArray[np.int64]

LOOK_S = 0.5  # seconds between looks at whether somebody is still to be waited for
GOODBYE_S = 2.0  # seconds for the end of a session that goes on in another one


class Members(Protocol):
    """What the server needs of those who hold the columns."""

    def meet(self, own: list[int]) -> int:
        """Be ready to train; the step to go on from. own: steps of the server's snapshots."""

    def features(self, step: int, samples: Samples) -> list[Tensor]:
        """Of a training batch, of each party in the order of the spec."""

    def answer(self, step: int, gradient: Tensor | None, samples: Samples, rate: float) -> None:
        """Pass the gradient of the sum of the features on."""

    def drained(self, step: int) -> dict[str, Row]:
        """Wait until every gradient of the epoch was applied; work_s and peak_mib of each party."""

    def ask_to_test(self, step: int) -> None:
        """Let each send the features of the test samples."""

    def tests(self, step: int, samples: Samples) -> list[Tensor]:
        """Features of a test batch."""

    def ask_to_save(self, step: int) -> bool:
        """Let each write a snapshot of this step; False while the last one is being written."""

    def settle(self) -> None:
        """Wait until each has written it."""

    def tested(self, step: int) -> None:
        """The epoch is over."""

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Bytes up and down of each party since the last look: messages, headers included."""

    def finish(self, step: int) -> None:
        """All is done."""

    def part(self) -> None:
        """End what was begun by `meet`."""

    def refuse_all(self, error: CoreError) -> None:
        """Tell everybody why this side ends."""

    def state(self) -> State:
        """What this side keeps of them, for a snapshot."""

    def load_state(self, state: State | None) -> None:
        """Go on from `state`; as new without one."""


class Parties:
    """Parties behind channels. Every method that waits raises SessionLost when one of them has
    gone or has sent what does not fit (it is told why): part, and meet again."""

    def __init__(self, spec: Any, silo: Silo, door: Server, patience: float) -> None:
        """silo: the server's. door: where parties call. patience: seconds that one may be away."""
        self._spec, self._silo, self._door, self._patience = spec, silo, door, patience
        self._names: list[str] = [party["party"] for party in spec["parties"]]
        self._channels: dict[str, Channel] = {}
        self._early: dict[str, deque[Frame]] = {}  # came before their turn
        self._unsaved: set[str] = set()
        self._finished: set[str] = set()
        self._counted: dict[str, tuple[int, int]] = {}
        self._given_up: PeerError | None = None
        self._ending = False
        self._exact = codecs.make("none")

    def give_up(self, reason: str, exit_code: int) -> None:
        """Somebody will not come back: whoever waits ends with this. From any thread."""
        if self._ending:
            return  # the others are still being told why
        error = self._given_up = given_up(reason, exit_code)
        for channel in list(self._channels.values()):
            channel.fail(error)

    # Sessions.

    def meet(self, own: list[int]) -> int:
        """Wait for every party that has not finished, check that all hold the same samples, and
        agree on the newest step of which all have a snapshot. Raises PeerError where there is
        none, DataError where parties contradict each other."""
        self._gather()
        step = self._common(own)
        for name, channel in self._channels.items():
            self._counted[name] = (0, 0)
            channel.send(Frame(BEGIN, step))
        shared: dict[str, Any] = {}
        for name in self._channels:
            facts = self._expect(name, READY, step).facts
            self._check_samples(name, facts)
            shared[name] = facts.get("shared")
        first = next(iter(shared), "")
        other = next((name for name in shared if shared[name] != shared[first]), None)
        if other is not None:
            raise DataError(
                f"parties {first} and {other} hold other candidates for the same samples: the rows "
                "of one are in another order than their names; divide the data again"
            )
        return step

    def _gather(self) -> None:
        self._channels, self._counted = {}, {}
        wanted = [name for name in self._names if name not in self._finished]
        deadline = time.monotonic() + self._patience
        while missing := [name for name in wanted if not self._is_here(name)]:
            if self._given_up:
                raise self._given_up
            if time.monotonic() > deadline:
                raise PeerError(
                    f"{' and '.join(missing)} did not come within {self._patience:g} s. Look "
                    "whether it runs, and at the link between. Snapshots are safe: the same "
                    "command goes on"
                )
            try:
                channel = self._door.accept(timeout=LOOK_S)
            except TimeoutError:
                continue
            self._channels[channel.hello.party] = channel
        self._channels = {name: self._channels[name] for name in wanted}  # in their order
        self._early = {name: deque() for name in self._channels}
        self._unsaved = set()

    def _is_here(self, name: str) -> bool:
        return name in self._channels and self._channels[name].failure is None

    def _common(self, own: list[int]) -> int:
        theirs = {name: channel.hello.snapshots for name, channel in self._channels.items()}
        common = [step for step in own if all(step in steps for steps in theirs.values())]
        if common:
            return max(common)
        if {*own, *(step for steps in theirs.values() for step in steps)} <= {0}:
            return 0  # the first snapshot, of the start, is not with everybody yet
        each = "; ".join(f"{name} {list(steps) or 'none'}" for name, steps in theirs.items())
        raise PeerError(
            f"there is no step of which all have a snapshot: server {own or 'none'}; {each}. Bring "
            "the missing ones back, or delete all of them to begin again"
        )

    def _check_samples(self, name: str, facts: Mapping[str, Any]) -> None:
        """That a party holds the samples of this side, by its digest."""
        sizes = facts.get("sizes")
        if sizes != self._silo.sizes:
            said = f"{str(sizes)[:80]} samples, the server {self._silo.sizes}"
            self._refuse(name, DataError(f"its histories are of another length: it holds {said}"))
        if facts.get("order") != self._silo.order:
            self._refuse(
                name,
                DataError(
                    "it holds other samples than the server: the digests of their order differ; "
                    "give all sides what one `federated divide` made"
                ),
            )

    def part(self) -> None:
        """End every session; those who are there open another one."""
        for channel in self._channels.values():
            channel.close(timeout=GOODBYE_S)

    def refuse_all(self, error: CoreError) -> None:
        """Tell every party why this side ends, with the exit code that it ends with."""
        self._ending = True
        for name, channel in self._channels.items():
            if channel.failure is None:
                channel.send(refusal(0, error))
                log.info("party %s was told", name)
        self.part()

    def _refuse(self, name: str, error: Exception) -> None:
        """Tell a party what it did. Raises SessionLost."""
        log.warning("party %s is refused: %s", name, error)
        channel = self._channels[name]
        channel.send(refusal(0, error))
        channel.close(timeout=GOODBYE_S)
        raise SessionLost(f"party {name} was refused: {error}"[:REASON])

    # Training.

    def features(self, step: int, samples: Samples) -> list[Tensor]:
        """Waits for each party, however slow it is."""
        return [self._features(name, FEATURES, step, samples) for name in self._names]

    def tests(self, step: int, samples: Samples) -> list[Tensor]:
        """Features that were sent as they are."""
        return [self._features(name, EVALUATE, step, samples) for name in self._names]

    def _features(self, name: str, kind: str, step: int, samples: Samples) -> Tensor:
        frame = self._expect(name, kind, step)
        decoder = self._uplinks[name] if kind == FEATURES else self._exact
        try:
            array = decoder.decode(tensor_of(frame), step, samples)
            if array.shape != (len(samples), WIDTH) or array.dtype != np.float32:
                wanted = (len(samples), WIDTH)
                raise ValueError(f"features are {array.dtype} {array.shape}, expected {wanted}")
        except ValueError as error:
            self._refuse(name, error)
        return torch.from_numpy(array)

    def answer(self, step: int, gradient: Tensor | None, samples: Samples, rate: float) -> None:
        """The features were added up, so the gradient of each party's is the same."""
        assert gradient is not None
        encoded, _ = self._sender.encode(gradient.numpy(), step, samples)
        frame = with_tensor(GRADIENT, step, encoded)
        for channel in self._channels.values():
            channel.send(frame)

    def drained(self, step: int) -> dict[str, Row]:
        """Every party says so, and how long it has worked."""
        rows: dict[str, Row] = {}
        for name in self._names:
            facts = self._expect(name, DRAINED, step).facts
            rows[name] = {"work_s": facts.get("seconds"), "peak_mib": facts.get("peak_mib")}
            for key, value in rows[name].items():
                if type(value) not in (int, float) or not 0 <= value < math.inf:
                    self._refuse(name, ValueError(f"{key} is {str(value)[:40]!r}"))
        return rows

    def ask_to_test(self, step: int) -> None:
        """Parties wait for this, so that what they sent before counts to training."""
        for channel in self._channels.values():
            channel.send(Frame(EVALUATE, step))

    def tested(self, step: int) -> None:
        """Parties wait for this, so that what they send next counts to the next epoch."""
        for channel in self._channels.values():
            channel.send(Frame(SCORES, step))

    def traffic(self) -> dict[str, tuple[int, int]]:
        found = {}
        for name, channel in self._channels.items():
            now, before = (channel.received_bytes, channel.sent_bytes), self._counted[name]
            self._counted[name] = now
            found[name] = now[0] - before[0], now[1] - before[1]
        return found

    def finish(self, step: int) -> None:
        """Who has heard it need not come back, should another one be lost now."""
        for name, channel in self._channels.items():
            channel.send(Frame(FINISH, step))
            self._expect(name, FINISHED, step)
            self._finished.add(name)
        self.part()

    def _expect(self, name: str, kind: str, step: int) -> Frame:
        """The next frame of a party, which must be this one."""
        early = self._early[name]
        frame = early.popleft() if early else self._next(name)
        if (frame.kind, frame.step) != (kind, step):
            found = f"{frame.kind!r} of step {frame.step}"
            self._refuse(name, ValueError(f"it sent {found}, expected {kind!r} of {step}"))
        return frame

    def _next(self, name: str) -> Frame:
        while (frame := self._channels[name].receive()).kind == SAVED:
            self._unsaved.discard(name)
        return frame

    # Snapshots.

    def ask_to_save(self, step: int) -> bool:
        """The last snapshot of all must be whole before another one is begun: each side keeps
        two, so that there is always one that all have."""
        if self._unsaved:
            return False
        for name, channel in self._channels.items():
            channel.send(Frame(SAVE, step))
            self._unsaved.add(name)
        return True

    def settle(self) -> None:
        """What comes meanwhile is kept for its turn."""
        for name in list(self._unsaved):
            while name in self._unsaved:
                frame = self._channels[name].receive()
                if frame.kind == SAVED:
                    self._unsaved.discard(name)
                else:
                    self._keep(name, frame)

    def _keep(self, name: str, frame: Frame) -> None:
        """For its turn. A party is at most K steps ahead: more would fill the memory."""
        self._early[name].append(frame)
        if len(self._early[name]) > self._spec["scheme"]["staleness"] + 2:
            self._refuse(name, ValueError("it sent more than it was asked for"))

    def state(self) -> State:
        """Of the codecs at this end."""
        state = under("sender", self._sender.state())
        for name, uplink in self._uplinks.items():
            state |= under(f"uplink/{name}", uplink.state())
        return state

    def load_state(self, state: State | None) -> None:
        scheme, seed = self._spec["scheme"], self._spec["seed"]
        self._sender = Sender(scheme["downlink"], scheme, seed, corrected=False)
        self._uplinks = {
            name: codecs.make(scheme["uplink"], seed, scheme["delta_mib"]) for name in self._names
        }
        if state is not None:
            self._sender.load_state(below("sender", state))
            for name, uplink in self._uplinks.items():
                uplink.load_state(below(f"uplink/{name}", state))


class OnePlace:
    """All columns in this process: centralised training of the same network."""

    def __init__(
        self,
        spec: Any,
        rows: list[Mapping[str, NDArray[np.int32]]],
        genres: NDArray[np.uint8],
    ) -> None:
        """rows: of each party, as in Silo."""
        self._rows = rows
        self._parts = [make_party(spec, index, genres) for index in range(len(rows))]

    def meet(self, own: list[int]) -> int:
        """Nobody has to come."""
        return max(own, default=0)

    def features(self, step: int, samples: Samples) -> list[Tensor]:
        """With their graph: the loss is propagated back through them."""
        return [
            part.forward(torch.from_numpy(rows["train"][samples]), step)
            for part, rows in zip(self._parts, self._rows, strict=True)
        ]

    def answer(self, step: int, gradient: Tensor | None, samples: Samples, rate: float) -> None:
        """Gradients are there already."""
        for part in self._parts:
            part.update(rate)

    def drained(self, step: int) -> dict[str, Row]:
        """Nothing is under way."""
        return {}

    def tests(self, step: int, samples: Samples) -> list[Tensor]:
        return [
            part.evaluate(torch.from_numpy(rows["test"][samples]))
            for part, rows in zip(self._parts, self._rows, strict=True)
        ]

    def ask_to_save(self, step: int) -> bool:
        """What is held here is in `state`."""
        return True

    def settle(self) -> None:
        """Nobody else writes."""

    def ask_to_test(self, step: int) -> None:
        """Nobody waits."""

    def tested(self, step: int) -> None:
        """Nobody waits."""

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Nothing was sent."""
        return {}

    def finish(self, step: int) -> None:
        """Nobody has to be told."""

    def part(self) -> None:
        """There is no session."""

    def refuse_all(self, error: CoreError) -> None:
        """Nobody has to be told."""

    def state(self) -> State:
        state: State = {}
        for part in self._parts:
            state |= part.state()
        return state

    def load_state(self, state: State | None) -> None:
        for index, part in enumerate(self._parts):
            if state is not None:
                own = {k: v for k, v in state.items() if k.startswith(f"{index}/")}
                part.take(own, range(index, index + 1))
