"""Before any framework is imported: threads that wait do not spin, as in `core.training.threads`,
or tests beside other work take several times as long."""

from core.training import threads

threads.export(threads.resolve({"intra_op": 0, "inter_op": 0}))
