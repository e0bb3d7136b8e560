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

// Attention of a few new positions over a ring of keys and values, in one pass over the cache.
//
// One launch turns queries and keys of the new positions (rotary embedding), writes keys and
// values into the ring, attends and adds the parts up. The query heads that share a key head are
// rows of one matrix product, so a key is read once for all of them.
//
// A warp takes kPerWarp neighbouring entries of the ring, a block kPerBlock; which entries these
// are depends on the ring alone, and parts are added up in their order. So what a query gets does
// not depend on the positions that are computed with it, on other streams, or on the GPU.

#include "common.cuh"

namespace voxtral {
namespace {

constexpr int kWarps = 4, kStep = 16, kPerWarp = 64, kPerBlock = kWarps * kPerWarp;
constexpr int kRows = 16;  // queries of a block: heads of a group times positions

struct AttentionArguments {
  const void* qkv;          // [M * T, (Hq + 2 Hkv) * D], T before rotation
  const float* cosine;      // [M * T, D / 2]
  const float* sine;        // [M * T, D / 2]
  void* keys;               // [slots, capacity, Hkv, D]
  void* values;             // the same
  const int64_t* slots;     // [M]
  const int64_t* position;  // [slots], tokens before the first new one
  void* out;                // [M * T, Hq * D]
  float* partial;           // see voxtral_attention_scratch
  int* counters;            // zero, and zero again afterwards
  int n_queries, n_heads, n_kv_heads, n_slots, capacity, window;
  int per_token;            // positions that a token of `position` stands for
  bool half_split;          // pairs (j, j + D / 2) turn instead of (2j, 2j + 1)
};

// Load, turn and store eight neighbours of a head: with half_split, j..j+3 and j+D/2..j+D/2+3.
template <typename T, int D>
__device__ inline void rotate_to(const T* from, T* to, const float* cosine, const float* sine,
                                 int j, bool half_split) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int pair = j + i;
    const int a = half_split ? pair : 2 * pair, b = half_split ? pair + D / 2 : 2 * pair + 1;
    const float x = to_float(from[a]), y = to_float(from[b]);
    to[a] = from_float<T>(x * cosine[pair] - y * sine[pair]);
    to[b] = from_float<T>(x * sine[pair] + y * cosine[pair]);
  }
}

