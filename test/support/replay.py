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

"""Helpers of tests that call the CPU library of another machine; they are in bench/."""

from bench.arm_machine import build_library, COMPILER, CountingArm, EmulatedArm, missing
from bench.replay import address_of, addresses, arrays_in, Machine, pointers, Recorder

__all__ = ['COMPILER', 'CountingArm', 'EmulatedArm', 'Machine', 'Recorder', 'address_of',
           'addresses', 'arrays_in', 'build_library', 'missing', 'pointers']
