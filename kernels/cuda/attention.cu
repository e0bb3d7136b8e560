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

// Causal sliding-window attention of a few new positions over a circular KV cache, GQA and RoPE
// included: flash decoding (split-KV) in one launch that reads the cache once.
//
// The launch applies RoPE to queries and keys of the new positions, writes keys and values into the
// KV cache, attends and reduces the chunks. The query heads that share a key head (GQA group) are
// rows of one GEMM, so a key is read once for all of them.
//
// A warp takes kPerWarp neighbouring entries of the KV cache, a block those of its warps (a chunk);
// which entries these are depends on the cache alone, and chunks are reduced in their order. So the
// result of a query does not depend on the positions that are computed with it, on other streams,
// or on the GPU.
//
// A block issues its first loads at once, in 16 bits those of all its entries: with programmatic
// dependent launch (see common.cuh) before its queries are there. `slots`, `position` and the KV
// cache must then have been written before the preceding kernel began; voxtral_rope, which computes
// the angles of a stack, sees to that.

#include "kv_cache.cuh"

namespace voxtral {
namespace {

struct AttentionArguments {
  const void* qkv;          // [M * T, (Hq + 2 Hkv) * D], before RoPE
  const float* cosine;      // [M * T, D / 2]
  const float* sine;        // [M * T, D / 2]
  void* keys;               // KV cache, [slots, capacity, Hkv, D]
  void* values;             // the same
  uint32_t* scales;         // of a KV cache in INT8, [slots, Hkv, capacity]; else null
  const int64_t* slots;     // [M]
  const int64_t* position;  // [slots], tokens before the first new one
  void* out;                // [M * T, Hq * D]
  float* partial;           // see voxtral_attention_scratch
  int* counters;            // zero, and zero again afterwards
  int n_queries, n_heads, n_kv_heads, n_slots, capacity, sliding_window;
  int per_token;            // positions that a token of `position` stands for
  int chunk_rows;           // of a chunk in `partial`
  int warp_bytes;           // of a warp's part of shared memory
  bool half_split;          // RoPE on pairs (j, j + D / 2) instead of (2j, 2j + 1)
};

// Arguments lie in constant memory: warm its cache before they are needed.
__device__ inline void prefetch_arguments(const AttentionArguments& p) {
  asm volatile("" ::"l"(p.qkv), "l"(p.cosine), "l"(p.sine), "l"(p.keys), "l"(p.values), "l"(p.out));
  asm volatile("" ::"l"(p.partial), "l"(p.counters), "r"(p.sliding_window), "r"(p.per_token));
}

template <typename T, int D, typename Entries>
__global__ __launch_bounds__(kWarps * kWarp, 2) void attention_kernel(AttentionArguments p) {
  using Operand = typename Entries::Operand;
  constexpr int kQueryPitch = D + 8, kPerWarp = Entries::kPerWarp, kPerBlock = Entries::kPerBlock;
  constexpr int kStages = Entries::kStages;
  // The queries; of every warp its stages, later its accumulators, [rows, D + 4].
  extern __shared__ __align__(16) char shared[];
  __shared__ float row_max[kWarps][kRows], row_sum[kWarps][kRows];
  __shared__ bool last;
  Operand* query = reinterpret_cast<Operand*>(shared);
  char* stages = shared + kRows * kQueryPitch * sizeof(Operand);

  prefetch_arguments(p);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int column = lane / 4, quad = lane % 4;
  const int group = p.n_heads / p.n_kv_heads;
  const int n_tiles = (group * p.n_queries + kRows - 1) / kRows;
  const int stream = blockIdx.z / n_tiles, tile = blockIdx.z % n_tiles;
  const int kv_head = blockIdx.x, chunk = blockIdx.y;
  const int rows = min(kRows, group * p.n_queries - tile * kRows);
  // The new position that a row of this tile belongs to, and its index in [T, heads].
  const int inverse = 65535 / group + 1;  // one division instead of one per row
  auto position_of = [&](int row) { return (tile * kRows + row) * inverse >> 16; };
  auto head_index = [&](int row) {
    const int t = position_of(row);
    return t * p.n_heads + kv_head * group + (tile * kRows + row) - t * group;
  };
  T* result = static_cast<T*>(p.out) + static_cast<size_t>(stream) * p.n_queries * p.n_heads * D;

  const int64_t slot = __ldcg(p.slots + stream);
  if (slot >= p.n_slots) {  // a spare slot without a KV cache
    launch_dependents();
    grid_dependency_wait();
    if (chunk == 0)
      for (int i = threadIdx.x; i < rows * D; i += blockDim.x)
        result[static_cast<size_t>(head_index(i / D)) * D + i % D] = from_float<T>(0);
    return;
  }
  const int64_t first = __ldcg(p.position + slot) * p.per_token;
  const int64_t newest = first + p.n_queries - 1;
  const int kv_len = static_cast<int>(newest + 1 < p.capacity ? newest + 1 : p.capacity);
  const int n_chunks = (kv_len + kPerBlock - 1) / kPerBlock;
  if (chunk >= n_chunks) return;
  const int first_entry = static_cast<int>(first % p.capacity);
  auto wrap = [&](int entry) { return entry < p.capacity ? entry : entry - p.capacity; };
  // How many positions before the newest one the position in an entry is.
  const int newest_entry = wrap(first_entry + p.n_queries - 1);
  auto age = [&](int entry) {
    return newest_entry - entry + (entry > newest_entry ? p.capacity : 0);
  };

  // Load the first stages of the warp, without the new positions, which come below.
  const Entries entries(p.keys, p.values, p.scales, slot, kv_head, p.n_kv_heads, p.capacity);
  const int chunk_begin = chunk * kPerBlock, warp_begin = chunk_begin + warp * kPerWarp;
  char* warp_stages = stages + warp * p.warp_bytes;
  auto is_new = [&](int entry) { return age(entry) < p.n_queries; };
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage) {
    entries.load(warp_stages + stage * Entries::kStageBytes, warp_begin + stage * kStage, kv_len,
                 is_new);
    cp_async_commit();
  }
  grid_dependency_wait();

