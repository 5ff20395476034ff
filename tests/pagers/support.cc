#include "tests/pagers/support.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace test {
namespace {

void check(bool done, const char* what) {
  if (!done) throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

pager::SwapFile Directory::swap(std::uint64_t pages, const std::string& name) const {
  return pager::SwapFile::open(*this / name, hal::bytes_from_pages(pages));
}

Memory::Memory(std::uint64_t pages)
    : pages_(pages), memory_(hal::SharedDescriptor(::memfd_create("test", MFD_CLOEXEC))) {
  check(::ftruncate(memory_.descriptor(), static_cast<off_t>(hal::bytes_from_pages(pages))) == 0,
        "ftruncate");
}

void Memory::write(std::uint64_t page, const std::string& data) {
  check(::pwrite(memory_.descriptor(), data.data(), data.size(),
                 static_cast<off_t>(hal::bytes_from_pages(page))) ==
            static_cast<ssize_t>(data.size()),
        "pwrite");
}

std::string Memory::read(std::uint64_t page, std::uint64_t count) const {
  std::string data(hal::bytes_from_pages(count), '\0');
  check(
      ::pread(memory_.descriptor(), data.data(), data.size(),
              static_cast<off_t>(hal::bytes_from_pages(page))) == static_cast<ssize_t>(data.size()),
      "pread");
  return data;
}

void Memory::drop(std::uint64_t page, std::uint64_t count) {
  check(::fallocate(memory_.descriptor(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(hal::bytes_from_pages(page)),
                    static_cast<off_t>(hal::bytes_from_pages(count))) == 0,
        "fallocate");
}

hal::PageRange range(std::uint64_t first, std::uint64_t count) {
  return hal::PageRange(hal::PageIndex(first), count);
}

std::string zero_page() { return std::string(kPage, '\0'); }

std::string compressible_page(Random& random) {
  std::string page(kPage, 'x');
  const std::uint64_t noise = 1 + random.below(kPage / 3);
  for (std::uint64_t i = 0; i < noise; ++i) page[i] = static_cast<char>(random.below(256));
  return page;
}

std::string random_page(Random& random) {
  std::string page(kPage, '\0');
  for (char& c : page) c = static_cast<char>(random.below(256));
  return page;
}

std::string any_page(Random& random) {
  switch (random.below(3)) {
    case 0:
      return zero_page();
    case 1:
      return compressible_page(random);
    default:
      return random_page(random);
  }
}

std::uint64_t allocated_bytes(const pager::SwapFile& file) {
  struct stat status;
  check(::fstat(file.descriptor(), &status) == 0, "fstat");
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

}  // namespace test
