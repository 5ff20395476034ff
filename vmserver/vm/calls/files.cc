// What a program says that it does to files otherwise than through mappings: nobody's mapping is to
// show what was, and no read to miss what was stored. See "One view of a file" in
// docs/architecture.md.
#include <atomic>
#include <memory>
#include <set>
#include <utility>

#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

std::shared_ptr<VmObject> named(VmSpace& space, const Call& call) {
  return space.machine().objects().look_up(call.argument(0), call.argument(1));
}

ByteRange bytes_of(const Call& call, unsigned first) {
  return {call.argument(first), call.argument(first + 1)};
}

}  // namespace

void file_read(VmSpace& space, Call& call) {
  const std::shared_ptr<VmObject> object = named(space, call);
  if (!object) return call.finish(Error::none);
  // That it failed whoever stored hears from msync. The reader reads what the file has.
  object->flush(bytes_of(call, 2).pages(), [&call](Error) { call.finish(Error::none); });
}

void file_change(VmSpace& space, Call& call) {
  std::shared_ptr<VmObject> object = named(space, call);
  if (!object) return call.finish(Error::none);
  const std::uint64_t number = space.add_change(object);
  if (number == 0) return call.finish(Error::again);
  object->begin_change(number, bytes_of(call, 2).pages(),
                       [&call, number](Error error) { call.finish(error, number); });
}

void file_changed(VmSpace& space, Call& call) {
  const std::uint64_t number = call.argument(0);
  ByteRange bytes = bytes_of(call, 1);
  const std::shared_ptr<VmObject> object = space.take_change(number);
  if (!object) return call.finish(Error::invalid);
  // What is taken from the file replaces what others stored: only who may write may say so.
  const hal::FileAttributes& known = object->attributes();
  const bool may = call.file && call.file->attributes.writable &&
                   call.file->attributes.device == known.device &&
                   call.file->attributes.inode == known.inode;
  if (!may) bytes = {};
  object->end_change(number, bytes, [&call](VmObject::Ended ended) {
    call.finish(Error::none, ended == VmObject::Ended::overtaken ? 1 : 0);
  });
}

void locked(VmSpace& space, Call& call) {
  std::set<std::shared_ptr<VmObject>> objects;
  {
    const auto guard = space.lock();
    for (MapEntry& entry : space.map()) {
      if (entry.object && entry.object->kind() == VmObject::Kind::file) {
        objects.insert(entry.object);
      }
    }
  }
  const auto pending = std::make_shared<std::atomic<std::size_t>>(objects.size() + 1);
  const auto step = [pending, &call](Error) {
    if (--*pending == 0) call.finish(Error::none);
  };
  for (const auto& object : objects) object->revalidate(step);
  step(Error::none);
}

}  // namespace vm::calls