  // RoPE; queries and the new keys and values of this chunk go to shared memory, the latter also to
  // the KV cache, by the block whose chunk they lie in.
  const int qkv_width = (p.n_heads + 2 * p.n_kv_heads) * D;
  const size_t row_before = static_cast<size_t>(stream) * p.n_queries;
  const T* qkv = static_cast<const T*>(p.qkv) + row_before * qkv_width;
  const float* cosine = p.cosine + row_before * (D / 2);
  const float* sine = p.sine + row_before * (D / 2);
  for (int i = threadIdx.x; i < (kRows + p.n_queries) * (D / 8); i += blockDim.x) {
    const int row = i / (D / 8), j = i % (D / 8) * 4;
    if (row < kRows) {
      Operand* to = query + row * kQueryPitch;
      if (row >= rows) {
        *reinterpret_cast<uint4*>(to + j * 2) = make_uint4(0, 0, 0, 0);
        continue;
      }
      const int at = head_index(row), t = position_of(row);
      const T* from = qkv + static_cast<size_t>(t) * qkv_width + (at - t * p.n_heads) * D;
      const RopePairs<T, D> pairs(from, cosine + t * (D / 2), sine + t * (D / 2), j, p.half_split);
      Entries::store_query(to, pairs, j, p.half_split);
      continue;
    }
    const int t = row - kRows, entry = wrap(first_entry + t), local = entry - chunk_begin;
    if (local < 0 || local >= kPerBlock) continue;
    const T* from = qkv + static_cast<size_t>(t) * qkv_width + (p.n_heads + kv_head) * D;
    const RopePairs<T, D> key(from, cosine + t * (D / 2), sine + t * (D / 2), j, p.half_split);
    const uint4 value = *reinterpret_cast<const uint4*>(from + p.n_kv_heads * D + j * 2);
    const int stage = local % kPerWarp / kStage;  // later ones are loaded when this is written
    char* staged = stage < kStages ? stages + local / kPerWarp * p.warp_bytes +
                                         stage * Entries::kStageBytes : nullptr;
    entries.write(entry, staged, local % kStage, key, value, j, p.half_split);
  }
  __syncthreads();

  // Distance of a row's query from the newest position; rows are those of the accumulators, c and
  // c + 8.
  int back[2];
#pragma unroll
  for (int i = 0; i < 2; ++i)
    back[i] = p.n_queries - 1 - position_of(column + 8 * i);
  const int oldest = newest < p.capacity ? static_cast<int>(newest) : p.capacity;  // its age

