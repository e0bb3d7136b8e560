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

"""The library for the CPU is compiled for the machine that the compiler makes code for."""

import pytest

from voxtral_ros.backends.cpu import build


@pytest.mark.parametrize(('target', 'has_avx2'), [
    ('x86_64-linux-gnu', True), ('amd64-portbld-freebsd', True),
    ('aarch64-linux-gnu', False), ('arm64-apple-darwin', False),
    ('arm-linux-gnueabihf', False),  # on a 64-bit kernel, too
])
def test_instruction_sets_are_those_of_the_target(tmp_path, target, has_avx2):
    compiler = tmp_path / 'c++'
    compiler.write_text(f'#!/bin/sh\necho {target}\n')
    compiler.chmod(0o755)
    names = build.instruction_sets(compiler)
    assert next(iter(names)) == 'baseline'
    assert ('avx2' in names) == has_avx2
