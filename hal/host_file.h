// What the VM core has to know about a file that a program wants to map, and the descriptor that
// came with the request. Filled in by hal/linux/describe_file.h; tests fill it in by hand.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace hal {

enum class FileKind {
  regular,
  character_device,
  anonymous_device,  ///< maps as anonymous memory (/dev/zero; FreeBSD's D_MMAP_ANON)
  block_device,
  directory,
  fifo,       ///< a FIFO with a name
  not_a_file  ///< pipe, socket, epoll and other descriptors with nothing to map behind them
};

/// What tells one content of a file from the next. Times of file systems move in ticks, so that two
/// contents can have the same stamp; see settled().
struct FileStamp {
  std::int64_t modified_ns = 0;  ///< st_mtim and st_ctim, in nanoseconds
  std::int64_t changed_ns = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;

  /// Whether a change that comes after `now_ns` (of CLOCK_REALTIME) has another stamp for sure.
  bool settled(std::int64_t now_ns) const;
};

/// Nothing where the descriptor stands for no file that has one.
std::optional<FileStamp> stamp_of(int descriptor);
/// Whether no two contents of this file have the same stamp once somebody asked for the first of
/// them: file systems with multigrain timestamps (Linux 6.13; Documentation/filesystems/
/// multigrain-ts.rst) take a finer time for the change after that.
bool stamps_are_exact(int descriptor);
/// Returns once no write(2) to the file, through the page cache, is under way that had begun before: the
/// kernel sets the file's times when one begins, and its data comes later. May take as long as the write.
/// False where the file system does not let one wait for that.
bool await_writes(int descriptor);
/// Whether reading the file waits for memory or a disk of this host's, and not for a program or
/// another host.
bool is_local(int descriptor);
/// CLOCK_REALTIME in nanoseconds.
std::int64_t realtime_ns();

struct FileAttributes {
  FileKind kind = FileKind::not_a_file;
  std::uint64_t device = 0;  ///< st_dev; with `inode` the identity of the object
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
  std::uint64_t links = 0;
  std::uint64_t raw_device = 0;  ///< st_rdev of a device
  std::int64_t modified_ns = 0;  ///< st_mtim and st_ctim, in nanoseconds
  std::int64_t changed_ns = 0;
  bool readable = false;         ///< by the descriptor's open mode
  bool writable = false;
  bool no_execute = false;       ///< the file system is mounted noexec
  bool immutable_or_append = false;
  bool posix_shared_memory = false;
  bool memfd = false;    ///< memory of the program's own: the host keeps its pages
  /// An object of the kernel's that no pager can read (perf events, rings of io_uring, processors of
  /// KVM, secret and huge-page memory): only the host can map it, if anybody can.
  bool kernel_object = false;
  int host_refusal = 0;  ///< errno with which the host itself refuses to map it; 0 when it maps
  std::string path;      ///< for people only; never opened
  /// Of a regular file: how its content begins, where that can be had without waiting. Else zeroes.
  std::array<char, 32> beginning{};

  FileStamp stamp() const { return {modified_ns, changed_ns, bytes}; }
};

/// A descriptor that is closed with its last owner. Holds -1 in tests.
class SharedDescriptor {
 public:
  SharedDescriptor() = default;
  explicit SharedDescriptor(int fd);
  int get() const { return fd_ ? *fd_ : -1; }
  explicit operator bool() const { return get() >= 0; }

 private:
  std::shared_ptr<const int> fd_;
};

/// The same file through a description of this process's own, opened with `flags`, or nothing. The
/// flags of the other one that change how reads and writes work do not come along (O_APPEND,
/// O_DIRECT), and an error of the disk is told to each description once (fsync(2)).
SharedDescriptor opened_anew(const SharedDescriptor& file, int flags);
/// Whether this process may open the file for writing, asked without doing so: the host refuses to
/// execute a file that somebody has open for writing, and tells those who watch it.
bool may_open_to_write(const SharedDescriptor& file);

struct HostFile {
  FileAttributes attributes;
  /// What the program passed; or, where that may write and the file can be opened anew for that, a
  /// description of our own that only reads, so that the program's ends when the program says so.
  SharedDescriptor descriptor;

  /// The file's size now; what `attributes` say where there is no descriptor.
  std::uint64_t current_bytes() const;
};

}  // namespace hal
