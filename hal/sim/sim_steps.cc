// The regions of a SimPmap, and the Steps that change them.
#include <cerrno>

#include "hal/sim/sim_pmap.h"

namespace hal {

SimRegion* SimPmap::find(VirtualAddress address) {
  auto it = regions_.upper_bound(address.value());
  if (it == regions_.begin()) return nullptr;
  --it;
  return it->second.range.contains(address) ? &it->second : nullptr;
}

SimPmap::Regions::iterator SimPmap::first_in(VirtualRange range) {
  auto it = regions_.upper_bound(range.start().value());
  if (it != regions_.begin() && std::prev(it)->second.range.end() > range.start()) --it;
  return it;
}

void SimPmap::for_each_region(VirtualRange range, const std::function<void(SimRegion&)>& visit) {
  for (auto it = first_in(range); it != regions_.end() && it->second.range.start() < range.end();
       ++it) {
    visit(it->second);
  }
}

bool SimPmap::covered(VirtualRange range) {
  VirtualAddress reached = range.start();
  for_each_region(range, [&](SimRegion& region) {
    if (region.range.start() <= reached) reached = region.range.end();
  });
  return reached >= range.end();
}

bool SimPmap::vacant(VirtualRange range) {
  const auto first = first_in(range);
  return first == regions_.end() || first->second.range.start() >= range.end();
}

void SimPmap::cut_at(VirtualAddress address) {
  SimRegion* lower = find(address);
  if (lower == nullptr || lower->range.start() == address) return;
  SimRegion upper = *lower;
  upper.range = VirtualRange(address, lower->range.end());
  upper.page = lower->page_at(address);
  lower->range = VirtualRange(lower->range.start(), address);
  put(std::move(upper));
}

void SimPmap::cut(VirtualRange range) {
  cut_at(range.start());
  cut_at(range.end());
}

void SimPmap::put(SimRegion region) {
  if (region.backing) region.backing->add_viewer(*this);
  const std::uint64_t start = region.range.start().value();
  regions_.emplace(start, std::move(region));
}

void SimPmap::erase(VirtualRange range) {
  cut(range);
  mark(range);
  for (auto it = first_in(range);
       it != regions_.end() && it->second.range.start() < range.end();) {
    pages_.erase(it->second.range);
    if (it->second.backing) it->second.backing->remove_viewer(*this);
    it = regions_.erase(it);
  }
}

int SimPmap::apply(const Plan& plan) {
  for (const Step& step : plan.steps()) {
    int error = 0;
    if (auto it = failing_.find(step.kind); it != failing_.end()) {
      error = it->second;
      failing_.erase(it);
    } else if (!step.range.start().is_page_aligned() || !step.range.end().is_page_aligned()) {
      if (step.kind == Step::Kind::host_call) {
        host_calls_.push_back(step.range);
      } else {
        error = EINVAL;
      }
    } else if (step.kind == Step::Kind::lock) {
      error = lock_pages(step);
    } else if (step.kind == Step::Kind::populate) {
      error = populate(step);
    } else if (step.kind == Step::Kind::copy_out) {
      error = copy_out(step);
    } else {
      const std::lock_guard guard(memory_->lock());
      error = apply_step(step);
    }
    if (error != 0 && !step.may_fail) return error;
  }
  return 0;
}

int SimPmap::apply_step(const Step& step) {
  if (!alive_) return ESRCH;
  const VirtualRange range = step.range;
  switch (step.kind) {
    case Step::Kind::claim:
      if (!vacant(range)) return EEXIST;
      [[fallthrough]];
    case Step::Kind::replace:
      erase(range);
      put(SimRegion::anonymous(range, step.protection));
      return 0;
    case Step::Kind::map_backing:
      return map_backing(step);
    case Step::Kind::map_device:
      erase(range);
      put({.range = range,
           .kind = SimRegion::Kind::host,
           .protection = step.protection,
           .sharing = Sharing::shared,
           .backing = nullptr,
           .page = step.page,
           .path = "device of descriptor " + std::to_string(step.descriptor)});
      return 0;
    case Step::Kind::track:
      if (!covered(range)) return ENOENT;
      cut(range);
      for_each_region(range, [](SimRegion& region) { region.sharing = Sharing::shared_tracked; });
      track_locked(range);
      return 0;
    case Step::Kind::protect:
      return protect(step);
    case Step::Kind::give_back:
      erase(range);
      return 0;
    case Step::Kind::move:
      return move(step);
    case Step::Kind::take_away:
      return take_away(step);
    case Step::Kind::manage:
      return covered(range) ? 0 : ENOMEM;
    case Step::Kind::unmanage:
      if (!covered(range)) return ENOMEM;
      cut(range);
      for_each_region(range, [](SimRegion& region) { region.kind = SimRegion::Kind::host; });
      return 0;
    case Step::Kind::discard:
    case Step::Kind::lazy_free:
      return drop_private(step);
    case Step::Kind::unlock:
      if (!covered(range)) return ENOMEM;
      cut(range);
      for_each_region(range, [](SimRegion& region) { region.locked = false; });
      return 0;
    case Step::Kind::inherit:
      return inherit(step);
    case Step::Kind::dump:
      if (!covered(range)) return ENOMEM;
      cut(range);
      for_each_region(range, [&](SimRegion& region) { region.dumped = step.enable; });
      return 0;
    case Step::Kind::host_call:
      host_calls_.push_back(range);
      return 0;
    case Step::Kind::deactivate:
      deactivated_.push_back(range);
      return 0;
    case Step::Kind::lock:
    case Step::Kind::populate:
    case Step::Kind::copy_out:
      return 0;
  }
  return EINVAL;
}

int SimPmap::map_backing(const Step& step) {
  if (step.enable && !vacant(step.range)) return EEXIST;
  erase(step.range);
  SimRegion region = SimRegion::anonymous(step.range, step.protection);
  region.kind = SimRegion::Kind::object;
  region.sharing = step.sharing;
  region.backing = std::static_pointer_cast<SimBacking>(step.backing);
  region.page = step.page;
  region.protection = step.protection;
  put(std::move(region));
  return 0;
}

int SimPmap::protect(const Step& step) {
  if (!covered(step.range)) return ENOMEM;
  int error = 0;
  for_each_region(step.range, [&](SimRegion& region) {
    if (region.sharing == Sharing::shared_read_only && step.protection.writable()) error = EACCES;
  });
  if (error != 0) return error;
  cut(step.range);
  for_each_region(step.range, [&](SimRegion& region) { region.protection = step.protection; });
  return 0;
}

int SimPmap::move(const Step& step) {
  const VirtualRange from = step.range;
  const VirtualRange to(step.target, step.target + from.bytes());
  if (!covered(from)) return EFAULT;
  if (from.overlaps(to)) return EINVAL;
  cut(from);
  // One mapping only: neighbours have to show neighbouring pages of the same thing.
  const SimRegion first = *find(from.start());
  bool one = true;
  for_each_region(from, [&](SimRegion& region) {
    one = one && region.kind == first.kind && region.backing == first.backing &&
          (!region.backing || region.page == first.page_at(region.range.start()));
  });
  if (!one) return EFAULT;

  std::map<std::uint64_t, SimPage> kept;
  pages_.for_each(from, [&](VirtualAddress address, SimPage& page) {
    if (page.of_object) return;  // found again in the object
    SimPage& copy = kept[(address - from.start())];
    copy = page;
    copy.written = false;
  });
  SimRegion moved = first;
  moved.range = to;
  moved.protection = Protection::none();
  moved.sharing = step.sharing;
  erase(from);
  erase(to);
  put(std::move(moved));
  for (auto& [offset, page] : kept) pages_.entry(to.start() + offset) = std::move(page);
  return 0;
}

int SimPmap::take_away(const Step& step) {
  if (!covered(step.range)) return EFAULT;
  const SimRegion old = *find(step.range.start());
  if (const int error = move(step); error != 0) return error;
  find(step.target)->protection = Protection::read();
  SimRegion emptied = old;
  emptied.range = step.range;
  emptied.page = old.page_at(step.range.start());
  put(std::move(emptied));
  return 0;
}

// The host reads the range page by page, and the faults that makes bring in what is absent. A page may
// be gone again before it is read; then it is read once more.
int SimPmap::copy_out(const Step& step) {
  constexpr int kMostAttempts = 1000;
  auto backing = std::static_pointer_cast<SimBacking>(step.backing);
  for (VirtualAddress at = step.range.start(); at < step.range.end(); at = at + kPageSize) {
    const PageIndex into = step.page + ((at - step.range.start()) >> kPageShift);
    bool copied = false;
    for (int attempt = 0; attempt < kMostAttempts && !copied; ++attempt) {
      if (prefault_) {
        if (prefault_(VirtualRange(at, at + kPageSize), false) != 0) return EFAULT;
      }
      const std::lock_guard guard(memory_->lock());
      if (into.value() >= backing->pages_) return EFBIG;
      const SimPage* page = pages_.find(at);
      if (page == nullptr || !page->frame) continue;
      backing->frames_[into.value()] = std::make_shared<SimFrame>(*page->frame);
      copied = true;
    }
    if (!copied) return EFAULT;
  }
  return 0;
}

int SimPmap::drop_private(const Step& step) {
  if (!covered(step.range)) return ENOMEM;
  int error = 0;
  for_each_region(step.range, [&](SimRegion& region) {
    const bool lazy = step.kind == Step::Kind::lazy_free;
    if (!region.is_private() || (lazy && region.kind != SimRegion::Kind::anonymous)) {
      error = EINVAL;
    }
  });
  if (error != 0) return error;
  if (step.kind == Step::Kind::discard) {
    pages_.erase(step.range);
  } else {
    pages_.for_each(step.range, [](VirtualAddress, SimPage& page) { page.lazy = !page.failed; });
  }
  return 0;
}

int SimPmap::inherit(const Step& step) {
  if (!covered(step.range)) return ENOMEM;
  int error = 0;
  for_each_region(step.range, [&](SimRegion& region) {
    // As MADV_WIPEONFORK: private anonymous memory only.
    const bool anonymous = region.kind == SimRegion::Kind::anonymous ||
                           (region.kind == SimRegion::Kind::host && region.is_private());
    if (step.inheritance == Inherit::zero && !anonymous) error = EINVAL;
  });
  if (error != 0) return error;
  cut(step.range);
  for_each_region(step.range, [&](SimRegion& region) { region.inherit = step.inheritance; });
  return 0;
}

int SimPmap::lock_pages(const Step& step) {
  std::vector<SimRegion> parts;
  {
    const std::lock_guard guard(memory_->lock());
    if (!alive_) return ESRCH;
    if (!covered(step.range)) return ENOMEM;
    cut(step.range);
    for_each_region(step.range, [&](SimRegion& region) {
      region.locked = true;
      parts.push_back(region);
    });
  }
  for (const SimRegion& part : parts) {
    if (part.protection == Protection::none()) return ENOMEM;
    const bool write = part.is_private() && part.protection.writable();
    if (!prefault_) continue;
    if (const int error = prefault_(part.range, write); error != 0) return error;
  }
  return 0;
}

int SimPmap::populate(const Step& step) {
  {
    const std::lock_guard guard(memory_->lock());
    if (!alive_) return ESRCH;
    if (!covered(step.range)) return ENOMEM;
  }
  return prefault_ ? prefault_(step.range, step.enable) : 0;
}

}  // namespace hal
