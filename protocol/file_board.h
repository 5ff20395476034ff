// The file board: a page that the server shows to every program, which says which files programs
// have mapped. Whoever reads or writes a file looks there whether anybody has to be told.
//
// A filter, not a list: a file that is mapped is always found, and now and then one that is not.
// The bits change while programs look; a program sees those of a mapping once the call that made it
// has been answered.
#pragma once

#include <stdint.h>

namespace protocol {

inline constexpr uint32_t kBoardBits = 4096;

struct FileFilter {
  uint32_t files;  ///< how many are in it
  uint32_t reserved;
  uint64_t bits[kBoardBits / 64];
};

struct FileBoard {
  FileFilter mapped;  ///< some program maps it, or has just done so: a change concerns others
  FileFilter stored;  ///< a program can store into it, or has: reads have to wait for that
};

/// Where a file's bit is. `device` and `inode` as fstat(2) has them.
inline constexpr uint32_t board_bit(uint64_t device, uint64_t inode) {
  const uint64_t mixed = (inode ^ device << 32 ^ device >> 32) * 0x9e3779b97f4a7c15;
  return static_cast<uint32_t>(mixed >> 52);  // twelve bits: kBoardBits
}
static_assert(kBoardBits == 1u << 12);

}  // namespace protocol
