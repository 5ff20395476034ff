#include "hal/linux/uffd_pmap.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hal/linux/host_maps.h"
#include "hal/linux/kernel_interface.h"

namespace hal {
namespace {

constexpr std::uint64_t kFeatures = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_MISSING_SHMEM |
                                    UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_ASYNC |
                                    UFFD_FEATURE_POISON;
constexpr std::uint64_t kZeroBytes = 512 * kPageSize;
// Of zeroes so many go in first: the program goes on with them while the others follow.
constexpr std::uint64_t kFirstBytes = 32 * kPageSize;
constexpr int kAdviceCold = 20;  // MADV_COLD

[[noreturn]] void fail_with(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// Zeroes to copy from. Never written, so all of it is the kernel's one zero page and stays in cache.
const void* zeroes() {
  static const void* const area = [] {
    void* mapped = mmap(nullptr, kZeroBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) fail_with("mmap of a zero area");
    return mapped;
  }();
  return area;
}

class Reading {
 public:
  Reading(std::mutex& lock, std::atomic<bool>& flag) : guard_(lock), flag_(flag) { flag_ = true; }
  ~Reading() { flag_ = false; }

 private:
  const std::lock_guard<std::mutex> guard_;
  std::atomic<bool>& flag_;
};

uffdio_range to_kernel(VirtualRange range) {
  return {.start = range.start().value(), .len = range.bytes()};
}

}  // namespace

UffdPmap::UffdPmap(SharedDescriptor userfaultfd, SharedDescriptor maps, SharedDescriptor pagemap)
    : userfaultfd_(std::move(userfaultfd)),
      maps_(std::move(maps)),
      pagemap_(std::move(pagemap)) {}

void UffdPmap::enable() {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kFeatures;
  if (ioctl(userfaultfd_.get(), UFFDIO_API, &api) != 0) {
    fail_with("UFFDIO_API with fork events, write tracking and poison (Linux 6.8 or later)");
  }
}

void UffdPmap::register_missing(VirtualRange range) {
  uffdio_register request{};
  request.range = to_kernel(range);
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &request) != 0) fail_with("UFFDIO_REGISTER");
}

bool UffdPmap::enter_page(VirtualAddress page, const void* content) {
  uffdio_copy copy{};
  copy.dst = page.value();
  copy.src = reinterpret_cast<std::uint64_t>(content);
  copy.len = kPageSize;
  while (ioctl(userfaultfd_.get(), UFFDIO_COPY, &copy) != 0) {
    if (errno != EAGAIN) return false;
    copy.copy = 0;
  }
  probe_ = page.value();
  return true;
}

void UffdPmap::set_proc_files(SharedDescriptor maps, SharedDescriptor pagemap) {
  const std::lock_guard guard(proc_lock_);
  maps_ = std::move(maps);
  pagemap_ = std::move(pagemap);
}

void UffdPmap::set_process(SharedDescriptor process, std::int32_t pid) {
  pid_ = pid;
  const std::lock_guard guard(proc_lock_);
  process_ = std::move(process);
  rollup_ = {};
}

void UffdPmap::use_taker(std::shared_ptr<PageTaker> taker) {
  const std::lock_guard guard(proc_lock_);
  taker_.swap(taker);
}

bool UffdPmap::can_take() {
  const std::lock_guard guard(proc_lock_);
  return taker_ != nullptr;
}

void UffdPmap::take_pages(VirtualRange range, Taking how, LeftDone done) {
  std::shared_ptr<PageTaker> taker;
  {
    const std::lock_guard guard(proc_lock_);
    taker = taker_;
  }
  if (taker) return taker->take(range, how, std::move(done));
  done({});
}

SharedDescriptor UffdPmap::process() const {
  const std::lock_guard guard(proc_lock_);
  return process_;
}

void UffdPmap::kill() {
  const SharedDescriptor process = this->process();
  if (process) (void)syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0U);
}

std::string UffdPmap::describe() const { return "program " + std::to_string(pid_.load()); }