template <typename T, int D>
__global__ __launch_bounds__(kWarps * kWarp) void attention_kernel(AttentionArguments p) {
  constexpr int kPitch = D + 8;  // of a query in shared memory: no two rows in the same banks
  constexpr int kDims = D / 32, kOut = D / 8;
  __shared__ __align__(16) T query[kRows * kPitch];
  __shared__ float part[kWarps * kRows * (D + 4)];
  __shared__ float top[kWarps * kRows], weight[kWarps * kRows];
  __shared__ bool last;

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int column = lane / 4, quad = lane % 4;
  const int group = p.n_heads / p.n_kv_heads;
  const int n_tiles = (group * p.n_queries + kRows - 1) / kRows;
  const int stream = blockIdx.z / n_tiles, tile = blockIdx.z % n_tiles, kv_head = blockIdx.y;
  const int rows = min(kRows, group * p.n_queries - tile * kRows);

  let_next_start();
  wait_for_previous();
  const int64_t slot = p.slots[stream];
  if (slot >= p.n_slots) {  // a spare one without a ring
    if (blockIdx.x == 0)
      for (int i = threadIdx.x; i < rows * D; i += blockDim.x) {
        const int head_row = tile * kRows + i / D;
        const size_t token = static_cast<size_t>(stream) * p.n_queries + head_row / group;
        const int head = kv_head * group + head_row % group;
        static_cast<T*>(p.out)[(token * p.n_heads + head) * D + i % D] = from_float<T>(0);
      }
    return;
  }
  const int64_t first = p.position[slot] * p.per_token;
  const int64_t newest = first + p.n_queries - 1;
  const int filled = static_cast<int>(newest + 1 < p.capacity ? newest + 1 : p.capacity);
  const int n_chunks = (filled + kPerBlock - 1) / kPerBlock, chunk = blockIdx.x;
  if (chunk >= n_chunks) return;

  const int qkv_width = (p.n_heads + 2 * p.n_kv_heads) * D;
  const T* qkv =
      static_cast<const T*>(p.qkv) + static_cast<size_t>(stream) * p.n_queries * qkv_width;
  const float* cosine = p.cosine + static_cast<size_t>(stream) * p.n_queries * (D / 2);
  const float* sine = p.sine + static_cast<size_t>(stream) * p.n_queries * (D / 2);
  const size_t ring_pitch = static_cast<size_t>(p.n_kv_heads) * D;
  const size_t ring = static_cast<size_t>(slot) * p.capacity * ring_pitch + kv_head * D;
  T* keys = static_cast<T*>(p.keys) + ring;
  T* values = static_cast<T*>(p.values) + ring;

  // The new positions of this chunk, by whichever block needs them.
  for (int i = threadIdx.x; i < p.n_queries * (D / 8); i += blockDim.x) {
    const int t = i / (D / 8), j = i % (D / 8) * 4;
    const int entry = static_cast<int>((first + t) % p.capacity);
    if (entry / kPerBlock != chunk) continue;
    const T* key = qkv + static_cast<size_t>(t) * qkv_width + (p.n_heads + kv_head) * D;
    rotate_to<T, D>(key, keys + entry * ring_pitch, cosine + t * (D / 2), sine + t * (D / 2), j,
                    p.half_split);
    *reinterpret_cast<uint4*>(values + entry * ring_pitch + j * 2) =
        *reinterpret_cast<const uint4*>(key + p.n_kv_heads * D + j * 2);
  }
  for (int i = threadIdx.x; i < kRows * (D / 8); i += blockDim.x) {
    const int row = i / (D / 8), j = i % (D / 8) * 4;
    T* to = query + row * kPitch;
    if (row >= rows) {
      *reinterpret_cast<uint4*>(to + j * 2) = make_uint4(0, 0, 0, 0);
      continue;
    }
    const int t = (tile * kRows + row) / group;
    const int head = kv_head * group + (tile * kRows + row) % group;
    rotate_to<T, D>(qkv + static_cast<size_t>(t) * qkv_width + head * D, to, cosine + t * (D / 2),
                    sine + t * (D / 2), j, p.half_split);
  }
  __syncthreads();

  // Of every 32 dimensions lane r has eight neighbours, operands of two products; so have keys.
  uint4 q_low[kDims], q_high[kDims];
#pragma unroll
  for (int d = 0; d < kDims; ++d) {
    q_low[d] = *reinterpret_cast<const uint4*>(query + column * kPitch + d * 32 + quad * 8);
    q_high[d] = *reinterpret_cast<const uint4*>(query + (column + 8) * kPitch + d * 32 + quad * 8);
  }
  // Positions that a row sees: (oldest, own]. Rows are those of the accumulators, c and c + 8.
  int64_t own[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) own[i] = first + (tile * kRows + column + 8 * i) / group;
  const float factor = rsqrtf(static_cast<float>(D));
  const int newest_entry = static_cast<int>(newest % p.capacity);

  float out[kOut][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  const int warp_begin = chunk * kPerBlock + warp * kPerWarp;
  // Keys: entries c and c + 8. Values: entries 2r, 2r + 1, 2r + 8, 2r + 9. Past the end of the
  // ring the last entry is read, and masked.
  uint4 key[2][kDims], value[4][D / 64];
  auto load_keys = [&](int entry) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int d = 0; d < kDims; ++d)
        key[half][d] = *reinterpret_cast<const uint4*>(
            keys + min(entry + half * 8 + column, p.capacity - 1) * ring_pitch + d * 32 +
            quad * 8);
  };
  auto load_values = [&](int entry) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int d = 0; d < D / 64; ++d)
        value[i][d] = *reinterpret_cast<const uint4*>(
            values + min(entry + quad * 2 + i % 2 + i / 2 * 8, p.capacity - 1) * ring_pitch +
            d * 64 + column * 8);
  };
  if (warp_begin < filled) load_keys(warp_begin), load_values(warp_begin);
  for (int step = 0; step < kPerWarp && warp_begin + step < filled; step += kStep) {
    const int entry = warp_begin + step;
    const bool more = step + kStep < kPerWarp && entry + kStep < filled;
    float score[2][4] = {};
#pragma unroll
    for (int d = 0; d < kDims; ++d) {
      const uint32_t a[4] = {q_low[d].x, q_high[d].x, q_low[d].y, q_high[d].y};
      const uint32_t b[4] = {q_low[d].z, q_high[d].z, q_low[d].w, q_high[d].w};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        mma<T>(score[half], a, key[half][d].x, key[half][d].y);
        mma<T>(score[half], b, key[half][d].z, key[half][d].w);
      }
    }
    if (more) load_keys(entry + kStep);
    // Which position an entry holds follows from the newest one.
    float step_max[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int e = entry + half * 8 + quad * 2 + i % 2;
        const int back = newest_entry - e, age = back < 0 ? back + p.capacity : back;
        const int64_t held = newest - age, since = own[i / 2] - held;
        const bool sees = e < filled && held >= 0 && since >= 0 && since < p.window;
        score[half][i] = sees ? score[half][i] * factor : -INFINITY;
        step_max[i / 2] = fmaxf(step_max[i / 2], score[half][i]);
      }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      step_max[i] = fmaxf(step_max[i], __shfl_xor_sync(kAllLanes, step_max[i], 1));
      step_max[i] = fmaxf(step_max[i], __shfl_xor_sync(kAllLanes, step_max[i], 2));
      const float now = fmaxf(maximum[i], step_max[i]);
      const float keep = now == -INFINITY ? 1.f : expf(maximum[i] - now);
      maximum[i] = now;
      sum[i] *= keep;
