"""Many frames that ask for an answer or for work, and are small: settings, pings, empty data, windows, priorities."""

from __future__ import annotations

import contextlib
from random import Random

from hyperframe.frame import DataFrame, PingFrame, PriorityFrame, SettingsFrame, WindowUpdateFrame

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import methods

IN_A_STEP = 200
STEPS = 50  # on one connection


def run(target: Target, random: Random) -> Steps:
    while True:
        reads = random.random() < 0.5
        with contextlib.closing(Connection(target.address)) as connection:
            stream = connection.open(random.choice(methods(target.plugin)).path, target.maybe_token(random))
            name, frame = random.choice(
                (
                    ("SETTINGS", SettingsFrame(0, settings={4: random.randrange(2**31)})),
                    ("SETTINGS", SettingsFrame(0, settings={1: 0})),
                    ("PING", PingFrame(0, b"12345678")),
                    ("empty DATA", DataFrame(stream, b"")),
                    ("WINDOW_UPDATE", WindowUpdateFrame(0, window_increment=1)),
                    ("PRIORITY", PriorityFrame(2**31 - 1, depends_on=stream)),
                )
            )
            for _ in range(STEPS):
                connection.send(frame.serialize() * IN_A_STEP)
                if reads:
                    connection.read()
                yield Sent(f"{IN_A_STEP} {name} frames", bytes(connection.sent))
                if connection.ended:
                    break
