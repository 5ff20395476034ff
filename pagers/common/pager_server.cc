#include "pagers/common/pager_server.h"

#include <cerrno>
#include <exception>
#include <new>
#include <utility>

#include "pagers/common/failure.h"
#include "protocol/descriptor.h"

namespace pager {
namespace {

using hal::PageRange;

/// More in one request is an error of the server's.
constexpr std::uint64_t kMostPages = std::uint64_t{1} << 24;
constexpr std::uint64_t kLastPage = std::uint64_t{1} << (62 - hal::kPageShift);

template <class Work>
Outcome outcome_of(Work&& work) {
  try {
    work();
    return {};
  } catch (const Failure& failure) {
    return {failure.error(), failure.what()};
  } catch (const std::bad_alloc&) {
    return {ENOMEM, "out of memory"};
  } catch (const std::exception& error) {
    return {EIO, error.what()};
  }
}

void set_status(protocol::Status::Builder status, const std::string& name, const Outcome& outcome) {
  status.setError(outcome.error);
  if (outcome.error != 0) status.setWhat((name + ": " + outcome.what).c_str());
}

/// Of one page-out; filled in by the worker thread.
struct Stamps {
  std::optional<hal::FileStamp> before;
  std::optional<hal::FileStamp> after;
};

void set_stamp(protocol::FileStamp::Builder to, const hal::FileStamp& stamp) {
  to.setModified(stamp.modified_ns);
  to.setChanged(stamp.changed_ns);
  to.setBytes(stamp.bytes);
}

hal::SharedDescriptor shared(kj::AutoCloseFd fd) {
  hal::SharedDescriptor descriptor(fd.get());
  fd.release();
  return descriptor;
}

kj::Promise<hal::SharedDescriptor> take(bool present, protocol::Descriptor::Client capability) {
  if (!present) return hal::SharedDescriptor();
  return protocol::take_descriptor(kj::mv(capability)).then([](kj::AutoCloseFd fd) {
    return shared(kj::mv(fd));
  });
}

/// What a worker thread may still be using when the capability is dropped.
struct Object {
  std::unique_ptr<PagedStore> store;
  ObjectMemory memory;
};

class PagedObjectServer final : public protocol::PagedObject::Server {
 public:
  PagedObjectServer(std::shared_ptr<Object> object, Workers& workers, std::string name)
      : object_(std::move(object)), workers_(workers), name_(std::move(name)) {}

