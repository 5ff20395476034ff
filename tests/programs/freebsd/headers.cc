// Every header of FreeBSD's, together with what C++ programs include, twice over.
#include <unistd.h>
#include <sys/cdefs.h>
#include <sys/param.h>
#include <sys/mman.h>
#include <machine/param.h>
#include <machine/vmparam.h>
#include <vm/vm.h>
#include <vm/vm_param.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <algorithm>
#include <atomic>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <regex>
#include <thread>
#include <unordered_map>
#include <sys/mman.h>
#include <sys/param.h>
#include <unistd.h>

__FBSDID("headers");

static const int numbers[] = {MAP_ANON,          MAP_STACK,       MAP_GUARD,
                              MAP_ALIGNED(16),   MAP_ALIGNED_SUPER, PROT_MAX(PROT_READ),
                              MINCORE_PSIND(1),  INHERIT_ZERO,    VM_PROT_ALL};

int main(int argc __unused, char** argv) {
  static_assert(MAP_ANON == 0x1000 && MAP_STACK == 0x400 && MS_SYNC == 0 && MADV_FREE == 5, "");
  static_assert(nitems(numbers) == 9 && roundup2(5, 4) == 8 && rounddown2(7, 4) == 4, "");
  char* name = __DECONST(char*, static_cast<const char*>(argv[0]));
  const size_t bytes = round_page(numbers[0]);
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_ANON, -1, 0);
  if (at == MAP_FAILED || name == nullptr || getpagesize() != PAGE_SIZE) return 1;
  return munmap(at, bytes) == 0 && sbrk(0) == reinterpret_cast<void*>(-1) ? 0 : 2;
}
