// ObjectCache: one VmObject per file, for as long as anybody maps it or it still has something to
// write back. Files are told apart by device and inode, so every program that maps a file maps the
// same pages; what each may do with them comes from its own descriptor.
//
// Locks: lock_ comes after a space's lock and before an object's.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "hal/host_file.h"
#include "vmserver/vm/pager.h"
#include "vmserver/vm/result.h"
#include "vmserver/vm/vm_object.h"

namespace vm {

class ObjectCache {
 public:
  using Found = std::function<void(Result<std::shared_ptr<VmObject>>)>;

  explicit ObjectCache(Machine& machine) : machine_(machine) {}

  /// The object of a file or device, made and given to a pager if there is none. `found` is called
  /// once, at once or when a pager has answered, on any thread. Error::no_memory when
  /// there is no pager for it, Error::invalid where a device cannot be mapped.
  void find(const hal::HostFile& file, PagerKind kind, Found found);

  /// The object of a regular file, if there is one.
  std::shared_ptr<VmObject> look_up(std::uint64_t device, std::uint64_t inode);

  /// A fresh object of zero pages that programs can share.
  Result<std::shared_ptr<VmObject>> make_anonymous(std::uint64_t bytes);

  /// All objects there are, with names or not.
  std::vector<std::shared_ptr<VmObject>> all();

 private:
  friend class Machine;
  using Key = std::tuple<PagerKind, std::uint64_t, std::uint64_t>;
  void forget(VmObject& object);
  void complain(const char* reason);

  Machine& machine_;
  std::atomic<bool> complained_ = false;
  std::mutex lock_;
  std::map<Key, std::weak_ptr<VmObject>> named_;      // lock_
  std::map<VmObject*, std::weak_ptr<VmObject>> all_;  // lock_
};

}  // namespace vm
