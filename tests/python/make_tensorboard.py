"""An event file from TensorBoard's own writer: `tests/fixtures/tensorboard/events`.

Needs `pip install tensorboard`. With a folder as argument, prints instead the scalars that TensorBoard reads from the
event files in it.
"""

import io
import sys
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

FIXTURE = Path(__file__).parent.parent / "fixtures/tensorboard/events"


def scalar(tag, step, wall_time, value):
    return Event(
        wall_time=wall_time,
        step=step,
        summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]),
    )


def events():
    yield Event(wall_time=1_700_000_000.25, file_version="brain.Event:2")
    for step in range(3):
        time = 1_700_000_000.5 + step
        yield scalar("train/loss", step, time, 2.5 / (step + 1))
        yield scalar("mixer/größe", step * 100_000, time, 0.0)
    yield scalar("learning_rate", 0xFFFF_FFFF * 5, 0.0, 1e-4)
    yield scalar("loss", 7, 1.0, float("inf"))


def main():
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for event in events():
        writer.write(event.SerializeToString())
    FIXTURE.parent.mkdir(parents=True, exist_ok=True)
    FIXTURE.write_bytes(buffer.getvalue())


def show(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(folder)
    accumulator.Reload()
    for tag in sorted(accumulator.Tags()["scalars"]):
        for event in accumulator.Scalars(tag):
            print(tag, event.step, event.wall_time, event.value)


if __name__ == "__main__":
    show(sys.argv[1]) if len(sys.argv) > 1 else main()
