// How a pager's work fails: with an errno and the words for the server's log.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace pager {

/// Thrown by PagedStore and Pager; becomes the Status of the answer.
class Failure : public std::runtime_error {
 public:
  /// `tried` is what was tried and on what ("read 64 KiB at 1 MiB of inode 8:1/1234"); what() gives
  /// it with the errno's name behind.
  Failure(int error, const std::string& tried);
  int error() const { return error_; }

 private:
  int error_;
};

/// "64 KiB", "1 MiB", "300 bytes": exact, in the largest unit that is.
std::string text_of_bytes(std::uint64_t bytes);
/// "64 KiB at 1 MiB"
std::string text_of_span(std::uint64_t bytes, std::uint64_t offset);
/// "inode 8:1/1234" for a file's st_dev and st_ino.
std::string text_of_inode(std::uint64_t device, std::uint64_t inode);

}  // namespace pager
