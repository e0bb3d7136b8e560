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

#include "threads.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace {

// Workers sleep between tasks: a robot has other things to do with its cores. They are never
// joined, so a pool is never destroyed.
class ThreadPool {
public:
  void run(int64_t n, Task task, const void * context, int64_t n_workers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      n_workers = spawn(n_workers);
      n_ = n;
      task_ = task;
      context_ = context;
      next_ = 0;
      n_workers_ = n_busy_ = n_workers;
      ++round_;
    }
    begin_.notify_all();
    work();
    std::unique_lock<std::mutex> lock(mutex_);
    end_.wait(lock, [this] {return n_busy_ == 0;});
  }

private:
  // Starts workers up to n and returns how many there are: the system may refuse more threads.
  int64_t spawn(int64_t n) {
    try {
      for (; n_threads_ < n; ++n_threads_) {
        std::thread([this, index = n_threads_] {worker_loop(index);}).detach();
      }
    } catch (const std::system_error &) {
    }
    return n_threads_ < n ? n_threads_ : n;
  }

  void work() {
    for (int64_t part = next_++; part < n_; part = next_++) {
      task_(context_, part);
    }
  }

  void worker_loop(int64_t index) {
    int64_t round = 0;
    for (;; ) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        begin_.wait(lock, [&] {return round_ != round && index < n_workers_;});
        round = round_;
      }
      work();
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--n_busy_ == 0) {
        end_.notify_one();
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  int64_t n_threads_ = 0, n_workers_ = 0, n_busy_ = 0, round_ = 0, n_ = 0;
  std::atomic<int64_t> next_{0};
  Task task_ = nullptr;
  const void * context_ = nullptr;
};

std::atomic<int64_t> num_threads{1};

// The pools that nobody uses: as many are made as there ever are callers at the same time.
class Pools {
public:
  ThreadPool * take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (owner_ != getpid()) {  // a child of fork has no workers: it makes pools of its own
      idle_.clear();
      owner_ = getpid();
    }
    if (idle_.empty()) {
      return new ThreadPool;
    }
    ThreadPool * pool = idle_.back();
    idle_.pop_back();
    return pool;
  }

  void give_back(ThreadPool * pool) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(pool);
  }

private:
  std::mutex mutex_;
  std::vector<ThreadPool *> idle_;
  pid_t owner_ = 0;
};

Pools * pools() {
  static Pools * const all = new Pools;  // for threads that outlive the static objects
  return all;
}

}  // namespace

void set_num_threads(int64_t n) {
  num_threads = n < 1 ? 1 : n;
}

void parallel_for(int64_t n, Task task, const void * context) {
  const int64_t n_workers = (num_threads < n ? num_threads.load() : n) - 1;
  if (n_workers > 0) {
    ThreadPool * pool = pools()->take();
    pool->run(n, task, context, n_workers);
    return pools()->give_back(pool);
  }
  for (int64_t part = 0; part < n; ++part) {
    task(context, part);
  }
}