  float out[D / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  const int left = (kv_len - warp_begin + kStage - 1) / kStage;  // may be negative
  const int n_stages = min(kPerWarp / kStage, left);
  // Dependents are let in when all is loaded, not earlier: their loads would compete with these.
  if (n_stages <= 0) launch_dependents();
#pragma unroll 1
  for (int step = 0; step < n_stages; ++step) {
    cp_async_wait<kStages - 1>();
    __syncwarp();
    if (step + 1 == n_stages) launch_dependents();
    char* stage = warp_stages + step % kStages * Entries::kStageBytes;
    float score[2][4] = {};
    Entries::scores(stage, query, score);
    const int begin = warp_begin + step * kStage;
    const bool all_see_all = begin + kStage <= kv_len &&
                             age(begin) >= kStage - 1 + p.n_queries - 1 &&
                             age(begin) <= oldest && age(begin) < p.sliding_window;
    float step_max[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!all_see_all) {
          const int e = begin + half * 8 + quad * 2 + i % 2, since = age(e) - back[i / 2];
          if (e >= kv_len || age(e) > oldest || since < 0 || since >= p.sliding_window)
            score[half][i] = -INFINITY;
        }
        step_max[i / 2] = fmaxf(step_max[i / 2], score[half][i]);
      }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      step_max[i] = fmaxf(step_max[i], __shfl_xor_sync(kAllLanes, step_max[i], 1));
      step_max[i] = fmaxf(step_max[i], __shfl_xor_sync(kAllLanes, step_max[i], 2));
    }
    // Seldom, once some entries have been seen.
    if (__any_sync(kAllLanes, step_max[0] > maximum[0] || step_max[1] > maximum[1]))
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float now = fmaxf(maximum[i], step_max[i]);
        const float rescale = softmax_exp2(maximum[i], now);
        maximum[i] = now;
        sum[i] *= rescale;
#pragma unroll
        for (int o = 0; o < D / 8; ++o) out[o][2 * i] *= rescale, out[o][2 * i + 1] *= rescale;
      }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        score[half][i] = softmax_exp2(score[half][i], maximum[i / 2]);
        sum[i / 2] += score[half][i];
      }
    Entries::add_values(stage, score, out);
    if constexpr (kPerWarp > kStages * kStage) {
      __syncwarp();
      const int next = begin + kStages * kStage;
      if (step + kStages < n_stages) {
        if (next + kStage <= kv_len)
          entries.load(stage, next);
        else
          entries.load(stage, next, kv_len, [](int) { return false; });
      }
    }
    cp_async_commit();
  }
  cp_async_wait<0>();  // of stages without an entry, before their place is used again

  // Rescale to the maximum of the block; a warp whose entries are all masked contributes 0.
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i] += __shfl_xor_sync(kAllLanes, sum[i], 1);
    sum[i] += __shfl_xor_sync(kAllLanes, sum[i], 2);
    if (quad == 0) row_max[warp][column + 8 * i] = maximum[i];
  }
  __syncthreads();
  auto block_max = [&](int row) {
    float value = row_max[0][row];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) value = fmaxf(value, row_max[w][row]);
    return value;
  };
  constexpr int kSumPitch = D + 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = column + 8 * i;
    if (row >= rows) continue;
    const float scale = softmax_exp2(maximum[i], block_max(row));
    if (quad == 0) row_sum[warp][row] = scale * sum[i];
    Entries::store_sums(reinterpret_cast<float*>(warp_stages) + row * kSumPitch, out, i, scale);
  }
  __syncthreads();

  // Reduce the warps. Of every chunk [rows, D] sums, then [rows, 2] max and sum of numerators.
  const int chunk_size = p.chunk_rows * (D + 2);
  const size_t unit = static_cast<size_t>(blockIdx.z) * gridDim.x + kv_head;
  float* partial = p.partial + unit * gridDim.y * chunk_size;
  for (int i = threadIdx.x; i < rows * (D / 4); i += blockDim.x) {
    const int row = i / (D / 4), dim = i % (D / 4) * 4;
    const float* warp_sum_row = reinterpret_cast<const float*>(stages) + row * kSumPitch + dim;
    float4 x = make_float4(0, 0, 0, 0);
    float total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      axpy(x, 1.f, *reinterpret_cast<const float4*>(warp_sum_row + w * (p.warp_bytes / 4)));
      total += row_sum[w][row];
    }
    if (n_chunks == 1) {
      store_four(result + static_cast<size_t>(head_index(row)) * D + dim, x, total);
    } else {
      float* to = partial + static_cast<size_t>(chunk) * chunk_size;
      *reinterpret_cast<float4*>(to + row * D + dim) = x;
      if (dim == 0)
        *reinterpret_cast<float2*>(to + p.chunk_rows * D + 2 * row) =
            make_float2(block_max(row), total);
    }
  }
  if (n_chunks == 1) return;

  // The last block to finish reduces the chunks, in their order.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const int before = atomicAdd(p.counters + unit, 1);
    last = before == n_chunks - 1;
    if (last) p.counters[unit] = 0;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  combine_chunks<T, D>(partial, n_chunks, rows, p.chunk_rows, reinterpret_cast<float*>(stages),
                       row_sum[0], [&](int row) {
                         return result + static_cast<size_t>(head_index(row)) * D;
                       });
}