#pragma unroll
      for (int o = 0; o < kOut; ++o) out[o][2 * i] *= keep, out[o][2 * i + 1] *= keep;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float s = score[half][i];
        score[half][i] = s == -INFINITY ? 0.f : expf(s - maximum[i / 2]);
        sum[i / 2] += score[half][i];
      }
    const uint32_t a[4] = {pack<T>(score[0][0], score[0][1]), pack<T>(score[0][2], score[0][3]),
                           pack<T>(score[1][0], score[1][1]), pack<T>(score[1][2], score[1][3])};
#pragma unroll
    for (int d = 0; d < D / 64; ++d) {
      const uint32_t* v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = reinterpret_cast<const uint32_t*>(&value[i][d]);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const unsigned halves = j % 2 ? 0x7632 : 0x5410;
        mma<T>(out[d * 8 + j], a, __byte_perm(v[0][j / 2], v[1][j / 2], halves),
               __byte_perm(v[2][j / 2], v[3][j / 2], halves));
      }
    }
    if (more) load_values(entry + kStep);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i] += __shfl_xor_sync(kAllLanes, sum[i], 1);
    sum[i] += __shfl_xor_sync(kAllLanes, sum[i], 2);
    const int row = column + 8 * i;
    if (quad == 0) top[warp * kRows + row] = maximum[i], weight[warp * kRows + row] = sum[i];
#pragma unroll
    for (int o = 0; o < kOut; ++o)
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int dim = o / 8 * 64 + (quad * 2 + k) * 8 + o % 8;
        part[(warp * kRows + row) * (D + 4) + dim] = out[o][2 * i + k];
      }
  }
  __syncthreads();

  // Per chunk [rows, D] sums, then [rows, 2] maxima and weights.
  constexpr int kPart = kRows * (D + 2);
  const size_t unit = static_cast<size_t>(blockIdx.z) * gridDim.y + kv_head;
  float* partial = p.partial + unit * gridDim.x * kPart;
  T* result = static_cast<T*>(p.out) + static_cast<size_t>(stream) * p.n_queries * p.n_heads * D;
  auto place = [&](int row) {
    const int t = (tile * kRows + row) / group;
    const int head = kv_head * group + (tile * kRows + row) % group;
    return (static_cast<size_t>(t) * p.n_heads + head) * D;
  };
  // A part that sees nothing has maximum -inf and weight 0, and changes nothing.
  for (int i = threadIdx.x; i < rows * D; i += blockDim.x) {
    const int row = i / D, dim = i % D;
    float highest = -INFINITY, total = 0, x = 0;
    for (int w = 0; w < kWarps; ++w) highest = fmaxf(highest, top[w * kRows + row]);
    for (int w = 0; w < kWarps; ++w) {
      const float m = top[w * kRows + row], share = m == -INFINITY ? 0.f : expf(m - highest);
      total += share * weight[w * kRows + row];
      x += share * part[(w * kRows + row) * (D + 4) + dim];
    }
    if (n_chunks == 1) {
      result[place(row) + dim] = from_float<T>(x / total);
    } else {
      float* to = partial + static_cast<size_t>(chunk) * kPart;
      to[row * D + dim] = x;
      if (dim == 0) to[kRows * D + 2 * row] = highest, to[kRows * D + 2 * row + 1] = total;
    }
  }
  if (n_chunks == 1) return;

  // Whoever is last adds the chunks up, in their order.
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
  // What each chunk counts for, over the shared memory of the parts; a warp takes a row at a time.
  float* shares = part;  // [rows, chunks]
  for (int row = warp; row < rows; row += kWarps) {
    const float* from = partial + kRows * D + 2 * row;
    float highest = -INFINITY, total = 0;
    for (int c = lane; c < n_chunks; c += kWarp)
      highest = fmaxf(highest, __ldcg(from + static_cast<size_t>(c) * kPart));
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2)
      highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, step));
    for (int c = lane; c < n_chunks; c += kWarp) {
      const float* at = from + static_cast<size_t>(c) * kPart;
      const float2 m = __ldcg(reinterpret_cast<const float2*>(at));
      const float share = m.x == -INFINITY ? 0.f : expf(m.x - highest);
      shares[row * n_chunks + c] = share;
      total += share * m.y;
    }
    total = warp_sum(total);
    if (lane == 0) weight[row] = total;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < rows * D / 4; i += blockDim.x) {
    const int row = i / (D / 4), dim = i % (D / 4) * 4;
    const float* from = partial + row * D + dim;
    float4 x = make_float4(0, 0, 0, 0);
#pragma unroll 8
    for (int c = 0; c < n_chunks; ++c) {
      const float* at = from + static_cast<size_t>(c) * kPart;
      const float4 v = __ldcg(reinterpret_cast<const float4*>(at));
      const float share = shares[row * n_chunks + c];
      x.x += share * v.x, x.y += share * v.y, x.z += share * v.z, x.w += share * v.w;
    }
    const float total = weight[row];
    *reinterpret_cast<uint2*>(result + place(row) + dim) =
        make_uint2(pack<T>(x.x / total, x.y / total), pack<T>(x.z / total, x.w / total));
  }
}

