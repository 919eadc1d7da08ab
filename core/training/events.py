"""TensorBoard events of a run."""

from pathlib import Path

from tensorboardX import SummaryWriter


class EventLog:
    """Writes each epoch's numbers where `tensorboard --logdir` finds them.

    A resumed run drops what an earlier process wrote after the snapshot (purge_step)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def epoch(self, row: dict[str, float]) -> None:
        """Write a row of epochs.csv."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=int(row["epoch"]))
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()
