#include "pagers/common/pager_server.h"

#include <cerrno>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "pagers/common/failure.h"
#include "pagers/common/request_order.h"
#include "protocol/descriptor.h"

namespace pager {
namespace {

using hal::PageIndex;
using hal::PageRange;

/// More in one request is an error of the server's.
constexpr std::uint64_t kMostPages = std::uint64_t{1} << 24;
/// Of what is kept, in one answer.
constexpr std::size_t kMostRuns = 4096;
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

/// Every call lets those begin first that came to the ring before it.
class PagedObjectServer final : public protocol::PagedObject::Server, private PageInRing::Filler {
 public:
  PagedObjectServer(std::shared_ptr<Object> object, PagerWorkers& workers, std::string name,
                    std::shared_ptr<PageInRing> ring, std::uint64_t number)
      : object_(std::move(object)),
        workers_(workers),
        name_(std::move(name)),
        ring_(std::move(ring)),
        number_(number),
        order_(object_->store->page_outs_together()) {
    ring_->enter(number_, *this);
  }
  ~PagedObjectServer() { ring_->leave(number_, *this); }

  DispatchCallResult dispatchCall(
      std::uint64_t interface_id, std::uint16_t method_id,
      capnp::CallContext<capnp::AnyPointer, capnp::AnyPointer> context) override {
    ring_->drain();
    return protocol::PagedObject::Server::dispatchCall(interface_id, method_id, context);
  }

  kj::Promise<void> pageIn(PageInContext context) override {
    const auto params = context.getParams();
    const PageRange asked(PageIndex(params.getFirstPage()), params.getPageCount());
    if (!is_valid(asked)) return refuse(context.getResults().initStatus(), "fill", asked);
    // Most have nobody to wait for and are done with here and now.
    if (order_.is_free(Kind::page_in, {asked}) && filled_at_once(context, asked))
      return kj::READY_NOW;
    return order_.run(Kind::page_in, {asked}, [this, context, asked]() mutable {
      if (filled_at_once(context, asked)) return kj::Promise<void>(kj::READY_NOW);
      return on_worker(workers_.reading, context.getResults().initStatus(),
                       [object = object_, asked] { page_in(*object, asked); })
          .attach(kj::cp(context));
    });
  }

