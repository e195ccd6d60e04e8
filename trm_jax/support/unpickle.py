"""Pickles read as data: what a file asks to call is handed to the reader by name, never called.

A machine of its own instead of ``pickle.Unpickler``, which believes what a file says about lengths and memo indices,
and keeps a second copy of every array that has passed through it: twice the memory for WM-811K.
"""

import gc
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from trm_jax.support.terminal.progress import bar

LONG = 256  # strings from here on are contents of arrays: used once and not kept for later reference
_DROPPED = object()
_BETWEEN_UPDATES = 2**18  # opcodes
_DOUBLE = struct.Struct(">d")


class NotAdmitted(pickle.UnpicklingError):
    """A file that asks for a function or class that the reader does not admit."""


class Named:
    """A function or class that the file mentions."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class Call:
    """What the file wants to be called, with which arguments, and the state that it gives to the result."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple):
        self.name, self.arguments = name, arguments
        self.state: Any = None

    def build(self, state: Any) -> None:
        """Keep what __setstate__ would get."""
        self.state = state


def unpickle(
    file: BinaryIO,
    size: int,
    admits: Callable[[str, str], bool],
    call: Callable[[str, tuple], Any],
    description: str = "",
    load: Callable[[Any], Any] | None = None,
) -> Any:
    """The object in a file of ``size`` bytes, made of plain values and of what ``call`` returns for name and arguments.

    Names (module and name) must be admitted; state goes to a method ``build``; ``load`` gives what is stored elsewhere.
    With a ``description`` a progress bar is shown. Memory is bounded by a multiple of ``size``. Raises
    NotAdmitted for a name that is not, and pickle.UnpicklingError for a file that is cut off or not such a pickle.
    """
    # Millions of objects without a cycle: the search for cycles doubles the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with bar(bool(description), total=size, unit="B", unit_scale=True, desc=description) as progress:
            return _Machine(file, size, admits, call, load).run(progress)
    finally:
        if collecting:
            gc.enable()


