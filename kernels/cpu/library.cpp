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

// The C interface, and the dispatch to an instruction set.

#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#endif

#include "forward.h"
#include "threads.h"

namespace {

struct InstructionSet {
  const char * name;
  const Forward * forward;
  bool (* supported)();
};

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

// Not known to the __builtin_cpu_supports of older compilers: CPUID leaf 7, subleaf 1, EAX bit 4.
bool has_avxvnni() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && eax >> 4 & 1;
}
#elif defined(__aarch64__)
bool has_dotprod() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#else
  return true;  // every Apple processor that macOS runs on
#endif
}
#endif

// The fastest one first.
const InstructionSet kInstructionSets[] = {
#if defined(__x86_64__)
  {"avx512", &forward_avx512, [] {
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
    }},
  {"avxvnni", &forward_avxvnni, [] {return has_avx2() && has_avxvnni();}},
  {"avx2", &forward_avx2, has_avx2},
#elif defined(__aarch64__)
  {"dotprod", &forward_dotprod, has_dotprod},
#endif
  {"baseline", &forward_baseline, [] {return true;}},
};

const InstructionSet * select(const char * name) {
  for (const InstructionSet & set : kInstructionSets) {
    if (set.supported() && (!name || !std::strcmp(name, set.name))) {
      return &set;
    }
  }
  return nullptr;
}

const InstructionSet * selected = select(nullptr);

}  // namespace

extern "C" {

// Must be equal where the structures are declared again (voxtral_ros/backends/cpu/library.py).
int64_t voxtral_cpu_sizes() {
  return sizeof(Model) + 1000 * sizeof(Layer) + 1000000 * sizeof(LogMel);
}

const char * voxtral_cpu_instructions() {
  return selected->name;
}

// Selects another instruction set from now on; returns 0 if this processor or library has no such.
int64_t voxtral_cpu_use(const char * name) {
  const InstructionSet * set = select(name);
  selected = set ? set : selected;
  return set != nullptr;
}

// Sets the number of threads of large GEMMs, in the whole process; results do not depend on it.
void voxtral_cpu_threads(int64_t n) {
  set_num_threads(n);
}

void voxtral_cpu_roots(int64_t n, double * out) {
  selected->forward->roots(n, out);
}

void voxtral_cpu_log_mel(
  const LogMel * mel, const float * samples, int64_t n_streams, int64_t n_samples,
  double * memory, float * out)
{
  selected->forward->log_mel(*mel, samples, n_streams, n_samples, memory, out);
}

void voxtral_cpu_gemm(
  const Matrix * matrix, const float * x, int64_t n_rows, float * memory, float * out)
{
  selected->forward->gemm(*matrix, x, n_rows, memory, out);
}

int64_t voxtral_cpu_workspace(const Model * model, int64_t n_streams, int64_t n_tokens) {
  return selected->forward->workspace(*model, n_streams, n_tokens);
}

void voxtral_cpu_prefill(
  const Model * model, const int64_t * slots, int64_t n_streams, const float * mel,
  int64_t n_tokens, const int64_t * prompt_tokens, float * memory, Choice * choices)
{
  selected->forward->prefill(
    *model, {slots, n_streams}, mel, n_tokens, prompt_tokens, memory, choices);
}

void voxtral_cpu_decode(
  const Model * model, const int64_t * slots, int64_t n_streams, const float * mel,
  int64_t n_tokens, float * memory, Choice * choices)
{
  selected->forward->decode(*model, {slots, n_streams}, mel, n_tokens, memory, choices);
}

}  // extern "C"
