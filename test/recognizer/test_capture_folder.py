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

"""The folder of a capture: whole files, lines that fit, limits, full disks, other processes."""

from datetime import datetime, timedelta, timezone
import json
import os
from pathlib import Path
import subprocess
import sys
import textwrap
import threading

import pytest

from voxtral_ros.recognizer.capture_folder import (
    CaptureFolder, FolderLimits, JSON_LINES, TABLE, TABLE_HEAD)

BEGIN = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


class Clock:
    """Goes on by a second with every look."""

    def __init__(self, now=BEGIN):
        self.now = now

    def __call__(self):
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def folder(tmp_path):
    return CaptureFolder(tmp_path / 'capture', now=Clock())


def listed(path):
    """Return what the JSON lines say, and the rows of the table beside it."""
    *lines, end = (path / JSON_LINES).read_text('utf-8').split('\n')
    head, *rows, table_end = (path / TABLE).read_text('utf-8').split('\n')
    assert (end, head, table_end) == ('', TABLE_HEAD.rstrip('\n'), '')
    return [json.loads(line) for line in lines], [row.split('\t') for row in rows]


def recordings(path):
    return sorted(file.name for file in path.glob('*.flac'))


def test_an_utterance_is_files_a_line_and_a_row(folder):
    folder.add({'text': 'go on', 'confidence': 0.5}, {'': b'abc', 'before': b'abcd'})
    name = '20261130T120001.000000Z'
    lines, rows = listed(folder.path)
    assert lines == [{'file': f'{name}.flac', 'before': f'{name}.before.flac', 'text': 'go on',
                      'confidence': 0.5}]
    assert rows == [['', f'{name}.flac', 'go on']]
    assert (folder.path / f'{name}.flac').read_bytes() == b'abc'
    assert (folder.path / f'{name}.before.flac').read_bytes() == b'abcd'
    assert {file.name for file in folder.path.iterdir()} == {
        '.lock', JSON_LINES, TABLE, f'{name}.flac', f'{name}.before.flac'}
    assert folder.path.stat().st_mode & 0o077 == 0, 'others can read it'


def test_whatever_is_said_is_one_row_of_three_cells(folder):
    text = 'he said "go\ton"\r\n\u2028"'
    folder.add({'text': text}, {'': b'a'})
    folder.add({'text': ''}, {'': b'a'})
    lines, rows = listed(folder.path)
    assert lines[0]['text'] == text
    assert [len(row) for row in rows] == [3, 3]
    assert rows[0][2] == 'he said \u201dgo on\u201d \u201d'


def test_names_sort_by_time_and_none_is_used_twice(tmp_path):
    now = [BEGIN]
    first = CaptureFolder(tmp_path, now=lambda: now[0])
    second = CaptureFolder(tmp_path, now=lambda: now[0])  # started anew, or another node
    for folder in (first, second, first):
        folder.add({'text': 'one'}, {'': b'a', 'before': b'b'})
    now[0] += timedelta(seconds=1)
    second.add({'text': 'two'}, {'': b'a'})
    now[0] -= timedelta(seconds=1)  # a clock that was set back
    first.add({'text': 'one'}, {'': b'a'})
    lines, _ = listed(tmp_path)
    assert len({line['file'] for line in lines}) == 5
    texts = [line['text'] for line in sorted(lines, key=lambda line: line['file'])]
    assert texts == ['one'] * 4 + ['two']


def test_the_oldest_go_with_their_lines_when_it_is_too_large(tmp_path):
    folder = CaptureFolder(tmp_path, FolderLimits(max_bytes=20_000), now=Clock())
    for n in range(60):
        folder.add({'text': str(n)}, {'': bytes(900), 'before': bytes(100)})
        total = sum(file.stat().st_size for file in tmp_path.iterdir())
        assert total == folder.n_bytes <= 20_000
    lines, rows = listed(tmp_path)
    kept = [line['file'] for line in lines]
    assert [name for name in recordings(tmp_path) if 'before' not in name] == kept
    assert [row[1] for row in rows] == kept
    assert len(recordings(tmp_path)) == 2 * len(kept)
    assert [line['text'] for line in lines] == [str(n) for n in range(60 - len(kept), 60)]
    assert len(kept) > 10