int n_tiles(int n_queries, int n_heads, int n_kv_heads) {
  return (n_queries * (n_heads / n_kv_heads) + kRows - 1) / kRows;
}

template <typename T>
cudaError_t start(const AttentionArguments& p, int m, int head_dim, cudaStream_t stream) {
  const dim3 grid((p.capacity + kPerBlock - 1) / kPerBlock, p.n_kv_heads,
                  m * n_tiles(p.n_queries, p.n_heads, p.n_kv_heads));
  switch (head_dim) {
    case 64: return launch(attention_kernel<T, 64>, grid, dim3(kWarps * kWarp), 0, stream, p);
    case 128: return launch(attention_kernel<T, 128>, grid, dim3(kWarps * kWarp), 0, stream, p);
  }
  return cudaErrorInvalidValue;
}

}  // namespace
}  // namespace voxtral

using namespace voxtral;

// Sizes of `partial` in floats and of `counters` in ints.
extern "C" void voxtral_attention_scratch(int m, int n_queries, int n_heads, int n_kv_heads,
                                          int head_dim, int capacity, int64_t* n_floats,
                                          int64_t* n_counters) {
  const int64_t units =
      static_cast<int64_t>(m) * n_tiles(n_queries, n_heads, n_kv_heads) * n_kv_heads;
  *n_counters = units;
  *n_floats = units * ((capacity + kPerBlock - 1) / kPerBlock) * kRows * (head_dim + 2);
}

extern "C" int voxtral_attention(int dtype, const void* qkv, const void* cosine, const void* sine,
                                 void* keys, void* values, const void* slots, const void* position,
                                 void* out, void* partial, void* counters, int m, int n_queries,
                                 int n_heads, int n_kv_heads, int head_dim, int n_slots,
                                 int capacity, int window, int per_token, int half_split,
                                 cudaStream_t stream) {
  if (m == 0 || n_queries == 0) return cudaSuccess;
  const int max_chunks = kWarps * (head_dim + 4);  // whose shares fit in shared memory
  if (n_heads % n_kv_heads || n_queries > capacity || capacity > max_chunks * kPerBlock)
    return cudaErrorInvalidValue;
  const AttentionArguments p{qkv,
                             static_cast<const float*>(cosine),
                             static_cast<const float*>(sine),
                             keys,
                             values,
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
                             window,
                             per_token,
                             half_split != 0};
  return dtype == kHalf ? start<half>(p, m, head_dim, stream)
                        : start<__nv_bfloat16>(p, m, head_dim, stream);
}