int rows_of(int n_queries, int n_heads, int n_kv_heads) {
  const int all = n_queries * (n_heads / n_kv_heads);
  return all < kRows ? all : kRows;
}

int per_block(int head_dim, bool int8) {
  if (int8) return Entries8<half, 64>::kPerBlock;
  return head_dim == 64 ? Entries16<half, 64>::kPerBlock : Entries16<half, 128>::kPerBlock;
}

int n_tiles(int n_queries, int n_heads, int n_kv_heads) {
  return (n_queries * (n_heads / n_kv_heads) + kRows - 1) / kRows;
}

template <typename T, int D, typename Entries>
cudaError_t launch_attention(AttentionArguments p, int m, cudaStream_t stream) {
  const int n_chunks = (p.capacity + Entries::kPerBlock - 1) / Entries::kPerBlock;
  const int accumulators = p.chunk_rows * (D + 4) * 4;  // of a warp, in the place of its stages
  p.warp_bytes = Entries::kStages * Entries::kStageBytes;
  if (p.warp_bytes < accumulators) p.warp_bytes = accumulators;
  int stages = kWarps * p.warp_bytes;
  // The scales and quarters of combine_chunks lie there, too.
  const int combined = (p.chunk_rows * n_chunks + 3) * 4 + 4 * p.chunk_rows * D * 4;
  if (n_chunks > 8 && stages < combined) stages = combined;
  if (stages > 150 * 1024) return cudaErrorInvalidValue;
  // Blocks that run side by side read all heads of the same entries, which are neighbours.
  const dim3 grid(p.n_kv_heads, n_chunks, m * n_tiles(p.n_queries, p.n_heads, p.n_kv_heads));
  const int shared = kRows * (D + 8) * 2 + stages;
  return launch(attention_kernel<T, D, Entries>, grid, dim3(kWarps * kWarp), shared, stream, p);
}

template <typename T>
cudaError_t dispatch(const AttentionArguments& p, int m, int head_dim, cudaStream_t stream) {
  if (head_dim == 64)
    return p.scales ? launch_attention<T, 64, Entries8<T, 64>>(p, m, stream)
                    : launch_attention<T, 64, Entries16<T, 64>>(p, m, stream);
  if (head_dim == 128)
    return p.scales ? launch_attention<T, 128, Entries8<T, 128>>(p, m, stream)
                    : launch_attention<T, 128, Entries16<T, 128>>(p, m, stream);
  return cudaErrorInvalidValue;
}

}  // namespace
}  // namespace voxtral

using namespace voxtral;

// Sizes of `partial` in floats and of `counters` in ints.
extern "C" void voxtral_attention_scratch(int m, int n_queries, int n_heads, int n_kv_heads,
                                          int head_dim, int capacity, int int8, int64_t* n_floats,
                                          int64_t* n_counters) {
  const int64_t units =
      static_cast<int64_t>(m) * n_tiles(n_queries, n_heads, n_kv_heads) * n_kv_heads;
  const int chunk = per_block(head_dim, int8 != 0);
  *n_counters = units;
  *n_floats = units * ((capacity + chunk - 1) / chunk) *
              rows_of(n_queries, n_heads, n_kv_heads) * (head_dim + 2);
}

// scales: null for a KV cache in the type of the activations.
extern "C" int voxtral_attention(int dtype, const void* qkv, const void* cosine, const void* sine,
                                 void* keys, void* values, void* scales, const void* slots,
                                 const void* position, void* out, void* partial, void* counters,
                                 int m, int n_queries, int n_heads, int n_kv_heads, int head_dim,
                                 int n_slots, int capacity, int sliding_window, int per_token,
                                 int half_split, cudaStream_t stream) {
  if (m == 0 || n_queries == 0) return cudaSuccess;
  if (n_heads % n_kv_heads || n_queries > capacity || n_queries * (n_heads / n_kv_heads) > 1024)
    return cudaErrorInvalidValue;
  const AttentionArguments p{qkv,
                             static_cast<const float*>(cosine),
                             static_cast<const float*>(sine),
                             keys,
                             values,
                             static_cast<uint32_t*>(scales),
                             static_cast<const int64_t*>(slots),
                             static_cast<const int64_t*>(position),
                             out,
                             static_cast<float*>(partial),
                             static_cast<int*>(counters),
                             n_queries,
                             n_heads,
                             n_kv_heads,
                             n_slots,
                             capacity,
                             sliding_window,
                             per_token,
                             rows_of(n_queries, n_heads, n_kv_heads),
                             0,
                             half_split != 0};
  return dtype == kHalf ? dispatch<half>(p, m, head_dim, stream)
                        : dispatch<__nv_bfloat16>(p, m, head_dim, stream);
}
