"""custom_data_processing: work on rows, exact and bounded, in a process of its own (`../workers.py`).

No engine stands under it. Plain Python keeps `00123`, `NA` and 2^53+1 as they are, adds past 64 bits, sees a column
that first comes in the last row, keeps null and missing apart, adds nothing to install and starts at once. polars 2.1
wraps sums at 64 bits and misses columns that begin late, pandas 3.1 changes `00123` and `NA`, DuckDB 2.0 reads and
writes files unless it is locked; and each wants one type for a whole column. Reading the JSON takes longer than the
work that they would make faster.

`algorithm.py` is what an algorithm is; each is a file with `run`, a function, and ALGORITHM, its schema with it;
`algorithms.py` lists them; `tool.py` is the server's side of the tool and `job.py` the worker's.
"""
