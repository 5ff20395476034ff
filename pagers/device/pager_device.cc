// pager-device: block devices, character devices with memory, and framebuffers of its own.
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "cli/main_context.h"
#include "pagers/common/failure.h"
#include "pagers/common/file_store.h"
#include "pagers/common/pager_main.h"
#include "pagers/device/framebuffers.h"

namespace pager {
namespace {

/// For memory that is always there: nothing is to be filled or written back.
class ResidentStore final : public PagedStore {
 public:
  explicit ResidentStore(std::string subject) : subject_(std::move(subject)) {}
  void page_in(hal::PageRange pages, ObjectMemory&) override {
    throw Failure(EIO, "fill " + text_of_span(pages.bytes(), pages.byte_offset()) + " of " +
                           subject_ + ", whose memory is its own");
  }
  void page_out(hal::PageRange, ObjectMemory&) override {}

 private:
  std::string subject_;
};

class DevicePager final : public Pager {
 public:
  protocol::Kind kind() const override { return protocol::Kind::DEVICE; }

  void add_options(kj::MainBuilder& builder) override {
    builder.addOptionWithArg(
        {"framebuffer"},
        [this](kj::StringPtr text) -> kj::MainBuilder::Validity {
          try {
            specs_.push_back(parse_framebuffer(text.cStr()));
          } catch (const std::invalid_argument& error) {
            return kj::heapString(error.what());
          }
          for (std::size_t i = 0; i + 1 < specs_.size(); ++i)
            if (specs_[i].name == specs_.back().name) return "there is one of that name already";
          return true;
        },
        "NAME:WIDTHxHEIGHT",
        "Offer a framebuffer of that size, 32 bits a pixel: programs open and map the file NAME in "
        "the directory PATH.fb, PATH being the one of --server. May be given several times.");
  }

  void prepare(const std::string& server) override {
    if (specs_.empty()) return;
    try {
      framebuffers_.emplace(server + ".fb", specs_);
    } catch (const std::system_error& error) {
      throw cli::UsageError(error.what());
    }
  }

  std::vector<Claim> claims() const override {
    std::vector<Claim> claims;
    if (framebuffers_)
      for (const auto& entry : framebuffers_->entries())
        claims.push_back({entry.device, entry.inode, entry.spec.name});
    return claims;
  }

  OpenedStore open(const ObjectInfo& info, const hal::SharedDescriptor& content) override {
    const std::string subject = text_of_inode(info.device, info.inode);
    if (framebuffers_) {
      if (const auto* entry = framebuffers_->find(info.device, info.inode)) {
        OpenedStore opened;
        opened.store = std::make_unique<ResidentStore>("framebuffer " + entry->spec.name);
        opened.layout = OpenedStore::Layout::own;
        opened.own_memory = entry->memory;
        opened.bytes = entry->bytes();
        return opened;
      }
    }
    struct stat status;
    if (!content) throw Failure(EBADF, "open " + subject + " without a descriptor");
    if (::fstat(content.get(), &status) != 0) throw Failure(errno, "fstat of " + subject);
    if (S_ISBLK(status.st_mode)) return open_block(info, content);
    if (S_ISCHR(status.st_mode)) return open_character(subject, content);
    throw Failure(ENODEV, "open " + subject + ", which is no device");
  }

  std::optional<FramebufferInfo> framebuffer(const std::string& name) override {
    const auto* entry = framebuffers_ ? framebuffers_->find(name) : nullptr;
    if (entry == nullptr) return std::nullopt;
    return FramebufferInfo{.width = entry->spec.width,
                           .height = entry->spec.height,
                           .stride = entry->stride(),
                           .memory = entry->read_only_memory};
  }

 private:
  OpenedStore open_block(const ObjectInfo& info, const hal::SharedDescriptor& content) {
    auto store = std::make_unique<FileStore>(info, content);
    OpenedStore opened;
    opened.bytes = store->content_bytes();
    store->resize(opened.bytes);
    opened.store = std::move(store);
    return opened;
  }

  /// The host's driver says whether the device has memory to map.
  static OpenedStore open_character(const std::string& subject,
                                    const hal::SharedDescriptor& content) {
    void* const page = ::mmap(nullptr, hal::kPageSize, PROT_READ, MAP_SHARED, content.get(), 0);
    if (page == MAP_FAILED)
      throw Failure(ENODEV, "map a page of " + subject + ", which the host refuses");
    ::munmap(page, hal::kPageSize);
    OpenedStore opened;
    opened.store = std::make_unique<ResidentStore>(subject);
    opened.layout = OpenedStore::Layout::host;
    return opened;
  }

  std::vector<FramebufferSpec> specs_;
  std::optional<Framebuffers> framebuffers_;
};

}  // namespace
}  // namespace pager

int main(int argc, char** argv) {
  pager::DevicePager pager;
  return pager::run_pager(
      pager, "Serves mapped devices and framebuffers to vmserver.",
      "Block devices are paged through the descriptors that programs passed. A character device is "
      "mapped by the host itself where its driver allows that. Files and directory of framebuffers "
      "go when this pager ends. Ends with status 0 when the server ends.",
      argc, argv);
}
