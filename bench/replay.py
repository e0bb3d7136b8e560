# Copyright 2026 voxtral_ros maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
Record how the library for the CPU is called, to call that of another machine in the same way.

    with Recorder() as recorder:
        backend = CpuBackend(...)
        ...                      # what is called before `start` is not in the recording
        recorder.start()
        backend.decode(...)
        recorder.expect('encoder keys', backend.state.encoder.keys)
    instructions, results = Machine(folder, library, 'g++').replay(recorder.recording)

A recording has the arrays whose addresses the library gets, what it is called with, and the
results it gave here. bench/replay.cpp calls the other library. Neither knows the structures and
functions of the library by name: addresses are found by the types of ctypes, and the arrays that
they belong to among the variables and attributes of whoever calls. What Python changes in the
arrays between two calls is recorded as well.
"""

from __future__ import annotations

from collections.abc import Iterator
import ctypes
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import struct
import subprocess
import sys
from typing import Any
from unittest import mock

import numpy as np

from voxtral_ros.backends.cpu import library as cpu_library

SOURCE = Path(__file__).with_suffix('.cpp')
CHOOSERS = ('voxtral_cpu_use', 'voxtral_cpu_instructions')  # every machine chooses for itself


@dataclass(frozen=True)
class Result:
    """What the library gave on this machine."""

    name: str
    array: np.ndarray


@dataclass
class Recording:
    """Commands of bench/replay.cpp, and the results that they gave here."""

    commands: list[bytes] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # how many commands there are after each call

    @property
    def n_calls(self) -> int:
        return len(self.ends)

    def write(self, path: Path, n_calls: int | None = None) -> None:
        """Write all commands, or those up to the end of a number of calls."""
        end = len(self.commands) if n_calls is None else self.ends[n_calls - 1]
        path.write_bytes(b''.join(self.commands[:end]))

    def read(self, path: Path) -> list[Result]:
        """Return the results that another machine has written."""
        data, results = path.read_bytes(), []
        for result in self.results:
            size = result.array.nbytes
            array = np.frombuffer(data[:size], result.array.dtype)
            results.append(Result(result.name, array.reshape(result.array.shape)))
            data = data[size:]
        if data:
            raise ValueError(f'{len(data)} bytes more than results')
        return results


@dataclass
class Array:
    """An array that the recording has: its number, its bytes here, and those over there."""

    number: int
    here: np.ndarray
    there: np.ndarray
    has_addresses: bool = False


class Recorder:
    """Records in its context what the library is called with, whoever calls it."""

    def __init__(self) -> None:
        self.recording = Recording()
        self._library = cpu_library.load()
        self._arrays: dict[int, Array] = {}  # by address
        self._owners: list[Any] = []  # of these arrays; they stay where they are
        self._patches = [
            mock.patch.object(self._library, name, partial(self._called, name, function))
            for name, function in vars(self._library).items()
            if name.startswith('voxtral_cpu') and name not in CHOOSERS]
        self._started = False

    def __enter__(self) -> Recorder:
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def start(self) -> None:
        """Record from now on; the structures of the library must have the same sizes."""
        self._started = True
        self._library.voxtral_cpu_sizes()

    def expect(self, name: str, array: np.ndarray) -> None:
        """Compare an array that the library has written to, as it is now."""
        number, offset = self._place(array.ctypes.data, array)
        self._command('R', number, offset, array.nbytes)
        self.recording.results.append(Result(name, array.copy()))

    # ---- inside ----

    def _command(self, letter: str, *numbers: int, data: bytes = b'') -> None:
        packed = struct.pack(f'<{len(numbers)}q', *numbers)
        self.recording.commands.append(letter.encode() + packed + data)

    def _called(self, name: str, function: Any, *arguments: Any) -> Any:
        if not self._started:
            return function(*arguments)
        self._write_changes()
        scope = dict(sys._getframe(1).f_locals)  # there is what the caller gives addresses of
        places = [self._argument(argument, kind, scope) for argument, kind in zip(
            arguments, function.argtypes or (), strict=True)]
        numbers = [len(places), *(number for place in places for number in place)]
        self._command('C', len(name), data=name.encode() + struct.pack(
            f'<{len(numbers)}q', *numbers))
        returned = function(*arguments)
        call = f'{name}, call {self.recording.n_calls}'
        if function.restype is not None:
            self._command('R', -1, 0, 8)
            self.recording.results.append(Result(call, np.array(returned, np.int64)))
        for position, argument in enumerate(arguments):
            if isinstance(argument, ctypes.Array):
                self.expect(f'{call}, argument {position}', np.ctypeslib.as_array(argument))
        for array in self._arrays.values():
            array.there[:] = array.here
        self.recording.ends.append(len(self.recording.commands))
        return returned

    def _argument(self, argument: Any, kind: Any, scope: Any) -> tuple[int, int]:
        """Return number of the array and offset in it, or -1 and the value."""
        argument = getattr(argument, '_obj', argument)  # that of byref
        if isinstance(argument, (ctypes.Structure, ctypes.Array)):
            return self._place(ctypes.addressof(argument), (argument, scope))
        if kind is ctypes.c_int64 or argument is None:
            return -1, argument or 0
        if kind is ctypes.c_void_p:
            return self._place(argument, scope)
        raise TypeError(f'an argument of {kind} cannot be recorded')

    def _place(self, address: int, scope: Any) -> tuple[int, int]:
        """Return the number of the array that an address is in, and the offset."""
        for start, array in self._arrays.items():
            if start <= address < start + array.here.nbytes:
                return array.number, address - start
        for owner in arrays_in(scope):
            start, view = address_of(owner), bytes_of(owner)
            if start <= address < start + view.nbytes:
                return self._add(start, owner, view, scope).number, address - start
        raise ValueError(f'address {address:#x} is in no array of the caller or its attributes')

    def _add(self, start: int, owner: Any, view: np.ndarray, scope: Any) -> Array:
        """Put an array into the recording, and all that its structures point to."""
        if any(start < other < start + view.nbytes for other in self._arrays):
            raise ValueError(f'a part of the array at {start:#x} was recorded before the whole')
        array = Array(len(self._arrays), view, view.copy())
        self._arrays[start] = array
        self._owners.append(owner)
        self._command('A', view.nbytes)
        self._command('W', array.number, 0, view.nbytes, data=view.tobytes())
        for offset, address in addresses(owner):
            array.has_addresses = True
            self._command('P', array.number, offset, *self._place(address, scope))
        return array

    def _write_changes(self) -> None:
        """Record what Python has changed since the last call."""
        for array in self._arrays.values():
            changed = np.flatnonzero(array.here != array.there)
            if len(changed) == 0:
                continue
            if array.has_addresses:
                raise ValueError('a structure with addresses has changed')
            part = slice(changed[0], changed[-1] + 1)
            self._command('W', array.number, part.start, part.stop - part.start,
                          data=array.here[part].tobytes())


def arrays_in(scope: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Yield all arrays and structures in an object of ours, its attributes, and their elements."""
    seen = set() if seen is None else seen
    if id(scope) in seen:
        return
    seen.add(id(scope))
    if isinstance(scope, (ctypes.Array, ctypes.Structure)):
        yield scope
    elif isinstance(scope, np.ndarray):
        if scope.flags.c_contiguous and scope.size:
            yield scope
    elif isinstance(scope, (list, tuple, dict)):
        for element in scope.values() if isinstance(scope, dict) else scope:
            yield from arrays_in(element, seen)
    elif type(scope).__module__.startswith('voxtral_ros'):
        yield from arrays_in(getattr(scope, '__dict__', None), seen)


