"""Chat completions without a transport of our own. Read in this order:

messages.py   what goes in and comes out
engine.py     which endpoint is asked, and how often
body.py       a request as JSON, less what the endpoint refuses; checks.py what it has to hold before
endpoint.py   one endpoint over the `openai` package
reading.py    bytes to chunks; sse.py knows server-sent events
assembler.py  chunks to deltas and the reply; calls.py tool calls, think.py inline reasoning, stops.py stop sequences,
              halves.py halves of characters, json_text.py JSON that a model wrote
merging.py    deltas that arrived together, as one
failures.py   what can go wrong, and the error for it; limits.py what is too much
off_loop.py   work that takes long, in threads
model_list.py which models there are
"""

from .endpoint import Settings
from .engine import Engine
from .messages import (
    CallDelta,
    Delta,
    Finish,
    Format,
    Message,
    Model,
    Options,
    Part,
    Reply,
    Request,
    Tool,
    ToolCall,
    Usage,
)

__all__ = [
    "CallDelta",
    "Delta",
    "Engine",
    "Finish",
    "Format",
    "Message",
    "Model",
    "Options",
    "Part",
    "Reply",
    "Request",
    "Settings",
    "Tool",
    "ToolCall",
    "Usage",
]
