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

// From screened logits to the token: the exact argmax of a 16-bit head at the cost of a 4-bit one.
//
// The INT4 product has written a logit per token and the maximum of every strip of them. The best
// kBest tokens lie in the kBest strips with the largest maxima, since every strip before theirs
// has a better token to show. Their logits, and those of the special tokens, are computed again
// from the 16-bit rows; the largest of these wins, of equal ones the lowest id. Where there are no
// 16-bit rows, the screened logits decide.

#include "common.cuh"

namespace voxtral {
namespace {

constexpr int kBest = 64, kThreads = 1024, kWarps = kThreads / kWarp, kStrip = 64;
constexpr int kMaxSpecial = 32;

struct HeadArguments {
  const float* logits;       // [M, V], screened
  const float* strip_max;    // [M, V / 64]
  const float* strip_sum;    // [M, V / 64]
  const void* hidden;        // [M, D], T
  const void* table;         // [V, D], T, or null
  const int* special;        // [n_special], always computed exactly
  const float* pad_penalty;  // [slots], subtracted from the logit of `pad`
  const int64_t* slots;      // [M / rows_per_slot]
  int64_t* token;            // [M]
  float* probability;        // [M]
  int64_t* last_token;       // [slots], of the last row of each slot
  int n_special, pad, rows_per_slot, vocabulary, width;
};

// Keys sort by value, then by lower id; the largest key is the best.
__device__ inline uint64_t make_key(float value, uint32_t id) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | (0xffffffffu - id);
}
__device__ inline uint32_t key_id(uint64_t key) {
  return 0xffffffffu - static_cast<uint32_t>(key);
}

// 64 keys of a warp, two per lane: number i < 32 is low of lane i, number i + 32 high of lane i.
struct Keys {
  uint64_t low, high;
};

__device__ inline void order(uint64_t& a, uint64_t& b, bool larger_first) {
  if ((a < b) == larger_first) {
    const uint64_t t = a;
    a = b, b = t;
  }
}

// One step of a bitonic sort: exchange with the key `step` places away.
__device__ inline void exchange(Keys& k, int step, int size) {
  const int lane = threadIdx.x % kWarp;
  if (step == kWarp) {
    order(k.low, k.high, true);  // the last merge; the largest come first
    return;
  }
  const bool first = (lane & step) == 0;
  const uint64_t low = __shfl_xor_sync(kAllLanes, k.low, step);
  const uint64_t high = __shfl_xor_sync(kAllLanes, k.high, step);
  const bool low_down = (lane & size) == 0, high_down = ((lane + kWarp) & size) == 0;
  if ((k.low < low) == (first == low_down)) k.low = low;
  if ((k.high < high) == (first == high_down)) k.high = high;
}

__device__ inline void sort(Keys& k) {
#pragma unroll
  for (int size = 2; size <= kBest; size *= 2)
#pragma unroll
    for (int step = size / 2; step > 0; step /= 2) exchange(k, step, size);
}

// The 64 largest of two sorted lists, sorted.
__device__ inline void merge(Keys& a, const Keys& b) {
  const int mirror = kWarp - 1 - threadIdx.x % kWarp;
  const uint64_t low = __shfl_sync(kAllLanes, b.high, mirror);
  const uint64_t high = __shfl_sync(kAllLanes, b.low, mirror);
  a.low = a.low > low ? a.low : low;
  a.high = a.high > high ? a.high : high;
#pragma unroll
  for (int step = kBest / 2; step > 0; step /= 2) exchange(a, step, kBest);
}

// The 64 largest of n keys, sorted, to best[0..63]; key(i) makes the i-th, 0 stands for none.
template <typename Key>
__device__ void largest(int n, Key key, uint64_t (*lists)[kBest], uint64_t* best) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  Keys mine = {0, 0};
  for (int begin = warp * kBest; begin < n; begin += kWarps * kBest) {
    const int i = begin + lane, j = i + kWarp;
    Keys more = {i < n ? key(i) : 0, j < n ? key(j) : 0};
    sort(more);
    merge(mine, more);
  }
  for (int half = kWarps / 2; half > 0; half /= 2) {
    if (warp >= half && warp < 2 * half)
      lists[warp][lane] = mine.low, lists[warp][lane + kWarp] = mine.high;
    __syncthreads();
    if (warp < half) merge(mine, {lists[warp + half][lane], lists[warp + half][lane + kWarp]});
  }
  if (warp == 0) best[lane] = mine.low, best[lane + kWarp] = mine.high;
  __syncthreads();
}

