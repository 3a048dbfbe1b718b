"""The contract's enums as the values that they stand for. 0, which is unspecified, is the contract's default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import hector_plugins_pb2 as pb

from ..errors import InvalidArgument
from ..vectors.changes import MetadataMode
from ..vectors.items import Mode

Meaning = TypeVar("Meaning")

MODES = {
    pb.UPSERT_MODE_UNSPECIFIED: Mode.UPSERT,
    pb.UPSERT_MODE_INSERT_ONLY: Mode.INSERT_ONLY,
    pb.UPSERT_MODE_UPDATE_ONLY: Mode.UPDATE_ONLY,
}
METADATA_MODES = {
    pb.METADATA_MODE_UNSPECIFIED: MetadataMode.MERGE,
    pb.METADATA_MODE_MERGE: MetadataMode.MERGE,
    pb.METADATA_MODE_REPLACE: MetadataMode.REPLACE,
}


def known(meanings: Mapping[Any, Meaning], number: int, field: str) -> Meaning:
    """What the number means. Raises InvalidArgument, naming `field`, where the contract has no such number."""
    if number not in meanings:
        raise InvalidArgument(
            f"{field} {number} is not one of the contract's",
            reason=f"BAD_{field.rpartition('.')[2].upper()}",
            field=field,
        )
    return meanings[number]
