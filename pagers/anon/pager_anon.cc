// pager-anon: anonymous memory, in swap files of its own.
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cli/main_context.h"
#include "cli/size.h"
#include "pagers/anon/anonymous_store.h"
#include "pagers/anon/swap_index.h"
#include "pagers/common/pager_main.h"

namespace pager {
namespace {

class AnonymousPager final : public Pager {
 public:
  protocol::Kind kind() const override { return protocol::Kind::ANONYMOUS; }

  void add_options(kj::MainBuilder& builder) override {
    builder
        .addOptionWithArg(
            {"swap"}, [this](kj::StringPtr text) { return add_swap(text.cStr()); }, "FILE[:SIZE]",
            "Keep pages that were written out in FILE, a block device or a file that is made anew "
            "and loses its name at once, and use SIZE of it: bytes, or a number with K, M, G or T. "
            "May be given several times; the files take turns.")
        .addOptionWithArg(
            {"swap-dir"},
            [this](kj::StringPtr path) -> kj::MainBuilder::Validity {
              if (path.size() == 0) return "is no directory";
              directory_ = path.cStr();
              return true;
            },
            "DIR", "Without --swap, keep them in a file without a name in DIR (default /var/tmp).")
        .addOption(
            {"keep"},
            [this]() -> kj::MainBuilder::Validity {
              keep_ = true;
              return true;
            },
            "What is written to the --swap files outlives this pager: they keep their names, and "
            "one that is started with the same files and --keep goes on with what they hold.")
        .addOptionWithArg(
            {"compress"},
            [this](kj::StringPtr name) -> kj::MainBuilder::Validity {
              const auto compression = compression_of(name.cStr());
              if (!compression) return "is neither zstd nor lz4";
              compression_ = *compression;
              return true;
            },
            "zstd|lz4", "Compress the pages that become smaller by a quarter or more.");
  }

  void prepare(const std::string&) override {
    if (keep_ && swaps_.empty()) throw cli::UsageError("--keep needs --swap files to keep");
    try {
      std::vector<SwapFile> files;
      for (const auto& [path, bytes] : swaps_)
        files.push_back(keep_ ? SwapFile::keep(path, bytes) : SwapFile::open(path, bytes));
      if (files.empty()) files.push_back(SwapFile::in_directory(directory_));
      swap_.emplace(std::move(files));
      if (keep_) index_.emplace(*swap_);
    } catch (const std::runtime_error& error) {
      throw cli::UsageError(error.what());
    }
    workspaces_.emplace(compression_);
  }

  bool keeps() const override { return keep_; }
  void settled() override {
    if (index_) index_->forget_untaken();
  }

  OpenedStore open(const ObjectInfo& info, const hal::SharedDescriptor&) override {
    OpenedStore opened;
    if (index_) {
      std::optional<StoredPages> kept = index_->take(info.server, info.object);
      opened.kept = kept.has_value();
      opened.store = std::make_unique<AnonymousStore>(*swap_, *workspaces_, *index_, info.object,
                                                      std::move(kept).value_or(StoredPages()));
    } else {
      opened.store = std::make_unique<AnonymousStore>(*swap_, *workspaces_);
    }
    return opened;
  }

 private:
  /// What stands behind the last colon is the size.
  kj::MainBuilder::Validity add_swap(const std::string& text) {
    if (swaps_.size() == SwapSpace::kMostFiles) return "is one file too many";
    const std::size_t colon = text.rfind(':');
    const std::string path = text.substr(0, colon);
    if (path.empty()) return "names no file";
    std::optional<std::uint64_t> bytes;
    if (colon != std::string::npos) {
      bytes = cli::parse_size(text.substr(colon + 1));
      if (!bytes) return kj::str("is no FILE:SIZE; a size is ", cli::kSizeForm);
    }
    swaps_.emplace_back(path, bytes);
    return true;
  }

  std::string directory_ = "/var/tmp";
  std::vector<std::pair<std::string, std::optional<std::uint64_t>>> swaps_;  ///< path, size
  bool keep_ = false;
  Compression compression_ = Compression::none;
  std::optional<SwapSpace> swap_;
  std::optional<SwapIndex> index_;  ///< with --keep
  std::optional<WorkspacePool> workspaces_;
};

}  // namespace
}  // namespace pager

int main(int argc, char** argv) {
  pager::AnonymousPager pager;
  return pager::run_pager(
      pager, "Keeps anonymous memory that vmserver writes out.",
      "What it holds is gone when it ends, unless --keep is given: pages that "
      "only it had are lost to their programs. Ends with status 0 when the server ends.",
      argc, argv);
}
