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

// Add the chunks of a row up, in their order, and write the quotient of sums and weight.
//
// A chunk has sums [chunk_rows, D], then of every row maximum and weight. A whole block does this
// for the first `rows` of them; out(row) is where [D] results go. It is waiting that takes time, so
// as many loads as possible are on their way at once.
template <typename T, int D, typename Out>
__device__ void combine(const float* partial, int n_chunks, int rows, int chunk_rows,
                        float* scratch, float* totals, Out out) {
  constexpr int kFew = 8;   // chunks that need no `scratch`
  constexpr int kSeen = 3;  // chunks of a lane whose maxima stay in registers
  constexpr int kQuarters = 4, kAtOnce = 9;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int fours = rows * (D / 4), chunk_size = chunk_rows * (D + 2);
  auto sums_of = [&](int chunk, int row, int dim) {
    return __ldcg(reinterpret_cast<const float4*>(
        partial + static_cast<size_t>(chunk) * chunk_size + row * D + dim));
  };
  auto maximum_and_weight = [&](int chunk, int row) {
    return __ldcg(reinterpret_cast<const float2*>(
        partial + static_cast<size_t>(chunk) * chunk_size + chunk_rows * D) + row);
  };

  if (n_chunks <= kFew) {
    for (int i = threadIdx.x; i < fours; i += blockDim.x) {
      const int row = i / (D / 4), dim = i % (D / 4) * 4;
      float2 seen[kFew];
      float4 part[kFew], x = make_float4(0, 0, 0, 0);
#pragma unroll
      for (int c = 0; c < kFew; ++c) {
        seen[c] = maximum_and_weight(min(c, n_chunks - 1), row);
        part[c] = sums_of(min(c, n_chunks - 1), row, dim);
      }
      float most = -INFINITY, total = 0;
#pragma unroll
      for (int c = 0; c < kFew; ++c) most = fmaxf(most, seen[c].x);
#pragma unroll
      for (int c = 0; c < kFew; ++c) {
        const float share = c < n_chunks ? share_of(seen[c].x, most) : 0.f;
        add_times(x, share, part[c]);
        total += share * seen[c].y;
      }
      store_four(out(row) + dim, x, total);
    }
    return;
  }
  // What each chunk counts for; a warp takes a row at a time.
  float* shares = scratch;  // [rows, chunks]
  for (int row = warp; row < rows; row += kWarps) {
    auto at = [&](int c) {
      return c < n_chunks ? maximum_and_weight(c, row) : make_float2(-INFINITY, 0.f);
    };
    float2 seen[kSeen];
    float most = -INFINITY, total = 0;
#pragma unroll
    for (int i = 0; i < kSeen; ++i) seen[i] = at(i * kWarp + lane);
#pragma unroll
    for (int i = 0; i < kSeen; ++i) most = fmaxf(most, seen[i].x);
    for (int c = kSeen * kWarp + lane; c < n_chunks; c += kWarp) most = fmaxf(most, at(c).x);
    most = warp_max(most);
    auto weigh = [&](int c, float2 m) {
      const float share = share_of(m.x, most);
      if (c < n_chunks) shares[row * n_chunks + c] = share;
      total += share * m.y;
    };
#pragma unroll
    for (int i = 0; i < kSeen; ++i) weigh(i * kWarp + lane, seen[i]);
    for (int c = kSeen * kWarp + lane; c < n_chunks; c += kWarp) weigh(c, at(c));
    total = warp_sum(total);
    if (lane == 0) totals[row] = total;
  }
  __syncthreads();
  // In kQuarters parts of the chunks, so that all threads have something to do.
  const int per_quarter = (n_chunks + kQuarters - 1) / kQuarters;
  float4* sums = reinterpret_cast<float4*>(shares + (rows * n_chunks + 3) / 4 * 4);
  for (int i = threadIdx.x; i < kQuarters * fours; i += blockDim.x) {
    const int quarter = i / fours, four = i - quarter * fours;
    const int row = four / (D / 4), dim = four % (D / 4) * 4;
    const int end = min(n_chunks, (quarter + 1) * per_quarter);
    float4 x = make_float4(0, 0, 0, 0);
    for (int c = quarter * per_quarter; c < end; c += kAtOnce) {
      float4 part[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) part[j] = sums_of(min(c + j, end - 1), row, dim);
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
        add_times(x, c + j < end ? shares[row * n_chunks + c + j] : 0.f, part[j]);
    }
    sums[i] = x;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < fours; i += blockDim.x) {
    float4 x = sums[i];
#pragma unroll
    for (int quarter = 1; quarter < kQuarters; ++quarter)
      add_times(x, 1.f, sums[quarter * fours + i]);
    const int row = i / (D / 4), dim = i % (D / 4) * 4;
    store_four(out(row) + dim, x, totals[row]);
  }
}

}  // namespace voxtral
