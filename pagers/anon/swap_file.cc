#include "pagers/anon/swap_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <system_error>

#include "hal/address.h"
#include "pagers/common/failure.h"

namespace pager {
namespace {

/// For file systems without O_TMPFILE: a file that loses its name at once.
int open_and_unlink(const std::string& directory) {
  std::string path = directory + "/vmserver-swap-XXXXXX";
  const int fd = ::mkostemp(path.data(), O_CLOEXEC);  // mode 0600
  if (fd >= 0) ::unlink(path.c_str());
  return fd;
}

}  // namespace

SwapFile::SwapFile(const std::string& directory) {
  int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) fd = open_and_unlink(directory);
  if (fd < 0)
    throw std::system_error(errno, std::generic_category(), "create a swap file in " + directory);
  file_ = hal::SharedDescriptor(fd);
}

std::vector<SlotRun> SwapFile::allocate(std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  used_ += count;
  std::vector<SlotRun> runs;
  const auto take = [&](std::map<std::uint64_t, std::uint64_t>::iterator run, std::uint64_t most) {
    const SlotRun taken{run->first, std::min(run->second, most)};
    const SlotRun left{taken.first + taken.count, run->second - taken.count};
    free_.erase(run);
    if (left.count > 0) free_.emplace(left.first, left.count);
    runs.push_back(taken);
    count -= taken.count;
  };
  const auto fits = std::find_if(free_.begin(), free_.end(),
                                 [&](const auto& run) { return run.second >= count; });
  if (count > 0 && fits != free_.end()) take(fits, count);
  while (count > 0 && !free_.empty()) take(free_.begin(), count);
  if (count > 0) {
    runs.push_back({end_, count});
    end_ += count;
  }
  return runs;
}

void SwapFile::release(SlotRun run) {
  if (run.count == 0) return;
  // Before the slots can be given out again. Where the file system cannot, the space stays taken.
  ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              static_cast<off_t>(hal::bytes_from_pages(run.first)),
              static_cast<off_t>(hal::bytes_from_pages(run.count)));
  const std::lock_guard lock(mutex_);
  used_ -= run.count;
  auto next = free_.lower_bound(run.first);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == run.first) {
      run = {before->first, before->second + run.count};
      free_.erase(before);
    }
  }
  if (next != free_.end() && run.first + run.count == next->first) {
    run.count += next->second;
    free_.erase(next);
  }
  free_.emplace(run.first, run.count);
}

void SwapFile::write(SlotRun run, const char* data) {
  std::uint64_t offset = hal::bytes_from_pages(run.first);
  std::uint64_t bytes = hal::bytes_from_pages(run.count);
  while (bytes > 0) {
    const ssize_t written = ::pwrite(file_.get(), data, bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      throw Failure(written < 0 ? errno : ENOSPC,
                    "write " + text_of_span(bytes, offset) + " of the swap file");
    data += written;
    offset += static_cast<std::uint64_t>(written);
    bytes -= static_cast<std::uint64_t>(written);
  }
}

void SwapFile::read(SlotRun run, char* data) const {
  std::uint64_t offset = hal::bytes_from_pages(run.first);
  std::uint64_t bytes = hal::bytes_from_pages(run.count);
  while (bytes > 0) {
    const ssize_t got = ::pread(file_.get(), data, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw Failure(got < 0 ? errno : EIO,
                    "read " + text_of_span(bytes, offset) + " of the swap file");
    data += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
}

std::uint64_t SwapFile::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

}  // namespace pager
