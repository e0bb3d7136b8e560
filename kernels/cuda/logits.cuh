// Copyright 2026 voxtral_ros maintainers
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

// Logits: how they compare, and how one of them is computed from the 16-bit head.

#pragma once

#include "common.cuh"

namespace voxtral {

// Unsigned integers that sort as the floats do.
__device__ inline uint32_t ordered(float value) {
  const uint32_t bits = __float_as_uint(value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
// Keys sort by value, then by lower id; the largest key is the best.
__device__ inline uint64_t make_key(float value, uint32_t id) {
  return static_cast<uint64_t>(ordered(value)) << 32 | (0xffffffffu - id);
}
__device__ inline uint32_t key_id(uint64_t key) {
  return 0xffffffffu - static_cast<uint32_t>(key);
}

// By a warp, in all its lanes; n is a multiple of 8.
template <typename T>
__device__ float dot(const T* a, const T* b, int n, int lane) {
  float sum = 0;
#pragma unroll 12
  for (int i = lane * 8; i < n; i += kWarp * 8) {
    const uint4 x = *reinterpret_cast<const uint4*>(a + i);
    const uint4 y = *reinterpret_cast<const uint4*>(b + i);
    const T* u = reinterpret_cast<const T*>(&x);
    const T* v = reinterpret_cast<const T*>(&y);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += to_float(u[k]) * to_float(v[k]);
  }
  return warp_sum(sum);
}

}  // namespace voxtral
