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

// Parts of the attention kernel: RoPE, online softmax, reduction of chunks.

#pragma once

#include "common.cuh"

namespace voxtral {

constexpr int kWarps = 8;
constexpr int kRows = 16;  // query rows of a block: heads of a GQA group times positions

// Pairs j..j + 3 of a head with RoPE applied: neighbours, or with half_split D / 2 apart.
template <typename T, int D>
struct RopePairs {
  __align__(16) T value[8];

  __device__ RopePairs(const T* from, const float* cosine, const float* sine, int j,
                       bool half_split) {
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

// What scores are multiplied with, for softmax in base 2: log2(e) / sqrt(head size).
__device__ inline float softmax_scale(int d) {
  return rsqrtf(static_cast<float>(d)) * 1.44269504f;
}

// Softmax numerator in base 2: 2^(x - maximum) for x up to the maximum; 0 for -inf (masked),
// whatever the maximum.
__device__ inline float softmax_exp2(float x, float maximum) {
  float result;
  asm("ex2.approx.f32 %0, %1;\n" : "=f"(result) : "f"(x - fmaxf(maximum, -1e30f)));
  return result;
}
__device__ inline void axpy(float4& x, float factor, const float4& y) {
  x.x += factor * y.x, x.y += factor * y.y, x.z += factor * y.z, x.w += factor * y.w;
}
template <typename T>
__device__ inline void store_four(T* to, const float4& x, float divisor) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(pack<T>(x.x / divisor, x.y / divisor), pack<T>(x.z / divisor, x.w / divisor));
}

// Second phase of split-KV attention (flash decoding): rescale the chunks of a row to a common
// maximum, add them up in their order, and divide by the sum of the softmax numerators.
//
// A chunk has sums [chunk_rows, D], then of every row max and sum of numerators. A whole block does
// this for the first `rows` of them; out(row) is where [D] results go. Bound by latency, so as many
// loads as possible are in flight at once.
template <typename T, int D, typename Out>
__device__ void combine_chunks(const float* partial, int n_chunks, int rows, int chunk_rows,
                               float* scratch, float* row_sums, Out out) {
  constexpr int kFew = 8;          // chunks that need no `scratch`
  constexpr int kInRegisters = 3;  // chunks of a lane whose max and sum stay in registers
  constexpr int kQuarters = 4, kLoadsInFlight = 9;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int fours = rows * (D / 4), chunk_size = chunk_rows * (D + 2);
  auto sums_of = [&](int chunk, int row, int dim) {
    return __ldcg(reinterpret_cast<const float4*>(
        partial + static_cast<size_t>(chunk) * chunk_size + row * D + dim));
  };
  auto max_and_sum = [&](int chunk, int row) {
    return __ldcg(reinterpret_cast<const float2*>(
        partial + static_cast<size_t>(chunk) * chunk_size + chunk_rows * D) + row);
  };

  if (n_chunks <= kFew) {
    for (int i = threadIdx.x; i < fours; i += blockDim.x) {
      const int row = i / (D / 4), dim = i % (D / 4) * 4;
      float2 stats[kFew];
      float4 part[kFew], x = make_float4(0, 0, 0, 0);
#pragma unroll
      for (int c = 0; c < kFew; ++c) {
        stats[c] = max_and_sum(min(c, n_chunks - 1), row);
        part[c] = sums_of(min(c, n_chunks - 1), row, dim);
      }
      float row_max = -INFINITY, total = 0;
#pragma unroll
      for (int c = 0; c < kFew; ++c) row_max = fmaxf(row_max, stats[c].x);
#pragma unroll
      for (int c = 0; c < kFew; ++c) {
        const float scale = c < n_chunks ? softmax_exp2(stats[c].x, row_max) : 0.f;
        axpy(x, scale, part[c]);
        total += scale * stats[c].y;
      }
      store_four(out(row) + dim, x, total);
    }
    return;
  }
  // The rescale factor of each chunk; a warp takes a row at a time.
  float* scales = scratch;  // [rows, chunks]
  for (int row = warp; row < rows; row += kWarps) {
    auto at = [&](int c) {
      return c < n_chunks ? max_and_sum(c, row) : make_float2(-INFINITY, 0.f);
    };
    float2 stats[kInRegisters];
    float row_max = -INFINITY, total = 0;
#pragma unroll
    for (int i = 0; i < kInRegisters; ++i) stats[i] = at(i * kWarp + lane);
#pragma unroll
    for (int i = 0; i < kInRegisters; ++i) row_max = fmaxf(row_max, stats[i].x);
    for (int c = kInRegisters * kWarp + lane; c < n_chunks; c += kWarp)
      row_max = fmaxf(row_max, at(c).x);
    row_max = warp_max(row_max);
    auto rescale = [&](int c, float2 m) {
      const float scale = softmax_exp2(m.x, row_max);
      if (c < n_chunks) scales[row * n_chunks + c] = scale;
      total += scale * m.y;
    };
#pragma unroll
    for (int i = 0; i < kInRegisters; ++i) rescale(i * kWarp + lane, stats[i]);
    for (int c = kInRegisters * kWarp + lane; c < n_chunks; c += kWarp) rescale(c, at(c));
    total = warp_sum(total);
    if (lane == 0) row_sums[row] = total;
  }
  __syncthreads();
  // In kQuarters parts of the chunks, so that all threads have work.
  const int per_quarter = (n_chunks + kQuarters - 1) / kQuarters;
  float4* sums = reinterpret_cast<float4*>(scales + (rows * n_chunks + 3) / 4 * 4);
  for (int i = threadIdx.x; i < kQuarters * fours; i += blockDim.x) {
    const int quarter = i / fours, four = i - quarter * fours;
    const int row = four / (D / 4), dim = four % (D / 4) * 4;
    const int end = min(n_chunks, (quarter + 1) * per_quarter);
    float4 x = make_float4(0, 0, 0, 0);
    for (int c = quarter * per_quarter; c < end; c += kLoadsInFlight) {
      float4 part[kLoadsInFlight];
#pragma unroll
      for (int j = 0; j < kLoadsInFlight; ++j) part[j] = sums_of(min(c + j, end - 1), row, dim);
#pragma unroll
      for (int j = 0; j < kLoadsInFlight; ++j)
        axpy(x, c + j < end ? scales[row * n_chunks + c + j] : 0.f, part[j]);
    }
    sums[i] = x;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < fours; i += blockDim.x) {
    float4 x = sums[i];
#pragma unroll
    for (int quarter = 1; quarter < kQuarters; ++quarter)
      axpy(x, 1.f, sums[quarter * fours + i]);
    const int row = i / (D / 4), dim = i % (D / 4) * 4;
    store_four(out(row) + dim, x, row_sums[row]);
  }
}

}  // namespace voxtral
