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

"""In how many bits keys and values are kept: what can be asked for, and what `auto` is."""

KV_CACHES = ('auto', '16', '8')


def is_int8_cache(kv_cache: str, planned: int, memory: int) -> bool:
    """
    Return whether keys and values are kept in INT8.

    :param kv_cache: one of KV_CACHES
    :param planned: bytes of the model otherwise, KV caches included
    :param memory: bytes that the device has
    """
    return kv_cache == '8' or (kv_cache == 'auto' and planned > memory / 2)
