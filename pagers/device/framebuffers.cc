#include "pagers/device/framebuffers.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <stdexcept>
#include <system_error>

#include "hal/address.h"
#include "pagers/common/object_memory.h"

namespace pager {
namespace {

constexpr std::uint32_t kMostPixels = 16384;  ///< in one direction
constexpr std::size_t kLongestName = 64;

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::uint32_t parse_size(std::string_view text, const std::string& whole) {
  std::uint32_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size() || value == 0 ||
      value > kMostPixels)
    throw std::invalid_argument("\"" + whole + "\" has no size from 1x1 to " +
                                std::to_string(kMostPixels) + "x" + std::to_string(kMostPixels));
  return value;
}

}  // namespace

FramebufferSpec parse_framebuffer(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  const std::size_t cross = colon == std::string::npos ? colon : text.find('x', colon);
  if (cross == std::string::npos)
    throw std::invalid_argument("\"" + text + "\" is not NAME:WIDTHxHEIGHT");
  FramebufferSpec spec;
  spec.name = text.substr(0, colon);
  bool plain = !spec.name.empty() && spec.name.size() <= kLongestName && spec.name.front() != '.';
  for (const char c : spec.name)
    plain = plain && c != '/' && static_cast<unsigned char>(c) > 0x20 && c != 0x7f;
  if (!plain) throw std::invalid_argument("\"" + spec.name + "\" is no plain file name");
  const std::string_view sizes(text);
  spec.width = parse_size(sizes.substr(colon + 1, cross - colon - 1), text);
  spec.height = parse_size(sizes.substr(cross + 1), text);
  return spec;
}

Framebuffers::Framebuffers(const std::string& directory, const std::vector<FramebufferSpec>& specs)
    : directory_(directory) {
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) fail("create " + directory);
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) fail("open " + directory);
  directory_fd_ = hal::SharedDescriptor(fd);
  struct stat status;
  if (::fstat(fd, &status) != 0) fail("fstat of " + directory);
  if (status.st_uid != ::geteuid()) {
    errno = EPERM;
    fail("use " + directory + ", which belongs to another user");
  }
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) fail("lock " + directory + ", served by another pager");
  if (::fchmod(fd, 0755) != 0) fail("fchmod of " + directory);
  try {
    for (const FramebufferSpec& spec : specs) create(spec);
  } catch (const std::system_error&) {
    remove_all();
    throw;
  }
}

Framebuffers::~Framebuffers() { remove_all(); }

void Framebuffers::remove_all() {
  for (const Entry& entry : entries_) ::unlinkat(directory_fd_.get(), entry.spec.name.c_str(), 0);
  ::rmdir(directory_.c_str());
}

void Framebuffers::create(const FramebufferSpec& spec) {
  const std::string path = directory_ + "/" + spec.name;
  Entry entry;
  entry.spec = spec;
  const hal::SharedDescriptor file(::openat(directory_fd_.get(), spec.name.c_str(),
                                            O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK,
                                            0600));
  if (!file) fail("create " + path);
  struct stat status;
  if (::fstat(file.get(), &status) != 0) fail("fstat of " + path);
  if (!S_ISREG(status.st_mode)) {
    errno = EEXIST;
    fail("create " + path);
  }
  entry.device = status.st_dev;
  entry.inode = status.st_ino;
  entries_.push_back(entry);
  Entry& kept = entries_.back();
  if (::fchmod(file.get(), 0666) != 0) fail("fchmod of " + path);
  if (::ftruncate(file.get(), static_cast<off_t>(kept.bytes())) != 0)
    fail("set the size of " + path);

  kept.memory =
      hal::SharedDescriptor(::memfd_create(("framebuffer " + spec.name).c_str(), MFD_CLOEXEC));
  if (!kept.memory) fail("memfd_create for " + path);
  if (::fchmod(kept.memory.get(), 0600) != 0) fail("fchmod of the memory of " + path);
  const hal::PageRange pages(hal::PageIndex(0), hal::pages_for_bytes(kept.bytes()));
  if (::ftruncate(kept.memory.get(), static_cast<off_t>(pages.bytes())) != 0)
    fail("set the size of the memory of " + path);
  // Written and not only reserved: SEEK_DATA, and so the server, takes reserved pages for absent.
  ObjectMemory(kept.memory).fill_zero(pages);
  const std::string again = "/proc/self/fd/" + std::to_string(kept.memory.get());
  kept.read_only_memory = hal::SharedDescriptor(::open(again.c_str(), O_RDONLY | O_CLOEXEC));
  if (!kept.read_only_memory) fail("open the memory of " + path + " again");
}

const Framebuffers::Entry* Framebuffers::find(std::uint64_t device, std::uint64_t inode) const {
  for (const Entry& entry : entries_)
    if (entry.device == device && entry.inode == inode) return &entry;
  return nullptr;
}

const Framebuffers::Entry* Framebuffers::find(const std::string& name) const {
  for (const Entry& entry : entries_)
    if (entry.spec.name == name) return &entry;
  return nullptr;
}

}  // namespace pager
