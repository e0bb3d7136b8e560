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

"""Transcripts on a terminal: words as they come, and a progress bar for long files."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

from voxtral_ros.recognizer.events import Transcript

_LONG_S = 60.0
_LIVE_CHARACTERS = 40
_BAR = ('{desc}{percentage:3.0f}% |{bar:20}| {n:.0f}/{total:.0f} s of audio, '
        '{remaining} left {postfix}')


class Display:
    """
    Shows one file on standard output.

    Words are written the moment they are known. On a terminal, a long file has a progress bar
    instead, with the latest words in it, and whole utterances above.
    """

    def __init__(self, title: str, duration_s: float | None, quiet: bool) -> None:
        """
        Start with a line that names the file, if it has a title.

        :param duration_s: None when unknown: then there is no bar
        :param quiet: no words, only the bar
        """
        self._quiet = quiet
        self._bar: tqdm[None] | None = None
        if duration_s is not None and duration_s >= _LONG_S and sys.stderr.isatty():
            self._bar = tqdm(total=round(duration_s, 1), desc=title or None, bar_format=_BAR)
        if title and not quiet:
            print(f'{title}:', flush=True)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, transcript: Transcript) -> None:
        """Show a new state of an utterance."""
        if self._quiet:
            return
        if self._bar is not None and sys.stdout.isatty():
            self._bar.set_postfix_str(transcript.text[-_LIVE_CHARACTERS:])
            if transcript.is_final:
                self._bar.write(transcript.text, file=sys.stdout)
            return
        end = '\n' if transcript.is_final else ''
        print(transcript.delta, end=end, flush=True)

    def advance(self, audio_s: float) -> None:
        """Note how much audio has been processed in all."""
        if self._bar is not None:
            self._bar.update(min(audio_s, self._bar.total) - self._bar.n)
