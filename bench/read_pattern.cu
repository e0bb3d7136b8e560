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

// How fast the decoder's weights can be read in the pattern of the products, without arithmetic.
//
//   nvcc -std=c++17 -O3 -arch=native bench/read_pattern.cu -o read_pattern && ./read_pattern
//
// A warp reads 512 bytes of its strip, then those one row of tiles further, as matmul.cu does;
// eight loads are in flight. 26 launches, each on weights of its own, are replayed as a CUDA
// graph.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

constexpr int kLaunches = 26, kLoads = 8;

__device__ inline uint4 load(const uint4* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}

// One block per strip and split of the tiles; its warps share the split out.
__global__ void read_strips(const uint4* weight, int n_strips, int n_tiles, uint32_t* out) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  const int n_mine = n_tiles / (n_warps * gridDim.y);
  const size_t first = static_cast<size_t>(blockIdx.y * n_warps + warp) * n_mine;
  const size_t pitch = static_cast<size_t>(n_strips) * 32;
  const uint4* next = weight + (first * n_strips + blockIdx.x) * 32 + lane;
  uint4 ring[kLoads];
  uint32_t seen = 0;
  for (int i = 0; i < kLoads; ++i, next += pitch) ring[i] = load(next);
  for (int tile = kLoads; tile < n_mine; tile += kLoads)
#pragma unroll
    for (int i = 0; i < kLoads; ++i, next += pitch) {
      seen ^= ring[i].x ^ ring[i].y ^ ring[i].z ^ ring[i].w;
      ring[i] = load(next);
    }
  for (int i = 0; i < kLoads; ++i) seen ^= ring[i].x ^ ring[i].y ^ ring[i].z ^ ring[i].w;
  if (seen == 12345) *out = seen;  // so that nothing is optimised away
}

int main() {
  struct Shape {
    const char* name;
    int k, n;
  } shapes[] = {{"qkv", 3072, 6144}, {"o", 4096, 3072}, {"gate_up", 3072, 18432},
                {"down", 9216, 3072}, {"head", 3072, 131072}};
  const size_t total = static_cast<size_t>(6) << 30;
  char* buffer;
  uint32_t* out;
  if (cudaMalloc(&buffer, total) || cudaMalloc(&out, 4) || cudaMemset(buffer, 1, total)) return 1;
  cudaStream_t stream;
  cudaStreamCreate(&stream);
  for (const Shape& shape : shapes) {
    const size_t bytes = static_cast<size_t>(shape.k) * shape.n / 2;
    const int n_strips = shape.n / 64, n_tiles = shape.k / 16;
    for (int warps : {4, 8, 12})
      for (int splits = 1; splits <= 9; ++splits) {
        if (n_tiles / kLoads % (warps * splits) || n_strips * splits > 4500) continue;
        cudaGraph_t graph;
        cudaGraphExec_t replay;
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
        for (int i = 0; i < kLaunches; ++i) {
          const char* weight = buffer + i * bytes % (total - bytes) / 512 * 512;
          read_strips<<<dim3(n_strips, splits), warps * 32, 0, stream>>>(
              reinterpret_cast<const uint4*>(weight), n_strips, n_tiles, out);
        }
        cudaStreamEndCapture(stream, &graph);
        cudaGraphInstantiate(&replay, graph, 0);
        std::vector<float> times;
        for (int i = 0; i < 12; ++i) {
          cudaEvent_t begin, end;
          cudaEventCreate(&begin), cudaEventCreate(&end);
          cudaEventRecord(begin, stream);
          cudaGraphLaunch(replay, stream);
          cudaEventRecord(end, stream);
          cudaEventSynchronize(end);
          float ms;
          cudaEventElapsedTime(&ms, begin, end);
          times.push_back(ms / kLaunches);
        }
        std::sort(times.begin(), times.end());
        const float ms = times[times.size() / 2];
        printf("%s, %d warps x %d splits: %.2f us, %.0f GB/s\n", shape.name, warps, splits,
               ms * 1e3, bytes / ms / 1e6);
      }
  }
  const cudaError_t error = cudaGetLastError();
  if (error) fprintf(stderr, "%s\n", cudaGetErrorString(error));
  return error != cudaSuccess;
}
