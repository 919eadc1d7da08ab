"""TensorBoard events of a run, written by the trainer itself: a writer in a thread would hang on a
full disk."""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from core.files import writing


class EventLog:
    """Writes each epoch's numbers where `tensorboard --logdir` finds them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: EventsWriter | None = None

    def epoch(self, row: dict[str, float]) -> None:
        """Write a row of epochs.csv. Raises StorageError when the disk is full."""
        step = int(row["epoch"])
        with writing(self._folder):
            if self._writer is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._writer = EventsWriter(str(self._folder / "events"))
                # TensorBoard drops what an earlier process wrote from this epoch on.
                start = SessionLog(status=SessionLog.START)
                self._writer.write_event(Event(wall_time=time.time(), step=step, session_log=start))
            for name, value in row.items():
                event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                self._writer.write_event(event)
            self._writer.flush()
