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

// Small matrix products: y[M, N] = x[M, K] W for a few rows x and weights that are read once.
//
// The bytes of W are the cost, so all else is arranged around reading them. A warp streams one
// strip of outputs over its share of K through a ring in shared memory that is its own: a stage of
// it holds the weights, scales and x of 128 inputs, and is on its way while others are computed
// with; no warp waits for another until the shares are added up. Weights are the 16-row operand of
// the tensor core, rows of x the 8-column one. Codes enter it as exact integers; the fp32 sum over
// a group of 128 inputs is multiplied by its scale once.
//
// K is cut into n_splits x n_warps equal shares. Which shares there are follows from the shape of
// W alone (see ops/matmul.py), and shares are added up in their order, so a row of y depends
// neither on the other rows nor on the GPU nor on the run.

#include "weights.cuh"

namespace voxtral {
namespace {

// What becomes of the sums.
enum Epilogue : int {
  kStore = 0,    // y = sum (+ bias) (+ residual), in the type of x
  kPartial = 1,  // fp32 [n_splits, M, N]: whoever reads it adds the splits up
  kGated = 2,    // y[M, N / 2] = silu(gate) * up; strips of gate and up alternate
  kLogits = 3,   // fp32 [M, N], and the maximum and sum of exponentials of every strip
};

constexpr int kMaxThreads = 320;

struct MatmulArguments {
  const void* x;         // [M, K], T
  const void* weight;    // see weights.cuh
  const half* scales;    // see weights.cuh
  const void* bias;      // [N], T, or null
  const void* residual;  // [M, N], T, or null
  void* y;
  float* strip_max;      // [M, N / strip]
  float* strip_sum;      // [M, N / strip], of exp(logit - strip_max)
  int m, k, n;
};

constexpr int kStages = 2;
constexpr int kStageWeights = kVectors * kWarp * 16;  // bytes
// Rows of x are 16 bytes longer than a multiple of 128: eight rows at the same input lie in
// different banks.
constexpr int kStageRow = kGroup * 2 + 16;

template <class W>
__host__ __device__ constexpr int stage_scales() { return W::kScaled ? 32 * W::kBlocks : 0; }
template <class W>
__host__ __device__ constexpr int stage_bytes(int rows) {
  return kStageWeights + stage_scales<W>() + rows * kStageRow;
}

__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Wait for all of this thread's copies but the youngest batches, one for every other stage.
__device__ inline void wait_for_oldest() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kStages - 1) : "memory");
}

// Two numbers times a constant, given as its bits.
template <uint32_t kFactor>
__device__ inline uint32_t times(uint32_t pair) {
  uint32_t product;
  asm volatile("mul.f16x2 %0, %1, %2;\n" : "=r"(product) : "r"(pair), "r"(kFactor << 16 | kFactor));
  return product;
}

__device__ inline uint4 load_shared(uint32_t shared) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(shared));
  return v;
}

// The scales of a lane's outputs in one group: c and c + 8 of every block.
template <int kBlocks>
struct Scales {
  half2 pair[kBlocks];
  __device__ void load(uint32_t shared) {
    if constexpr (kBlocks == 4)
      *reinterpret_cast<uint4*>(pair) = load_shared(shared);
    else
      asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];\n"
                   : "=r"(reinterpret_cast<uint32_t*>(pair)[0]),
                     "=r"(reinterpret_cast<uint32_t*>(pair)[1])
                   : "r"(shared));
  }
};

