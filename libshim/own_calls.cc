#include "libshim/own_calls.h"

#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <atomic>

#include "libshim/fill_history.h"
#include "libshim/host_ops.h"
#include "libshim/kept_memory.h"
#include "libshim/report.h"
#include "libshim/session_state.h"
#include "libshim/syscall.h"

namespace shim {
namespace {

constexpr uint64_t kReadAndWrite = 3;
constexpr uint64_t kNoLimit = ~uint64_t{0};
// So many bytes of a mapping come with it, as with a first fault: a page of its own, since all who map
// memory begin at its start, and then the kernel's page of zeroes, which costs next to nothing, and which
// a store replaces without the server.
constexpr uint64_t kBrought = 16 * kPage;
constexpr uint64_t kMostPages = protocol::kMostLeasedBytes / kPage;
// Linux 6.13. An older one does not know them, nor do headers; nothing is kept then.
constexpr int kGuardInstall = 102;
constexpr int kGuardRemove = 103;

// mincore(2) of at most kMostPages.
bool nearly_all_there(uint64_t start, uint64_t bytes) {
  uint8_t present[kMostPages];
  const uint64_t pages = bytes / kPage;
  if (failed(sys(SYS_mincore, start, bytes, present))) return false;
  uint64_t there = 0;
  for (uint64_t page = 0; page < pages; ++page) there += present[page] & 1;
  return there >= pages - pages / 8;
}

constinit FillHistory filled{nearly_all_there};  // of what was mapped in the lease
constinit KeptMemory kept;                       // of what was unmapped there

void unmap_kept() {
  if (kept.end() == 0) return;
  sys(SYS_munmap, kept.start(), kept.end() - kept.start());
  kept.let_go();
}

// Before anything is done: a child forked in between has to say that the server may not have heard.
void begin_unheard() { self.unheard = true; }

void note(const protocol::TrapRequest& request) {
  protocol::NoteRing& ring = *self.notes;
  const uint32_t written = ring.written.load(std::memory_order_relaxed);
  protocol::Note& next = ring.notes[written % protocol::NoteRing::kNotes];
  next.call = request.call;
  for (unsigned i = 0; i < 3; ++i) next.args[i] = request.args[i];
  ring.written.store(written + 1, std::memory_order_release);
  // In time, so that nobody has to wait for room.
  constexpr uint32_t kHalf = protocol::NoteRing::kNotes / 2;
  const uint32_t unread = written + 1 - ring.read.load(std::memory_order_relaxed);
  if ((written + 1) % kHalf != 0 || unread < kHalf) return;
  protocol::TrapRequest look{};
  look.magic = protocol::kMagic;
  look.call = protocol::kCallNotes;
  look.flags = protocol::kRequestDone;
  if (failed(send_request(look, -1))) end_server_lost(false);
}

// What has been done is said before anything else is.
void tell(protocol::TrapRequest request) {
  if (self.notes != nullptr) return note(request);
  request.flags |= protocol::kRequestDone;
  if (failed(send_request(request, -1))) end_server_lost(false);
}

uint64_t whole_pages(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

protocol::TrapRequest in_whole_pages(protocol::TrapRequest request) {
  request.args[1] = whole_pages(request.args[1]);
  return request;
}

// Of the lengths that the kernel rounds up.
bool is_own(const protocol::TrapRequest& request) {
  const uint64_t bytes = whole_pages(request.args[1]);
  return bytes >= request.args[1] && self.own.contains(request.args[0], bytes);
}

// malloc's heaps grow a few pages at a time, by mprotect, which changes nothing that the server's
// answer could depend on. What may be run it is asked for. Where pages are taken out, those that nobody
// may store to are copied first: only libc, which does this to memory without content, goes on.
bool protects(const protocol::TrapRequest& request) {
  const bool by_host = (request.flags & protocol::kRequestHostRules) != 0;
  return request.call == protocol::kCallMprotect && request.abi == protocol::kAbiLinux &&
         (by_host || !self.pages_leave) && (request.args[2] & ~kReadAndWrite) == 0 && is_own(request);
}

Result protect(const protocol::TrapRequest& request) {
  begin_unheard();
  kept.change(request.args[0], whole_pages(request.args[1]));
  const long done = host_call(request.call, request.abi, request.args);
  if (failed(done)) return {0, static_cast<int>(-done)};
  tell(in_whole_pages(request));
  return {};
}

// Every personality says yes to this one, unless there is a limit. Where memory is limited there is no
// lease.
bool may_be_leased(const protocol::TrapRequest& request) {
  constexpr uint64_t kPlain = MAP_PRIVATE | MAP_ANONYMOUS;
  const uint64_t bytes = request.args[1];
  return request.call == protocol::kCallMmap && request.abi == protocol::kAbiLinux &&
         request.args[0] == 0 && request.args[2] == kReadAndWrite &&
         (request.args[3] & ~uint64_t{MAP_NORESERVE}) == kPlain && request.args[5] == 0 &&
         request.limits[0] == kNoLimit && request.limits[1] == kNoLimit && bytes != 0 &&
         bytes <= protocol::kMostLeasedBytes;
}

// The kernel's page of zeroes. Returns how many pages that are.
uint64_t bring_zeroes(uint64_t start, uint64_t end) {
  uffdio_zeropage zeroes{};
  zeroes.range = {start, end - start};
  zeroes.mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE;
  sys(SYS_ioctl, self.userfaultfd, UFFDIO_ZEROPAGE, &zeroes);
  return zeroes.zeropage > 0 ? static_cast<uint64_t>(zeroes.zeropage) / kPage : 0;
}

// All pages, or, unless `whole` is said, the first ones come without a fault: `brought`. Needs the
// userfaultfd to be checked.
bool map_registered(uint64_t start, uint64_t bytes, bool reserves, bool whole, uint64_t& brought) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | (reserves ? 0 : MAP_NORESERVE);
  const long at = sys(SYS_mmap, start, bytes, kReadAndWrite, flags, -1, 0);
  if (failed(at)) return false;
  // Before the range is registered, or each page of it would be a fault.
  const uint64_t filled = whole ? bytes : kPage;
  if (!failed(sys(SYS_madvise, at, filled, MADV_POPULATE_WRITE))) brought = filled / kPage;
  uffdio_register request{};
  request.range = {static_cast<uint64_t>(at), bytes};
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  // A kernel that does not know MAP_FIXED_NOREPLACE takes the address for a hint.
  if (static_cast<uint64_t>(at) != start ||
      failed(sys(SYS_ioctl, self.userfaultfd, UFFDIO_REGISTER, &request))) {
    sys(SYS_munmap, at, bytes);
    return false;
  }
  const uint64_t end = bytes < kBrought ? bytes : kBrought;
  if (brought * kPage < end) brought += bring_zeroes(start + brought * kPage, start + end);
  return true;
}

FaultCount faults_so_far() {
  FaultCount faults;
  if (self.notes == nullptr) return faults;
  faults.ended = self.notes->faults_ended.load(std::memory_order_acquire);
  faults.begun = self.notes->faults_begun.load(std::memory_order_acquire);
  faults.last = self.notes->last_fault.load(std::memory_order_relaxed);
  return faults;
}

// Makes a mapping of what is kept. Needs no look at the userfaultfd: no other one has this memory.
bool map_kept(uint64_t start, uint64_t bytes, bool reserves, uint64_t& brought) {
  KeptMemory::Pages pages;
  if (!kept.offers(start, bytes, reserves, pages)) return false;
  // Whoever is forked from here on leaves it alone.
  kept.take(start, bytes);
  if (failed(sys(SYS_madvise, start, bytes, kGuardRemove))) {
    sys(SYS_munmap, start, bytes);
    return false;
  }
  alignas(kPage) static const uint8_t zeroes[kPage] = {};
  for (; pages != 0; pages &= pages - 1) {
    const uint64_t page = static_cast<uint64_t>(__builtin_ctzll(pages));
    uffdio_copy copy{};
    copy.dst = start + page * kPage;
    copy.src = reinterpret_cast<uint64_t>(zeroes);
    copy.len = kPage;
    copy.mode = UFFDIO_COPY_MODE_DONTWAKE;
    // What does not come is a fault.
    if (failed(sys(SYS_ioctl, self.userfaultfd, UFFDIO_COPY, &copy))) break;
    if (page == brought) ++brought;
  }
  return true;
}

bool map_in_lease(const protocol::TrapRequest& request, Result& result) {
  const uint64_t start = self.lease.start;
  const uint64_t bytes = whole_pages(request.args[1]);
  const bool by_host = (request.flags & protocol::kRequestHostRules) != 0;
  const bool reserves = (request.args[3] & MAP_NORESERVE) == 0 && (by_host || !self.overcommits);
  const bool large = bytes > kBrought;
  const bool whole = large && filled.expects(bytes);
  const FaultCount faults = faults_so_far();
  uint64_t brought = 0;
  begin_unheard();
  if (whole || !map_kept(start, bytes, reserves, brought)) {
    unmap_kept();
    check_userfaultfd();
    if (!map_registered(start, bytes, reserves, whole, brought)) {
      self.lease = {};  // something is there; or the server has another answer
      return false;
    }
  }
  if (self.notes != nullptr) kept.mapped(start, bytes, reserves, faults);
  self.lease.start += bytes;
  self.own.add(start, bytes);
  if (large) filled.mapped(start, bytes, whole);
  protocol::TrapRequest done = in_whole_pages(request);
  done.args[0] = start;
  done.args[2] = brought;
  tell(done);
  result = {static_cast<long>(start), 0};
  return true;
}

bool unmaps(const protocol::TrapRequest& request) {
  return request.call == protocol::kCallMunmap && !self.pages_leave && is_own(request);
}

// As it was mapped, whatever the program has made of it by a system call of its own. That changes nothing
// else.
bool make_accessible(uint64_t start, uint64_t bytes) {
  static bool has_keys = true;
  constexpr int kUsualKey = 0;
  if (has_keys && !failed(sys(SYS_pkey_mprotect, start, bytes, kReadAndWrite, kUsualKey))) return true;
  has_keys = false;
  return !failed(sys(SYS_mprotect, start, bytes, kReadAndWrite));
}

bool guard(uint64_t start, uint64_t bytes) {
  static bool has_guards = true;
  has_guards = has_guards && !failed(sys(SYS_madvise, start, bytes, kGuardInstall));
  return has_guards;
}

// What was mapped last can stay where it is, out of reach. False: it is to be unmapped.
bool keep(const protocol::TrapRequest& done) {
  const uint64_t start = done.args[0];
  const uint64_t bytes = done.args[1];
  if (self.lease.end == 0 || start + bytes != self.lease.start || self.notes == nullptr ||
      !kept.returns(start, bytes, faults_so_far()) || !make_accessible(start, bytes) ||
      !guard(start, bytes)) {
    return false;
  }
  if (kept.start() != start + bytes) unmap_kept();
  self.lease.start = start;
  tell(done);
  // A fault that begins from here on is told that nothing is there.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!kept.keep(start, bytes, faults_so_far())) unmap_kept();
  return true;
}

Result unmap(const protocol::TrapRequest& request) {
  const protocol::TrapRequest done = in_whole_pages(request);
  filled.unmapping(done.args[0], done.args[1]);
  begin_unheard();
  // First: a child forked in between knows of no memory that it does not have.
  self.own.forget(done.args[0], done.args[1]);
  if (keep(done)) return {};
  kept.change(done.args[0], done.args[1]);
  const long unmapped = sys(SYS_munmap, done.args[0], done.args[1]);
  if (failed(unmapped)) return {0, static_cast<int>(-unmapped)};
  // What was mapped last is what is mapped next.
  if (self.lease.end != 0 && done.args[0] + done.args[1] == self.lease.start) {
    self.lease.start = done.args[0];
  }
  tell(done);
  return {};
}

// By some rules only root may.
bool locks_or_unlocks(const protocol::TrapRequest& request) {
  const bool locks = request.call == protocol::kCallMlock;
  if ((!locks && request.call != protocol::kCallMunlock) || request.abi != protocol::kAbiLinux ||
      self.pages_leave || !is_own(request)) {
    return false;
  }
  if (locks && (request.limits[0] != self.lock_limit ||
                whole_pages(request.args[1]) / kPage > self.lock_credit)) {
    return false;
  }
  const bool by_host = (request.flags & protocol::kRequestHostRules) != 0;
  return by_host || sys(SYS_geteuid) == 0;
}

// False where the host would not: the server has an answer to that.
bool lock_or_unlock(const protocol::TrapRequest& request) {
  begin_unheard();
  kept.change(request.args[0], whole_pages(request.args[1]));
  if (failed(host_call(request.call, request.abi, request.args))) return false;
  const protocol::TrapRequest done = in_whole_pages(request);
  if (request.call == protocol::kCallMlock) self.lock_credit -= done.args[1] / kPage;
  tell(done);
  return true;
}

}  // namespace

void give_up_kept() {
  unmap_kept();
  kept.change_all();
}

bool may_note() {
  if (self.notes == nullptr) return true;
  const uint32_t written = self.notes->written.load(std::memory_order_relaxed);
  return written - self.notes->read.load(std::memory_order_acquire) < protocol::NoteRing::kNotes;
}

bool did_by_itself(protocol::TrapRequest& request, Result& result) {
  if (!self.may_tell) return false;
  if (may_be_leased(request)) {
    if (whole_pages(request.args[1]) <= self.lease.end - self.lease.start &&
        map_in_lease(request, result)) {
      return true;
    }
    request.flags |= protocol::kRequestLease;
    return false;
  }
  if (protects(request)) {
    result = protect(request);
    return true;
  }
  if (unmaps(request)) {
    result = unmap(request);
    return true;
  }
  if (locks_or_unlocks(request) && lock_or_unlock(request)) {
    result = {};
    return true;
  }
  return false;
}

// What is in private memory nobody but the kernel knows, where nothing is taken out of it.
bool concerns_nobody(const protocol::TrapRequest& request, Result& result) {
  const bool asks = request.call == protocol::kCallMincore && request.args[3] == 0;
  const bool throws_away = request.call == protocol::kCallMadvise &&
                           (request.args[2] == MADV_DONTNEED || request.args[2] == MADV_FREE);
  if ((!asks && !throws_away) || request.abi != protocol::kAbiLinux || !self.may_tell ||
      self.pages_leave || !is_own(request)) {
    return false;
  }
  const long done = host_call(request.call, request.abi, request.args);
  // What it does not do to locked memory the server is asked for.
  if (failed(done) && throws_away) return false;
  result.error = failed(done) ? static_cast<int>(-done) : 0;
  // How many pages have been answered for.
  result.value = asks && !failed(done) ? static_cast<long>(whole_pages(request.args[1]) / kPage) : 0;
  return true;
}

}  // namespace shim
