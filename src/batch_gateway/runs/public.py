"""The public names of batches, which `batch_gateway` passes on beside those of the client.

Whoever has use for the client alone does not load the engine.
"""

from batch_gateway.engine.figures import Cause, Figures
from batch_gateway.engine.line_stream import BatchResult
from batch_gateway.engine.progress import RunOutcome, RunSummary
from batch_gateway.inputs.read_requests import read_requests
from batch_gateway.runs.batch_run import BatchRun
from batch_gateway.runs.blocking_lines import run_batch_blocking
from batch_gateway.runs.line_batch import run_batch
from batch_gateway.runs.run_progress import RunProgress

__all__ = [
    "BatchResult",
    "BatchRun",
    "Cause",
    "Figures",
    "RunOutcome",
    "RunProgress",
    "RunSummary",
    "read_requests",
    "run_batch",
    "run_batch_blocking",
]
