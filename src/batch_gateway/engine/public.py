"""The public names of the engine: what `from batch_gateway.engine import …` gives."""

from batch_gateway.engine.bitmap import Bitmap
from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.engine.figures import Cause, Figures
from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.first_pass import ProgressCallback
from batch_gateway.engine.journal import Journal, Ledger
from batch_gateway.engine.plan import Order, Plan, make_plan
from batch_gateway.engine.progress import RunStats, RunSummary
from batch_gateway.engine.queue_journal import QueueJournal, Recorded
from batch_gateway.engine.result_line import Role
from batch_gateway.engine.result_reader import ResultReader
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.engine.sending import ClientFor, ReportCrash
from batch_gateway.engine.shard import Shard
from batch_gateway.engine.source import BytesSource, FileSource, RangeSource, Source
from batch_gateway.engine.stored_plan import dump_plan, load_plan
from batch_gateway.engine.unsent import Unsent, record_unsent

__all__ = [
    "Bitmap",
    "BytesSource",
    "Cause",
    "ClientFor",
    "FailureLimit",
    "Figures",
    "FileJournal",
    "FileSource",
    "Journal",
    "Ledger",
    "Order",
    "Plan",
    "ProgressCallback",
    "QueueJournal",
    "RangeSource",
    "Recorded",
    "ReportCrash",
    "ResultReader",
    "Role",
    "RunOptions",
    "RunStats",
    "RunSummary",
    "Shard",
    "Source",
    "Unsent",
    "dump_plan",
    "load_plan",
    "make_plan",
    "record_unsent",
    "run_plan",
]
