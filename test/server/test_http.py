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

"""What the server reports operators and browsers over plain HTTP."""

import json
from pathlib import Path
import re
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
import pytest
from support.realtime import MODEL, wait_until

PAGE = Path(__file__).resolve().parents[2] / 'voxtral_ros' / 'server' / 'page'


def get(scripted, path):
    return urlopen(f'{scripted.server.http}{path}')


def metrics(scripted):
    """Return every sample by name."""
    text = get(scripted, '/metrics').read().decode()
    return {sample.name: sample.value for family in text_string_to_metric_families(text)
            for sample in family.samples if not sample.labels}


def test_health(scripted, client):
    health = json.loads(get(scripted, '/healthz').read())
    assert health == {'status': 'ok', 'sessions': 1, 'max_sessions': 16, 'talking': 0,
                      'max_streams': 4, 'model': MODEL, 'token_needed': False,
                      'engines': {'script': {'status': 'ok', 'sessions': 1, 'talking': 0,
                                             'max_streams': 4}}}


def test_metrics_count_what_happens(scripted, client):
    before = metrics(scripted)
    client.update()
    client.append(scripted.order)
    client.commit()
    client.until('transcription.done')
    client.send('nonsense')
    client.expect('error')
    wait_until(lambda: metrics(scripted)['voxtral_compute_seconds_total']
               > before['voxtral_compute_seconds_total'])
    after = metrics(scripted)

    def grown(name):
        return after[name] - before[name]
    assert after['voxtral_sessions'] == 1
    assert grown('voxtral_audio_seconds_total') == pytest.approx(len(scripted.order) / 16000)
    assert grown('voxtral_compute_seconds_total') > 0
    assert after['voxtral_real_time_factor'] > 0
    assert grown('voxtral_delta_latency_seconds_count') > 0
    assert after['voxtral_waiting_audio_seconds'] == 0
    assert grown('voxtral_engine_failures_total') == 0
    assert 'voxtral_dropped_audio_seconds_total' in after


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(scripted):
    page = get(scripted, '/')
    assert page.headers['Content-Type'] == 'text/html; charset=utf-8'
    assert "default-src 'self'" in page.headers['Content-Security-Policy']
    html = page.read().decode()
    links = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert {'page.js', 'page.css', 'icon.svg'} <= set(links)
    for name in {*links, 'recorder.js'}:
        assert get(scripted, f'/{name}').read() == (PAGE / name).read_bytes()
    for path in PAGE.iterdir():
        addresses = re.findall(r'(?:https?:)?//[\w.]+\.\w+', path.read_text(encoding='utf-8'))
        assert addresses in ([], ['http://www.w3.org'])  # the name of SVG


def test_the_model_is_listed_as_vllm_does(scripted):
    listed = json.loads(get(scripted, '/v1/models').read())
    assert [(model['id'], model['object']) for model in listed['data']] == [(MODEL, 'model')]


@pytest.mark.parametrize('path, status', [
    ('/nothing', 404), ('/page', 404), ('/../app.py', 404), ('/v1/realtime', 426),
    ('/v1/model', 404)])
def test_other_paths(scripted, path, status):
    with pytest.raises(HTTPError) as error:
        get(scripted, path)
    assert error.value.code == status
