// Mapping: a piece of memory that is the kernel's or the server's, in one and the same program.
//
// The shim catches mmap() and its kin where a program calls the C library. A raw system call goes
// past it, so a program under vmrun can measure both kinds side by side.
#pragma once

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

#include "bench/fail.h"

namespace bench {

inline constexpr std::size_t kPageBytes = 4096;

enum class Side { native, served };

class Mapping {
 public:
  /// Private anonymous memory of so many bytes.
  static Mapping anonymous(Side side, std::size_t bytes) {
    Mapping mapping(side, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    // 4 KiB pages, whatever the machine's setting for huge ones is.
    mapping.advise(MADV_NOHUGEPAGE);
    return mapping;
  }
  /// The same, with whatever pages the kernel likes.
  static Mapping anonymous_as_it_is(Side side, std::size_t bytes) {
    return Mapping(side, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  }
  /// The first `bytes` bytes of a file, shared, to be read.
  static Mapping file(Side side, std::size_t bytes, int descriptor) {
    return Mapping(side, bytes, PROT_READ, MAP_SHARED, descriptor);
  }
  /// The same, to be written.
  static Mapping writable_file(Side side, std::size_t bytes, int descriptor) {
    return Mapping(side, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor);
  }

  Mapping(Mapping&& other) noexcept
      : side_(other.side_), bytes_(other.bytes_), start_(std::exchange(other.start_, nullptr)) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (start_ == nullptr) return;
    if (side_ == Side::native)
      ::syscall(SYS_munmap, start_, bytes_);
    else
      ::munmap(start_, bytes_);
  }

  void advise(int advice) const { advise(bytes_, advice); }
  /// The first `bytes` of it, at any of the calls below.
  void protect(std::size_t bytes, int protection) const {
    check("mprotect", side_ == Side::native ? ::syscall(SYS_mprotect, start_, bytes, protection)
                                            : ::mprotect(start_, bytes, protection));
  }
  void advise(std::size_t bytes, int advice) const {
    check("madvise", side_ == Side::native ? ::syscall(SYS_madvise, start_, bytes, advice)
                                           : ::madvise(start_, bytes, advice));
  }
  void in_core(std::size_t bytes, unsigned char* vector) const {
    check("mincore", side_ == Side::native ? ::syscall(SYS_mincore, start_, bytes, vector)
                                           : ::mincore(start_, bytes, vector));
  }
  void lock_and_unlock(std::size_t bytes) const {
    check("mlock", side_ == Side::native ? ::syscall(SYS_mlock, start_, bytes)
                                         : ::mlock(start_, bytes));
    check("munlock", side_ == Side::native ? ::syscall(SYS_munlock, start_, bytes)
                                           : ::munlock(start_, bytes));
  }
  void sync() const {
    check("msync", side_ == Side::native ? ::syscall(SYS_msync, start_, bytes_, MS_SYNC)
                                         : ::msync(start_, bytes_, MS_SYNC));
  }

  std::size_t pages() const { return bytes_ / kPageBytes; }
  volatile char& page(std::size_t number) const { return start_[number * kPageBytes]; }
  void read(std::size_t number) const {
    const char value = page(number);
    static_cast<void>(value);
  }

 private:
  static void check(const char* call, long result) {
    if (result != 0) fail(call);
  }

  Mapping(Side side, std::size_t bytes, int protection, int flags, int descriptor)
      : side_(side), bytes_(bytes) {
    if (side == Side::native) {
      const long result = ::syscall(SYS_mmap, nullptr, bytes, protection, flags, descriptor, 0L);
      if (result == -1) fail("native mmap");
      start_ = reinterpret_cast<char*>(result);
    } else {
      void* const result = ::mmap(nullptr, bytes, protection, flags, descriptor, 0);
      if (result == MAP_FAILED) fail("served mmap");
      start_ = static_cast<char*>(result);
    }
  }

  Side side_;
  std::size_t bytes_;
  char* start_ = nullptr;
};

}  // namespace bench
