#!/usr/bin/env bash
# Behaviour: in the JSON of betterproto a time of another zone is written as if it were UTC, two hours
#   off; in its bytes -0.5 s is 0.5 s, and half a second before 1970 half a second after. The enum -1 of
#   others is 18446744073709551615, and its own has in JSON the name of the last value.
# Versions: PyPI betterproto 1.2.5, protobuf 7.36.2.
# Expected: the JSON mapping and timestamp.proto ("Z" is UTC), duration.proto ("for durations less than
#   one second" nanos have the sign), the encoding of negative enums; Python's protobuf has it so.
# Seen: 12:00+02:00: 2026-01-01T12:00:00Z; -0.5 s: 0:00:00.500000, -1.5 s: -0.5 s; 1969-12-31 23:59:59.5:
#   1970-01-01 00:00:00.5; enum -1: 18446744073709551615, "LAST"; protobuf: 10:00:00Z, -0.5 s, -1.5 s, 23:59:59.5
# Here: containerd's events and the traces have such times; what a client with this package passes on is
#   another time.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py betterproto==1.2.5 protobuf==7.36.2
cat >times.py <<'PY'
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
import betterproto
from google.protobuf import duration_pb2, json_format, timestamp_pb2


class Place(betterproto.Enum):
    NONE = 0
    FIRST = -1
    LAST = 2


@dataclass
class Message(betterproto.Message):
    time: datetime = betterproto.message_field(1)
    duration: timedelta = betterproto.message_field(2)
    place: Place = betterproto.enum_field(3)


def protobuf(message, value, method):
    getattr(message, method)(value)
    return json_format.MessageToJson(message)


noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
right = protobuf(timestamp_pb2.Timestamp(), noon, "FromDatetime")
print(f"12:00+02:00: {Message(time=noon).to_json()}, by protobuf {right}")
for seconds in 1.5, -0.5, -1.5:
    value = timedelta(seconds=seconds)
    found = Message().parse(bytes(Message(duration=value))).duration.total_seconds()
    print(f"{seconds} s: {found} s, by protobuf", protobuf(duration_pb2.Duration(), value, "FromTimedelta"))
before = datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=timezone.utc)
found = Message().parse(bytes(Message(time=before))).time
print(f"{before}: {found}, by protobuf", protobuf(timestamp_pb2.Timestamp(), before, "FromDatetime"))
first = Message().parse(b"\x18" + b"\xff" * 9 + b"\x01")
print(f"enum -1: {first.place}, FIRST: {Message(place=Place.FIRST).to_json()}")
PY
seen=$(PYTHONPATH=py python3 times.py)
echo "$seen"
[[ $seen == '12:00+02:00: {"time": "2026-01-01T12:00:00Z"}, by protobuf "2026-01-01T10:00:00Z"
1.5 s: 1.5 s, by protobuf "1.500s"
-0.5 s: 0.5 s, by protobuf "-0.500s"
-1.5 s: -0.5 s, by protobuf "-1.500s"
1969-12-31 23:59:59.500000+00:00: 1970-01-01 00:00:00.500000+00:00, by protobuf "1969-12-31T23:59:59.500Z"
enum -1: 18446744073709551615, FIRST: {"place": "LAST"}' ]] || changed "it has other times"
