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

// Argmax over the vocabulary: the exact token of a 16-bit LM head at the cost of an INT4 one.
//
// The INT4 GEMM has written a screened logit per token and the maximum of every strip of them. The
// top kTopK tokens lie in the kTopK strips with the largest maxima, since every strip with a larger
// maximum has a better token. One block per row selects them; then their logits, and those of the
// special tokens, are recomputed from the 16-bit rows, by as many blocks as it takes to read them
// at once. The largest of these wins, of equal ones the lowest id. Where there are no 16-bit rows,
// the screened logits decide.

#include "logits.cuh"

namespace voxtral {
namespace {

constexpr int kTopK = 64, kStrip = 64, kMaxSpecial = 32, kMaxCandidates = kTopK + kMaxSpecial;
constexpr int kThreads = 256, kWarps = kThreads / kWarp, kScreenedThreads = 1024;
constexpr int kPerThread = kTopK * kStrip / kThreads;  // logits of a thread; strips are fewer

// What candidates_kernel hands to rescore_kernel, of each row.
struct Candidates {
  uint32_t id[kMaxCandidates];  // kNone where a special token is among the top already
  float exact[kMaxCandidates];
  float top, sum_exp;  // the largest screened logit; sum of exp(logit - top) of all tokens
  int n_done;          // blocks
};
constexpr uint32_t kNone = 0xffffffffu;

struct ArgmaxArguments {
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

// Block-wide sum of small integers, in all threads; `scratch` must not be in use any more.
__device__ inline int block_count(int x, int (&scratch)[kWarps]) {
  x = __reduce_add_sync(kAllLanes, x);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += scratch[i];
  return sum;
}

// Block-wide top-k: call put(index among the thread's keys, place) for each of the kTopK largest
// keys; of equal ones the first are taken, in the order of threads and then of indices, and places
// count in that order. The k-th key is found by bisection: nothing has to be sorted.
template <typename Put>
__device__ void select_top_k(const uint32_t (&key)[kPerThread], Put put) {
  __shared__ int counts[2][kWarps];
  __shared__ uint32_t least[kWarps], most[kWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  // One key in each of kTopK groups of threads, so kTopK of all, reach the least of their maxima.
  static_assert(kThreads == 4 * kTopK, "groups of four threads");
  uint32_t high = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) high = max(high, key[i]);
  high = max(high, __shfl_xor_sync(kAllLanes, high, 1));
  high = max(high, __shfl_xor_sync(kAllLanes, high, 2));
  uint32_t low = __reduce_min_sync(kAllLanes, high);
  high = __reduce_max_sync(kAllLanes, high);
  __syncthreads();  // shared memory may still be in use
  if (lane == 0) least[warp] = low, most[warp] = high;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kWarps; ++i) low = min(low, least[i]), high = max(high, most[i]);
  for (int round = 0; low < high; round ^= 1) {
    // Rounded up without high - low + 1, which is 0 where one key is a NaN and the others are none.
    const uint32_t span = high - low, middle = low + span / 2 + span % 2;
    int reach = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) reach += key[i] >= middle;
    reach = block_count(reach, counts[round]);
    if (reach >= kTopK) low = middle;
    if (reach <= kTopK) high = reach == kTopK ? middle : middle - 1;
  }
  // The k-th key is `low`; fewer are above it, the first of those equal to it fill up.
  int above = 0, equal = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) above += key[i] > low, equal += key[i] == low;
  int both = above << 16 | equal, before = both;  // prefix sum over threads
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
  const int wanted = kTopK - (all >> 16);  // of the equal ones
  above = before >> 16, equal = before & 0xffff;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    if (key[i] > low || (key[i] == low && equal < wanted)) put(i, above + min(equal, wanted));
    above += key[i] > low, equal += key[i] == low;
  }
  __syncthreads();
}

// One block per row: the top strips, then the top tokens in them.
__global__ __launch_bounds__(kThreads) void candidates_kernel(ArgmaxArguments p) {
  __shared__ uint32_t top_strip[kTopK], top_token[kTopK];
  __shared__ float scratch[kWarps], top_of_warp[kWarps];
  launch_dependents();
  grid_dependency_wait();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const size_t row = blockIdx.x;
  const int n_strips = p.vocabulary / kStrip, per_thread = (n_strips + kThreads - 1) / kThreads;
  const float* logits = p.logits + row * p.vocabulary;
  Candidates& to = p.candidates[row];

  uint32_t key[kPerThread];
  float value[kPerThread], sum[kPerThread], top = -INFINITY, sum_exp = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int strip = threadIdx.x * per_thread + i;
    const bool valid = i < per_thread && strip < n_strips;
    value[i] = valid ? p.strip_max[row * n_strips + strip] : -INFINITY;
    sum[i] = valid ? p.strip_sum[row * n_strips + strip] : 0.f;
    key[i] = valid ? ordered(value[i]) : 0;
    top = fmaxf(top, value[i]);
  }
  top = warp_max(top);
  if (lane == 0) top_of_warp[warp] = top;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kWarps; ++i) top = fmaxf(top, top_of_warp[i]);
