// pager-anon: anonymous memory, in a swap file of its own.
#include <optional>
#include <system_error>

#include "cli/main_context.h"
#include "pagers/anon/anonymous_store.h"
#include "pagers/common/pager_main.h"

namespace pager {
namespace {

class AnonymousPager final : public Pager {
 public:
  protocol::Kind kind() const override { return protocol::Kind::ANONYMOUS; }

  void add_options(kj::MainBuilder& builder) override {
    builder.addOptionWithArg(
        {"swap-dir"},
        [this](kj::StringPtr path) -> kj::MainBuilder::Validity {
          if (path.size() == 0) return "is no directory";
          directory_ = path.cStr();
          return true;
        },
        "DIR",
        "Keep pages that were written out in a file without a name in DIR (default /var/tmp).");
  }

  void prepare(const std::string&) override {
    try {
      swap_.emplace(directory_);
    } catch (const std::system_error& error) {
      throw cli::UsageError(error.what());
    }
  }

  OpenedStore open(const ObjectInfo&, const hal::SharedDescriptor&) override {
    OpenedStore opened;
    opened.store = std::make_unique<AnonymousStore>(*swap_);
    return opened;
  }

 private:
  std::string directory_ = "/var/tmp";
  std::optional<SwapFile> swap_;
};

}  // namespace
}  // namespace pager

int main(int argc, char** argv) {
  pager::AnonymousPager pager;
  return pager::run_pager(pager, "Keeps anonymous memory that vmserver writes out.",
                          "What it holds is gone when it ends: pages that only it had are lost to "
                          "their programs. Ends with status 0 when the server ends.",
                          argc, argv);
}
