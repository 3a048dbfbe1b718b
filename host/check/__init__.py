"""The conformance kit: holds a running plugin, in any language, to the contract from outside.

    python -m host check 127.0.0.1:8082                            the guide's RPCs and fields
    python -m host check 127.0.0.1:8082 --level full               the additions too
    python -m host check --run "python -m plugins.vector_hnsw"     starts it itself, stops it, kills it

How to read it: `claims.py` (what a claim is, and how one fails), `contract.py` (services and RPCs), `subject.py` (the
plugin as a claim calls it) with `refusal.py` (what a failed call says) and `offered.py` (what its reflection says),
the claims themselves, `runner.py` (which claims, in which order, with which outcome), `reports.py` (table, JUnit XML,
JSON), `command.py`. A file of claims is named for their kind: `database.py` has the guide's part, with what others of
the kind need too, `database_full.py` the additions, and so on. For all kinds are `serving.py` and, with `--run`,
`started.py`, `settings.py`, `stopped.py` and `drained.py`; `durable.py` is for databases. They stand on `launch.py`
and `process.py`. What the kit puts behind a plugin: `upstream.py`, a scripted OpenAI endpoint, and `partners.py`, a
scripted model and tools.

What no claim says, since it cannot be seen from outside: whether a write survives power loss, whether a search used an
index, how an environment variable is spelled, what a tool does with an HTTP error, and whether an endpoint is let go of
when a caller leaves.

How to write a claim:

    @claims.guide(
        "A search answers with the best first.",                        # true of every right plugin
        "A higher score is better, and results come best first.",       # the contract, in one sentence
    )
    def best_first(check: Subject) -> None:                             # its name is what --only takes
        with collection(check, 2) as name:
            upsert(check, name, {"near": [1, 0], "far": [0, 1]})
            reply = check.ok("SearchVectors", pb.SearchVectorsRequest(collection=name, vector=[1, 0.1]))
            expect([hit.id for hit in reply.results] == ["near", "far"], "the nearer vector is not first")

- `check.ok` is a call that must succeed, `check.refused` one that must fail in the way that the contract has for it,
  `check.stream` a streaming one; each records request and reply, and a failed claim shows the last of them.
- `expect` fails the claim; its text says what is wrong, not what would be right.
- `claims.guide` is for what the guide itself names (fields 1-9 of its RPCs, errors included); `claims.full` for the
  additions. Where a `full` claim meets UNIMPLEMENTED the plugin does not offer that, which is no fault.
- A claim needs nothing of another's, knows nothing of what is behind the plugin, takes a few calls, and removes what it
  made. What costs money or does something is done only where the operator allows it: `check.needs("prompt")`.
- A claim comes with a fault that it finds: a small wrong plugin in tests/check_faults/.
"""