template <typename T>
__device__ float dot(const T* a, const T* b, int n, int lane) {
  float sum = 0;
#pragma unroll 6
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

// One block per row.
template <typename T>
__global__ __launch_bounds__(kThreads) void head_kernel(HeadArguments p) {
  __shared__ uint64_t lists[kWarps][kBest], best_keys[kBest];
  __shared__ uint32_t best_strip[kBest], candidate[kBest + kMaxSpecial];
  __shared__ float exact[kBest + kMaxSpecial], scratch[kWarps];
  let_next_start();
  wait_for_previous();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const size_t row = blockIdx.x;
  const int n_strips = p.vocabulary / kStrip, n_best = min(kBest, n_strips);
  const float* logits = p.logits + row * p.vocabulary;
  const float* strip_max = p.strip_max + row * n_strips;
  const float* strip_sum = p.strip_sum + row * n_strips;
  const int64_t slot = p.slots[row / p.rows_per_slot];
  const float penalty = p.pad_penalty ? p.pad_penalty[slot] : 0.f;

  largest(n_strips, [&](int i) { return make_key(strip_max[i], i); }, lists, best_keys);
  if (threadIdx.x < n_best) best_strip[threadIdx.x] = key_id(best_keys[threadIdx.x]);
  __syncthreads();
  const float top = strip_max[best_strip[0]];
  float rest = 0;
  for (int i = threadIdx.x; i < n_strips; i += blockDim.x)
    rest += strip_sum[i] * expf(strip_max[i] - top);
  rest = block_sum(rest, scratch);  // of all tokens, until the candidates are taken out

  auto key_in_strips = [&](int i) {
    const uint32_t id = best_strip[i / kStrip] * kStrip + i % kStrip;
    return make_key(logits[id], id);
  };
  largest(n_best * kStrip, key_in_strips, lists, best_keys);
  if (threadIdx.x < kBest) candidate[threadIdx.x] = key_id(best_keys[threadIdx.x]);
  __syncthreads();
  if (threadIdx.x < p.n_special) {
    // A special token that is among the best already is not counted twice.
    uint32_t id = p.special[threadIdx.x];
    for (int i = 0; i < kBest; ++i)
      if (candidate[i] == id) id = 0xffffffffu;
    candidate[kBest + threadIdx.x] = id;
  }
  __syncthreads();

  const int n = kBest + p.n_special;
  for (int i = warp; i < n; i += kWarps) {
    const uint32_t id = candidate[i];
    float value = -INFINITY;
    if (id < p.vocabulary) {
      value = dot(static_cast<const T*>(p.hidden) + row * p.width,
                  static_cast<const T*>(p.table) + static_cast<size_t>(id) * p.width, p.width,
                  lane);
      if (static_cast<int>(id) == p.pad) value -= penalty;
    }
    if (lane == 0) exact[i] = value;
  }
  __syncthreads();
  if (warp > 0) return;
  uint64_t best = 0;
  float known = 0;
  for (int i = lane; i < n; i += kWarp) {
    if (candidate[i] >= p.vocabulary) continue;
    const uint64_t key = make_key(exact[i], candidate[i]);
    best = key > best ? key : best;
    known += expf(logits[candidate[i]] - top);
  }
  best = warp_max(best);
  rest = fmaxf(0.f, rest - warp_sum(known));
  const uint32_t id = key_id(best);
  float winner = -INFINITY;
  for (int i = lane; i < n; i += kWarp)
    if (candidate[i] == id) winner = exact[i];
  winner = warp_max(winner);
  float total = 0;
  for (int i = lane; i < n; i += kWarp)
    if (candidate[i] < p.vocabulary) total += expf(exact[i] - winner);
  total = warp_sum(total) + rest * expf(top - winner);
  if (lane == 0) {
    p.token[row] = id;
    p.probability[row] = 1 / total;
    if (p.last_token && row % p.rows_per_slot == p.rows_per_slot - 1) p.last_token[slot] = id;
  }
}

// The same without 16-bit rows: the strips' maxima and sums are all that is needed of the logits,
// but for the strip of pad, whose penalty they do not know.
__global__ __launch_bounds__(kThreads) void screened_head_kernel(HeadArguments p) {
  __shared__ uint64_t keys[kWarps];
  __shared__ float scratch[kWarps], pad_strip_max, pad_strip_sum;
  let_next_start();
  wait_for_previous();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const size_t row = blockIdx.x;
  const int n_strips = p.vocabulary / kStrip, pad_strip = p.pad / kStrip;
  const float* logits = p.logits + row * p.vocabulary;
  const int64_t slot = p.slots[row / p.rows_per_slot];
  const float penalty = p.pad_penalty ? p.pad_penalty[slot] : 0.f;
  auto logit = [&](int id) { return logits[id] - (id == p.pad ? penalty : 0.f); };
  if (warp == 0) {
    const float a = logit(pad_strip * kStrip + lane), b = logit(pad_strip * kStrip + lane + kWarp);
    const float highest = warp_max(fmaxf(a, b));
    const float sum = warp_sum(expf(a - highest) + expf(b - highest));
    if (lane == 0) pad_strip_max = highest, pad_strip_sum = sum;
  }
  __syncthreads();
  auto strip_max = [&](int i) {
    return i == pad_strip ? pad_strip_max : p.strip_max[row * n_strips + i];
  };
  uint64_t best = 0;
  for (int i = threadIdx.x; i < n_strips; i += blockDim.x) {
    const uint64_t key = make_key(strip_max(i), i);
    best = key > best ? key : best;
  }
  best = warp_max(best);
  if (lane == 0) keys[warp] = best;
  __syncthreads();
  best = warp_max(keys[lane]);
  static_assert(kWarps == kWarp, "a lane per warp");
  const int strip = key_id(best);
  const float top = strip_max(strip);
  float total = 0;
  for (int i = threadIdx.x; i < n_strips; i += blockDim.x)
    total += (i == pad_strip ? pad_strip_sum : p.strip_sum[row * n_strips + i]) *
             expf(strip_max(i) - top);
  total = block_sum(total, scratch);
  if (warp > 0) return;
  const int id = strip * kStrip + lane;
  const uint64_t low = make_key(logit(id), id), high = make_key(logit(id + kWarp), id + kWarp);
  const uint32_t token = key_id(warp_max(low > high ? low : high));
  if (lane == 0) {
    p.token[row] = token;
    p.probability[row] = 1 / total;
    if (p.last_token && row % p.rows_per_slot == p.rows_per_slot - 1) p.last_token[slot] = token;
  }
}

}  // namespace
}  // namespace voxtral

