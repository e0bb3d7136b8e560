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
// has a better token to show. One block per row finds them; then their logits, and those of the
// special tokens, are computed again from the 16-bit rows, by as many blocks as it takes to read
// them at once. The largest of these wins, of equal ones the lowest id. Where there are no 16-bit
// rows, the screened logits decide.

#include "common.cuh"

namespace voxtral {
namespace {

constexpr int kBest = 64, kStrip = 64, kMaxSpecial = 32, kMaxCandidates = kBest + kMaxSpecial;
constexpr int kThreads = 256, kWarps = kThreads / kWarp, kScreenedThreads = 1024;
constexpr int kOwn = kBest * kStrip / kThreads;  // logits of a thread; strips are not more

// What one kernel leaves for the other, of each row.
struct Candidates {
  uint32_t id[kMaxCandidates];  // kNone where a special token is among the best already
  float exact[kMaxCandidates];
  float top, rest;  // the largest screened logit; exp(logit - top) of all tokens, summed
  int n_done;       // blocks
};
constexpr uint32_t kNone = 0xffffffffu;

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
  Candidates* candidates;    // [M]
  int n_special, pad, rows_per_slot, vocabulary, width;
};

// Integers that sort as the numbers do.
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

// The sum of one number of every thread, for all of them; `scratch` must not be in use any more.
__device__ inline int block_count(int x, int (&scratch)[kWarps]) {
  x = __reduce_add_sync(kAllLanes, x);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += scratch[i];
  return sum;
}

// Choose the kBest largest of the keys that the threads hold in their order, of equal ones the
// first, and give them places in that order: put(number among the thread's, place). By bisection:
// their order does not matter, so they need not be sorted.
template <typename Put>
__device__ void choose_best(const uint32_t (&own)[kOwn], Put put) {
  __shared__ int counts[2][kWarps];
  __shared__ uint32_t least[kWarps], most[kWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  // One key in each of kBest groups of threads, so kBest of all, reach the least of their maxima.
  static_assert(kThreads == 4 * kBest, "groups of four threads");
  uint32_t high = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) high = max(high, own[i]);
  high = max(high, __shfl_xor_sync(kAllLanes, high, 1));
  high = max(high, __shfl_xor_sync(kAllLanes, high, 2));
  uint32_t low = __reduce_min_sync(kAllLanes, high);
  high = __reduce_max_sync(kAllLanes, high);
  __syncthreads();  // what is shared may still be in use
  if (lane == 0) least[warp] = low, most[warp] = high;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kWarps; ++i) low = min(low, least[i]), high = max(high, most[i]);
  for (int round = 0; low < high; round ^= 1) {
    const uint32_t middle = low + (high - low + 1) / 2;
    int reach = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) reach += own[i] >= middle;
    reach = block_count(reach, counts[round]);
    if (reach >= kBest) low = middle;
    if (reach <= kBest) high = reach == kBest ? middle : middle - 1;
  }
  // The kBest-th is `low`; above it are fewer, the first of those equal to it fill up.
  int above = 0, equal = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) above += own[i] > low, equal += own[i] == low;
  int both = above << 16 | equal, before = both;  // of the threads before this one
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(kAllLanes, before, step);
    if (lane >= step) before += other;
  }
  __syncthreads();
  if (lane == kWarp - 1) counts[0][warp] = before;
  __syncthreads();
  before -= both;
  int all = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) {
    if (i < warp) before += counts[0][i];
    all += counts[0][i];
  }
  const int wanted = kBest - (all >> 16);  // of the equal ones
  above = before >> 16, equal = before & 0xffff;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    if (own[i] > low || (own[i] == low && equal < wanted)) put(i, above + min(equal, wanted));
    above += own[i] > low, equal += own[i] == low;
  }
  __syncthreads();
}

// One block per row: the best strips, then the best tokens in them.
__global__ __launch_bounds__(kThreads) void candidates_kernel(HeadArguments p) {
  __shared__ uint32_t best_strip[kBest], best_token[kBest];
  __shared__ float scratch[kWarps], top_of_warp[kWarps];
  let_next_start();
  wait_for_previous();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const size_t row = blockIdx.x;
  const int n_strips = p.vocabulary / kStrip, per_thread = (n_strips + kThreads - 1) / kThreads;
  const float* logits = p.logits + row * p.vocabulary;
  Candidates& to = p.candidates[row];

  uint32_t own[kOwn];
  float value[kOwn], sum[kOwn], top = -INFINITY, rest = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int strip = threadIdx.x * per_thread + i;
    const bool there = i < per_thread && strip < n_strips;
    value[i] = there ? p.strip_max[row * n_strips + strip] : -INFINITY;
    sum[i] = there ? p.strip_sum[row * n_strips + strip] : 0.f;
    own[i] = there ? ordered(value[i]) : 0;
    top = fmaxf(top, value[i]);
  }
  top = warp_max(top);
  if (lane == 0) top_of_warp[warp] = top;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kWarps; ++i) top = fmaxf(top, top_of_warp[i]);
