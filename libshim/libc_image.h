// The C library as it is loaded: where the functions are that it exports.
//
// Not asked of dlsym(), which takes the loader's locks and may allocate. The library was there when
// the program started and stays, so the loader's list can be read without a lock as far as that.
#pragma once

#include <stdint.h>

namespace shim {

class LibcImage {
 public:
  /// Finds it; false when there is none of that name, or none whose tables are as expected.
  bool find();

  struct Function {
    uint64_t address = 0;
    uint64_t bytes = 0;
  };
  /// False when it exports no function of this name. After find().
  bool function(const char* name, Function& found) const;

  /// The segment that holds its code: whole pages, readable and executable.
  uint64_t text_start() const { return text_start_; }
  uint64_t text_end() const { return text_end_; }

 private:
  bool find_text(uint64_t page);

  uint64_t base_ = 0;
  uint64_t text_start_ = 0;
  uint64_t text_end_ = 0;
  const void* symbols_ = nullptr;  // ElfW(Sym)
  const char* names_ = nullptr;
  const uint32_t* hashes_ = nullptr;  // DT_GNU_HASH
};

}  // namespace shim