#pragma unroll
  for (int i = 0; i < kPerThread; ++i)
    if (sum[i] > 0) sum_exp += sum[i] * expf(value[i] - top);
  sum_exp = block_sum(sum_exp, scratch);
  if (threadIdx.x == 0) to.top = top, to.sum_exp = sum_exp, to.n_done = 0;

  if (n_strips > kTopK) {
    select_top_k(key, [&](int i, int place) {
      top_strip[place] = threadIdx.x * per_thread + i;
    });
  } else {
    if (threadIdx.x < n_strips) top_strip[threadIdx.x] = threadIdx.x;
    __syncthreads();
  }
  const int first = threadIdx.x * kPerThread;  // of the tokens in these strips
  const bool valid = first < min(kTopK, n_strips) * kStrip;
  const uint32_t first_id = valid ? top_strip[first / kStrip] * kStrip + first % kStrip : 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) key[i] = valid ? ordered(logits[first_id + i]) : 0;
  select_top_k(key, [&](int i, int place) { top_token[place] = to.id[place] = first_id + i; });
  if (threadIdx.x < p.n_special) {
    uint32_t id = p.special[threadIdx.x];
#pragma unroll 16
    for (int i = 0; i < kTopK; ++i)
      if (top_token[i] == id) id = kNone;
    to.id[kTopK + threadIdx.x] = id;
  }
}

// A warp per candidate computes its exact logit; the last block of a row takes the argmax.
template <typename T>
__global__ __launch_bounds__(kThreads) void rescore_kernel(ArgmaxArguments p) {
  __shared__ bool last;
  launch_dependents();
  grid_dependency_wait();
  const int lane = threadIdx.x % kWarp, n = kTopK + p.n_special;
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
  constexpr int kPerLane = kMaxCandidates / kWarp;
  uint32_t id[kPerLane];
  float exact[kPerLane], known_exp = 0, winner = -INFINITY, total = 0;
  uint64_t best = 0;
  const float top = candidates.top;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int at = i * kWarp + lane;
    id[i] = at < n ? candidates.id[at] : kNone;
    exact[i] = id[i] != kNone ? __ldcg(&candidates.exact[at]) : -INFINITY;
    if (id[i] != kNone) {
      known_exp += expf(p.logits[row * p.vocabulary + id[i]] - top);
      const uint64_t key = make_key(exact[i], id[i]);
      best = key > best ? key : best;
    }
  }
  best = warp_max(best);
  const uint32_t token = key_id(best);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (id[i] == token) winner = exact[i];
  winner = warp_max(winner);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (id[i] != kNone) total += expf(exact[i] - winner);
  const float rest_exp = fmaxf(0.f, candidates.sum_exp - warp_sum(known_exp));
  total = warp_sum(total) + rest_exp * expf(top - winner);
  if (lane == 0) {
    p.token[row] = token;
    p.probability[row] = 1 / total;
    if (p.last_token && row % p.rows_per_slot == p.rows_per_slot - 1) p.last_token[slot] = token;
  }
}

// The same without 16-bit rows: max and sum of the strips are all that is needed of the logits, but
// for the strip of pad, whose penalty they do not include.
__global__ __launch_bounds__(kScreenedThreads) void argmax_screened_kernel(ArgmaxArguments p) {
  __shared__ uint64_t keys[kScreenedThreads / kWarp];
  __shared__ float scratch[kScreenedThreads / kWarp], pad_strip_max, pad_strip_sum;
  launch_dependents();
  grid_dependency_wait();
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
extern "C" int voxtral_argmax_scratch() { return sizeof(Candidates); }

// Token and probability of each of m rows of logits.
extern "C" int voxtral_argmax(int dtype, const void* logits, const void* strip_max,
                              const void* strip_sum, const void* hidden, const void* table,
                              const void* special, int n_special, int pad,
                              const void* pad_penalty, const void* slots, int rows_per_slot,
                              void* token, void* probability, void* last_token, void* scratch,
                              int m, int vocabulary, int width, cudaStream_t stream) {
  if (m == 0) return cudaSuccess;
  if (vocabulary % kStrip || vocabulary > kStrip * kPerThread * kThreads ||
      n_special > kMaxSpecial || width % 8)
    return cudaErrorInvalidValue;
  const ArgmaxArguments p{static_cast<const float*>(logits),
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
    return launch(argmax_screened_kernel, dim3(m), dim3(kScreenedThreads), 0, stream, p);
  const cudaError_t error = launch(candidates_kernel, dim3(m), dim3(kThreads), 0, stream, p);
  if (error != cudaSuccess) return error;
  const dim3 grid(m, (kTopK + n_special + kWarps - 1) / kWarps), block(kThreads);
  return dtype == kHalf ? launch(rescore_kernel<half>, grid, block, 0, stream, p)
                        : launch(rescore_kernel<__nv_bfloat16>, grid, block, 0, stream, p);
}
