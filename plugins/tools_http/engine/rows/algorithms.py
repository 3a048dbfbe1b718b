"""The algorithms, by name. To add one, write a file like the others and name it here."""

from __future__ import annotations

from .deduplicate import ALGORITHM as DEDUPLICATE
from .describe import ALGORITHM as DESCRIBE
from .filter import ALGORITHM as FILTER
from .group_aggregate import ALGORITHM as GROUP_AGGREGATE
from .histogram import ALGORITHM as HISTOGRAM
from .jmespath_query import ALGORITHM as JMESPATH_QUERY
from .join import ALGORITHM as JOIN
from .parse_csv import ALGORITHM as PARSE_CSV
from .parse_jsonl import ALGORITHM as PARSE_JSONL
from .sort import ALGORITHM as SORT
from .time_bucket import ALGORITHM as TIME_BUCKET
from .write_csv import ALGORITHM as WRITE_CSV
from .write_jsonl import ALGORITHM as WRITE_JSONL

ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (
        DESCRIBE,
        FILTER,
        SORT,
        GROUP_AGGREGATE,
        JOIN,
        DEDUPLICATE,
        HISTOGRAM,
        TIME_BUCKET,
        JMESPATH_QUERY,
        PARSE_CSV,
        WRITE_CSV,
        PARSE_JSONL,
        WRITE_JSONL,
    )
}
