// libc's functions that read, change and lock files, caught at their bodies like libc's own mmap
// (redirect.h), so that stdio and everything else in libc comes along. Each does what it did; before
// and after it file_view.h is told. What a program does by raw system calls stays unseen, and shows
// in mappings within a second (docs/architecture.md, "One view of a file").
#pragma once

namespace shim {

/// Once the file board is there.
void catch_file_calls();

/// ioctl: those that make one file share the content of another. True when `request` was one, and
/// `result` is the kernel's.
bool clone_file(int descriptor, unsigned long request, void* argument, long& result);

}  // namespace shim