// One block: one strip (two with kGated), one split of K, 8 * kRows rows of x; one warp per share.
template <class W, typename T, int kRows, int kEpilogue>
__global__ __launch_bounds__(kMaxThreads, 1) void matmul_kernel(MatmulArguments p) {
  using C = Coding<W, T>;
  constexpr int kBlocks = W::kBlocks, kWidth = 16 * kBlocks;
  constexpr int kStrips = kEpilogue == kGated ? 2 : 1;
  constexpr int kScales = kStageWeights, kX = kScales + stage_scales<W>();  // in a stage
  extern __shared__ __align__(16) char shared[];

  // The arguments lie in constant memory: have all of them in its cache before they are needed.
  asm volatile("" ::"l"(p.y), "l"(p.bias), "l"(p.residual), "l"(p.strip_max), "l"(p.strip_sum));
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int column = lane / 4, quad = lane % 4;
  const int n_warps = blockDim.x / kWarp / kStrips, share = warp % n_warps;
  const int strip = blockIdx.x * kStrips + warp / n_warps, n_strips = p.n / kWidth;
  const int split = blockIdx.y, n_groups = p.k / kGroup / (n_warps * gridDim.y);  // of a share
  const int first_row = blockIdx.z * 8 * kRows, rows = min(8 * kRows, p.m - first_row);

  // What is copied next, and where to.
  const int begin = (split * n_warps + share) * n_groups;
  const size_t pair_pitch = static_cast<size_t>(n_strips) * 2 * kWarp;
  const int second = W::second(n_strips) * kWarp;
  const uint4* weight = static_cast<const uint4*>(p.weight) +
                        begin * (kVectors / 2) * pair_pitch + W::first(strip) * kWarp + lane;
  const half* scale = p.scales + static_cast<size_t>(begin) * p.n + strip * kWidth + lane * 8;
  const T* x = static_cast<const T*>(p.x) + static_cast<size_t>(first_row + lane / 16) * p.k +
               begin * kGroup + lane % 16 * 8;
  const int stage = stage_bytes<W>(rows), ring_bytes = kStages * stage;
  const uint32_t ring = shared_address(shared) + warp * ring_bytes;
  auto copy_weights = [&](uint32_t to) {
#pragma unroll
    for (int pair = 0; pair < kVectors / 2; ++pair) {
      copy_16(to + lane * 16 + 2 * pair * 512, weight);
      copy_16(to + lane * 16 + (2 * pair + 1) * 512, weight + second);
      weight += pair_pitch;
    }
    if (W::kScaled) {
      if (lane < stage_scales<W>() / 16) copy_16(to + kScales + lane * 16, scale);
      scale += p.n;
    }
  };
  auto copy_x = [&](uint32_t to) {
    to += kX + lane / 16 * kStageRow + lane % 16 * 16;
    const T* from = x;
#pragma unroll 1
    for (int row = lane / 16; row < rows; row += 2) {
      copy_16(to, from);
      to += 2 * kStageRow;
      from += 2 * static_cast<size_t>(p.k);
    }
    x += kGroup;
  };

  // The first weights are on their way before x exists. Those of the next kernel may follow once
  // the last of these are: earlier they would only be in their way.
  const int n_first = min(kStages, n_groups);
  if (kStartsEarly)
    for (int i = 0; i < n_first; ++i) copy_weights(ring + i * stage);
  if (n_groups <= kStages) let_next_start();
  wait_for_previous();
#pragma unroll
  for (int i = 0; i < kStages; ++i) {
    if (!kStartsEarly && i < n_first) copy_weights(ring + i * stage);
    if (i < n_first) copy_x(ring + i * stage);
    commit_copies();
  }

  float total[kBlocks][kRows][4] = {};
  // Lane i gives the address of row i % 8 in quarter i / 8 of 32 inputs. Where there is no such
  // row the first one is read: what comes of it is not stored.
  int x_from[kRows];
#pragma unroll
  for (int row = 0; row < kRows; ++row)
    x_from[row] =
        kX + (row * 8 + lane % 8 < rows ? row * 8 + lane % 8 : 0) * kStageRow + lane / 8 * 16;
  uint32_t at = ring;  // the stage to compute with
  for (int group = 0; group < n_groups; ++group) {
    wait_for_oldest();
    __syncwarp();
    float sum[kBlocks][kRows][4] = {}, offset[2][kRows][4] = {};
#pragma unroll(kRows == 1 ? kVectors / 2 : 1)  // registers
    for (int pair = 0; pair < kVectors / 2; ++pair) {
      uint4 operands[kRows];
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        operands[row] = load_matrices(at + x_from[row] + pair * 64);
        if constexpr (C::kShrink) {  // all four: ptxas would copy those left out
          uint4& o = operands[row];
          o = make_uint4(times<0x3c00>(o.x), times<0x2c00>(o.y), times<0x3c00>(o.z),
                         times<0x2c00>(o.w));
        }
        if constexpr (C::kOffset) {
          const uint32_t a[4] = {C::kLow, C::kLow, C::kHigh, C::kHigh};
          mma<T>(offset[0][row], a, operands[row].x, operands[row].y);
          mma<T>(offset[1][row], a, operands[row].z, operands[row].w);
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint4 vector = load_shared(at + lane * 16 + (2 * pair + i) * 512);
#pragma unroll
        for (int f = 0; f < W::kFragments; ++f) {
          uint32_t a[4];
          W::template operand<T>(vector, f, a);
#pragma unroll
          for (int row = 0; row < kRows; ++row) {
            if (W::tile(i, f) == 0)
              mma<T>(sum[W::block(i, f)][row], a, operands[row].x, operands[row].y);
            else
              mma<T>(sum[W::block(i, f)][row], a, operands[row].z, operands[row].w);
          }
        }
      }
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row)
#pragma unroll
      for (int i = 0; i < 4; ++i) offset[0][row][i] += offset[1][row][i];
    Scales<kBlocks> scales;
    if constexpr (W::kScaled) scales.load(at + kScales + column * 4 * kBlocks);
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      float low = C::kFactor, high = C::kFactor;  // of outputs c and c + 8
      if constexpr (W::kScaled)
        low *= __low2float(scales.pair[block]), high *= __high2float(scales.pair[block]);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        float(&t)[4] = total[block][row];
        const float(&s)[4] = sum[block][row];
        const float(&o)[4] = offset[0][row];
        t[0] += low * (s[0] + o[0]), t[1] += low * (s[1] + o[1]);
        t[2] += high * (s[2] + o[2]), t[3] += high * (s[3] + o[3]);
      }
    }
    __syncwarp();
    if (group + kStages < n_groups) {
      copy_weights(at);
      copy_x(at);
      if (group + kStages + 1 == n_groups) let_next_start();
    }
    commit_copies();
    at += stage;
    if (at == ring + ring_bytes) at = ring;
  }

  // Each warp's sums, [rows, kWidth + 4], over its ring.
  constexpr int kPitch = kWidth + 4;
  float* own = reinterpret_cast<float*>(shared + warp * ring_bytes);
