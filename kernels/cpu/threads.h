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

// A thread pool: the parts of one task in several threads.

#pragma once

#include <cstdint>

typedef void (* Task)(const void * context, int64_t part);

// Runs the parts 0 to n - 1, each once, in any order, and returns when all are done. Callers at the
// same time, as the engines of a server, have as many threads each as were asked for.
void parallel_for(int64_t n, Task task, const void * context);

// Sets how many threads work on a task, the calling one included; for all callers.
void set_num_threads(int64_t n);
