"""Reads pprof profiles (gzip'd protobuf) without any dependency.

    profile = pprof.read("x.pb.gz")
    for s in profile.samples:
        s.stack   # function names, outermost first
        s.frames  # the same as Frame objects: name, address, mapping, file, line
        s.values  # {"samples": 3, "cpu": 30303030}
        s.labels  # {"pid": 42, "comm": "app"}
"""
import gzip
from dataclasses import dataclass, field


class Malformed(Exception):
    pass


def _varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("varint")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & (1 << 64) - 1, at
        shift += 7


def _fields(data):
    """Yields (number, value): an int for varints, bytes for what has a length."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise Malformed("length")
            value = data[at : at + size]
            at += size
        else:
            raise Malformed(f"wire type {wire}")
        yield tag >> 3, value


def _message(data, repeated=()):
    """A message as {number: last value}, or a list for the numbers in `repeated`."""
    out = {number: [] for number in repeated}
    for number, value in _fields(data):
        if number in repeated:
            out[number].append(value)
        else:
            out[number] = value
    return out


def _numbers(parts):
    """Repeated integers, packed or not."""
    out = []
    for part in parts:
        if isinstance(part, int):
            out.append(part)
            continue
        at = 0
        while at < len(part):
            value, at = _varint(part, at)
            out.append(value)
    return out


@dataclass(frozen=True)
class Mapping:
    start: int
    limit: int
    offset: int
    file: str
    build_id: str
    has_functions: bool


@dataclass(frozen=True)
class Frame:
    name: str
    address: int
    mapping: Mapping | None
    file: str
    line: int
    start_line: int

    @property
    def kernel(self):
        return self.mapping is not None and self.mapping.file == "[kernel.kallsyms]"


@dataclass
class Sample:
    frames: list  # outermost first
    values: dict
    labels: dict

    @property
    def stack(self):
        return [frame.name for frame in self.frames]

    @property
    def leaf(self):
        return self.frames[-1].name if self.frames else None


@dataclass
class Profile:
    samples: list = field(default_factory=list)
    mappings: list = field(default_factory=list)
    comments: list = field(default_factory=list)
    sample_types: list = field(default_factory=list)  # (type, unit)
    period_type: tuple = ("", "")
    period: int = 0
    time_nanos: int = 0
    duration_nanos: int = 0
    default_sample_type: str = ""

    def total(self, value="samples"):
        return sum(sample.values[value] for sample in self.samples)

    def counters(self):
        """The comments that are "NAME NUMBER"."""
        out = {}
        for comment in self.comments:
            name, _, number = comment.rpartition(" ")
            if name and " " not in name and number.isdigit():
                out[name] = int(number)
        return out

    def missing(self):
        """What each comment "missing WORKER: CAUSE" says."""
        return [c.removeprefix("missing ") for c in self.comments if c.startswith("missing ")]

    def of(self, **labels):
        """The samples with these labels: of(pid=42)."""
        return [s for s in self.samples if all(s.labels.get(k) == v for k, v in labels.items())]


def _location(data, functions, mappings, strings):
    m = _message(data, (4,))
    frames = []
    for line in map(_message, m[4]):
        f = functions[line[1]]
        frames.append(Frame(strings[f.get(2, 0)], m.get(3, 0), mappings.get(m.get(2, 0)), strings[f.get(4, 0)],
                            line.get(2, 0), f.get(5, 0)))
    if not frames:
        frames.append(Frame("", m.get(3, 0), mappings.get(m.get(2, 0)), "", 0, 0))
    return m[1], frames


def _by_id(messages, what):
    out = {}
    for m in map(_message, messages):
        if m.get(1, 0) in out or not m.get(1):
            raise Malformed(f"id of a {what}")
        out[m[1]] = m
    return out


def parse(data):
    """A Profile from plain or gzip'd bytes. Raises Malformed when a reference leads nowhere."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    top = _message(data, (1, 2, 3, 4, 5, 6, 13))
    try:
        return _profile(top)
    except (KeyError, IndexError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def _profile(top):
    strings = [s.decode("utf-8") for s in top[6]]
    if not strings or strings[0]:
        raise Malformed("string 0 is not empty")

    def value_type(data):
        m = _message(data)
        return strings[m.get(1, 0)], strings[m.get(2, 0)]

    mappings = {
        number: Mapping(m.get(2, 0), m.get(3, 0), m.get(4, 0), strings[m.get(5, 0)], strings[m.get(6, 0)], bool(m.get(7)))
        for number, m in _by_id(top[3], "mapping").items()
    }
    functions = _by_id(top[5], "function")
    locations = dict(_location(data, functions, mappings, strings) for data in top[4])
    if len(locations) != len(top[4]):
        raise Malformed("id of a location")
    types = [value_type(data) for data in top[1]]
    samples = []
    for m in (_message(data, (1, 2, 3)) for data in top[2]):
        frames = [frame for number in _numbers(m[1]) for frame in locations[number]]
        values = _numbers(m[2])
        if len(values) != len(types):
            raise Malformed("number of values")
        labels = {}
        for label in map(_message, m[3]):
            labels[strings[label.get(1, 0)]] = strings[label[2]] if label.get(2) else label.get(3, 0)
        samples.append(Sample(frames[::-1], {t[0]: v for t, v in zip(types, values)}, labels))
    return Profile(
        samples=samples,
        mappings=[mappings[number] for number in sorted(mappings)],
        comments=[strings[number] for number in _numbers(top[13])],
        sample_types=types,
        period_type=value_type(top.get(11, b"")),
        period=top.get(12, 0),
        time_nanos=top.get(9, 0),
        duration_nanos=top.get(10, 0),
        default_sample_type=strings[top.get(14, 0)],
    )


def read(path):
    with open(path, "rb") as file:
        return parse(file.read())