class _Machine:
    """Stack, marks and memo, and the opcodes of protocols 2 to 5 that frames and files of weights need."""

    def __init__(self, file: BinaryIO, size: int, admits: Callable, call: Callable, load: Callable | None):
        self.file, self.read, self.size = file, file.read, size
        self.admits, self.call, self.load = admits, call, load
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: list[Any] = []
        self.alike: dict[str, tuple] = {}
        # A container takes far more memory than its opcode. Real files have one in 16 bytes.
        self.containers = 10_000 + size // 8

    def run(self, progress: Any) -> Any:
        if self.read(1) != pickle.PROTO or self.read(1) not in (b"\x02", b"\x03", b"\x04", b"\x05"):
            raise pickle.UnpicklingError("it does not begin like a pickle of protocol 2 to 5")
        read, stop, handlers = self.read, pickle.STOP, _HANDLERS
        code, position = b"", 0
        try:
            while True:
                for _ in range(_BETWEEN_UPDATES):
                    code = read(1)
                    if code == stop:
                        progress.update(self.size - position)
                        return self.stack.pop()
                    handlers[code[0]](self)
                position, before = self.file.tell(), position
                progress.update(position - before)
        except IndexError:
            reason = "it is cut off" if self.file.tell() >= self.size else f"opcode {code!r} takes what is not there"
            raise pickle.UnpicklingError(f"{reason}, at byte {self.file.tell():,}") from None

    def take(self, length: int) -> bytes:
        if length > self.size:
            raise pickle.UnpicklingError(f"a string of {length:,} bytes is longer than the file")
        data = self.read(length)
        if len(data) != length:
            raise IndexError
        return data

    def integer(self, width: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def contain(self) -> None:
        self.containers -= 1
        if self.containers < 0:
            raise pickle.UnpicklingError("it has more lists and tuples than a real file of its size")

    def mark(self) -> None:
        self.contain()
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def topmost(self, count: int) -> tuple:
        self.contain()
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError
        del self.stack[-count:]
        return self.shared(items)

    def shared(self, items: tuple) -> tuple:
        """The same object for all tuples of the same few numbers and words: shapes and types repeat in every row."""
        if len(items) > 8 or not all(type(i) is int or (type(i) is str and len(i) < 40) for i in items):
            return items
        # By their text: a file can be made of numbers whose hashes collide.
        key = repr(items)
        return self.alike.get(key, items) if len(self.alike) > 10_000 else self.alike.setdefault(key, items)

    def remember(self, index: int) -> None:
        value, memo = self.stack[-1], self.memo
        kind = type(value)
        # The state of an array is a tuple of five with its cells at the end.
        if (kind is tuple and len(value) == 5) or (kind in (bytes, str) and len(value) >= LONG):
            value = _DROPPED
        if index > len(memo) + 1:
            raise pickle.UnpicklingError(f"memo index {index:,} is out of turn")
        # Python 2 counts from 1.
        memo.extend([_DROPPED] * (index + 1 - len(memo)))
        memo[index] = value

    def recall(self, index: int) -> Any:
        value = self.memo[index]
        if value is _DROPPED:
            raise pickle.UnpicklingError(f"it uses memo entry {index:,} twice, which is not supported")
        return value

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError("it appends to what is not a list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        # Small numbers (the state of an optimizer has such keys) have hashes that cannot be made to collide.
        named = all(type(key) is str or (type(key) is int and 0 <= key < 2**31) for key in items[::2])
        if not isinstance(self.stack[-1], dict) or not named:
            raise pickle.UnpicklingError("it sets items of what is not a dict with names")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def named(self, module: Any, name: Any) -> Named:
        if type(module) is not str or type(name) is not str:
            raise pickle.UnpicklingError("it asks for something without a name")
        if not self.admits(module, name):
            full_name = f"{module}.{name}"[:100]
            raise NotAdmitted(f"it asks for {full_name}, which such a file does not need")
        return Named(name)

    def line(self) -> str:
        line = self.file.readline(1000)
        if not line.endswith(b"\n"):
            raise IndexError
        return line[:-1].decode()

    def result(self) -> Any:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Named) or type(arguments) is not tuple:
            raise pickle.UnpicklingError("it calls what is not a function")
        return self.call(function.name, arguments)

    def build(self) -> None:
        state = self.stack.pop()
        build = getattr(self.stack[-1], "build", None)
        if build is None:
            raise pickle.UnpicklingError("it sets the state of a plain value")
        build(state)

    def unknown(self) -> None:
        self.file.seek(-1, 1)
        code = self.read(1)
        raise pickle.UnpicklingError(f"opcode {code!r} at byte {self.file.tell() - 1:,} has no place in such a file")

    def stored(self) -> Any:
        if self.load is None:
            self.unknown()
        return self.load(self.stack.pop())  # type: ignore[misc]

    def empty(self, kind: type) -> Any:
        self.contain()
        return kind()


_VALUES: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.NONE: lambda machine: None,
    pickle.NEWTRUE: lambda machine: True,
    pickle.NEWFALSE: lambda machine: False,
    pickle.BININT: lambda machine: machine.integer(4, signed=True),
    pickle.BININT1: lambda machine: machine.read(1)[0],
    pickle.BININT2: lambda machine: machine.integer(2),
    pickle.LONG1: lambda machine: machine.integer(machine.read(1)[0], signed=True),
    pickle.BINFLOAT: lambda machine: _DOUBLE.unpack(machine.take(8))[0],
    pickle.SHORT_BINSTRING: lambda machine: machine.take(machine.read(1)[0]).decode("latin1"),
    pickle.BINSTRING: lambda machine: machine.take(machine.integer(4)).decode("latin1"),
    pickle.SHORT_BINBYTES: lambda machine: machine.take(machine.read(1)[0]),
    pickle.BINBYTES: lambda machine: machine.take(machine.integer(4)),
    pickle.BINBYTES8: lambda machine: machine.take(machine.integer(8)),
    pickle.BYTEARRAY8: lambda machine: machine.take(machine.integer(8)),
    pickle.SHORT_BINUNICODE: lambda machine: machine.take(machine.read(1)[0]).decode(),
    pickle.BINUNICODE: lambda machine: machine.take(machine.integer(4)).decode(),
    pickle.BINUNICODE8: lambda machine: machine.take(machine.integer(8)).decode(),
    pickle.EMPTY_LIST: lambda machine: machine.empty(list),
    pickle.EMPTY_DICT: lambda machine: machine.empty(dict),
    pickle.EMPTY_TUPLE: lambda machine: (),
    pickle.TUPLE: lambda machine: machine.shared(tuple(machine.since_mark())),
    pickle.TUPLE1: lambda machine: machine.topmost(1),
    pickle.TUPLE2: lambda machine: machine.topmost(2),
    pickle.TUPLE3: lambda machine: machine.topmost(3),
    pickle.BINGET: lambda machine: machine.recall(machine.read(1)[0]),
    pickle.LONG_BINGET: lambda machine: machine.recall(machine.integer(4)),
    pickle.GLOBAL: lambda machine: machine.named(machine.line(), machine.line()),
    pickle.STACK_GLOBAL: lambda machine: machine.named(*machine.topmost(2)),
    pickle.REDUCE: _Machine.result,
    pickle.NEWOBJ: _Machine.result,
    pickle.BINPERSID: _Machine.stored,
}
_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.FRAME: lambda machine: machine.take(8),
    pickle.MARK: _Machine.mark,
    pickle.BINPUT: lambda machine: machine.remember(machine.read(1)[0]),
    pickle.LONG_BINPUT: lambda machine: machine.remember(machine.integer(4)),
    pickle.MEMOIZE: lambda machine: machine.remember(len(machine.memo)),
    pickle.APPEND: lambda machine: machine.extend([machine.stack.pop()]),
    pickle.APPENDS: lambda machine: machine.extend(machine.since_mark()),
    pickle.SETITEM: lambda machine: machine.update(list(machine.topmost(2))),
    pickle.SETITEMS: lambda machine: machine.update(machine.since_mark()),
    pickle.BUILD: _Machine.build,
}


def _pushing(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        # First the value: it may exchange the stack.
        pushed = value(machine)
        machine.stack.append(pushed)

    return push


_BY_CODE = {code[0]: _pushing(value) for code, value in _VALUES.items()} | {c[0]: act for c, act in _ACTIONS.items()}
_HANDLERS = [_BY_CODE.get(code, _Machine.unknown) for code in range(256)]