using namespace voxtral;

extern "C" int voxtral_head(int dtype, const void* logits, const void* strip_max,
                            const void* strip_sum, const void* hidden, const void* table,
                            const void* special, int n_special, int pad, const void* pad_penalty,
                            const void* slots, int rows_per_slot, void* token, void* probability,
                            void* last_token, int m, int vocabulary, int width,
                            cudaStream_t stream) {
  if (m == 0) return cudaSuccess;
  if (vocabulary % kStrip || n_special > kMaxSpecial || width % 8)
    return cudaErrorInvalidValue;
  const HeadArguments p{static_cast<const float*>(logits),
                        static_cast<const float*>(strip_max),
                        static_cast<const float*>(strip_sum),
                        hidden,
                        table,
                        static_cast<const int*>(special),
                        static_cast<const float*>(pad_penalty),
                        static_cast<const int64_t*>(slots),
                        static_cast<int64_t*>(token),
                        static_cast<float*>(probability),
                        static_cast<int64_t*>(last_token),
                        n_special,
                        pad,
                        rows_per_slot,
                        vocabulary,
                        width};
  if (!table) return launch(screened_head_kernel, dim3(m), dim3(kThreads), 0, stream, p);
  return dtype == kHalf
             ? launch(head_kernel<half>, dim3(m), dim3(kThreads), 0, stream, p)
             : launch(head_kernel<__nv_bfloat16>, dim3(m), dim3(kThreads), 0, stream, p);
}

extern "C" const char* voxtral_error(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