  kj::Promise<void> pageOut(PageOutContext context) override {
    const auto params = context.getParams();
    const PageRange asked(PageIndex(params.getFirstPage()), params.getPageCount());
    if (!is_valid(asked)) return refuse(context.getResults().initStatus(), "write", asked);
    return order_.run(Kind::page_out, {asked}, [this, context, asked]() mutable {
      auto stamps = std::make_shared<Stamps>();
      return on_worker(workers_.writing, context.getResults().initStatus(),
                       [object = object_, asked, stamps] {
                         stamps->before = object->store->stamp();
                         object->store->page_out(object->memory.clip(asked), object->memory);
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
    return order_.run(Kind::sync, {}, [this, context]() mutable {
      return on_worker(workers_.writing, context.getResults().initStatus(),
                       [object = object_] { object->store->sync(); })
          .attach(kj::cp(context));
    });
  }

  kj::Promise<void> resize(ResizeContext context) override {
    const std::uint64_t bytes = context.getParams().getBytes();
    return order_.run(Kind::whole, {}, [this, bytes]() -> kj::Promise<void> {
      object_->store->resize(bytes);
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> discard(DiscardContext context) override {
    std::vector<PageRange> pages;
    for (const auto run : context.getParams().getRuns()) {
      pages.emplace_back(PageIndex(run.getFirstPage()), run.getPageCount());
      if (!is_valid(pages.back())) throw Failure(EINVAL, text("discard", pages.back()));
    }
    // Giving disk space back takes as long as a write does.
    return order_.run(Kind::discard, pages, [this, pages] {
      return workers_.writing
          .run([object = object_, pages] {
            return outcome_of([&] {
              for (const PageRange run : pages) object->store->discard(run);
            });
          })
          .then([](kj::Own<Outcome> outcome) {
            if (outcome->error != 0) throw Failure(outcome->error, outcome->what);
          });
    });
  }

  kj::Promise<void> kept(KeptContext context) override {
    const std::uint64_t first = context.getParams().getFirstPage();
    return order_.run(Kind::whole, {}, [this, context, first]() mutable -> kj::Promise<void> {
      const auto kept = object_->store->kept(PageIndex(first), kMostRuns);
      auto results = context.getResults();
      auto runs = results.initRuns(static_cast<unsigned>(kept.size()));
      for (unsigned i = 0; i < runs.size(); ++i) {
        runs[i].setFirstPage(kept[i].first().value());
        runs[i].setPageCount(kept[i].count());
      }
      results.setNextPage(kept.size() == kMostRuns ? kept.back().end().value() : 0);
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> forget(ForgetContext) override {
    return order_.run(Kind::whole, {}, [this]() -> kj::Promise<void> {
      object_->store->forget();
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> grant(GrantContext context) override {
    return order_.run(Kind::whole, {}, [this, context]() mutable {
      const auto params = context.getParams();
      return take(params.hasContent(), params.getContent())
          .then([this](hal::SharedDescriptor descriptor) {
            if (descriptor) object_->store->grant(descriptor);
          })
          .attach(kj::cp(context));
    });
  }

 private:
  using Kind = RequestOrder::Kind;

  static bool is_valid(PageRange pages) {
    return pages.count() <= kMostPages && pages.first().value() <= kLastPage &&
           pages.end().value() <= kLastPage;
  }
  static std::string text(const char* what, PageRange pages) {
    return std::string(what) + " " + std::to_string(pages.count()) + " pages at page " +
           std::to_string(pages.first().value());
  }
  static void page_in(Object& object, PageRange asked) {
    object.store->page_in(object.memory.clip(asked), object.memory);
  }
  static Outcome fill_now(Object& object, PageRange asked) {
    return outcome_of([&] { page_in(object, asked); });
  }
  Outcome try_to_fill(PageRange asked, bool& filled) {
    return outcome_of([&] {
      const PageRange pages = object_->memory.clip(asked);
      filled = object_->store->page_in_at_once(pages, object_->memory);
    });
  }
  /// Whether the request has ended: it is done, or it failed.
  bool filled_at_once(PageInContext& context, PageRange asked) {
    bool filled = false;
    const Outcome outcome = try_to_fill(asked, filled);
    const bool ended = filled || outcome.error != 0;
    if (ended) set_status(context.getResults().initStatus(), name_, outcome);
    return ended;
  }

  // Of requests that came to the ring.
  std::optional<bool> fill_at_once(PageRange asked, Wait wait) override {
    if (!is_valid(asked)) return false;
    if (!order_.is_free(Kind::page_in, {asked})) return {};
    if (wait == Wait::for_disk) {
      if (!object_->store->waits_for_disk_only()) return {};
      return fill_now(*object_, asked).error == 0;
    }
    bool filled = false;
    if (try_to_fill(asked, filled).error != 0) return false;
    if (!filled) return {};
    return true;
  }
  kj::Promise<void> fill(PageRange asked, std::shared_ptr<PageInReply> reply) override {
    return order_
        .run(Kind::page_in, {asked},
             [this, asked, reply = kj::mv(reply)]() mutable {
               return workers_.reading
                   .run([object = object_, asked, reply = kj::mv(reply)]() mutable {
                     const Outcome outcome = fill_now(*object, asked);
                     reply->set_filled(outcome.error == 0);
                     reply.reset();
                     return outcome;
                   })
                   .ignoreResult();
             })
        .attach(thisCap());
  }

  kj::Promise<void> refuse(protocol::Status::Builder status, const char* what, PageRange pages) {
    set_status(status, name_, outcome_of([&] { throw Failure(EINVAL, text(what, pages)); }));
    return kj::READY_NOW;
  }

  template <class Work>
  kj::Promise<void> on_worker(Workers& workers, protocol::Status::Builder status, Work&& work) {
    return workers.run([work = std::forward<Work>(work)]() mutable { return outcome_of(work); })
        .then([this, status](kj::Own<Outcome> outcome) mutable {
          set_status(status, name_, *outcome);
        });
  }

  std::shared_ptr<Object> object_;
  PagerWorkers& workers_;
  std::string name_;
  std::shared_ptr<PageInRing> ring_;
  std::uint64_t number_;
  RequestOrder order_;
};

}  // namespace

kj::Promise<void> PagerServer::open(OpenContext context) {
  const auto params = context.getParams();
  auto content = take(params.hasContent(), params.getContent());
  auto memory = take(params.hasMemory(), params.getMemory());
  auto opened =
      content
          .then([this, context, memory = kj::mv(memory)](hal::SharedDescriptor descriptor) mutable {
            return memory.then([this, context, descriptor](hal::SharedDescriptor file) mutable {
              open_with(context, descriptor, file);
            });
          })
          .catch_([this, context](kj::Exception&& exception) mutable {
            set_status(context.getResults().initStatus(), name_,
                       {EBADF, std::string("open: ") + exception.getDescription().cStr()});
          })
          .fork();
  if (pager_.keeps() && !settled_) opening_.add(opened.addBranch());
  return opened.addBranch();
}

void PagerServer::open_with(OpenContext& context, hal::SharedDescriptor content,
                            hal::SharedDescriptor memory) {
  const auto attributes = context.getParams().getAttributes();
  ObjectInfo info{.device = attributes.getDevice(),
                  .inode = attributes.getInode(),
                  .bytes = attributes.getBytes(),
                  .raw_device = attributes.getRawDevice(),
                  .writable = attributes.getWritable(),
                  .path = attributes.getPath().cStr(),
                  .object = attributes.getObject()};
  const auto server = attributes.getServer();
  auto results = context.getResults();
  auto object = std::make_shared<Object>();
  OpenedStore opened;
  const Outcome outcome = outcome_of([&] {
    if (server.size() == sizeof info.server)
      std::memcpy(info.server.data(), server.begin(), sizeof info.server);
    opened = pager_.open(info, content);
    if (opened.layout == OpenedStore::Layout::paged && !memory)
      throw Failure(EBADF, "open " + info.path + " without memory for its pages");
    object->store = std::move(opened.store);
    if (opened.layout == OpenedStore::Layout::paged) object->memory = ObjectMemory(memory);
  });
  set_status(results.initStatus(), name_, outcome);
  if (outcome.error != 0) return;

  results.setKept(opened.kept);
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
      layout.setOwn(protocol::offer_descriptor(opened.own_memory));
      break;
  }
  results.setObject(
      kj::heap<PagedObjectServer>(std::move(object), workers_, name_, ring_, info.object));
}

kj::Promise<void> PagerServer::ring(RingContext context) {
  const auto params = context.getParams();
  auto taken = kj::heapArrayBuilder<kj::Promise<hal::SharedDescriptor>>(3);
  taken.add(take(params.hasMemory(), params.getMemory()));
  taken.add(take(params.hasRequests(), params.getRequests()));
  taken.add(take(params.hasReplies(), params.getReplies()));
  return kj::joinPromises(taken.finish()).then([this](kj::Array<hal::SharedDescriptor> files) {
    ring_->open(files[0], files[1], files[2]);
  });
}

kj::Promise<void> PagerServer::settled(SettledContext) {
  settled_ = true;
  // Those that were asked to be opened before may still wait for their descriptors.
  return kj::joinPromises(opening_.releaseAsArray()).then([this] { pager_.settled(); });
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
  framebuffer.setMemory(protocol::offer_descriptor(found->memory));
  return kj::READY_NOW;
}

}  // namespace pager