  kj::Promise<void> pageIn(PageInContext context) override {
    const auto params = context.getParams();
    const std::uint64_t first = params.getFirstPage();
    const std::uint64_t count = params.getPageCount();
    return in_order([this, context, first, count]() mutable -> kj::Promise<void> {
      set_status(context.getResults().initStatus(), name_, outcome_of([&] {
                   const PageRange pages = checked("fill", first, count);
                   object_->store->page_in(object_->memory.clip(pages), object_->memory);
                 }));
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> pageOut(PageOutContext context) override {
    const auto params = context.getParams();
    const std::uint64_t first = params.getFirstPage();
    const std::uint64_t count = params.getPageCount();
    return in_order([this, context, first, count]() mutable {
      auto stamps = std::make_shared<Stamps>();
      return on_worker(context.getResults().initStatus(),
                       [object = object_, first, count, stamps] {
                         const PageRange pages = checked("write", first, count);
                         stamps->before = object->store->stamp();
                         object->store->page_out(object->memory.clip(pages), object->memory);
                         stamps->after = object->store->stamp();
                       })
          .then([context, stamps]() mutable {
            if (!stamps->before || !stamps->after) return;
            set_stamp(context.getResults().initBefore(), *stamps->before);
            set_stamp(context.getResults().initAfter(), *stamps->after);
          })
          .attach(kj::cp(context));
    });
  }

  kj::Promise<void> sync(SyncContext context) override {
    return in_order([this, context]() mutable {
      return on_worker(context.getResults().initStatus(),
                       [object = object_] { object->store->sync(); })
          .attach(kj::cp(context));
    });
  }

  kj::Promise<void> resize(ResizeContext context) override {
    const std::uint64_t bytes = context.getParams().getBytes();
    return in_order([this, bytes]() -> kj::Promise<void> {
      object_->store->resize(bytes);
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> discard(DiscardContext context) override {
    std::vector<PageRange> pages;
    for (const auto run : context.getParams().getRuns()) {
      pages.push_back(checked("discard", run.getFirstPage(), run.getPageCount()));
    }
    return in_order([this, pages = std::move(pages)]() -> kj::Promise<void> {
      for (const PageRange run : pages) object_->store->discard(run);
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> grant(GrantContext context) override {
    return in_order([this, context]() mutable {
      const auto params = context.getParams();
      return take(params.hasContent(), params.getContent())
          .then([this](hal::SharedDescriptor descriptor) {
            if (descriptor) object_->store->grant(descriptor);
          })
          .attach(kj::cp(context));
    });
  }

 private:
  static PageRange checked(const char* what, std::uint64_t first, std::uint64_t count) {
    if (count > kMostPages || first > kLastPage || first + count > kLastPage)
      throw Failure(EINVAL, std::string(what) + " " + std::to_string(count) + " pages at page " +
                                std::to_string(first));
    return PageRange(hal::PageIndex(first), count);
  }

  /// Starts `work` when everything asked of this object before has ended.
  template <class Work>
  kj::Promise<void> in_order(Work&& work) {
    auto done = last_.addBranch().then(kj::fwd<Work>(work)).fork();
    auto result = done.addBranch();
    last_ = done.addBranch().catch_([](kj::Exception&&) { /* told to its caller */ }).fork();
    return result;
  }

  template <class Work>
  kj::Promise<void> on_worker(protocol::Status::Builder status, Work&& work) {
    return workers_.run([work = std::forward<Work>(work)]() mutable { return outcome_of(work); })
        .then([this, status](kj::Own<Outcome> outcome) mutable {
          set_status(status, name_, *outcome);
        });
  }

  std::shared_ptr<Object> object_;
  Workers& workers_;
  std::string name_;
  kj::ForkedPromise<void> last_ = kj::Promise<void>(kj::READY_NOW).fork();
};

}  // namespace

kj::Promise<void> PagerServer::open(OpenContext context) {
  const auto params = context.getParams();
  auto content = take(params.hasContent(), params.getContent());
  auto memory = take(params.hasMemory(), params.getMemory());
  return content
      .then([this, context, memory = kj::mv(memory)](hal::SharedDescriptor descriptor) mutable {
        return memory.then([this, context, descriptor](hal::SharedDescriptor file) mutable {
          open_with(context, descriptor, file);
        });
      })
      .catch_([this, context](kj::Exception&& exception) mutable {
        set_status(context.getResults().initStatus(), name_,
                   {EBADF, std::string("open: ") + exception.getDescription().cStr()});
      });
}

void PagerServer::open_with(OpenContext& context, hal::SharedDescriptor content,
                            hal::SharedDescriptor memory) {
  const auto attributes = context.getParams().getAttributes();
  const ObjectInfo info{.device = attributes.getDevice(),
                        .inode = attributes.getInode(),
                        .bytes = attributes.getBytes(),
                        .raw_device = attributes.getRawDevice(),
                        .path = attributes.getPath().cStr()};
  auto results = context.getResults();
  auto object = std::make_shared<Object>();
  OpenedStore opened;
  const Outcome outcome = outcome_of([&] {
    opened = pager_.open(info, content);
    if (opened.layout == OpenedStore::Layout::paged && !memory)
      throw Failure(EBADF, "open " + info.path + " without memory for its pages");
    object->store = std::move(opened.store);
    if (opened.layout == OpenedStore::Layout::paged) object->memory = ObjectMemory(memory);
  });
  set_status(results.initStatus(), name_, outcome);
  if (outcome.error != 0) return;

  auto layout = results.initLayout();
  layout.setBytes(opened.bytes);
  switch (opened.layout) {
    case OpenedStore::Layout::paged:
      layout.setPaged();
      break;
    case OpenedStore::Layout::host:
      layout.setHost();
      break;
    case OpenedStore::Layout::own:
      layout.setOwn(kj::heap<protocol::DescriptorServer>(
          opened.own_memory.get(), std::make_shared<hal::SharedDescriptor>(opened.own_memory)));
      break;
  }
  results.setObject(kj::heap<PagedObjectServer>(std::move(object), workers_, name_));
}

kj::Promise<void> PagerServer::framebuffer(FramebufferContext context) {
  auto results = context.getResults();
  const auto found = pager_.framebuffer(context.getParams().getName().cStr());
  results.setFound(found.has_value());
  if (!found) return kj::READY_NOW;
  auto framebuffer = results.initFramebuffer();
  framebuffer.setWidth(found->width);
  framebuffer.setHeight(found->height);
  framebuffer.setStride(found->stride);
  framebuffer.setMemory(kj::heap<protocol::DescriptorServer>(
      found->memory.get(), std::make_shared<hal::SharedDescriptor>(found->memory)));
  return kj::READY_NOW;
}

}  // namespace pager
