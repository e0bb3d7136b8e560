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

// Skinny GEMM (GEMV for M = 1): y[M, N] = x[M, K] W for a few rows of x; weights are read once.
//
// Bound by memory bandwidth: the bytes of W are the cost, so all else is arranged around reading
// them. A warp streams one strip of outputs over its slice of K through a cp.async pipeline (double
// buffering) in shared memory of its own: a stage holds the weights, scales and x of 128 inputs,
// and is loaded while the other one is computed on; no warp waits for another until the slices are
// reduced. Weights are the 16-row A operand of mma, rows of x the 8-column B operand. Codes enter
// it as exact integers; the fp32 sum over a group of 128 inputs is multiplied by its scale once.
//
// Split-K: K is cut into n_splits x n_warps equal slices. Which slices there are follows from the
// shape of W alone (see voxtral_ros/backends/cuda/gemm.py), and they are reduced in a fixed order,
// so a row of y depends neither on the other rows nor on the GPU nor on the run.

#include "weights.cuh"

namespace voxtral {
namespace {

// What is done with the accumulators.
enum Epilogue : int {
  kStore = 0,    // y = sum (+ bias), in the type of x
  kSplitK = 1,   // split-K, fp32 [n_splits, M, N]: add_rms_norm reduces the splits
  kSwiglu = 2,   // y[M, N / 2] = silu(gate) * up; strips of gate and up alternate
  kLogits = 3,   // fp32 [M, N], and max and sum of exp(logit - max) of every strip
};

constexpr int kMaxThreads = 320;

struct GemmArguments {
  const void* x;       // [M, K], T
  const void* weight;  // see weights.cuh
  const half* scales;  // see weights.cuh
  const void* bias;    // [N], T, or null
  void* y;
  float* strip_max;    // [M, N / strip]
  float* strip_sum;    // [M, N / strip], of exp(logit - strip_max)
  int m, k, n;
};

constexpr int kStages = 2;
constexpr int kStageWeights = kVectors * kWarp * 16;  // bytes
// Rows of x are padded by 16 bytes, so that ldmatrix of eight rows has no bank conflicts.
constexpr int kStageRow = kGroup * 2 + 16;

template <class W>
__host__ __device__ constexpr int stage_scales() { return W::kScaled ? 32 * W::kBlocks : 0; }
template <class W>
__host__ __device__ constexpr int stage_bytes(int rows) {
  return kStageWeights + stage_scales<W>() + rows * kStageRow;
}

// Two halves times a constant, given as its bits.
template <uint32_t kFactor>
__device__ inline uint32_t mul_f16x2(uint32_t pair) {
  uint32_t result;
  asm volatile("mul.f16x2 %0, %1, %2;\n" : "=r"(result) : "r"(pair), "r"(kFactor << 16 | kFactor));
  return result;
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

// Block: one strip (two with kSwiglu), one split of K, 8 * kRows rows of x; a warp per slice of K.
template <class W, typename T, int kRows, int kEpilogue>
__global__ __launch_bounds__(kMaxThreads, 1) void gemm_kernel(GemmArguments p) {
  using C = Coding<W, T>;
  constexpr int kBlocks = W::kBlocks, kWidth = 16 * kBlocks;
  constexpr int kStrips = kEpilogue == kSwiglu ? 2 : 1;
  constexpr int kScales = kStageWeights, kX = kScales + stage_scales<W>();  // in a stage
  extern __shared__ __align__(16) char shared[];

  // Arguments lie in constant memory: warm its cache before they are needed.
  asm volatile("" ::"l"(p.y), "l"(p.bias), "l"(p.strip_max), "l"(p.strip_sum));
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int column = lane / 4, quad = lane % 4;
  const int n_warps = blockDim.x / kWarp / kStrips, slice = warp % n_warps;
  const int strip = blockIdx.x * kStrips + warp / n_warps, n_strips = p.n / kWidth;
  const int split = blockIdx.y, n_groups = p.k / kGroup / (n_warps * gridDim.y);  // of a slice
  const int first_row = blockIdx.z * 8 * kRows, rows = min(8 * kRows, p.m - first_row);

  // What is copied next (global), and where to (shared).
  const int begin = (split * n_warps + slice) * n_groups;
  const size_t pair_pitch = static_cast<size_t>(n_strips) * 2 * kWarp;
  const int second = W::second(n_strips) * kWarp;
  const uint4* weight = static_cast<const uint4*>(p.weight) +
                        begin * (kVectors / 2) * pair_pitch + W::first(strip) * kWarp + lane;
  const half* scale = p.scales + static_cast<size_t>(begin) * p.n + strip * kWidth + lane * 8;
  const T* x = static_cast<const T*>(p.x) + static_cast<size_t>(first_row + lane / 16) * p.k +
               begin * kGroup + lane % 16 * 8;
  const int stage = stage_bytes<W>(rows), pipeline_bytes = kStages * stage;
  const uint32_t pipeline = shared_address(shared) + warp * pipeline_bytes;
  auto copy_weights = [&](uint32_t to) {
#pragma unroll
    for (int pair = 0; pair < kVectors / 2; ++pair) {
      cp_async_16(to + lane * 16 + 2 * pair * 512, weight);
      cp_async_16(to + lane * 16 + (2 * pair + 1) * 512, weight + second);
      weight += pair_pitch;
    }
    if (W::kScaled) {
      if (lane < stage_scales<W>() / 16) cp_async_16(to + kScales + lane * 16, scale);
      scale += p.n;
    }
  };
  auto copy_x = [&](uint32_t to) {
    to += kX + lane / 16 * kStageRow + lane % 16 * 16;
    const T* from = x;
#pragma unroll 1
    for (int row = lane / 16; row < rows; row += 2) {
      cp_async_16(to, from);
      to += 2 * kStageRow;
      from += 2 * static_cast<size_t>(p.k);
    }
    x += kGroup;
  };

  // Prologue: the first weights are loaded before x exists. The next kernel may load its own once
  // the last of these are issued: earlier they would only compete for bandwidth.
  const int n_first = min(kStages, n_groups);
  if (kDependentLaunch)
    for (int i = 0; i < n_first; ++i) copy_weights(pipeline + i * stage);
  if (n_groups <= kStages) launch_dependents();
  grid_dependency_wait();
#pragma unroll
  for (int i = 0; i < kStages; ++i) {
    if (!kDependentLaunch && i < n_first) copy_weights(pipeline + i * stage);
    if (i < n_first) copy_x(pipeline + i * stage);
    cp_async_commit();
  }

  float acc[kBlocks][kRows][4] = {};
  // Addresses for ldmatrix: lane i gives row i % 8 in quarter i / 8 of 32 inputs. Where there is no
  // such row the first one is read: its results are not stored.
  int x_from[kRows];
#pragma unroll
  for (int row = 0; row < kRows; ++row)
    x_from[row] =
        kX + (row * 8 + lane % 8 < rows ? row * 8 + lane % 8 : 0) * kStageRow + lane / 8 * 16;
  uint32_t at = pipeline;  // the stage to compute on
  for (int group = 0; group < n_groups; ++group) {
    cp_async_wait<kStages - 1>();
    __syncwarp();
    float sum[kBlocks][kRows][4] = {}, offset[2][kRows][4] = {};
#pragma unroll(kRows == 1 ? kVectors / 2 : 1)  // limited by registers
    for (int pair = 0; pair < kVectors / 2; ++pair) {
      uint4 operands[kRows];
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        operands[row] = ldmatrix(at + x_from[row] + pair * 64);
        if constexpr (C::kScaleHigh) {  // all four: ptxas would add moves for those left out
          uint4& o = operands[row];
          o = make_uint4(mul_f16x2<0x3c00>(o.x), mul_f16x2<0x2c00>(o.y), mul_f16x2<0x3c00>(o.z),
                         mul_f16x2<0x2c00>(o.w));
        }
        if constexpr (C::kZeroPoint) {
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
        float(&t)[4] = acc[block][row];
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
      if (group + kStages + 1 == n_groups) launch_dependents();
    }
    cp_async_commit();
    at += stage;
    if (at == pipeline + pipeline_bytes) at = pipeline;
  }

  // Each warp's accumulators, [rows, kWidth + 4], over its pipeline; reduced by the whole block.
  constexpr int kPitch = kWidth + 4;
  float* warp_sums = reinterpret_cast<float*>(shared + warp * pipeline_bytes);
#pragma unroll
  for (int block = 0; block < kBlocks; ++block)
#pragma unroll
    for (int row = 0; row < kRows; ++row)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int m = row * 8 + quad * 2 + i % 2, n = block * 16 + column + i / 2 * 8;
        if (m < rows) warp_sums[m * kPitch + n] = acc[block][row][i];
      }
  __syncthreads();

  const float* sums = reinterpret_cast<const float*>(shared);
  const int warp_pitch = pipeline_bytes / 4;
  auto reduce_warps = [&](int which, int m, int n) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kMaxThreads / kWarp / kStrips; ++i)
      if (i < n_warps) sum += sums[(which * n_warps + i) * warp_pitch + m * kPitch + n];
    return sum;
  };
  if constexpr (kEpilogue == kLogits) {
    // A warp per row: the strip's logits, their max and sum of exp.
    for (int m = warp; m < rows; m += blockDim.x / kWarp) {
      float value[(kWidth + kWarp - 1) / kWarp], top = -INFINITY, sum_exp = 0;
      const size_t out = static_cast<size_t>(first_row + m);
#pragma unroll
      for (int i = 0; i < kWidth / kWarp; ++i) {
        const int n = i * kWarp + lane;
        value[i] = reduce_warps(0, m, n);
        static_cast<float*>(p.y)[out * p.n + blockIdx.x * kWidth + n] = value[i];
        top = fmaxf(top, value[i]);
      }
      top = warp_max(top);
#pragma unroll
      for (int i = 0; i < kWidth / kWarp; ++i) sum_exp += expf(value[i] - top);
      sum_exp = warp_sum(sum_exp);
      if (lane == 0) {
        p.strip_max[out * n_strips + blockIdx.x] = top;
        p.strip_sum[out * n_strips + blockIdx.x] = sum_exp;
      }
    }
  } else {
    for (int i = threadIdx.x; i < rows * kWidth; i += blockDim.x) {
      const int m = i / kWidth, n = i % kWidth, at = blockIdx.x * kWidth + n;
      const size_t row = first_row + m;
      float sum = reduce_warps(0, m, n);
      if constexpr (kEpilogue == kSwiglu) {
        const float up = reduce_warps(1, m, n);
        static_cast<T*>(p.y)[row * (p.n / 2) + at] = from_float<T>(sum / (1 + expf(-sum)) * up);
      } else if constexpr (kEpilogue == kSplitK) {
        static_cast<float*>(p.y)[(split * static_cast<size_t>(p.m) + row) * p.n + at] = sum;
      } else {
        // __ldg: 128 registers on SM87 for INT4 with bf16, so that two blocks of 8 warps fit.
        if (p.bias) sum += to_float(__ldg(static_cast<const T*>(p.bias) + at));
        static_cast<T*>(p.y)[row * p.n + at] = from_float<T>(sum);
      }
    }
  }
}

// Shared memory per block that this GPU allows: 163 kB on SM87.
cudaError_t max_shared(int& bytes) {
  int device;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
}

template <class W, typename T, int kRows, int kEpilogue>
cudaError_t dispatch(const GemmArguments& p, int n_warps, int n_splits, cudaStream_t stream) {
  constexpr int kStrips = kEpilogue == kSwiglu ? 2 : 1;
  int limit;
  const cudaError_t error = max_shared(limit);
  if (error != cudaSuccess) return error;
  const int rows = p.m < 8 * kRows ? p.m : 8 * kRows;
  const int shared = n_warps * kStrips * kStages * stage_bytes<W>(rows);
  if constexpr (kRows > 1)
    if (shared > limit)
      return dispatch<W, T, kRows / 2, kEpilogue>(p, n_warps, n_splits, stream);
  const dim3 grid(p.n / (16 * W::kBlocks) / kStrips, n_splits,
                  (p.m + 8 * kRows - 1) / (8 * kRows));
  return launch(gemm_kernel<W, T, kRows, kEpilogue>, grid, dim3(kWarp * n_warps * kStrips),
                shared, stream, p);
}

template <class W, typename T, int kEpilogue>
cudaError_t dispatch(const GemmArguments& p, int n_warps, int n_splits, cudaStream_t stream) {
  if (p.m <= 8) return dispatch<W, T, 1, kEpilogue>(p, n_warps, n_splits, stream);
  if (p.m <= 16) return dispatch<W, T, 2, kEpilogue>(p, n_warps, n_splits, stream);
  return dispatch<W, T, W::kMaxRows, kEpilogue>(p, n_warps, n_splits, stream);
}

template <class W, typename T>
cudaError_t dispatch(const GemmArguments& p, int epilogue, int n_warps, int n_splits,
                     cudaStream_t stream) {
  if (p.m == 0) return cudaSuccess;
  if (p.m < 0 || p.k % kGroup || n_splits < 1 || n_warps < 1 ||
      n_warps * kWarp * (epilogue == kSwiglu ? 2 : 1) > kMaxThreads ||
      p.n % (16 * W::kBlocks * (epilogue == kSwiglu ? 2 : 1)))
    return cudaErrorInvalidValue;
  if (p.k / kGroup % (n_warps * n_splits)) return cudaErrorInvalidValue;
  if (epilogue != kSplitK && n_splits > 1) return cudaErrorInvalidValue;
  switch (epilogue) {
    case kStore: return dispatch<W, T, kStore>(p, n_warps, n_splits, stream);
    case kSplitK: return dispatch<W, T, kSplitK>(p, n_warps, n_splits, stream);
    case kSwiglu: return dispatch<W, T, kSwiglu>(p, n_warps, n_splits, stream);
    case kLogits:
      if constexpr (W::kBlocks >= 2) return dispatch<W, T, kLogits>(p, n_warps, n_splits, stream);
  }
  return cudaErrorInvalidValue;
}

template <class W>
cudaError_t dispatch(const GemmArguments& p, int dtype, int epilogue, int n_warps, int n_splits,
                     cudaStream_t stream) {
  return dtype == kHalf
             ? dispatch<W, half>(p, epilogue, n_warps, n_splits, stream)
             : dispatch<W, __nv_bfloat16>(p, epilogue, n_warps, n_splits, stream);
}

}  // namespace
}  // namespace voxtral

using namespace voxtral;

// y = x W with weights of 4, 8 or 16 `bits`. Returns a cudaError_t, as all entries do.
extern "C" int voxtral_gemm(int bits, int dtype, int epilogue, const void* x, const void* weight,
                            const void* scales, const void* bias, void* y, void* strip_max,
                            void* strip_sum, int m, int k, int n, int n_warps, int n_splits,
                            cudaStream_t stream) {
  const GemmArguments p{x,
                        weight,
                        static_cast<const half*>(scales),
                        bias,
                        y,
                        static_cast<float*>(strip_max),
                        static_cast<float*>(strip_sum),
                        m,
                        k,
                        n};
  switch (bits) {
    case 4: return dispatch<Int4>(p, dtype, epilogue, n_warps, n_splits, stream);
    case 8: return dispatch<Int8>(p, dtype, epilogue, n_warps, n_splits, stream);
    case 16: return dispatch<Dense>(p, dtype, epilogue, n_warps, n_splits, stream);
  }
  return cudaErrorInvalidValue;
}
