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
Take a picture of the server's page at work: `python tools/draw_page.py docs/page.png`.

A browser without a screen opens the page of `voxtral serve`; its microphone is a recording of two
orders. The picture is taken while the second one is spoken. Needs chromium, and playwright
(`make .venv/.test`).
"""

import argparse
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile

import soundfile

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled, Resampler

ORDERS = Path(__file__).resolve().parents[1] / 'test' / 'data' / 'orders.flac'
MICROPHONE_HZ = 48000
SIZE = {'width': 900, 'height': 360}  # pixels of the page
TIMEOUT_MS = 120_000  # on a busy machine
WORDS = 4  # of the second order are there when the picture is taken


def microphone(folder: Path) -> Path:
    """Return the orders as a WAV file at the rate of a microphone."""
    path, up = folder / 'orders.wav', Resampler(16000, MICROPHONE_HZ)
    with soundfile.SoundFile(path, 'w', MICROPHONE_HZ, 1, 'PCM_16') as file:
        for block in resampled(read_file(ORDERS)):
            file.write(up.process(block))
    return path


def take_picture(url: str, audio: Path, path: Path) -> None:
    """Open the page, press its microphone button, and take the picture in the second order."""
    from playwright.sync_api import sync_playwright
    arguments = ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
                 f'--use-file-for-fake-audio-capture={audio}%noloop']
    if os.geteuid() == 0:
        arguments.append('--no-sandbox')
    with sync_playwright() as engine:
        chromium = engine.chromium.launch(
            executable_path=shutil.which('chromium') or shutil.which('google-chrome'),
            args=arguments)
        page = chromium.new_context(permissions=['microphone'], viewport=SIZE).new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(url)
        page.wait_for_selector('#state.ok')
        page.click('#microphone')
        page.wait_for_selector('#finals li')
        while len(page.inner_text('#partial').split()) < WORDS:
            page.wait_for_timeout(20)  # the page forbids scripts that are not its own
        page.screenshot(path=path)
        chromium.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('path', type=Path, help='where to write the picture, FILE.png')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
            ['voxtral', 'serve', '--port', '0'], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            url = next((found[0] for line in server.stdout
                        if (found := re.search(r'http://\S+/', line))), None)
            if url is None:
                raise SystemExit('the server did not start: try `voxtral serve`')
            take_picture(url, microphone(Path(folder)), arguments.path)
        finally:
            server.terminate()
    return 0


if __name__ == '__main__':
    sys.exit(main())