// process_madvise(2). Another user's program takes CAP_SYS_NICE; without it the hint is lost.
void UffdPmap::deactivate(VirtualRange range) {
  const SharedDescriptor process = this->process();
  if (!process || range.empty()) return;
  const iovec part{.iov_base = reinterpret_cast<void*>(range.start().value()),
                   .iov_len = range.bytes()};
  (void)syscall(SYS_process_madvise, process.get(), &part, 1UL, kAdviceCold, 0U);
}

SharedDescriptor UffdPmap::maps() const {
  const std::lock_guard guard(proc_lock_);
  return maps_;
}

SharedDescriptor UffdPmap::pagemap() const {
  const std::lock_guard guard(proc_lock_);
  return pagemap_;
}

bool UffdPmap::read_events(const std::function<void(const Event&)>& sink) {
  const Reading reading(reading_lock_, reading_);
  uffd_msg messages[32];
  iovec vector{.iov_base = messages, .iov_len = sizeof(messages)};
  // The program holds this open file too and could make it blocking.
  ssize_t got = preadv2(userfaultfd_.get(), &vector, 1, -1, RWF_NOWAIT);
  if (got < 0 && (errno == EOPNOTSUPP || errno == ESPIPE || errno == EINVAL)) {
    got = read(userfaultfd_.get(), messages, sizeof(messages));
  }
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(uffd_msg); ++i) {
    const uffd_msg& message = messages[i];
    if (message.event == UFFD_EVENT_PAGEFAULT) {
      sink(Fault{VirtualAddress(message.arg.pagefault.address).page_floor(),
                 (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0});
    } else if (message.event == UFFD_EVENT_FORK) {
      sink(Forked{static_cast<int>(message.arg.fork.ufd)});
    }
  }
  return true;
}

Pmap::Entered UffdPmap::enter_zero(VirtualRange range, bool shared) {
  return enter(range, static_cast<const std::byte*>(zeroes()), false, shared);
}

Pmap::Entered UffdPmap::enter_pages(VirtualRange range, const std::byte* content) {
  return enter(range, content, true, false);
}

Pmap::Entered UffdPmap::enter(VirtualRange range, const std::byte* content, bool advance,
                              bool shared) {
  Entered entered;
  VirtualAddress at = range.start();
  std::uint64_t most = kZeroBytes;
  while (at < range.end()) {
    const bool first = at == range.start() && !advance && !shared;
    const std::uint64_t bytes =
        std::min({most, first ? kFirstBytes : most, range.end() - at});
    std::int64_t done = 0;
    int result = 0;
    if (shared) {
      uffdio_zeropage zero{};
      zero.range = {.start = at.value(), .len = bytes};
      result = ioctl(userfaultfd_.get(), UFFDIO_ZEROPAGE, &zero);
      done = zero.zeropage;
    } else {
      uffdio_copy copy{};
      copy.dst = at.value();
      copy.src = reinterpret_cast<std::uint64_t>(content) + (advance ? at - range.start() : 0);
      copy.len = bytes;
      // Content comes from the swap space, and who enters it wakes the program later (hal/pmap.h).
      copy.mode = advance ? UFFDIO_COPY_MODE_DONTWAKE : 0;
      result = ioctl(userfaultfd_.get(), UFFDIO_COPY, &copy);
      done = copy.copy;
    }
    const int error = result == 0 ? 0 : errno;
    if (done > 0) {
      entered.pages += static_cast<std::uint64_t>(done) >> kPageShift;
      at = at + static_cast<std::uint64_t>(done);
      if (error == 0) continue;
    }
    switch (error) {
      case EAGAIN:
        // A fork or unmapping is under way, or the copy was cut short. With pages entered, whoever
        // waited for the first one goes on already.
        if (entered.pages == 0) entered.outcome = Outcome::retry;
        return entered;
      case EEXIST:
        // Where the first page was there already, the fault raced with what brought it.
        if (entered.pages == 0) wake(VirtualRange(at, at + kPageSize));
        return entered;
      case ENOENT:
      case EINVAL:
        // The range is no longer one mapping of the host's: the program has changed it since. The
        // page that faulted may still be fine by itself.
        if (entered.pages != 0) return entered;
        if (bytes > kPageSize) {
          most = kPageSize;
          continue;
        }
        entered.outcome = Outcome::retry;
        return entered;
      case ESRCH:
        entered.outcome = Outcome::gone;
        return entered;
      default:
        if (entered.pages == 0) entered.outcome = Outcome::retry;
        return entered;
    }
  }
  return entered;
}

