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

// What attention is made of: places in shared memory, rotation, shares.

#pragma once

#include "common.cuh"

namespace voxtral {

constexpr int kWarps = 8, kStep = 16;
constexpr int kRows = 16;  // queries of a block: heads of a group times positions

// By head size D: entries of a warp and of a block, and what a row takes in shared memory, where
// eight neighbouring ones begin in different banks.
__host__ __device__ constexpr int per_warp(int d) { return 2048 / d; }
__host__ __device__ constexpr int per_block(int d) { return kWarps * per_warp(d); }
__host__ __device__ constexpr int pitch(int d) { return d + 8; }

// Pairs j..j + 3 of a head after rotation: neighbours, or with half_split D / 2 apart.
template <typename T, int D>
struct Pairs {
  __align__(16) T value[8];

  __device__ Pairs(const T* from, const float* cosine, const float* sine, int j, bool half_split) {
    if (half_split) {
      *reinterpret_cast<uint2*>(value) = *reinterpret_cast<const uint2*>(from + j);
      *reinterpret_cast<uint2*>(value + 4) = *reinterpret_cast<const uint2*>(from + j + D / 2);
    } else {
      *reinterpret_cast<uint4*>(value) = *reinterpret_cast<const uint4*>(from + 2 * j);
    }
    const float4 c4 = *reinterpret_cast<const float4*>(cosine + j);
    const float4 s4 = *reinterpret_cast<const float4*>(sine + j);
    const float c[4] = {c4.x, c4.y, c4.z, c4.w}, s[4] = {s4.x, s4.y, s4.z, s4.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      T& a = half_split ? value[i] : value[2 * i];
      T& b = half_split ? value[i + 4] : value[2 * i + 1];
      const float x = to_float(a), y = to_float(b);
      a = from_float<T>(x * c[i] - y * s[i]);
      b = from_float<T>(x * s[i] + y * c[i]);
    }
  }
  __device__ void store(T* to, int j, bool half_split) const {
    if (half_split) {
      *reinterpret_cast<uint2*>(to + j) = *reinterpret_cast<const uint2*>(value);
      *reinterpret_cast<uint2*>(to + j + D / 2) = *reinterpret_cast<const uint2*>(value + 4);
    } else {
      *reinterpret_cast<uint4*>(to + 2 * j) = *reinterpret_cast<const uint4*>(value);
    }
  }
};

// 2^(x - maximum) for x up to the maximum; 0 for -inf, what is masked, whatever the maximum.
__device__ inline float share_of(float x, float maximum) {
  float share;
  asm("ex2.approx.f32 %0, %1;\n" : "=f"(share) : "f"(x - fmaxf(maximum, -1e30f)));
  return share;
}
__device__ inline void add_times(float4& x, float factor, const float4& y) {
  x.x += factor * y.x, x.y += factor * y.y, x.z += factor * y.z, x.w += factor * y.w;
}
template <typename T>
__device__ inline void store_four(T* to, const float4& x, float divisor) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(pack<T>(x.x / divisor, x.y / divisor), pack<T>(x.z / divisor, x.w / divisor));
}
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;\n" ::: "memory"); }

}  // namespace voxtral