def test_what_another_process_writes_counts_within_a_minute(tmp_path):
    clock = Clock()
    one = CaptureFolder(tmp_path, FolderLimits(max_bytes=20_000), clock)
    other = CaptureFolder(tmp_path, FolderLimits(max_bytes=1e9), clock)
    one.add({'text': 'a'}, {'': bytes(900)})
    for _ in range(30):
        other.add({'text': 'b'}, {'': bytes(900)})
    clock.now += timedelta(minutes=1)
    one.add({'text': 'a'}, {'': bytes(900)})
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == one.n_bytes <= 20_000


def test_what_is_too_old_goes_also_when_nothing_is_added(tmp_path):
    clock = Clock()
    folder = CaptureFolder(tmp_path, FolderLimits(max_age_s=86_400), clock)
    folder.add({'text': 'old'}, {'': b'a', 'before': b'b'})
    clock.now += timedelta(hours=12)
    folder.add({'text': 'new'}, {'': b'a'})
    clock.now += timedelta(hours=11)
    folder.prune()
    assert len(recordings(tmp_path)) == 3
    clock.now += timedelta(hours=2)
    folder.prune()
    lines, rows = listed(tmp_path)
    assert [line['text'] for line in lines] == [row[2] for row in rows] == ['new']
    assert recordings(tmp_path) == [lines[0]['file']]


def test_files_of_others_and_what_people_have_written_are_left_alone(tmp_path):
    """A folder may be anything, as one with music in it."""
    clock = Clock()
    folder = CaptureFolder(tmp_path, FolderLimits(max_age_s=3600), clock)
    (tmp_path / 'music.flac').write_bytes(bytes(100))
    (tmp_path / 'notes.txt').write_text('mine')
    folder.add({'text': 'a'}, {'': b'a'})
    clock.now += timedelta(minutes=59)
    folder.add({'text': 'b'}, {'': b'a'})
    table = tmp_path / TABLE
    written = table.read_bytes().replace(b'\tb\n', b'\tb gr\xfc\xdfe\n').replace(
        b'\t2026', b'x\t2026') + b'a comment\r\n'
    table.write_bytes(written)
    clock.now += timedelta(minutes=2)
    folder.prune()
    head, first, rest = written.split(b'\n', 2)
    assert b'\ta' in first
    assert table.read_bytes() == head + b'\n' + rest
    assert (tmp_path / 'music.flac').exists()
    assert (tmp_path / 'notes.txt').exists()


def test_a_recording_that_somebody_removes_takes_its_lines_along(tmp_path):
    clock = Clock()
    folder = CaptureFolder(tmp_path, FolderLimits(max_age_s=3600), clock)
    for text in ('a', 'b', 'c'):
        folder.add({'text': text}, {'': b'a'})
        clock.now += timedelta(minutes=25)
    (tmp_path / recordings(tmp_path)[1]).unlink()
    folder.prune()
    assert [line['text'] for line in listed(tmp_path)[0]] == ['c']


@pytest.mark.parametrize('end', ['', '\tsome'])
def test_a_line_that_was_cut_off_spoils_no_other(folder, end):
    folder.add({'text': 'one'}, {'': b'a'})
    for name in (JSON_LINES, TABLE):
        path = folder.path / name
        path.write_text(path.read_text('utf-8').rstrip('\n') + end, 'utf-8')
    folder.add({'text': 'two'}, {'': b'a'})
    assert json.loads((folder.path / JSON_LINES).read_text('utf-8').splitlines()[-1])[
        'text'] == 'two'
    assert (folder.path / TABLE).read_text('utf-8').endswith('Z.flac\ttwo\n')


def test_a_process_that_was_killed_leaves_nothing_behind(folder):
    folder.add({'text': 'one'}, {'': b'a'})
    part = folder.path / '20261130T120000.000000Z.flac.part'
    part.write_bytes(b'half')
    folder.prune()
    assert not part.exists()
    assert len(recordings(folder.path)) == 1


def test_a_file_has_its_name_and_its_line_when_it_is_on_the_disk(folder, monkeypatch):
    folder.add({'text': 'one'}, {'': b'a'})
    synced, seen = os.fsync, []

    def fsync(file):
        seen.append((recordings(folder.path), len(listed(folder.path)[0])))
        synced(file)

    monkeypatch.setattr(os, 'fsync', fsync)
    folder.add({'text': 'two'}, {'': b'a'})
    assert seen == [(recordings(folder.path)[:1], 1)]