void UffdPmap::wake(VirtualRange range) {
  uffdio_range kernel = to_kernel(range);
  // The address space may be gone; then nobody waits.
  (void)ioctl(userfaultfd_.get(), UFFDIO_WAKE, &kernel);
}

Pmap::Outcome UffdPmap::fail(VirtualRange range) {
  // One page at a time where pages in between are there already.
  for (VirtualAddress at = range.start(); at < range.end();) {
    uffdio_poison poison{};
    poison.range = {.start = at.value(), .len = range.end() - at};
    if (ioctl(userfaultfd_.get(), UFFDIO_POISON, &poison) == 0) return Outcome::entered;
    if (poison.updated > 0) {
      at = at + static_cast<std::uint64_t>(poison.updated);
      continue;
    }
    switch (errno) {
      case EEXIST:
        wake(VirtualRange(at, at + kPageSize));
        at = at + kPageSize;
        break;
      case ESRCH:
        return Outcome::gone;
      default:
        return Outcome::retry;
    }
  }
  return Outcome::entered;
}

int UffdPmap::fill_probe() const {
  uffdio_copy copy{};
  copy.dst = probe_;
  copy.src = reinterpret_cast<std::uint64_t>(zeroes());
  copy.len = kPageSize;
  return ioctl(userfaultfd_.get(), UFFDIO_COPY, &copy) == 0 ? 0 : errno;
}

bool UffdPmap::alive() { return fill_probe() != ESRCH; }

void UffdPmap::await_events() {
  if (reading_) const std::lock_guard guard(reading_lock_);
}

bool UffdPmap::forking() {
  // In this order: an event that was read between the two is still being handled.
  return fill_probe() == EAGAIN || reading_;
}

namespace {

// PAGEMAP_SCAN, once it is not interrupted: how many regions it found, or -1.
int scan_once(int pagemap, pm_scan_arg& request) {
  request.size = sizeof(request);
  for (;;) {
    request.walk_end = 0;
    const int found = ioctl(pagemap, PAGEMAP_SCAN, &request);
    if (found >= 0 || (errno != EINTR && errno != EAGAIN)) return found;
  }
}

// One PAGEMAP_SCAN over `range`, in as many calls as its answers need. False when it is refused.
bool scan(int pagemap, VirtualRange range, pm_scan_arg request,
          const std::function<void(const page_region&)>& sink) {
  page_region regions[256];
  request.start = range.start().value();
  request.end = range.end().value();
  request.vec = reinterpret_cast<std::uint64_t>(regions);
  request.vec_len = std::size(regions);
  while (request.start < request.end) {
    const int found = scan_once(pagemap, request);
    if (found < 0) return false;
    for (int i = 0; i < found; ++i) sink(regions[i]);
    if (request.walk_end <= request.start) return false;
    request.start = request.walk_end;
  }
  return true;
}

}  // namespace

bool UffdPmap::collect_written(VirtualRange range,
                               const std::function<void(VirtualRange)>& sink) {
  const SharedDescriptor pagemap = this->pagemap();
  if (!pagemap) return false;
  pm_scan_arg request{};
  request.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
  request.category_mask = PAGE_IS_WRITTEN;
  request.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  request.return_mask = PAGE_IS_WRITTEN;
  const bool told = scan(pagemap.get(), range, request, [&](const page_region& region) {
    sink(VirtualRange(VirtualAddress(region.start), VirtualAddress(region.end)));
  });
  // Of an address space that is gone the kernel tells nothing, and no error either; of one that is just
  // being taken down, a part.
  return told && alive();
}

