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

// Calls a library for the CPU as it was called on another machine, which bench/replay.py recorded.
//
//     replay LIBRARY RECORDING RESULTS [INSTRUCTIONS]
//
// A recording is a sequence of commands: a letter, then numbers of 64 bits, little-endian, then
// bytes. It knows arrays (the first one is 0) and where in them addresses stand, but neither the
// structures nor the functions of the library. Prints the instruction set that was used.

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

constexpr int kMaxArguments = 12;
constexpr size_t kAlignment = 64;
// An integer or an address takes one place among the arguments, and a function ignores what comes
// after those it has, on x86-64 (System V) and on ARM64.
using Function = int64_t (*)(
  int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
  int64_t, int64_t);

[[noreturn]] void fail(const char * what, const char * which) {
  std::fprintf(stderr, "replay: %s %s\n", what, which);
  std::exit(1);
}

class Replay {
public:
  Replay(void * library, FILE * recording, FILE * results)
  : library_(library), recording_(recording), results_(results) {}

  void run() {
    for (int command; (command = std::fgetc(recording_)) != EOF; ) {
      switch (command) {
        case 'A': allocate(); break;
        case 'W': write(); break;
        case 'P': point(); break;
        case 'C': call(); break;
        case 'R': result(); break;
        default: fail("no such command", std::string(1, (char)command).c_str());
      }
    }
  }

private:
  int64_t number() {
    int64_t value;
    bytes(&value, sizeof value);
    return value;
  }

  void bytes(void * to, size_t size) {
    if (std::fread(to, 1, size, recording_) != size) {
      fail("the recording", "ends too early");
    }
  }

  char * place() {
    char * array = arrays_.at(number());
    return array + number();
  }

  // size: a further array
  void allocate() {
    const size_t size = number();
    arrays_.push_back(
      (char *)std::aligned_alloc(kAlignment, (size + kAlignment) / kAlignment * kAlignment));
  }

  // array, offset, size, then the bytes to put there
  void write() {
    char * to = place();
    const size_t size = number();
    bytes(to, size);
  }

  // array, offset, array, offset: the first place gets the address of the second
  void point() {
    char ** at = (char **)place();
    *at = place();
  }

  // size of the name, name, number of arguments, then for each: array or -1, offset or value
  void call() {
    std::string name(number(), ' ');
    bytes(name.data(), name.size());
    int64_t arguments[kMaxArguments] = {};
    const int64_t n = number();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t array = number(), value = number();
      arguments[i] = array < 0 ? value : (int64_t)(arrays_.at(array) + value);
    }
    const Function function = (Function)dlsym(library_, name.c_str());
    if (!function) {
      fail("the library has no", name.c_str());
    }
    const int64_t * a = arguments;
    returned_ = function(
      a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]);
  }

  // array or -1 for what the last call returned, offset, size: writes these bytes to the results
  void result() {
    const int64_t array = number(), offset = number(), size = number();
    std::fwrite(array < 0 ? (char *)&returned_ : arrays_.at(array) + offset, 1, size, results_);
  }

  void * library_;
  FILE * recording_, * results_;
  std::vector<char *> arrays_;
  int64_t returned_ = 0;
};

}  // namespace

int main(int argc, char ** argv) {
  if (argc < 4) {
    fail("usage:", "replay LIBRARY RECORDING RESULTS [INSTRUCTIONS]");
  }
  void * library = dlopen(argv[1], RTLD_NOW);
  if (!library) {
    fail("the library cannot be loaded:", dlerror());
  }
  const auto use = (int64_t (*)(const char *))dlsym(library, "voxtral_cpu_use");
  if (argc > 4 && !use(argv[4])) {
    fail("this processor or library has no", argv[4]);
  }
  FILE * recording = std::fopen(argv[2], "rb"), * results = std::fopen(argv[3], "wb");
  if (!recording || !results) {
    fail("cannot open", recording ? argv[3] : argv[2]);
  }
  Replay(library, recording, results).run();
  std::fclose(results);
  std::puts(((const char * (*)())dlsym(library, "voxtral_cpu_instructions"))());
}
