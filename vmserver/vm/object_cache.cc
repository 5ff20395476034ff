#include "vmserver/vm/object_cache.h"

#include <system_error>

#include <spdlog/spdlog.h>

#include "vmserver/vm/machine.h"

namespace vm {

using hal::pages_for_bytes;

void ObjectCache::find(const hal::HostFile& file, PagerKind kind, Found found) {
  const hal::FileAttributes& attributes = file.attributes;
  const Key key{kind, attributes.device, attributes.inode};
  std::shared_ptr<VmObject> object;
  {
    const std::lock_guard guard(lock_);
    if (auto it = named_.find(key); it != named_.end()) object = it->second.lock();
  }
  if (object) {
    object->grant(file);
    VmObject& known = *object;
    known.revalidate([object = std::move(object), found = std::move(found)](Error) {
      found(object);
    });
    return;
  }

  try {
    auto backing =
        machine_.backings().create(attributes.path, pages_for_bytes(attributes.bytes));
    object = std::make_shared<VmObject>(
        machine_, kind == PagerKind::file ? VmObject::Kind::file : VmObject::Kind::device, file,
        backing, attributes.bytes);
  } catch (const std::system_error& error) {
    complain(error.what());
    found(Error::no_memory);
    return;
  }

  machine_.pagers().open(
      kind, file, attributes.bytes, object->backing(),
      [this, key, object, kind, found = std::move(found)](Result<OpenedObject> opened) {
        if (!opened) {
          // What the seed answers when vm_pager_allocate() gives nothing.
          found(kind == PagerKind::device ? Error::invalid : Error::no_memory);
          return;
        }
        object->attach(std::move(opened).value());
        std::shared_ptr<VmObject> winner = object;
        {
          const std::lock_guard guard(lock_);
          std::weak_ptr<VmObject>& slot = named_[key];
          // Two programs may have mapped the file at the same time: the first one in stays.
          if (auto other = slot.lock()) {
            winner = other;
          } else {
            slot = object;
            all_[object.get()] = object;
          }
        }
        if (!winner->may_be_written_to()) {
          found(std::move(winner));
          return;
        }
        // No page has come in yet that could be older than what is being written.
        machine_.aside([winner = std::move(winner), found] {
          VmObject& known = *winner;
          known.revalidate_when_written([winner, found](Error) { found(winner); });
        });
      });
}

std::shared_ptr<VmObject> ObjectCache::look_up(std::uint64_t device, std::uint64_t inode) {
  const std::lock_guard guard(lock_);
  const auto it = named_.find(Key{PagerKind::file, device, inode});
  return it != named_.end() ? it->second.lock() : nullptr;
}

Result<std::shared_ptr<VmObject>> ObjectCache::make_anonymous(std::uint64_t bytes) {
  std::shared_ptr<VmObject> object;
  try {
    // What the host calls such memory in /proc/PID/maps, and what programs look for there.
    auto backing = machine_.backings().create("/dev/zero", pages_for_bytes(bytes));
    object = std::make_shared<VmObject>(machine_, VmObject::Kind::anonymous, hal::HostFile(),
                                        backing, bytes);
  } catch (const std::system_error& error) {
    complain(error.what());
    return Error::no_memory;
  }
  Error failed = Error::no_memory;
  bool done = false;
  machine_.pagers().open(PagerKind::anonymous, hal::HostFile(), bytes, object->backing(),
                         [&](Result<OpenedObject> opened) {
                           done = true;
                           if (!opened) return;
                           object->attach(std::move(opened).value());
                           failed = Error::none;
                         });
  if (!done || failed != Error::none) return Error::no_memory;
  const std::lock_guard guard(lock_);
  all_[object.get()] = object;
  return object;
}

std::vector<std::shared_ptr<VmObject>> ObjectCache::all() {
  std::vector<std::shared_ptr<VmObject>> result;
  const std::lock_guard guard(lock_);
  for (auto& [pointer, weak] : all_) {
    if (auto object = weak.lock()) result.push_back(std::move(object));
  }
  return result;
}

void ObjectCache::complain(const char* reason) {
  // A program may go on asking; what it asks for in vain is nobody's log.
  if (!complained_.exchange(true)) {
    spdlog::warn("{}; mmap answers ENOMEM (said once)", reason);
  }
}

void ObjectCache::forget(VmObject& object) {
  const std::lock_guard guard(lock_);
  all_.erase(&object);
  const hal::FileAttributes& file = object.attributes();
  for (PagerKind kind : {PagerKind::file, PagerKind::device}) {
    auto it = named_.find(Key{kind, file.device, file.inode});
    if (it != named_.end() && it->second.expired()) named_.erase(it);
  }
}

}  // namespace vm
