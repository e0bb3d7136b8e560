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

"""Pages can be read where they are written: no line is wider than a window."""

import re

from docs.pages import PAGES, read, split
import pytest

WIDEST = 100
CHECKED = [page for page in PAGES if '/' not in page or page.startswith('docs/')]


@pytest.mark.parametrize('page', CHECKED)
def test_lines(page):
    """Code, tables and pictures may be wider, and where links lead does not count."""
    wide = []
    for number, line in enumerate(split(read(page))[1].split('\n'), 1):
        shown = re.sub(r'\]\([^)]*\)|https?://\S+', ']', line)
        if len(shown) > WIDEST and not re.match(r'\s*[|<]', line):
            wide.append(f'{page}:{number}: {len(shown)}')
    assert not wide
