// A pager in the test's own process: files are byte vectors, devices are what the test says.
//
//   FakeFile            content, and how its pager behaves
//   FakePagerDirectory  vm::PagerDirectory over them
//
// submit() queues, as the core demands; pump() carries out what is queued, one Transfer at a time,
// unless the test holds it back. Everything is recorded, and every rule that the core has to keep
// towards a pager is checked on the way: see violations().
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hal/host_file.h"
#include "hal/sim/sim_backing.h"
#include "vmserver/vm/pager.h"

namespace test {

struct FakeFile {
  std::vector<std::byte> content;
  hal::FileAttributes attributes;
  /// What programs get a descriptor of: a host file of the content's size, without its bytes.
  hal::SharedDescriptor host;
  // Of devices only.
  bool claimed = false;      ///< a regular file for the host, a device for its pager
  bool host_memory = false;  ///< see vm::OpenedObject
  bool no_pager = false;     ///< open() fails with no_device
  bool open_later = false;   ///< open() answers from pump()
  std::uint64_t opened_bytes = 0;
  std::shared_ptr<hal::Backing> own_memory;

  std::size_t grants = 0;
  std::vector<std::uint64_t> resizes;

  /// What a program that opened it with these rights would pass along.
  hal::HostFile open(bool readable = true, bool writable = true) const;
  void resize(std::uint64_t bytes);
  /// Has others change it: a byte of the content, and the times.
  void change(std::uint64_t offset, std::byte value);
  /// A byte of a change whose times were there before: a write sets them when it begins.
  void change_late(std::uint64_t offset, std::byte value) { content.at(offset) = value; }
  /// Has the file's times change, as a write does.
  void touch() const;
  std::byte at(std::uint64_t offset) const { return content.at(offset); }
};

class FakePagerDirectory final : public vm::PagerDirectory {
 public:
  struct Record {
    vm::Transfer::Kind kind;
    hal::PageRange pages;
    FakeFile* file;  ///< nullptr: anonymous memory
    bool operator==(const Record&) const = default;
  };

  ~FakePagerDirectory() override;

  /// A new regular file of `bytes` bytes in which each page is filled with its own pattern.
  FakeFile& make_file(std::uint64_t bytes);
  /// The byte that make_file() puts at an offset.
  static std::byte pattern(std::uint64_t inode, std::uint64_t offset);

  void open(vm::PagerKind kind, const hal::HostFile& file, std::uint64_t bytes,
            std::shared_ptr<hal::Backing> backing, vm::OpenDone done) override;
  bool claims(const hal::FileAttributes& file) const override;

  /// Carries out the oldest Transfer (or late open) there is. False when there is none, or while
  /// they are held back.
  bool pump();
  void pump_all() {
    while (pump()) continue;
  }
  /// pump() on this thread, for as long as stop() was not called.
  void run();
  void stop();
  /// From now on pump() does nothing, or something again.
  void hold(bool on);
  /// The next Transfer of this kind ends with `error` after `pages_before` pages of it were done.
  void fail_next(vm::Transfer::Kind kind, vm::Error error, std::uint64_t pages_before = 0);
  void fail_no_more();
  /// Called with each Transfer, on the thread that submits it, before it is in line. To be set while
  /// nobody submits any.
  void before_submit(std::function<void(const vm::Transfer&)> hook) { before_submit_ = std::move(hook); }
  /// The anonymous pager dies, and all that it had with it; another one takes its place at once.
  void lose_anonymous();
  /// Pages that anonymous objects have there.
  std::size_t anonymous_pages() const;
  /// Anonymous objects find no pager.
  void refuse_anonymous(bool on) { refuse_anonymous_ = on; }

  std::vector<Record> records() const;
  std::vector<Record> records(vm::Transfer::Kind kind) const;
  void forget_records();
  std::size_t queued() const;
  std::size_t open_objects() const;
  /// Which rules the core broke towards its pagers; empty in a good test.
  std::vector<std::string> violations() const;

 private:
  class Paged;
  struct Failure {
    vm::Error error;
    std::uint64_t pages_before;
  };
  struct Work {
    Paged* paged = nullptr;  // nullptr: call `later`
    vm::Transfer* transfer = nullptr;
    std::function<void()> later;
  };

  FakeFile* find(const hal::FileAttributes& file) const;
  vm::Result<vm::OpenedObject> opened(vm::PagerKind kind, FakeFile* file,
                                      std::shared_ptr<hal::Backing> backing);
  void submit(Paged& paged, vm::Transfer& transfer);
  void closed(Paged& paged);
  vm::Error carry_out(const Work& work);
  void violation(std::string what);

  mutable std::mutex lock_;
  std::condition_variable work_;
  std::list<FakeFile> files_;                      // lock_, once there are other threads
  std::deque<Work> queue_;                         // lock_
  std::map<vm::Transfer::Kind, Failure> failing_;  // lock_
  std::vector<Record> records_;                    // lock_
  std::vector<std::string> violations_;            // lock_
  std::size_t open_objects_ = 0;                   // lock_
  std::list<Paged*> anonymous_;                    // lock_
  bool held_ = false;                              // lock_
  bool stopped_ = false;                           // lock_
  bool refuse_anonymous_ = false;
  std::function<void(const vm::Transfer&)> before_submit_;
};

}  // namespace test
