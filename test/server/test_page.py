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

"""The live page in a real browser, with a microphone that hears a recording."""

from contextlib import contextmanager
import os
import shutil

import numpy as np
import pytest
import soundfile
from support.realtime import DATA, Running, running, ServedScript, ServerProcess

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled, Resampler
from voxtral_ros.evaluation.word_error_rate import normalize, word_errors
from voxtral_ros.server.app import Access

playwright = pytest.importorskip('playwright.sync_api', reason='no playwright: make .venv/.test')
BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') \
    or shutil.which('google-chrome')
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason='no browser: sudo apt-get install chromium')
TIMEOUT_MS = 60_000
# Notes what there was first: text of an utterance that goes on, or one that has ended.
FIRST = """
window.first = '';
addEventListener('DOMContentLoaded', () => new MutationObserver(() => {
  window.first ||= document.querySelector('#finals li') ? 'final'
    : document.querySelector('#partial').textContent ? 'partial' : '';
}).observe(document.body, {subtree: true, childList: true, characterData: true}));
"""
ORDERS = 'robot go to the kitchen and bring me the red cup turn left and go forward three meters'


def recording(name):
    return np.concatenate(list(resampled(read_file(DATA / name))))


@pytest.fixture(scope='module')
def server():
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope='module')
def wav(tmp_path_factory):
    """Return the spoken orders as a WAV of 48 kHz, as microphones have."""
    path = tmp_path_factory.mktemp('sound') / 'orders.wav'
    sound = recording('orders.flac')
    soundfile.write(path, Resampler(16000, 48000).process(sound, last=True), 48000,
                    subtype='PCM_16')
    return path


@pytest.fixture(scope='module')
def browser(wav):
    arguments = ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
                 f'--use-file-for-fake-audio-capture={wav}%noloop']
    if os.geteuid() == 0:
        arguments.append('--no-sandbox')
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=BROWSER, args=arguments)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser, url):
    """Open the page; nothing may go wrong in it, and it may ask nobody else."""
    context = browser.new_context(permissions=['microphone'])
    page = context.new_page()
    page.add_init_script(FIRST)
    page.set_default_timeout(TIMEOUT_MS)
    wrong = []
    page.on('pageerror', lambda error: wrong.append(str(error)))
    page.on('request', lambda request: request.url.startswith(url) or wrong.append(request.url))
    page.goto(url)
    yield page
    context.close()
    assert wrong == []


def finals(page):
    """Return the text of the utterances on the page."""
    return ' '.join(page.locator('#finals li > span').all_inner_texts())


def test_microphone(browser, server):
    with opened(browser, f'{server.http}/') as page:
        page.wait_for_selector('#state.ok')
        assert page.inner_text('#model') == 'voxtral-tiny-en'
        page.click('#microphone')
        page.wait_for_selector('#partial:not(:empty)')
        assert page.evaluate('() => window.first') == 'partial'  # before the utterance ends
        assert page.get_attribute('#microphone', 'aria-pressed') == 'true'
        assert page.inner_text('#level-text').endswith('dB')
        page.wait_for_selector('#speech.on')
        page.wait_for_selector('#finals li:nth-child(2)')
        assert page.inner_text('#lag-text').endswith(' s')
        page.click('#microphone')
        page.wait_for_selector('#partial:empty', state='attached')
        heard = normalize(finals(page))[:18]
        assert word_errors(ORDERS.split(), heard) <= 4
        assert page.get_attribute('#microphone', 'aria-pressed') == 'false'
        assert page.is_hidden('#error')


def test_file(browser, server):
    with opened(browser, f'{server.http}/') as page:
        page.wait_for_selector('#state.ok')
        page.set_input_files('#file', DATA / 'austen_0880.flac')
        page.wait_for_selector('#finals li:nth-child(1)')
        with server.client() as client:
            client.update()
            client.append(recording('austen_0880.flac'))
            client.commit()
            directly = client.until('transcription.done')[-1]['text'].split()
        assert word_errors(directly, finals(page).split()) <= 2
        page.click('#clear')
        assert page.locator('#finals li').count() == 0


def test_phrases(browser, server):
    with opened(browser, f'{server.http}/') as page:
        page.wait_for_selector('#state.ok')
        # The second list is refused, and the one before it stays.
        for phrases, unit in (('sofa, ten metres :5', 'metres'), ('sofa, ...', 'metres'),
                              ('', 'meters')):
            page.fill('#phrases', phrases)
            page.set_input_files('#file', DATA / 'go_forward_ten_meters.flac')
            page.wait_for_selector('#finals li:nth-child(1)')
            assert finals(page).split() == ['go', 'forward', 'ten', unit]
            assert page.is_visible('#error') == ('...' in phrases)
            page.click('#clear')


def test_a_file_that_is_none(browser, server, tmp_path):
    path = tmp_path / 'noise.wav'
    path.write_bytes(b'this is no sound')
    with opened(browser, f'{server.http}/') as page:
        page.wait_for_selector('#state.ok')
        page.set_input_files('#file', path)
        page.wait_for_selector('#error:visible')
        assert 'cannot read this file' in page.inner_text('#error')


def test_the_server_goes_and_comes_back(browser):
    server = Running(ServedScript())
    with opened(browser, f'{server.http}/') as page:
        page.wait_for_selector('#state.ok')
        server.close()
        page.wait_for_selector('#state.down')
        with running(ServedScript(), port=server.port):
            page.wait_for_selector('#state.ok')


def test_a_token_is_asked_for(browser):
    with running(ServedScript(), access=Access('sesame')) as server, \
            opened(browser, f'{server.http}/') as page:
        page.fill('#token', 'wrong')
        page.click('#login button')
        page.wait_for_selector('#login', state='visible')
        page.fill('#token', 'sesame')
        page.click('#login button')
        page.wait_for_selector('#state.ok')
        assert page.is_hidden('#login')
