#!/usr/bin/env bash
# Behaviour: a message with an enum's value that pure-protobuf does not know, as one that was
#   added later, is an error as a whole, and an enum's value -1 is neither read nor written. Of an
#   embedded message in two pieces it keeps the last one; the int32 -1 in five bytes is
#   4294967295.
# Versions: PyPI pure-protobuf 3.1.5, protobuf 7.36.2, typing-extensions 4.16.0; Python 3.11.
# Expected: protobuf's documentation, Encoding: enums are encoded as int32, a sign-extended
#   varint; proto3 keeps unrecognized enum values; pieces of an embedded message are merged; a
#   number longer or shorter than its type is taken as by a conversion of integers. protobuf reads
#   them so.
# Seen: state 9 of -1, 0 and 1: pure-protobuf an error, protobuf 9; -1: an error and -1; {x:1} and
#   {y:2}: y 2, and x 1 and y 2
# Here: containerd's and the shims' messages are protobuf, whose enums get values with new
#   versions.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py pure-protobuf==3.1.5 protobuf==7.36.2 \
    typing-extensions==4.16.0
cat >read.py <<'PY'
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import Annotated, Optional

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pure_protobuf.annotations import Field
from pure_protobuf.message import BaseMessage


class State(IntEnum):
    GONE = -1
    UNKNOWN = 0
    RUNNING = 1


@dataclass
class Point(BaseMessage):
    x: Annotated[int, Field(1)] = 0
    y: Annotated[int, Field(2)] = 0


@dataclass
class Task(BaseMessage):
    state: Annotated[State, Field(1)] = State.UNKNOWN
    point: Annotated[Optional[Point], Field(2)] = None
    code: Annotated[int, Field(3)] = 0


# The same three for Google's library.
file = descriptor_pb2.FileDescriptorProto(name="task.proto", package="t", syntax="proto3")
enum = file.enum_type.add(name="State")
for name, number in ("UNKNOWN", 0), ("RUNNING", 1), ("GONE", -1):
    enum.value.add(name=name, number=number)
point = file.message_type.add(name="Point")
point.field.add(name="x", number=1, type=5, label=1)
point.field.add(name="y", number=2, type=5, label=1)
task = file.message_type.add(name="Task")
task.field.add(name="state", number=1, type=14, type_name=".t.State", label=1)
task.field.add(name="point", number=2, type=11, type_name=".t.Point", label=1)
task.field.add(name="code", number=3, type=5, label=1)
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
Other = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Task"))


def read(kind):
    try:
        task = kind()
        state, point = int(task.state), task.point
        x, y = (point.x, point.y) if point else (0, 0)
        return f"state {state}, x {x}, y {y}, code {task.code}"
    except ValueError as error:
        return f"an error ({error})"


for name, data in [
    ("state 1", bytes(Task(state=State.RUNNING))),
    ("state -1", b"\x08" + b"\xff" * 9 + b"\x01"),
    ("state 9", b"\x08\x09"),
    ("x, then y", b"\x12\x02\x08\x01\x12\x02\x10\x02"),
    ("code -1 of five bytes", b"\x18\xff\xff\xff\xff\x0f"),
]:
    print(f"{name} ({data.hex()}):")
    print("  pure-protobuf:", read(lambda: Task.read_from(BytesIO(data))))
    print("  protobuf:", read(lambda: Other.FromString(data)))
try:
    print("state -1 is written as", bytes(Task(state=State.GONE)).hex())
except ValueError as error:
    print(f"state -1 is not written ({error})")
PY
seen=$(PYTHONPATH=py python3 read.py)
echo "$seen"
wanted=$(
    cat <<'SEEN'
state 1 (08011800):
  pure-protobuf: state 1, x 0, y 0, code 0
  protobuf: state 1, x 0, y 0, code 0
state -1 (08ffffffffffffffffff01):
  pure-protobuf: an error (incorrect value 18446744073709551615 for enum `<enum 'State'>`)
  protobuf: state -1, x 0, y 0, code 0
state 9 (0809):
  pure-protobuf: an error (incorrect value 9 for enum `<enum 'State'>`)
  protobuf: state 9, x 0, y 0, code 0
x, then y (1202080112021002):
  pure-protobuf: state 0, x 0, y 2, code 0
  protobuf: state 0, x 1, y 2, code 0
code -1 of five bytes (18ffffffff0f):
  pure-protobuf: state 0, x 0, y 0, code 4294967295
  protobuf: state 0, x 0, y 0, code -1
state -1 is not written (bytes must be in range(0, 256))
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the messages otherwise"
