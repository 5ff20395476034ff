#include "vmserver/vm/memory.h"

#include <algorithm>

namespace vm {

namespace {
// As much as a program can take while the daemon is being woken and the first pages are on their way
// out; and never so much of a small machine that little is left to work with.
constexpr std::uint64_t kMostFreeMin = 8192;
constexpr std::uint64_t kFreeFraction = 24;
}  // namespace

std::uint64_t Memory::free_min() const {
  return std::clamp<std::uint64_t>(limit_ / kFreeFraction, 16, kMostFreeMin);
}

std::uint64_t Memory::admit(std::uint64_t wanted) {
  const auto most = static_cast<std::int64_t>(wanted);
  private_ += most;
  const std::int64_t over = private_ + objects_ + swap_ - static_cast<std::int64_t>(limit_);
  const std::int64_t granted = over <= 0 ? most : std::max<std::int64_t>(0, most - over);
  if (granted < most) private_ -= most - granted;
  granted_ += static_cast<std::uint64_t>(granted);
  if (over + static_cast<std::int64_t>(free_min()) > 0) kick();
  return static_cast<std::uint64_t>(granted);
}

std::uint64_t Memory::room() {
  const std::uint64_t pages = free();
  if (pages < free_min()) kick();
  if (pages != 0) ++granted_;
  return pages;
}

void Memory::put_off(PutOff fault) {
  put_off_again(std::move(fault));
  kick();
}

void Memory::put_off_again(PutOff fault) {
  const std::lock_guard guard(lock_);
  put_off_.push_back(std::move(fault));
  waiting_ = put_off_.size();
}

std::vector<Memory::PutOff> Memory::take_put_off() {
  const std::lock_guard guard(lock_);
  waiting_ = 0;
  return std::exchange(put_off_, {});
}

}  // namespace vm
