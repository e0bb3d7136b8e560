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

"""Checkpoint averaging."""

import pytest
from safetensors.torch import load_file, save_file
import torch
from training.average_checkpoints import main


@pytest.fixture
def folders(tmp_path):
    """Return two checkpoints, the second without tokenizer, and a third with other tensors."""
    made = []
    for n, tensors in enumerate(({'a': torch.tensor([1.0, 2.0])}, {'a': torch.tensor([3.0, -2.0])},
                                 {'a': torch.zeros(3)})):
        folder = tmp_path / str(n)
        folder.mkdir()
        save_file({name: x.bfloat16() for name, x in tensors.items()},
                  str(folder / 'consolidated.safetensors'))
        made.append(folder)
    for name in ('params.json', 'tekken.json'):
        (made[0] / name).write_text(name, encoding='utf-8')
    return made


def test_the_mean_is_weighted(folders, tmp_path):
    first, second, _ = folders
    main(['--out', str(tmp_path / 'out'), f'{first}:0.75', f'{second}:0.25'])
    mean = load_file(tmp_path / 'out' / 'consolidated.safetensors')
    assert torch.equal(mean['a'], torch.tensor([1.5, 1.0]).bfloat16())
    assert (tmp_path / 'out' / 'tekken.json').read_text(encoding='utf-8') == 'tekken.json'


def test_weights_that_do_not_add_up_to_one_are_refused(folders, tmp_path):
    with pytest.raises(ValueError, match=r'add up to 0\.75'):
        main(['--out', str(tmp_path / 'out'), f'{folders[0]}:0.5', f'{folders[1]}:0.25'])


def test_another_network_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match='has other tensors'):
        main(['--out', str(tmp_path / 'out'), f'{folders[0]}:0.5', f'{folders[2]}:0.5'])