#pragma unroll
  for (int block = 0; block < kBlocks; ++block)
#pragma unroll
    for (int row = 0; row < kRows; ++row)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int m = row * 8 + quad * 2 + i % 2, n = block * 16 + column + i / 2 * 8;
        if (m < rows) own[m * kPitch + n] = total[block][row][i];
      }
  __syncthreads();

  const float* sums = reinterpret_cast<const float*>(shared);
  const int warp_pitch = ring_bytes / 4;
  auto add_up = [&](int which, int m, int n) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kMaxThreads / kWarp / kStrips; ++i)
      if (i < n_warps) sum += sums[(which * n_warps + i) * warp_pitch + m * kPitch + n];
    return sum;
  };
  if constexpr (kEpilogue == kLogits) {
    // A warp per row: the strip's logits, their maximum and sum of exponentials.
    for (int m = warp; m < rows; m += blockDim.x / kWarp) {
      float value[(kWidth + kWarp - 1) / kWarp], top = -INFINITY, total_exp = 0;
      const size_t out = static_cast<size_t>(first_row + m);
#pragma unroll
      for (int i = 0; i < kWidth / kWarp; ++i) {
        const int n = i * kWarp + lane;
        value[i] = add_up(0, m, n);
        static_cast<float*>(p.y)[out * p.n + blockIdx.x * kWidth + n] = value[i];
        top = fmaxf(top, value[i]);
      }
      top = warp_max(top);
#pragma unroll
      for (int i = 0; i < kWidth / kWarp; ++i) total_exp += expf(value[i] - top);
      total_exp = warp_sum(total_exp);
      if (lane == 0) {
        p.strip_max[out * n_strips + blockIdx.x] = top;
        p.strip_sum[out * n_strips + blockIdx.x] = total_exp;
      }
    }
  } else {
    for (int i = threadIdx.x; i < rows * kWidth; i += blockDim.x) {
      const int m = i / kWidth, n = i % kWidth, at = blockIdx.x * kWidth + n;
      const size_t row = first_row + m;
      float sum = add_up(0, m, n);
      if constexpr (kEpilogue == kGated) {
        const float up = add_up(1, m, n);
        static_cast<T*>(p.y)[row * (p.n / 2) + at] = from_float<T>(sum / (1 + expf(-sum)) * up);
      } else if constexpr (kEpilogue == kPartial) {
        static_cast<float*>(p.y)[(split * static_cast<size_t>(p.m) + row) * p.n + at] = sum;
      } else {
        if (p.bias) sum += to_float(static_cast<const T*>(p.bias)[at]);
        if (p.residual) sum += to_float(static_cast<const T*>(p.residual)[row * p.n + at]);
        static_cast<T*>(p.y)[row * p.n + at] = from_float<T>(sum);
      }
    }
  }
}