#pragma unroll
  for (int i = 0; i < kOwn; ++i)
    if (sum[i] > 0) rest += sum[i] * expf(value[i] - top);
  rest = block_sum(rest, scratch);
  if (threadIdx.x == 0) to.top = top, to.rest = rest, to.n_done = 0;

  if (n_strips > kBest) {
    choose_best(own, [&](int i, int place) {
      best_strip[place] = threadIdx.x * per_thread + i;
    });
  } else {
    if (threadIdx.x < n_strips) best_strip[threadIdx.x] = threadIdx.x;
    __syncthreads();
  }
  const int first = threadIdx.x * kOwn;  // of the tokens in these strips
  const bool there = first < min(kBest, n_strips) * kStrip;
  const uint32_t first_id = there ? best_strip[first / kStrip] * kStrip + first % kStrip : 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) own[i] = there ? ordered(logits[first_id + i]) : 0;
  choose_best(own, [&](int i, int place) { best_token[place] = to.id[place] = first_id + i; });
  if (threadIdx.x < p.n_special) {
    uint32_t id = p.special[threadIdx.x];
#pragma unroll 16
    for (int i = 0; i < kBest; ++i)
      if (best_token[i] == id) id = kNone;
    to.id[kBest + threadIdx.x] = id;
  }
}

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

// A warp per candidate; the block of a row that is last chooses.
template <typename T>
__global__ __launch_bounds__(kThreads) void rescore_kernel(HeadArguments p) {
  __shared__ bool last;
  let_next_start();
  wait_for_previous();
  const int lane = threadIdx.x % kWarp, n = kBest + p.n_special;
  const int number = blockIdx.y * kWarps + threadIdx.x / kWarp;
  const size_t row = blockIdx.x;
  Candidates& candidates = p.candidates[row];
  const int64_t slot = p.slots[row / p.rows_per_slot];
  if (number < n) {
    const uint32_t id = candidates.id[number];
    float value = -INFINITY;
    if (id != kNone) {
      value = dot(static_cast<const T*>(p.hidden) + row * p.width,
                  static_cast<const T*>(p.table) + static_cast<size_t>(id) * p.width, p.width,
                  lane);
      if (static_cast<int>(id) == p.pad && p.pad_penalty) value -= p.pad_penalty[slot];
    }
    if (lane == 0) candidates.exact[number] = value;
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&candidates.n_done, 1) == gridDim.y - 1;
  __syncthreads();
  if (!last || threadIdx.x >= kWarp) return;
  __threadfence();
  constexpr int kMine = kMaxCandidates / kWarp;
  uint32_t id[kMine];
  float exact[kMine], known = 0, winner = -INFINITY, total = 0;
  uint64_t best = 0;
  const float top = candidates.top;
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const int at = i * kWarp + lane;
    id[i] = at < n ? candidates.id[at] : kNone;
    exact[i] = id[i] != kNone ? __ldcg(&candidates.exact[at]) : -INFINITY;
    if (id[i] != kNone) {
      known += expf(p.logits[row * p.vocabulary + id[i]] - top);
      const uint64_t key = make_key(exact[i], id[i]);
      best = key > best ? key : best;
    }
  }
  best = warp_max(best);
  const uint32_t token = key_id(best);
#pragma unroll
  for (int i = 0; i < kMine; ++i)
    if (id[i] == token) winner = exact[i];
  winner = warp_max(winner);
#pragma unroll
  for (int i = 0; i < kMine; ++i)
    if (id[i] != kNone) total += expf(exact[i] - winner);
  const float others = fmaxf(0.f, candidates.rest - warp_sum(known));
  total = warp_sum(total) + others * expf(top - winner);
  if (lane == 0) {
    p.token[row] = token;
    p.probability[row] = 1 / total;
    if (p.last_token && row % p.rows_per_slot == p.rows_per_slot - 1) p.last_token[slot] = token;
  }
}

// The same without 16-bit rows: the strips' maxima and sums are all that is needed of the logits,
// but for the strip of pad, whose penalty they do not know.
__global__ __launch_bounds__(kScreenedThreads) void screened_head_kernel(HeadArguments p) {
  __shared__ uint64_t keys[kScreenedThreads / kWarp];
  __shared__ float scratch[kScreenedThreads / kWarp], pad_strip_max, pad_strip_sum;
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
  static_assert(kScreenedThreads == kWarp * kWarp, "a lane per warp");
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

// Size of `scratch` in bytes per row.
extern "C" int voxtral_head_scratch() { return sizeof(Candidates); }

extern "C" int voxtral_head(int dtype, const void* logits, const void* strip_max,
                            const void* strip_sum, const void* hidden, const void* table,
                            const void* special, int n_special, int pad, const void* pad_penalty,
                            const void* slots, int rows_per_slot, void* token, void* probability,
                            void* last_token, void* scratch, int m, int vocabulary, int width,
                            cudaStream_t stream) {
  if (m == 0) return cudaSuccess;
  if (vocabulary % kStrip || vocabulary > kStrip * kOwn * kThreads || n_special > kMaxSpecial ||
      width % 8)
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
                        static_cast<Candidates*>(scratch),
                        n_special,
                        pad,
                        rows_per_slot,
                        vocabulary,
                        width};
  if (!table)
    return launch(screened_head_kernel, dim3(m), dim3(kScreenedThreads), 0, stream, p);
  const cudaError_t error = launch(candidates_kernel, dim3(m), dim3(kThreads), 0, stream, p);
  if (error != cudaSuccess) return error;
  const dim3 grid(m, (kBest + n_special + kWarps - 1) / kWarps), block(kThreads);
  return dtype == kHalf ? launch(rescore_kernel<half>, grid, block, 0, stream, p)
                        : launch(rescore_kernel<__nv_bfloat16>, grid, block, 0, stream, p);
}

extern "C" const char* voxtral_error(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