// A touch that has found the page in the memfd, and maps it after the hole punch took the page out
// of the page tables, has the punch take it out a second time, now with the mark
// (ZAP_FLAG_DROP_MARKER in the kernel's mm/memory.c). UFFDIO_WRITEPROTECT would do here, but fails
// while the program forks.
void UffdPmap::track_anew(VirtualRange range) {
  const SharedDescriptor pagemap = this->pagemap();
  if (!pagemap) return;
  pm_scan_arg request{};
  request.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
  request.start = range.start().value();
  request.end = range.end().value();
  // What is refused costs no store: the page counts as written.
  (void)scan_once(pagemap.get(), request);
}

bool UffdPmap::mapped_pages(VirtualRange range, const std::function<void(PageRun)>& sink) {
  const SharedDescriptor pagemap = this->pagemap();
  if (!pagemap) return false;
  pm_scan_arg request{};
  request.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  request.return_mask = PAGE_IS_WRITTEN | PAGE_IS_PFNZERO | PAGE_IS_FILE | PAGE_IS_PRESENT;
  return scan(pagemap.get(), range, request, [&](const page_region& region) {
    // The marks of write tracking where no page is count as swapped, and as not written.
    if ((region.categories & (PAGE_IS_PRESENT | PAGE_IS_WRITTEN)) == 0) return;
    PageRun run;
    run.stored_to = (region.categories & PAGE_IS_WRITTEN) != 0;
    run.range = VirtualRange(VirtualAddress(region.start), VirtualAddress(region.end));
    run.written = (region.categories & PAGE_IS_WRITTEN) != 0 &&
                  (region.categories & (PAGE_IS_PFNZERO | PAGE_IS_FILE)) == 0;
    sink(run);
  });
}

VirtualRange UffdPmap::first_mapped(VirtualRange within, std::uint64_t most) {
  const SharedDescriptor pagemap = this->pagemap();
  if (!pagemap || within.empty()) return {};
  page_region region{};
  pm_scan_arg request{};
  request.start = within.start().value();
  request.end = within.end().value();
  request.category_mask = PAGE_IS_PRESENT;
  request.return_mask = PAGE_IS_PRESENT;
  request.vec = reinterpret_cast<std::uint64_t>(&region);
  request.vec_len = 1;
  request.max_pages = most;
  if (scan_once(pagemap.get(), request) <= 0) return {};
  return {VirtualAddress(region.start), VirtualAddress(region.end)};
}

// Pss_Anon of /proc/PID/smaps_rollup (proc(5)).
std::optional<std::uint64_t> UffdPmap::proportional_pages() {
  SharedDescriptor rollup;
  {
    const std::lock_guard guard(proc_lock_);
    if (!rollup_ && pid_ != 0) {
      const std::string path = "/proc/" + std::to_string(pid_.load()) + "/smaps_rollup";
      rollup_ = SharedDescriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    }
    rollup = rollup_;
  }
  if (!rollup) return std::nullopt;
  char text[4096];
  const ssize_t got = pread(rollup.get(), text, sizeof(text) - 1, 0);
  if (got <= 0) return std::nullopt;
  text[got] = '\0';
  constexpr char kField[] = "Pss_Anon:";
  const char* const field = std::strstr(text, kField);
  if (field == nullptr) return std::nullopt;
  return std::strtoull(field + sizeof(kField) - 1, nullptr, 10) * 1024 / kPageSize;
}

std::optional<std::uint64_t> UffdPmap::resident_limit() {
  rlimit limit{};
  if (pid_ == 0 || prlimit(pid_, RLIMIT_RSS, nullptr, &limit) != 0) return std::nullopt;
  if (limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur / kPageSize;
}

std::vector<HostMapping> UffdPmap::host_mappings(VirtualRange within) {
  const SharedDescriptor maps = this->maps();
  if (!maps) return {};
  return read_host_mappings(maps.get(), within);
}

}  // namespace hal