// Shared memory that a block may have on this GPU: 163 kB on SM87.
cudaError_t max_shared(int& bytes) {
  int device;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
}

template <class W, typename T, int kRows, int kEpilogue>
cudaError_t start(const MatmulArguments& p, int n_warps, int n_splits, cudaStream_t stream) {
  constexpr int kStrips = kEpilogue == kGated ? 2 : 1;
  int limit;
  const cudaError_t error = max_shared(limit);
  if (error != cudaSuccess) return error;
  const int rows = p.m < 8 * kRows ? p.m : 8 * kRows;
  const int shared = n_warps * kStrips * kStages * stage_bytes<W>(rows);
  if constexpr (kRows > 1)
    if (shared > limit)
      return start<W, T, kRows / 2, kEpilogue>(p, n_warps, n_splits, stream);
  const dim3 grid(p.n / (16 * W::kBlocks) / kStrips, n_splits,
                  (p.m + 8 * kRows - 1) / (8 * kRows));
  return launch(matmul_kernel<W, T, kRows, kEpilogue>, grid, dim3(kWarp * n_warps * kStrips),
                shared, stream, p);
}

template <class W, typename T, int kEpilogue>
cudaError_t start(const MatmulArguments& p, int n_warps, int n_splits, cudaStream_t stream) {
  if (p.m <= 8) return start<W, T, 1, kEpilogue>(p, n_warps, n_splits, stream);
  if (p.m <= 16) return start<W, T, 2, kEpilogue>(p, n_warps, n_splits, stream);
  return start<W, T, W::kMaxRows, kEpilogue>(p, n_warps, n_splits, stream);
}

template <class W, typename T>
cudaError_t start(const MatmulArguments& p, int epilogue, int n_warps, int n_splits,
                  cudaStream_t stream) {
  if (p.m == 0) return cudaSuccess;
  if (p.m < 0 || p.k % kGroup || n_splits < 1 || n_warps < 1 ||
      n_warps * kWarp * (epilogue == kGated ? 2 : 1) > kMaxThreads ||
      p.n % (16 * W::kBlocks * (epilogue == kGated ? 2 : 1)))
    return cudaErrorInvalidValue;
  if (p.k / kGroup % (n_warps * n_splits)) return cudaErrorInvalidValue;
  if (epilogue != kPartial && n_splits > 1) return cudaErrorInvalidValue;
  switch (epilogue) {
    case kStore: return start<W, T, kStore>(p, n_warps, n_splits, stream);
    case kPartial: return start<W, T, kPartial>(p, n_warps, n_splits, stream);
    case kGated: return start<W, T, kGated>(p, n_warps, n_splits, stream);
    case kLogits:
      if constexpr (W::kBlocks >= 2) return start<W, T, kLogits>(p, n_warps, n_splits, stream);
  }
  return cudaErrorInvalidValue;
}

template <class W>
cudaError_t start(const MatmulArguments& p, int dtype, int epilogue, int n_warps, int n_splits,
                  cudaStream_t stream) {
  return dtype == kHalf
             ? start<W, half>(p, epilogue, n_warps, n_splits, stream)
             : start<W, __nv_bfloat16>(p, epilogue, n_warps, n_splits, stream);
}

}  // namespace
}  // namespace voxtral

using namespace voxtral;

// bits: 4, 8 or 16. Returns a cudaError_t, as all entries do.
extern "C" int voxtral_matmul(int bits, int dtype, int epilogue, const void* x, const void* weight,
                              const void* scales, const void* bias, const void* residual, void* y,
                              void* strip_max, void* strip_sum, int m, int k, int n, int n_warps,
                              int n_splits, cudaStream_t stream) {
  const MatmulArguments p{x,        weight, static_cast<const half*>(scales),
                          bias,     residual, y,
                          static_cast<float*>(strip_max), static_cast<float*>(strip_sum),
                          m,        k,      n};
  switch (bits) {
    case 4: return start<Int4>(p, dtype, epilogue, n_warps, n_splits, stream);
    case 8: return start<Int8>(p, dtype, epilogue, n_warps, n_splits, stream);
    case 16: return start<Dense>(p, dtype, epilogue, n_warps, n_splits, stream);
  }
  return cudaErrorInvalidValue;
}
