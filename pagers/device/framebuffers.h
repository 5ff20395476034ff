// Framebuffers: the directory PATH.fb beside the server's socket. In it a file for each
// framebuffer, which programs open and map like /dev/fb0, and the memory behind it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hal/host_file.h"
#include "pagers/common/pager.h"

namespace pager {

struct FramebufferSpec {
  std::string name;  ///< a plain file name
  std::uint32_t width = 0;
  std::uint32_t height = 0;
};

/// Reads "NAME:WIDTHxHEIGHT". Throws std::invalid_argument that says what is wrong.
FramebufferSpec parse_framebuffer(const std::string& text);

class Framebuffers {
 public:
  /// Creates directory, files (mode 0666) and memory. Files that a pager left behind are taken
  /// over. Throws std::system_error; EWOULDBLOCK when another pager serves this directory.
  Framebuffers(const std::string& directory, const std::vector<FramebufferSpec>& specs);
  /// Removes the files, and the directory when nothing else is in it.
  ~Framebuffers();
  Framebuffers(const Framebuffers&) = delete;
  Framebuffers& operator=(const Framebuffers&) = delete;

  struct Entry {
    FramebufferSpec spec;
    std::uint64_t device = 0;  ///< identity of the file
    std::uint64_t inode = 0;
    hal::SharedDescriptor memory;            ///< whole pages, all resident
    hal::SharedDescriptor read_only_memory;  ///< the same for those who only look

    std::uint32_t stride() const { return spec.width * 4; }  ///< 32 bits a pixel
    std::uint64_t bytes() const { return std::uint64_t{stride()} * spec.height; }
  };

  /// Null when there is none.
  const Entry* find(std::uint64_t device, std::uint64_t inode) const;
  const Entry* find(const std::string& name) const;
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  void create(const FramebufferSpec& spec);
  void remove_all();

  std::string directory_;
  hal::SharedDescriptor directory_fd_;  ///< holds the lock that says the directory is served
  std::vector<Entry> entries_;
};

}  // namespace pager
