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

"""What stands where a model should be: what people give in its place, and what they need."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
import json
import os
from pathlib import Path
import re
from typing import Any

from voxtral_ros.quantization.foreign import (
    A_MODEL, content_of, FILES, INSTEAD, wrong_content)

_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[\w.-]+')
_ADDRESS = re.compile(r'https?:/+(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)')
_OTHER_WEIGHTS = {
    '.gguf': 'GGUF, of llama.cpp', '.onnx': 'ONNX', '.nemo': 'NeMo', '.bin': 'PyTorch pickles',
    '.pt': 'PyTorch pickles', '.pth': 'PyTorch pickles', '.ckpt': 'PyTorch pickles',
    '.engine': 'TensorRT', '.mlpackage': 'Core ML', '.tflite': 'TensorFlow Lite'}
_UNFINISHED = ('.incomplete', '.part', '.crdownload', '.aria2', '.download', '.tmp')
_CONFIGS = {'params.json', 'config.json'}
_TOKENIZER = ('take tekken.json of mistralai/Voxtral-Mini-4B-Realtime-2602 (`hf download '
              'mistralai/Voxtral-Mini-4B-Realtime-2602 tekken.json --local-dir DIR`)')
_MOST_ENTRIES = 2000  # of a folder that are looked at


class ConfigError(ValueError):
    """A `params.json` that cannot describe this network; the message names the key."""


def read_json(path: Path, kind: type[ValueError]) -> dict[str, Any]:
    """
    Read the object in one of the small files of a model.

    :param kind: of the error where that is impossible; it says why
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise kind(why_missing(path)) from None
    except OSError as error:
        raise kind(f'{path} cannot be read: {error.strerror}') from None
    try:
        content = json.loads(raw.decode('utf-8'))
    except (ValueError, RecursionError) as error:
        what = '' if raw.lstrip().startswith(b'{') else wrong_content(raw[:256])
        why = f'this is no JSON{what}' if what else \
            f'{str(error)[:200] if raw else "it is empty"}; download the file again'
        raise kind(f'{path} cannot be read as JSON: {why}') from None
    if not isinstance(content, dict):
        raise kind(f'{path} holds a {type(content).__name__}, not an object')
    return content


def why_missing(path: Path) -> str:
    """Return what to say when one of the files of a model, in its folder, is not there."""
    folder = path.parent
    if folder.is_dir():
        return f'{path} does not exist: {_instead(path)}'
    if folder.exists():
        return _file_for_folder(folder)
    if folder.is_symlink():
        return f'{folder} is a link to {os.readlink(folder)}, which is not there'
    return f'{folder} does not exist: {_not_a_path(str(folder))}'


def _not_a_path(text: str) -> str:
    """Return what to do when there is no folder of this name."""
    address = _ADDRESS.match(text)
    is_id = _HUB_ID.fullmatch(text) and not Path(text).parent.is_dir()
    hub_id = address[1] if address else text if is_id else ''
    if hub_id:
        for snapshot in _cached(hub_id):
            return f'it is a model of Hugging Face that is here already: give {snapshot}'
        return (f'if it is a model of Hugging Face, download it (`hf download {hub_id} '
                '--local-dir DIR`) and give DIR')
    if re.match(r'\w+:/', text):
        return 'it is an address: download the model and give its folder'
    if text.startswith('~'):
        return 'only a shell understands ~: write the whole path'
    return A_MODEL


def _file_for_folder(file: Path) -> str:
    """Return what to do when a file is given in place of a folder."""
    if file.name in FILES:
        return f'{file} is one file of a model: give its folder, {file.parent}'
    try:
        with file.open('rb') as opened:
            found = content_of(opened.read(256))
    except OSError:
        found = None
    if found and not found[1].startswith('download the weights'):
        return f'{file} is not a folder but {found[0]}: {found[1]}'
    return f'{file} is a file: {A_MODEL}; give the folder'


def _instead(path: Path) -> str:
    """Return what to do when a folder lacks a file of a model."""
    if path.is_symlink():
        return (f'it is a link to {os.readlink(path)}, which is not there: copy the files that '
                'links lead to (cp -L), not the links')
    folder = path.parent
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, _MOST_ENTRIES))
    except OSError as error:
        return f'the folder cannot be listed: {error.strerror}'
    if not _CONFIGS.intersection(names):
        for snapshot in _snapshots(folder, names):
            return f'this is a cache of Hugging Face: give {snapshot}'
        for name in names:
            if _is_model(folder / name):
                return f'the model is one folder further down: give {folder / name}'
    return _other_files(path, names)


def _other_files(path: Path, names: list[str]) -> str:
    """Return what the other files of a folder show."""
    if path.name + '.partial' in names:
        return 'quantizing was ended before it was done: run it again'
    if unfinished := next((name for name in names if name.endswith(_UNFINISHED)), ''):
        return f'{unfinished} shows that a download was not finished: go on with it'
    if '-of-' in path.name:
        return 'it is a shard of the weights: download it as well'
    if path.name == 'tekken.json' and ('params.json' in names or 'config.json' in names):
        return f'the tokenizer of this model is only in that file: {_TOKENIZER}'
    for name in names:
        if kind := _OTHER_WEIGHTS.get(Path(name).suffix.lower()):
            return f'{name} is a model in another format, {kind}: {INSTEAD}'
    if not names:
        return f'{A_MODEL}, this one is empty'
    return A_MODEL


def snapshot_of(folder: Path) -> Path:
    """Return the newest model in a cache of Hugging Face, or the folder if it is none of one."""
    cache = folder.parent if folder.name == 'snapshots' else folder
    if _is_model(folder) or not (cache / 'snapshots').is_dir():
        return folder
    return next(_snapshots(cache, ['snapshots']), folder)


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGS)


def _snapshots(folder: Path, names: list[str]) -> Iterator[Path]:
    """Yield the folders of models in a cache of Hugging Face, the newest of each model first."""
    if 'snapshots' in names:
        main = folder / 'refs' / 'main'
        found = [folder / 'snapshots' / main.read_text().strip()] if main.is_file() else []
        found += sorted((folder / 'snapshots').glob('*'), key=os.path.getmtime, reverse=True)
        yield from filter(_is_model, found)
    for name in names:
        if name.startswith('models--'):
            yield from _snapshots(folder / name, ['snapshots'])


def _cached(hub_id: str) -> Iterator[Path]:
    """Yield where the cache of Hugging Face has a model."""
    home = os.environ.get('HF_HOME') or Path.home() / '.cache' / 'huggingface'
    cache = Path(os.environ.get('HF_HUB_CACHE') or Path(home) / 'hub')
    folder = cache / ('models--' + hub_id.replace('/', '--'))
    if folder.is_dir():
        yield from _snapshots(folder, ['snapshots'])