def address_of(owner: Any) -> int:
    """Return where a numpy array or an object of ctypes lies."""
    return owner.ctypes.data if isinstance(owner, np.ndarray) else ctypes.addressof(owner)


def bytes_of(owner: Any) -> np.ndarray:
    """Return a numpy array or an object of ctypes as uint8, without a copy."""
    if isinstance(owner, np.ndarray):
        return owner.reshape(-1).view(np.uint8)
    return np.frombuffer(owner, np.uint8)


def addresses(owner: Any) -> Iterator[tuple[int, int]]:
    """Yield where in an object of ctypes an address stands, and the address."""
    if isinstance(owner, (ctypes.Structure, ctypes.Array)):
        for offset in pointers(type(owner)):
            address = ctypes.c_void_p.from_buffer(owner, offset).value
            if address:
                yield offset, address


def pointers(kind: Any, start: int = 0) -> Iterator[int]:
    """Yield the offsets of all pointers in a type of ctypes."""
    if issubclass(kind, ctypes.Structure):
        for name, inner in kind._fields_:
            yield from pointers(inner, start + getattr(kind, name).offset)
    elif issubclass(kind, ctypes.Array):
        for index in range(kind._length_):
            yield from pointers(kind._type_, start + index * ctypes.sizeof(kind._type_))
    elif kind is ctypes.c_void_p or hasattr(kind, 'contents'):
        yield start


class Machine:
    """Where a library is called as it was recorded; this machine."""

    def __init__(self, folder: Path, library: Path, compiler: Path | str) -> None:
        """Compile bench/replay.cpp into a folder."""
        self._folder, self._library = folder, library
        self._program = folder / 'replay'
        subprocess.run([compiler, '-std=c++17', '-O1', SOURCE, '-o', self._program, '-ldl'],
                       check=True)

    def command(self) -> list[Path | str]:
        """Return what the name of a program is put behind."""
        return []

    def replay(self, recording: Recording, instructions: str | None = None,
               ) -> tuple[str, list[Result]]:
        """
        Call the library; return which instructions it used, and the results.

        :param instructions: an instruction set; None is what the library chooses
        """
        done = self.run(recording, instructions)
        if done.returncode:
            raise RuntimeError(f'{self._program} ended with {done.returncode}:\n{done.stderr}')
        return done.stdout.strip(), recording.read(self._folder / 'results')

    def run(self, recording: Recording, instructions: str | None = None,
            n_calls: int | None = None) -> subprocess.CompletedProcess[str]:
        """Call the library, and leave out what comes after `n_calls` calls."""
        inputs = self._folder / 'recording'
        recording.write(inputs, n_calls)
        return subprocess.run(
            [*self.command(), self._program, self._library, inputs, self._folder / 'results',
             *([instructions] if instructions else [])],
            text=True, capture_output=True, check=False)
