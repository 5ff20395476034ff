// pager-file: regular files, through the descriptors that the programs passed.
#include "pagers/common/file_store.h"
#include "pagers/common/pager_main.h"

namespace pager {
namespace {

class FilePager final : public Pager {
 public:
  protocol::Kind kind() const override { return protocol::Kind::FILE; }

  OpenedStore open(const ObjectInfo& info, const hal::SharedDescriptor& content) override {
    OpenedStore opened;
    opened.store = std::make_unique<FileStore>(info, content);
    return opened;
  }
};

}  // namespace
}  // namespace pager

int main(int argc, char** argv) {
  pager::FilePager pager;
  return pager::run_pager(
      pager, "Serves mapped files to vmserver.",
      "Reads and writes only through descriptors that programs passed; it opens "
      "no path for anybody. Ends with status 0 when the server ends.",
      argc, argv);
}