def test_several_writers_lose_nothing(tmp_path):
    limits = FolderLimits(max_bytes=60_000)
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from voxtral_ros.recognizer.capture_folder import CaptureFolder, FolderLimits
        folder = CaptureFolder(Path(sys.argv[1]), FolderLimits(max_bytes=60_000))
        for n in range(60):
            folder.add({'text': f'{sys.argv[2]} {n}'}, {'': bytes(900)})
    """)
    processes = [subprocess.Popen([sys.executable, '-c', code, tmp_path, name])
                 for name in ('left', 'right')]
    folder = CaptureFolder(tmp_path, limits)
    threads = [threading.Thread(target=folder.prune) for _ in range(20)]
    for thread in threads:
        thread.start()
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    lines, rows = listed(tmp_path)
    assert sorted(line['file'] for line in lines) == recordings(tmp_path)
    assert [row[1] for row in rows] == [line['file'] for line in lines]
    for name in ('left', 'right'):  # the last ones of both are there, in their order
        kept = [int(line['text'].split()[1]) for line in lines if name in line['text']]
        assert kept == list(range(60 - len(kept), 60))
    assert 40 < len(lines) < 120


@pytest.mark.parametrize('limit', [150, 1000, 40_000])
def test_on_a_full_disk_nothing_half_is_left(tmp_path, limit):
    """The limit is met in a table, in the audio before the canceller, or in the audio after it."""
    run_with_limit(tmp_path, limit)
    lines, rows = listed(tmp_path)
    assert [line['text'] for line in lines] == [row[2] for row in rows]
    assert [name for line in lines for name in (line['before'], line['file'])] == \
        recordings(tmp_path)
    assert not list(tmp_path.glob('*.part'))
    assert (tmp_path / 'errors').read_text().split() == ['EFBIG'] * 3


def run_with_limit(path, limit):
    """Add utterances until none can be, in a process that may write files of so many bytes."""
    code = textwrap.dedent("""
        import errno, resource, sys
        from pathlib import Path
        from voxtral_ros.recognizer.capture_folder import CaptureFolder
        path, limit = Path(sys.argv[1]), int(sys.argv[2])
        sizes = {150: (10, 20), 1000: (100, 2000), 40_000: (50_000, 9)}
        folder = CaptureFolder(path)
        folder.add({'text': 'before'}, {'': b'a', 'before': b'b'})
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        errors = []
        for n in range(3):
            try:
                folder.add({'text': f'text {n}' + 200 * (limit == 150) * ' long'},
                           {'': bytes(sizes[limit][0]), 'before': bytes(sizes[limit][1])})
            except OSError as error:
                errors.append(errno.errorcode[error.errno])
        (path / 'errors').write_text(' '.join(errors))
    """)
    subprocess.run([sys.executable, '-c', code, path, str(limit)], check=True, timeout=60)


def test_a_disk_that_is_really_full(tmp_path):
    """And is written to again when there is room."""
    code = textwrap.dedent("""
        import errno, sys
        from pathlib import Path
        from voxtral_ros.recognizer.capture_folder import CaptureFolder
        path = Path(sys.argv[1])
        folder, n = CaptureFolder(path), 0
        try:
            while True:
                folder.add({'text': str(n)}, {'': bytes(7000)})
                n += 1
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        assert n > 3
        names = sorted(file.name for file in path.glob('*.flac'))
        assert len(names) == n, names
        assert not list(path.glob('*.part'))
        lines = (path / 'transcripts.jsonl').read_text().splitlines()
        assert [line for line in lines if not line.endswith('}')] == []
        assert len(lines) == n
        (path / names[0]).unlink()
        folder.add({'text': 'there is room'}, {'': bytes(3000)})
        print('worked')
    """)
    mount = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ['unshare', '-rm', 'sh', '-c', mount, 'sh', tmp_path, sys.executable, code],
        capture_output=True, text=True, timeout=60)
    if 'unshare' in done.stderr or 'mount' in done.stderr:
        pytest.skip('no disk of its own can be mounted here')
    assert done.stdout == 'worked\n', done.stderr


def test_where_a_disk_is_not_mounted_nothing_is_put_below_it(tmp_path):
    folder = CaptureFolder(tmp_path / 'usb' / 'capture')
    with pytest.raises(FileNotFoundError, match='usb'):
        folder.add({'text': 'a'}, {'': b'a'})
    assert not (tmp_path / 'usb').exists()


def test_a_folder_that_is_none_is_an_error(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        CaptureFolder(Path(tmp_path / 'file')).prune()
