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

"""The table of parameters is what config/asr.yaml lists, and what it refuses it explains."""

from pathlib import Path

import pytest
from rclpy.parameter import Parameter
from voxtral_ros.node.parameters import check, TABLE
import yaml

CONFIG = Path(__file__).resolve().parents[2] / 'config' / 'asr.yaml'


def test_the_yaml_lists_every_parameter_with_its_default():
    listed = yaml.safe_load(CONFIG.read_text(encoding='utf-8'))['/**']['ros__parameters']
    assert listed == {row.name: row.default for row in TABLE}


@pytest.mark.parametrize('row', [row for row in TABLE if row.structural], ids=lambda row: row.name)
def test_structural_parameters_are_refused_while_configured(row):
    parameter = Parameter(row.name, value=row.default)
    assert check([parameter], configured=False).successful
    refused = check([parameter], configured=True)
    assert not refused.successful
    assert row.name in refused.reason


@pytest.mark.parametrize('row', [row for row in TABLE if not row.structural],
                         ids=lambda row: row.name)
def test_the_others_are_accepted_at_any_time(row):
    assert check([Parameter(row.name, value=row.default)], configured=True).successful


@pytest.mark.parametrize('row', [row for row in TABLE if row.choices], ids=lambda row: row.name)
def test_a_value_that_is_no_choice_is_refused_by_name(row):
    refused = check([Parameter(row.name, value='nonsense')], configured=False)
    assert not refused.successful
    assert 'nonsense' in refused.reason
