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

// Plugin of qemu: counts the instructions that a program executes, and prints them at its end.
//
// qemu-plugin.h is in no package of Debian, so what is used of it is declared here: version 1 of the
// interface, that of qemu 7 and 8.

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t Id;
struct qemu_plugin_tb;
enum { kNoRegisters = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(Id id, void (* call)(Id, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb * block);
void qemu_plugin_register_vcpu_tb_exec_cb(
  struct qemu_plugin_tb * block, void (* call)(unsigned, void *), int flags, void * data);
void qemu_plugin_register_atexit_cb(Id id, void (* call)(Id, void *), void * data);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t count;

static void execute(unsigned processor, void * n_instructions)
{
  (void)processor;
  __atomic_fetch_add(&count, (uintptr_t)n_instructions, __ATOMIC_RELAXED);
}

static void translate(Id id, struct qemu_plugin_tb * block)
{
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(
    block, execute, kNoRegisters, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void end(Id id, void * data)
{
  (void)id;
  (void)data;
  fprintf(stderr, "%" PRIu64 " instructions\n", count);
}

__attribute__((visibility("default"))) int qemu_plugin_install(
  Id id, const void * info, int argc, char ** argv)
{
  (void)info;
  (void)argc;
  (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
  qemu_plugin_register_atexit_cb(id, end, NULL);
  return 0;
}
